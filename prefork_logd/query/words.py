"""Defines words: how texts are divided into them, which words are equal, and how a phrase becomes a regular expression.

Owns the rule, which is the same for every store:

- A character is a separator, a character of a script without spaces, or another word character. The lists below name
  the first two by code points, so that the rule depends on no locale and no version of Unicode.
- A word is one character of a script without spaces (Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese), or a run of
  other word characters. In those scripts nothing marks the end of a word, and a dictionary would make the result depend
  on its age; so a search for some of their characters finds them wherever they stand one behind the other.
- Words are compared folded: by Unicode's folding of single characters; also, `ß` is `ss`, and the Turkish letters i
  with and without a dot are `i`. Accents count, and composed and decomposed characters differ.
- A phrase is found where its words stand one behind the other, with separators or nothing else between them.

`pattern` is the same rule as an expression that means the same in RE2, in PostgreSQL and in Python. Does not know
databases, fields or the language of queries.
"""

from __future__ import annotations

import functools
import re

MOST_WORDS = 64
"""Most words of a phrase."""
MOST_S = 32
"""Most consecutive `s` of a word: each pair of them may be a ß."""

_SEPARATORS = (
    *((0x00, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0xA9), (0xAB, 0xB1), (0xB4, 0xB4), (0xB6, 0xB8)),
    *((0xBB, 0xBB), (0xBF, 0xBF), (0xD7, 0xD7), (0xF7, 0xF7)),
    *((0x37E, 0x37E), (0x387, 0x387), (0x55A, 0x55F), (0x589, 0x58A), (0x5BE, 0x5BE), (0x5C0, 0x5C0)),
    *((0x5C3, 0x5C3), (0x5F3, 0x5F4), (0x60C, 0x60D), (0x61B, 0x61F), (0x66A, 0x66D), (0x6D4, 0x6D4)),
    *((0x964, 0x965), (0xE3F, 0xE3F), (0xE4F, 0xE4F), (0xE5A, 0xE5B), (0x104A, 0x104F), (0x1361, 0x1368)),
    *(
        (0x1680, 0x1680),
        (0x17D4, 0x17DA),
        (0x1800, 0x180A),
        (0x2000, 0x206F),
        (0x207A, 0x207E),
        (0x208A, 0x208E),
        (0x20A0, 0x20CF),
    ),
    *((0x2190, 0x2BFF), (0x2E00, 0x2E7F), (0x3000, 0x3004), (0x3008, 0x3020), (0x3030, 0x3030), (0x303D, 0x303F)),
    *((0x30A0, 0x30A0), (0x30FB, 0x30FB), (0xFD3E, 0xFD3F), (0xFE00, 0xFE6F), (0xFEFF, 0xFF0F), (0xFF1A, 0xFF20)),
    *((0xFF3B, 0xFF40), (0xFF5B, 0xFF65), (0xFFE0, 0xFFFF), (0x1F000, 0x1FAFF)),
)
"""Spaces, punctuation, symbols and emoji."""
_UNSPACED = (
    *((0xE00, 0xEFF), (0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3000, 0xA4CF)),
    *((0xA960, 0xA97F), (0xAC00, 0xD7FB), (0xF900, 0xFAFF), (0xFF66, 0xFFDF), (0x1AFF0, 0x1B16F), (0x20000, 0x3FFFF)),
)
"""Scripts without spaces, and Korean, whose particles follow a noun without one; separators among them are none."""
_CASED = ((0x41, 0x588), (0x10A0, 0x1400), (0x1C80, 0x2185), (0x2C00, 0x2D2E), (0xA640, 0xABC0), (0xFB00, 0xFB18),
          (0xFF21, 0xFF5B), (0x10400, 0x10D86), (0x118A0, 0x118E0), (0x16E40, 0x16E80), (0x1E900, 0x1E944))  # fmt: skip
"""Ranges, their end excluded, of all characters that have a case."""


def _ranges(taken: tuple[tuple[int, int], ...]) -> str:
    """Return all characters outside of some ranges, in the form of a character class."""
    at, parts = 0, []
    for low, high in sorted(taken):
        if low > at:
            parts.append(f"{chr(at)}-{chr(low - 1)}" if low - 1 > at else chr(at))
        at = max(at, high + 1)
    return "".join((*parts, f"{chr(at)}-{chr(0x10FFFF)}"))


_SPACED = _ranges((*_SEPARATORS, *_UNSPACED))
# Negated classes: no character in them needs an escape, and NUL, which PostgreSQL has not, is in them unwritten.
SEPARATOR = f"[^{_ranges(_SEPARATORS)}]"
"""A separator, as a character class."""
BOUNDARY = f"[^{_SPACED}]"
"""A separator or a character of a script without spaces: what may stand beside a word."""
_LONE = re.compile(f"(?={BOUNDARY})(?!{SEPARATOR})")
_WORD = re.compile(f"[{_SPACED}]+|[{_ranges(_SEPARATORS)}]")
_NO_ASCII_WORD = re.compile("[^0-9a-z]+")


