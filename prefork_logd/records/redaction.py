"""Replaces secrets in a record: values by the name of their key, and parts of texts by their form.

Owns the comparison of keys with patterns, the forms of secrets in texts, and the replacement. Does not know
configuration files, pickles or lines. The compiled core has the same rules (ingest/core_c/secrets.pxi).

A key is compared without its case and without everything but letters and digits, so one pattern finds `api_key`,
`Api-Key` and `apiKey`. Each form is searched for in linear time: its expression never tries a stretch of text more than
three times.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from prefork_logd.records.json_text import redact_texts
from prefork_logd.records.record import MAX_FITTED_MESSAGE, MAX_FITTED_NAME, TEXT_FIELDS, fit_text
from prefork_logd.records.sender import make_sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_logd.records.record import Record
    from prefork_logd.records.sender import Sender

REDACTED = "<redacted>"
MAX_PATTERNS = 64
MAX_PATTERN_CHARACTERS = 64

_ASCII = bytes(range(128))
_DROPPED = bytes(octet for octet in _ASCII if not chr(octet).isalnum())
_LOWER = bytes(range(256)).lower()
_CACHED_CHARACTERS = 64
"""Keys up to this length are remembered with their verdict: a client chooses the keys."""

_BEARER = re.compile(r"\b(bearer|basic)( +)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE | re.ASCII)
_URL_USERS = re.compile(r"""://[^\s/@]*@(?:[^\s/@"'<>]*@)*""")
"""A URL up to its last user. A server with several hosts may have one before each: `postgresql://u:p@a,v:q@b/db`."""
_JWT = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{7,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}")
_CARD = re.compile(r"(?<![0-9])[2-6](?:[ -]?[0-9]){12,18}(?![0-9])")


def _without_card(match: re.Match[str]) -> str:
    """Return a number of a payment card as REDACTED, any other number unchanged (ISO/IEC 7812-1, annex B: Luhn)."""
    digits = [int(one) for one in match[0] if one.isdecimal()]
    odd, even = digits[-1::-2], digits[-2::-2]
    checksum = sum(odd) + sum(sum(divmod(2 * digit, 10)) for digit in even)
    return match[0] if checksum % 10 else REDACTED


def _without_passwords(match: re.Match[str]) -> str:
    """Return the users of a URL without their passwords: from a user's colon to the last @ before the next user."""
    shown: list[str] = []
    for part in match[0][len("://") : -1].split("@"):
        hosts, comma, user = part.partition(",") if shown else ("", "", part)
        name, colon, password = user.partition(":")
        if not shown or (comma and colon):
            shown.append(f"{hosts}{comma}{name}{colon}{REDACTED if password else ''}")
        elif not shown[-1].endswith(REDACTED):
            # An @ within a password, or of a user without one: this cannot be told from a secret.
            shown.append(REDACTED)
    return f"://{'@'.join(shown)}@"


FORMS: dict[str, Callable[[str], str]] = {
    "bearer": lambda text: _BEARER.sub(rf"\1\2{REDACTED}", text),
    "card": lambda text: _CARD.sub(_without_card, text),
    "jwt": lambda text: _JWT.sub(REDACTED, text),
    "url-password": lambda text: _URL_USERS.sub(_without_passwords, text),
}
"""Name of each form to the function that returns a text without it: an HTTP credential (RFC 7235), the number of a
payment card, a JSON Web Token (RFC 7519), the passwords in a URL (RFC 3986, section 3.2.1)."""


def plain_key(key: str) -> bytes:
    """Return a key as it is compared: lower case, without ASCII characters other than letters and digits."""
    return key.encode("utf-8", "surrogatepass").translate(_LOWER, _DROPPED)


def split_pattern(pattern: str) -> tuple[bytes, bool, bool]:
    """Return a pattern's plain text, and whether anything may stand before and behind it.

    Raises ValueError with a sentence for a pattern that cannot be used.
    """
    text = pattern[pattern.startswith("*") :].removesuffix("*")
    plain = plain_key(text)
    if "*" in text:
        raise ValueError(f"{pattern!r} has * inside; it stands for anything at the beginning or the end only")
    if not plain or plain.isdigit():
        raise ValueError(f"{pattern!r} has no letter")
    if len(plain) > MAX_PATTERN_CHARACTERS:
        raise ValueError(f"{pattern!r} is longer than {MAX_PATTERN_CHARACTERS} bytes")
    return plain, pattern.startswith("*"), pattern.endswith("*")


