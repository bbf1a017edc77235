"""The words of records are the same in C and in Python, and have each word that a query may look for."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.query import words
from prefork_logd.stores import rows_core
from prefork_logd.stores.parquet import _word_set_py
from prefork_logd.stores.parquet._word_set_py import EXACT_DIGITS, LONGEST, ROUGH, hash_of, words_in
from tests.support.searching import make_lines
from tests.support.strategies import bounded

KINDS = [
    pytest.param(_word_set_py.WordSet, id="python"),
    pytest.param(
        rows_core.WordSet, id="compiled", marks=pytest.mark.skipif(rows_core.WordSet is None, reason="not compiled")
    ),
]
kinds = pytest.mark.parametrize("make", KINDS)


def hashes(make, *lines):
    """Return the hashes of the words of lines."""
    found = make(1_000_000)
    for one in lines:
        found.add(one)
    octets = found.hashes()
    values = {int.from_bytes(octets[at : at + 8], "little") for at in range(0, len(octets), 8)}
    assert len(values) == len(found)
    return values


@kinds
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (b'{"created":1.5,"name":"shop","message":"Order A-2207 taken"}', b"order a 2207 taken"),
        (b'{"message":"a\\nb\\u001bC\\"d\\\\e","extra":{"x_y":[1,-20,3.25]}}', b"a b c d e x y 1 20 3"),
        (b'{"extra":{"a":{"b":["Deep",{"c":true}]}},"host":"not"}', b"a b deep c"),
        ('{"exc_text":"Stra\u00dfe \u017ftock \u212aelvin \u0130\u0131 \u65e5tower\u2014x"}'.encode(),
         b"strasse stock kelvin ii tower x"),
        (b'{"stack_info":"\\u0041\\u00df\\u017F\\ud83d\\ude00z"}', b"asss z"),
        (b'{"message":""}', b""),
    ],
)  # fmt: skip
def test_words_are_those_of_the_texts(make, line, wanted):
    """Folded, between any other characters; of numbers the digits before the fraction."""
    assert hashes(make, line + b"\n") == set(map(hash_of, wanted.split()))


@kinds
@pytest.mark.parametrize(
    "literal", ["1.5e3", "2E1", "1e-5", "0.99999999999999", "123456789012345.5", "-9.999999999999999"]
)
def test_a_number_that_may_equal_other_digits_is_rough(make, literal):
    """By an exponent, or by more digits than a float has."""
    assert hashes(make, b'{"extra":{"n":%b}}\n' % literal.encode()) == {hash_of(b"n"), hash_of(ROUGH)}
    if "e" not in literal.lower():
        assert len(literal.replace(".", "").lstrip("-")) >= EXACT_DIGITS


@kinds
def test_a_long_word_is_cut(make):
    """In the record as in the query."""
    assert hashes(make, b'{"message":"%b"}\n' % (b"x" * 9000)) == {hash_of(b"x" * LONGEST)}
    assert words_in("X" * 9000) == [b"x" * LONGEST]


@kinds
def test_a_line_that_is_no_record_does_not_touch_the_next(make):
    """Whatever it is: the store refuses it."""
    lines = b'{"message":"open\n[1,2]\n5\n{"message":"x"\n' + b'{"message":"word"}\n'
    assert hash_of(b"word") in hashes(make, lines)


@kinds
def test_there_is_a_bound(make):
    """Then it says so."""
    found = make(10)
    found.add(b'{"message":"a b c d e f g h i j"}\n')
    assert not found.is_full
    found.add(b'{"message":"k"}\n{"message":"l m"}\n')
    assert found.is_full


def test_many_words_are_found_again():
    """The compiled set grows."""
    lines = b"".join(b'{"message":"%x %d"}\n' % (at * 7919, at) for at in range(20_000))
    assert hashes(KINDS[1].values[0] or KINDS[0].values[0], lines) == hashes(_word_set_py.WordSet, lines)


def test_only_known_characters_fold_to_letters_of_ascii():
    """So no other spelling of a word of ASCII is missed."""
    for code in range(128, sys.maxunicode + 1):
        character = chr(code)
        folded = words.fold(character)
        if any(one.isascii() and one.isalnum() for one in folded):
            assert words_in(character) == [folded.encode()]
    for code in range(128):
        assert [one.decode() for one in words_in(chr(code))] == words.words_of(chr(code))


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.sampled_from(["\u00dfs", "A\\B", "\u212a9", 'q"\t']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.skipif(rows_core.WordSet is None, reason="not compiled")
@bounded
@given(
    st.lists(st.dictionaries(st.sampled_from(["message", "extra", "name", "created", "exc_text"]), _values)),
    st.booleans(),
)
def test_the_compiled_set_has_the_same_words(records, is_ascii):
    """Of any JSON."""
    lines = b"".join(json.dumps(one, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass") + b"\n" for one in records)
    if not is_ascii:
        lines = lines.decode("utf-8", "replace").encode()
    assert hashes(rows_core.WordSet, lines) == hashes(_word_set_py.WordSet, lines)


def test_the_compiled_set_has_the_same_words_of_stored_lines():
    """Those of the lot that searches are tested with."""
    if rows_core.WordSet is None:
        pytest.skip("not compiled")
    for one in make_lines():
        assert hashes(rows_core.WordSet, one) == hashes(_word_set_py.WordSet, one)
