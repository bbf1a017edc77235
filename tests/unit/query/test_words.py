"""Words: how texts are divided, what is equal, and that the expression for engines is the same rule."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefork_logd.query import words
from prefork_logd.query.expressions import compile_expression as expression
from tests.support.strategies import bounded, texts

alphabet = st.text("aAsS\u017fßẞkK\u212aiIİ\u01310é É_-. \n\0東京カ서ป🙂", max_size=14)
"""Texts in which folding, boundaries and ß meet often."""


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Low stock, item A-2207!", ["low", "stock", "item", "a", "2207"]),
        ("max_tokens KeyError", ["max", "tokens", "keyerror"]),
        ("/srv/shop/app.py", ["srv", "shop", "app", "py"]),
        ("ada@example.org", ["ada", "example", "org"]),
        ("9f1c2b7e-0d4a-4a53", ["9f1c2b7e", "0d4a", "4a53"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("İstanbul ISPARTA \u0131s\u0131", ["istanbul", "isparta", "isi"]),
        ("\u039b\u03a3 \u03bb\u03c2", ["\u03bb\u03c3", "\u03bb\u03c3"]),
        ("東京タワーTower2", ["東", "京", "タ", "ワ", "ー", "tower2"]),
        ("서버에서", ["서", "버", "에", "서"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा"]),
        ("done✅deploy", ["done", "deploy"]),
        ("a\udcffb", ["a\udcffb"]),
        ("½ 10²", ["½", "10²"]),
        (" _-\0\n", []),
    ],
)
def test_words_of(text: str, want: list[str]) -> None:
    """Identifiers, paths, addresses and ids are several words; scripts without spaces have one a character."""
    assert words.words_of(text) == want


def test_every_character_with_a_case_is_folded() -> None:
    """The ranges that are searched for them leave out no word character."""
    for code in range(0x110000):
        character = chr(code)
        folded = character.casefold()
        if len(folded) == 1 and folded != character and not re.match(words.SEPARATOR, character):
            assert words.fold(character) in {folded, "i"}


def test_folding_keeps_the_kind_of_a_character() -> None:
    """So a text can be folded before it is divided."""
    for character in map(chr, words._folding()):
        for kind in (words.SEPARATOR, words.BOUNDARY):
            assert bool(re.match(kind, character)) == bool(re.match(kind, words.fold(character)[0]))


def test_letters_and_digits_are_word_characters() -> None:
    """Apart from circled numbers and the like."""
    for code in range(0x110000):
        character = chr(code)
        if unicodedata.category(character) in {"Lu", "Ll", "Lt", "Lo", "Nd", "Mn", "Mc"}:
            assert not re.match(words.SEPARATOR, character) or 0xFE00 <= code <= 0xFE2F, hex(code)


def test_the_expression_has_no_character_that_needs_an_escape() -> None:
    """In the classes stand letters and digits alone."""
    inside = words.SEPARATOR[2:-1] + words.BOUNDARY[2:-1]
    assert not set(inside) & set("[]\\^$.|?*+(){}\0")
    assert not any("\ud800" <= one <= "\udfff" for one in inside)


def is_found(text: str, phrase: list[str], is_prefix: bool) -> bool:
    return words.needle(tuple(phrase), is_prefix) in words.normal(text)


@pytest.mark.slow
@bounded
@given(alphabet | texts, st.integers(0, 5), st.integers(1, 3), st.booleans(), st.integers(0, 2))
@example("xßy", 0, 1, True, 2)
@example("sssssssssssßß", 0, 1, False, 0)
def test_words_of_a_text_find_it(text: str, start: int, count: int, is_prefix: bool, cut: int) -> None:
    """Its words, its phrases, and their beginnings, by the rule and by the expression, in Python and in RE2."""
    phrase = words.words_of(text)[start : start + count]
    if phrase and is_prefix:
        phrase[-1] = phrase[-1][: max(1, len(phrase[-1]) - cut)]
    if phrase and all(len(word) < 30 for word in phrase):
        assert is_found(text, phrase, is_prefix)
        pattern = words.pattern(tuple(phrase), is_prefix)
        assert re.search(pattern, text)
        if not re.search("[\ud800-\udfff]", text):
            assert expression(pattern).search(text.encode())


@pytest.mark.slow
@bounded
@given(alphabet, alphabet, st.booleans())
@example("ß", "s", True)
@example("sßs", "ss", True)
@example("東京a", "京", False)
@example("a東", "a", False)
def test_the_expression_is_the_rule(text: str, wanted: str, is_prefix: bool) -> None:
    """It matches exactly the texts with the phrase."""
    phrase = words.words_of(wanted)
    if phrase:
        pattern = words.pattern(tuple(phrase), is_prefix)
        found = is_found(text, phrase, is_prefix)
        assert bool(re.search(pattern, text)) is found
        assert bool(expression(pattern).search(text.encode())) is found


def test_a_word_of_many_s_has_an_expression_of_bounded_length() -> None:
    """A ß for any two of them does not make it exponential."""
    assert len(words.pattern(("s" * words.MOST_S,), True)) < 40_000