class Redactor:
    """Redacts records by one set of rules."""

    def __init__(self, keys: Iterable[str] = (), allow: Iterable[str] = (), values: Iterable[str] = ()) -> None:
        """Take patterns of keys, keys that stay, and names of FORMS. Raises ValueError for a wrong pattern."""
        self.patterns = tuple(split_pattern(pattern) for pattern in keys)
        self.allowed = frozenset(plain_key(key) for key in allow)
        self.forms = tuple(sorted(values))
        self._searches = tuple(FORMS[form] for form in self.forms)
        self._cached = functools.lru_cache(maxsize=4096)(self._compare)

    def is_secret(self, key: str) -> bool:
        """Tell whether the value of this key is replaced."""
        return self._cached(key) if len(key) <= _CACHED_CHARACTERS else self._compare(key)

    def redact(self, record: Record) -> bool:
        """Replace the secrets of a record, in place; return whether there were any."""
        found = False
        if self._searches:
            for field in ("message", "msg", "exc_text", "stack_info"):
                text = getattr(record, field)
                if text:
                    shown = self._without_forms(text)
                    if shown != text:
                        setattr(record, field, shown)
                        found = True
        for field in ("extra", "exception"):
            value = getattr(record, field)
            if value and (self.patterns or self._searches):
                shown, changed = self.redact_value(value)
                if changed:
                    setattr(record, field, shown)
                    found = True
                    if field == "extra":
                        _fit_again(record, value)
        return found

    def redact_unread(self, record: Record) -> bool:
        """Replace secrets by key in JSON that is text, in `message` and `extra`; return whether there were any."""
        if not self.patterns:
            return False
        before = record.extra
        record.extra, in_extra = redact_texts(before, self.is_secret, REDACTED)
        if in_extra:
            _fit_again(record, before)
        record.message, in_message = redact_texts(record.message, self.is_secret, REDACTED)
        return in_message or in_extra

    def redact_sender(self, sender: Sender) -> Sender:
        """Return a sender without the secrets of its own fields."""
        if not sender.fields or not (self.patterns or self._searches):
            return sender
        fields, changed = self.redact_value(sender.fields)
        return make_sender(*sender[:4], fields, sender.peer_name) if changed else sender

    def _compare(self, key: str) -> bool:
        plain = plain_key(key)
        if plain in self.allowed:
            return False
        for text, before, behind in self.patterns:
            if before and behind:
                if text in plain:
                    return True
            elif before:
                if plain.endswith(text):
                    return True
            elif plain.startswith(text) if behind else plain == text:
                return True
        return False

    def _without_forms(self, text: str) -> str:
        for search in self._searches:
            text = search(text)
        return text

    def redact_value(self, value: Any) -> tuple[Any, bool]:
        """Return a plain value without secrets, and whether it had any; it is not changed itself."""
        if isinstance(value, dict):
            changed: dict[str, Any] = {}
            for key, item in value.items():
                if item is not None and not isinstance(item, bool) and self.is_secret(key):
                    changed[key] = REDACTED
                elif isinstance(item, (dict, list, str)):
                    shown, is_changed = self.redact_value(item)
                    if is_changed:
                        changed[key] = shown
            return ({**value, **changed}, True) if changed else (value, False)
        if isinstance(value, list):
            items = [
                self.redact_value(item) if isinstance(item, (dict, list, str)) else (item, False) for item in value
            ]
            return ([item for item, _ in items], True) if any(found for _, found in items) else (value, False)
        if self._searches:
            shown = self._without_forms(value)
            return shown, shown != value
        return value, False


def _fit_again(record: Record, originals: dict[str, Any]) -> None:
    """Replace the text that a field holds in place of another value, if secrets were replaced in that value."""
    shown = record.extra
    for key, value in originals.items():
        if shown[key] is value or isinstance(value, str):
            continue
        # The original of a field may have another key than the field's, where a client has used that already.
        for longest, fields in ((MAX_FITTED_MESSAGE, ("message",)), (MAX_FITTED_NAME, TEXT_FIELDS)):
            fitted = fit_text(value, longest)
            for field in fields:
                if getattr(record, field) == fitted:
                    setattr(record, field, fit_text(shown[key], longest))
