"""Regular expressions of RE2 as PostgreSQL's: which ones are translated, and how."""

from __future__ import annotations

import re

import pytest

from prefork_logd.query.expressions import compile_expression as expression
from prefork_logd.query.words import spellings
from prefork_logd.stores.postgresql.regex import translate


@pytest.mark.parametrize(
    ("text", "translated"),
    [
        ("^order$", "^order$"),
        ("a.b", r"a[^\n]b"),
        (r"v\d+\.\S", r"v[0-9]+\.[^\t\n\f\r ]"),
        ("(a|bc)*?d", "(?:a|bc)*d"),
        ("(?:a){2,3}", "(?:a){2,3}"),
        ("[^a-z_]", "[^a-z_]"),
        (r"[]\d-]", r"[\]0-9\-]"),
        ("(?i)aK1", "[Aa][Kk\u212a]1"),
        ("日本#", r"日本\#"),
    ],
)
def test_what_is_translated(text: str, translated: str) -> None:
    """Parts that mean the same, written so that no flag or locale matters."""
    assert translate(text) == translated
    re.compile(translated)


@pytest.mark.parametrize(
    "text",
    [r"\bx", r"\pL", "[[:alpha:]]", "(?P<n>a)", "(?s).", "a||b", "()", "a**", "a{101}", "((a{50}){50}){2}", r"\x41",
     r"\Q.\E", "(?i)[a-z]", "(?i)ß", "(?i)Ω", "^*", "a{2}{3}", "(" * 30 + "a" + ")" * 30, "a\0", ""],
)  # fmt: skip
def test_what_is_left_to_re2(text: str) -> None:
    """All of it, rather than a part."""
    assert translate(text) is None


def test_spellings_are_those_of_re2() -> None:
    """For every letter whose case is translated."""
    letters = [chr(code) for code in range(0x20, 0x17F) if len(chr(code).casefold()) == 1]
    for letter in letters:
        compiled = expression(f"^(?i)\\x{{{ord(letter):x}}}$")
        for other in [*letters, "\u017f", "\u212a", "\u212b", "\u1e9e", "\u0130"]:
            assert (compiled.search(other.encode()) is not None) == (other in spellings(letter)), (letter, other)
