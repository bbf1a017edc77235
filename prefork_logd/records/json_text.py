"""Replaces secrets in a text of JSON that is not read, because it has too many values or lies too deep.

Owns where a value begins and ends. Does not know which keys name secrets. The text may be cut off, or no JSON at all.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from prefork_logd.records.redacted import NAME_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# A text without an end is one up to the end. Else the search would go on at each quote in it.
_KEY = re.compile(r'"((?:[^"\\]++|\\.?)*+)(?:"(\s*+:\s*+)?)?+', re.DOTALL)
_BESIDE = re.compile(r'"((?:[^"\\]++|\\.)*+)"\s*+,\s*+"value"\s*+:\s*+', re.DOTALL | re.IGNORECASE)
"""The rest of `"name": "token", "value": `."""
_SCALAR = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[^\s,\]}]*+', re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.?)*+"?+|[\[{]|[\]}]', re.DOTALL)
_KEPT = frozenset({"null", "true", "false", ""})


def redact_texts(value: Any, is_secret: Callable[[str], bool], shown: str) -> tuple[Any, bool]:
    """Return a plain value with `shown` for each secret in its texts of lists and objects, and whether it had any."""
    if isinstance(value, str):
        if value[:1] not in ("{", "["):
            return value, False
        text = redact_json(value, is_secret, shown)
        return text, text is not value
    if isinstance(value, dict):
        changed = _redact_items(value.items(), is_secret, shown)
        return ({**value, **changed}, True) if changed else (value, False)
    if isinstance(value, list):
        changed = _redact_items(enumerate(value), is_secret, shown)
        return ([changed.get(index, item) for index, item in enumerate(value)], True) if changed else (value, False)
    return value, False


def _redact_items(items: Iterable[tuple[Any, Any]], is_secret: Callable[[str], bool], shown: str) -> dict[Any, Any]:
    """Return those values of a list or an object that have secrets, without them, by their number or name."""
    changed: dict[Any, Any] = {}
    for key, item in items:
        if isinstance(item, (str, dict, list)):
            value, is_changed = redact_texts(item, is_secret, shown)
            if is_changed:
                changed[key] = value
    return changed


def redact_json(text: str, is_secret: Callable[[str], bool], shown: str) -> str:
    """Return JSON with the text `shown` for the value of each key that names a secret, except null, true and false."""
    parts: list[str] = []
    at = 0
    for match in _KEY.finditer(text):
        if match.start() < at or match[2] is None:
            continue
        key, start = _read_key(match[1]), match.end()
        if not is_secret(key):
            beside = _BESIDE.match(text, start) if key in NAME_KEYS else None
            if beside is None or not is_secret(_read_key(beside[1])):
                continue
            start = beside.end()
        end = value_end(text, start)
        if text[start:end] in _KEPT:
            continue
        parts += (text[at:start], json.dumps(shown))
        at = end
    return "".join((*parts, text[at:])) if parts else text


def _read_key(key: str) -> str:
    if "\\" not in key:
        return key
    try:
        return str(json.loads(f'"{key}"', strict=False))
    except ValueError:
        return key


def value_end(text: str, start: int) -> int:
    """Return the place after the value that begins at `start`; the end of the text if it is cut off."""
    if text[start : start + 1] not in ("{", "["):
        match = _SCALAR.match(text, start)
        return match.end() if match is not None else start
    depth = 0
    for match in _TOKEN.finditer(text, start):
        if match[0] in "[{":
            depth += 1
        elif match[0] in "]}":
            depth -= 1
            if not depth:
                return match.end()
    return len(text)
