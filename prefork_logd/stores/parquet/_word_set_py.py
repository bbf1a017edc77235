"""Collects the words of records in Python: the specification of the compiled WordSet (stores/rows_c/words.pxi).

Owns which words a record has: those of message, exc_text, stack_info and `extra`, the keys in `extra` included. Does
not know filters or queries.

A word is a run of letters and digits of ASCII, in lower case. The few characters that fold to such letters
(query/words.py) count as these; every other character ends a word. A number has one word: the digits before its
fraction, or ROUGH.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

INDEXED = ("message", "exc_text", "stack_info", "extra")
LONGEST = 512
"""Characters of a word that are kept; of a longer one the first."""
ROUGH = b"\0r"
"""The word of a number that may be equal to an integer of other digits."""
EXACT_DIGITS = 15
"""A float has so many digits; one more may be rounded."""

_FOLDED = str.maketrans({"ß": "ss", "\u1e9e": "ss", "\u017f": "s", "\u0131": "i", "\u0130": "i", "\u212a": "k"})
"""Sharp s, long s, i without and with a dot, the sign of kelvin."""
_WORD = re.compile("[0-9a-z]+")
_UPPER = str.maketrans({chr(code): chr(code + 32) for code in range(ord("A"), ord("Z") + 1)})
_MASK = (1 << 64) - 1


class _Number(NamedTuple):
    literal: str


class _Object(list[tuple[str, Any]]):
    """The pairs of an object."""


def words_in(text: str) -> list[bytes]:
    """Return the words of a text, in order."""
    return [word[:LONGEST].encode() for word in _WORD.findall(text.translate(_FOLDED).translate(_UPPER))]


def hash_of(word: bytes) -> int:
    """Return the hash of a word, of 64 bits."""
    value = len(word) * 0x9E3779B97F4A7C15 & _MASK
    for at in range(0, len(word), 8):
        value = (value ^ int.from_bytes(word[at : at + 8], "little")) * 0xFF51AFD7ED558CCD & _MASK
        value ^= value >> 32
    return value


def _word_of(literal: str) -> bytes:
    """Return the word of a number of JSON."""
    digits, has_fraction, fraction = literal.lstrip("-").partition(".")
    nines = len(fraction) - len(fraction.lstrip("9"))
    if "e" in literal.lower() or (has_fraction and len(digits) + nines >= EXACT_DIGITS):
        return ROUGH
    return digits[:LONGEST].encode()


class WordSet:
    """The different words of some records, as their hashes; at most `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._hashes: set[int] = set()

    def __len__(self) -> int:
        return len(self._hashes)

    @property
    def is_full(self) -> bool:
        """Whether there were more words than it holds."""
        return len(self) > self._most

    def hashes(self) -> bytes:
        """Return the hashes, in octets: each is a little-endian integer of eight."""
        return b"".join(value.to_bytes(8, "little") for value in self._hashes)

    def add(self, lines: bytes) -> None:
        """Add the words of lines. Each line is a record of JSON in UTF-8, and ends in a newline."""
        for line in lines.split(b"\n"):
            if self.is_full:
                return
            try:
                record = json.loads(line, object_pairs_hook=_Object, parse_int=_Number, parse_float=_Number)
            except (ValueError, RecursionError):
                continue  # not a record: the store refuses it
            if isinstance(record, _Object):
                self._add([value for key, value in record if key in INDEXED])

    def _add(self, values: list[Any]) -> None:
        left = [*values]
        while left:
            match left.pop():
                case _Number(literal):
                    found = [_word_of(literal)]
                case str(text):
                    found = words_in(text)
                case list() | tuple() as inner:
                    left += inner
                    continue
                case _:
                    continue
            self._hashes.update(map(hash_of, found))
