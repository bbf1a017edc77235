"""Shortens long values of facets and statistics, which count whole and are shown by their beginning.

Owns the key by which values count as one, and its bound. Does not know what is counted.

A record may have megabytes, and an answer a thousand values. SQL returns the beginning of a long text with a digest of
the whole text behind it (`MOST_TEXT`), so that neither the store nor the reader holds such values.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

MOST_CHARACTERS = 1_000
"""Characters of a value that is shown whole; a longer one is a text: its first ones and an ellipsis."""
MOST_TEXT = 12 * (MOST_CHARACTERS + 1) + 1
"""Characters of JSON that hold more than so many of a text: each may be two escapes of six."""
_ELLIPSIS = "\u2026"
_DIGEST = "\0"
"""Before the digest in a key; JSON escapes it elsewhere."""
_UNFINISHED = re.compile(r"(?<!\\)(?:\\\\)*(\\(?:u[0-9a-fA-F]{0,3})?)\Z", re.ASCII)


def shortened(value: Any) -> Any:
    """Return a JSON value, or the beginning of a long one as a text that ends with an ellipsis."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return value if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + _ELLIPSIS


def key_of(value: Any) -> str:
    """Return a text that is the same for values that count as one: numbers by their value, others by their JSON."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    key = json.dumps(value, sort_keys=True)
    shown = shortened(value) if len(key) > MOST_CHARACTERS else value
    return key if shown is value else _long_key(shown, hashlib.blake2b(key.encode(), digest_size=16).hexdigest())


def key_of_text(text: str) -> str:
    """Return the key of a value as SQL returns it.

    It is the JSON of the value; of a long one its first MOST_TEXT characters, and a digest.
    """
    if len(text) <= MOST_TEXT:
        return key_of(json.loads(text))
    beginning, digest = text[:MOST_TEXT], text[MOST_TEXT:]
    return _long_key(shortened(_unfinished(beginning) if beginning.startswith('"') else beginning), digest)


def key_of_column(value: Any) -> str:
    """Return the key of the value of a column as SQL returns it: itself, of a long text as in key_of_text."""
    if not isinstance(value, str) or len(value) <= MOST_TEXT:
        return key_of(value)
    return _long_key(shortened(value[:MOST_TEXT]), value[MOST_TEXT:])


def value_of_key(key: str) -> Any:
    """Return the value of a key as it is shown."""
    return json.loads(key.partition(_DIGEST)[0])


def _long_key(shown: str, digest: str) -> str:
    return json.dumps(shown) + _DIGEST + digest


def _unfinished(text: str) -> str:
    """Return the beginning of a text of which JSON has this beginning."""
    found = _UNFINISHED.search(text)
    value: str = json.loads((text[: found.start(1)] if found else text) + '"', strict=False)
    return value
