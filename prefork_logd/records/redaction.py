"""Replaces secrets in a record: values by the name of their key, and parts of texts by their form.

Owns the comparison of keys with patterns, and the replacement in values. Does not know configuration files, pickles or
lines, nor the forms of secrets in texts (secret_forms.py). The compiled core has the same rules
(ingest/core_c/secrets.pxi).

A key is compared without its case and without everything but letters and digits, so one pattern finds `api_key`,
`Api-Key` and `apiKey`. A number at its end does not count either.
"""

from __future__ import annotations

import functools
import itertools
import re
import sys
from typing import TYPE_CHECKING, Any

from prefork_logd.records.json_text import redact_texts
from prefork_logd.records.named_values import without_named
from prefork_logd.records.provider_tokens import PREFIXES
from prefork_logd.records.record import MAX_FITTED_MESSAGE, MAX_FITTED_NAME, TEXT_FIELDS, fit_text
from prefork_logd.records.redacted import INVISIBLE, NAME_KEYS, REDACTED, VALUE_KEYS
from prefork_logd.records.secret_forms import FORMS, SHORTEST, is_card
from prefork_logd.records.sender import make_sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_logd.records.record import Record
    from prefork_logd.records.sender import Sender

MAX_PATTERNS = 64
MAX_PATTERN_CHARACTERS = 64

SEARCHED_FIELDS = ("message", "msg", "name", "processName", "threadName", "taskName", "exc_text", "stack_info")
"""Fields in which forms of secrets are searched, besides `extra` and `exception`."""

_INVISIBLE = re.compile(f"[{INVISIBLE}]")
_ASCII = bytes(range(128))
_DROPPED = bytes(octet for octet in _ASCII if not chr(octet).isalnum())
_LOWER = bytes(range(256)).lower()
_PAIR = 2
_CACHED_CHARACTERS = 64
"""Keys up to this length are remembered with their verdict: a client chooses the keys."""