def fold(text: str) -> str:
    """Return a text in the form in which words are compared."""
    if text.isascii():
        return text.lower()
    return text.translate(_folding())


def words_of(text: str) -> list[str]:
    """Return the folded words of a text, in order."""
    folded = fold(text)
    return _NO_ASCII_WORD.sub(" ", folded).split() if folded.isascii() else _WORD.findall(folded)


def normal(text: str) -> str:
    """Return the folded words of a text with a space around each: a phrase is in it as `needle` writes it."""
    return f" {' '.join(words_of(text))} "


def needle(words: tuple[str, ...], is_prefix: bool) -> str:
    """Return a phrase of folded words as it occurs in a `normal` text."""
    return f" {' '.join(words)}" + ("" if is_prefix else " ")


@functools.lru_cache(maxsize=1_000)
def pattern(words: tuple[str, ...], is_prefix: bool) -> str:
    """Return the regular expression that matches a part of exactly the texts with this phrase of folded words.

    It uses nothing but literals, character classes, `^`, `$`, `|`, `*`, `+` and `(?:`; `^` and `$` mean the ends of the
    whole text, and no flag may be set.
    """
    parts = ["" if _is_lone(words[0]) else f"(?:^|{BOUNDARY})"]
    for index, word in enumerate(words):
        if index:
            parts.append(f"{SEPARATOR}*" if _is_lone(word) or _is_lone(words[index - 1]) else f"{SEPARATOR}+")
        parts.append(_spelled(word, is_prefix and index == len(words) - 1))
    if not is_prefix and not _is_lone(words[-1]):
        parts.append(f"(?:$|{BOUNDARY})")
    return "".join(parts)


def _is_lone(word: str) -> bool:
    return _LONE.match(word) is not None


def _spelled(word: str, is_prefix: bool) -> str:
    """Return an expression for every spelling of a folded word."""
    runs = re.split("(ss+)", word)
    parts = [_run_of_s(len(run)) if index % 2 else "".join(map(_letter, run)) for index, run in enumerate(runs)]
    if is_prefix and word.endswith("s"):
        # The second half of a ß may lie behind the prefix.
        count = len(word) - len(word.rstrip("s"))
        return "".join(map(_any_letter_or_s, re.split("(s+)", word[: len(word) - count]))) + (
            f"(?:{_run_of_s(count)}|{_run_of_s(count - 1)}[ßẞ])"
        )
    return "".join(parts)


def _any_letter_or_s(part: str) -> str:
    return _run_of_s(len(part)) if part.startswith("s") else "".join(map(_letter, part))


@functools.cache
def _run_of_s(count: int) -> str:
    """Return an expression for so many `s`, two of which may be a ß; its length grows with the square of `count`."""
    if count < 2:
        return _letter("s") * count
    half = count // 2
    across = f"{_run_of_s(half - 1)}[ßẞ]{_run_of_s(count - half - 1)}"
    return f"(?:{_run_of_s(half)}{_run_of_s(count - half)}|{across})"


def spellings(character: str) -> str:
    """Return all characters that are the same but for their case, by Unicode's folding of single characters alone."""
    return _cases().get(character.casefold(), character)


@functools.cache
def _cases() -> dict[str, str]:
    """Return all characters that fold to one by Unicode's folding of single characters, itself included."""
    found: dict[str, str] = {}
    for code in _folding():
        folded = chr(code).casefold()
        if len(folded) == 1:
            found[folded] = found.get(folded, folded) + chr(code)
    return {folded: "".join(sorted(set(characters))) for folded, characters in found.items()}


def _letter(character: str) -> str:
    spellings = _spellings().get(character, character)
    return f"[{spellings}]" if len(spellings) > 1 else spellings


@functools.cache
def _folding() -> dict[int, str]:
    """Return what each character becomes that folding changes."""
    found = {}
    for start, stop in _CASED:
        for code in range(start, stop):
            character = chr(code)
            folded = character.casefold()
            if folded != character and len(folded) == 1:
                found[code] = folded
    return found | dict.fromkeys(map(ord, "ßẞ"), "ss") | dict.fromkeys(map(ord, "İı"), "i")


@functools.cache
def _spellings() -> dict[str, str]:
    """Return all characters that fold to a character, itself included, for those that have several."""
    found: dict[str, str] = {}
    for code, folded in _folding().items():
        if len(folded) == 1:
            found[folded] = found.get(folded, folded) + chr(code)
    return found