def plain_key(key: str) -> bytes:
    """Return a key as it is compared: lower case, of ASCII only letters and digits, without invisible characters."""
    if not key.isascii():
        key = _INVISIBLE.sub("", key)
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
        self.prefixes = tuple((prefix.text.encode(), prefix.least) for prefix in PREFIXES)
        """Prefixes of tokens for the compiled core, each with the number of signs behind it."""
        self._searches = tuple(
            self._without_named if form == "key-value" else search
            for form, search in FORMS.items()
            if form in self.forms
        )
        self._parts = tuple({text for text, _, _ in self.patterns})
        """What the plain name of each secret has one of."""
        self.shortest = min((SHORTEST.get(form, 0) for form in self.forms), default=sys.maxsize)
        """Characters of the shortest text that may have one of the forms."""
        self._hides_cards = "card" in self.forms
        self._has_options = "key-value" in self.forms
        self._searched: tuple[type, ...] = (dict, list, str, int) if self._searches else (dict, list)
        """Types of values that may hold a secret."""
        self._names_secret = _matcher(self.patterns)
        self._names_numbered_secret = _matcher(self.patterns, digits=b"[0-9]*+")
        self._cached = functools.lru_cache(maxsize=4096)(self._compare)

    def is_secret(self, key: str) -> bool:
        """Tell whether the value of this key is replaced."""
        return self._cached(key) if len(key) <= _CACHED_CHARACTERS else self._compare(key)

    def redact(self, record: Record) -> bool:
        """Replace the secrets of a record, in place; return whether there were any."""
        found = False
        for field in ("extra", "exception"):
            value = getattr(record, field)
            if value and (self.patterns or self._searches):
                shown, changed = self.redact_value(value)
                if changed:
                    setattr(record, field, shown)
                    found = True
                    if field == "extra":
                        _fit_again(record, value)
        if self._searches:
            # After the above: a field that holds the JSON of a value is known by its text as it came.
            for field in SEARCHED_FIELDS:
                text = getattr(record, field)
                if text and len(text) >= self.shortest:
                    text_shown = self._without_forms(text)
                    if text_shown != text:
                        setattr(record, field, text_shown)
                        found = True
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
        # Keys are numbered, as api_key_2; and of two with the same text, the later one has its kind after it.
        if self._names_numbered_secret(plain):
            return True
        return key.endswith(")") and self._names_secret(plain_key(key.rpartition(" (")[0]))

    def _without_forms(self, text: str) -> str:
        for search in self._searches:
            text = search(text, self.is_secret)
        return text

    def _without_named(self, text: str, is_secret: Callable[[str], bool]) -> str:
        """Do `without_named` for a text that has a secret's name somewhere: most have none."""
        plain = plain_key(text)
        return without_named(text, is_secret) if any(part in plain for part in self._parts) else text

    def redact_value(self, value: Any) -> tuple[Any, bool]:
        """Return a plain value without secrets, and whether it had any; it is not changed itself."""
        if isinstance(value, dict):
            return self._redact_dict(value)
        if isinstance(value, list):
            return self._redact_list(value)
        if isinstance(value, str):
            if len(value) < self.shortest:
                return value, False
            shown = self._without_forms(value)
            return shown, shown != value
        if self._hides_cards and type(value) is int and is_card(value):
            return REDACTED, True
        return value, False

    def _redact_list(self, value: list[Any]) -> tuple[list[Any], bool]:
        searched = self._searched
        changed: dict[int, Any] = {}
        for index, item in enumerate(value):
            if isinstance(item, searched):
                shown, is_changed = self.redact_value(item)
                if is_changed:
                    changed[index] = shown
        if self.patterns and _are_pairs(value):
            for index, (name, item) in enumerate(value):
                if is_hidden(item) and self.is_secret(name):
                    changed[index] = [name, REDACTED]
        if self._has_options:
            self._redact_options(value, changed)
        return ([changed.get(index, item) for index, item in enumerate(value)], True) if changed else (value, False)

    def _redact_options(self, arguments: list[Any], changed: dict[int, Any]) -> None:
        """Replace the arguments of a command behind options with the name of a secret, as in `["--password", "x"]`."""
        for index, (option, item) in enumerate(itertools.pairwise(arguments), start=1):
            if type(option) is str and option[:2] == "--" and type(item) in (str, int, float):
                is_next = type(item) is str and item[:2] == "--"
                if not is_next and self.is_secret(option):
                    changed[index] = REDACTED

    def _redact_dict(self, value: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        changed: dict[str, Any] = {}
        searched = self._searched
        for key, item in value.items():
            if is_hidden(item) and self.is_secret(key):
                changed[key] = REDACTED
            elif isinstance(item, searched):
                shown, is_changed = self.redact_value(item)
                if is_changed:
                    changed[key] = shown
        if self.patterns and not VALUE_KEYS.isdisjoint(value):
            names = (item for key, item in value.items() if key in NAME_KEYS)
            if any(isinstance(name, str) and self.is_secret(name) for name in names):
                changed.update((key, REDACTED) for key, item in value.items() if key in VALUE_KEYS and is_hidden(item))
        found = ({**value, **changed}, True) if changed else (value, False)
        is_long = bool(self._searches) and max(map(len, value), default=0) >= self.shortest
        return self._redact_keys(*found) if is_long else found

    def _redact_keys(self, value: dict[str, Any], is_changed: bool) -> tuple[dict[str, Any], bool]:
        """Do with the texts of keys what is done with other texts; no value is lost where two become the same."""
        shown = {key: self._without_forms(key) for key in value}
        if all(key == text for key, text in shown.items()):
            return value, is_changed
        made: dict[str, Any] = {}
        numbers: dict[str, int] = {}
        for key, item in value.items():
            text = shown[key]
            name = text
            # Each number is tried once: thousands of keys may have the same text.
            while name in made:
                numbers[text] = numbers.get(text, 1) + 1
                name = f"{text} ({numbers[text]})"
            made[name] = item
        return made, True


def _matcher(patterns: Iterable[tuple[bytes, bool, bool]], digits: bytes = b"") -> Callable[[bytes], bool]:
    """Return what tells whether a plain key fits one of some patterns, also with `digits` (an expression) behind it."""
    anywhere: list[bytes] = []
    first: list[bytes] = []
    for text, before, behind in patterns:
        end = b"" if behind else (b"" if text[-1:].isdigit() else digits) + rb"\Z"
        (anywhere if before else first).append(re.escape(text) + end)
    # Apart, so that the places where a text may begin are found by its first letter.
    search = re.compile(b"|".join(anywhere)).search if anywhere else None
    match = re.compile(b"|".join(first)).match if first else None
    return lambda plain: (
        (search is not None and search(plain) is not None) or (match is not None and match(plain) is not None)
    )


def is_hidden(value: Any) -> bool:
    """Tell whether a value may be a secret: null, true and false never are."""
    return value is not None and not isinstance(value, bool)


def _are_pairs(items: list[Any]) -> bool:
    """Tell whether a list holds pairs of a name and a value, such as the headers of an ASGI scope."""
    if not items or not isinstance(items[0], list):
        return False
    return all(isinstance(item, list) and len(item) == _PAIR and isinstance(item[0], str) for item in items)


def _fit_again(record: Record, originals: dict[str, Any]) -> None:
    """Replace the text that a field holds in place of another value, if secrets were replaced in that value."""
    shown = record.extra
    for key, value in originals.items():
        # A key that has the form of a secret is no name of a field.
        if key not in shown or shown[key] is value or isinstance(value, str):
            continue
        # Underscores are behind the name of a field where a client has used that already.
        name = key.rstrip("_")
        is_message = name in ("msg", "message")
        field, longest = ("message", MAX_FITTED_MESSAGE) if is_message else (name, MAX_FITTED_NAME)
        if (is_message or name in TEXT_FIELDS) and getattr(record, field) == fit_text(value, longest):
            setattr(record, field, fit_text(shown[key], longest))
