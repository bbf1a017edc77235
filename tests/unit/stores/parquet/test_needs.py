"""A record that meets a condition has the words that the condition needs."""

import json

import pytest
from hypothesis import given

from prefork_logd.query.language import parse
from prefork_logd.query.tree import Compare, Has, Words
from prefork_logd.stores.parquet._word_set_py import ROUGH, WordSet, hash_of
from prefork_logd.stores.parquet.needs import NOTHING, Every, Some, may_hold, needs_of
from tests.support import searching
from tests.support.strategies import bounded


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("timeout", b"timeout"),
        ('"disk full"', Every((b"disk", b"full"))),
        ("disk full", Every((b"disk", b"full"))),
        ("disk OR full", Some((b"disk", b"full"))),
        ("disk OR level>=30", NOTHING),
        ("disk level>=30 -other", b"disk"),
        ("ful*", NOTHING),
        ("gr\u00fc\u00dfe", NOTHING),
        ("request_id=9f1c-2b7e", Every((Every((b"request", b"id")), Every((b"9f1c", b"2b7e"))))),
        ("user=12", Every((b"user", Some((b"12", ROUGH))))),
        ("user=-12", Every((b"user", Some((b"12", ROUGH))))),
        ("user=1.5", b"user"),
        ("user=true", b"user"),
        ("user>=12", b"user"),
        ('message~"low scan of"', b"scan"),
        ('message~" scan "', b"scan"),
        ("message~scan", NOTHING),
        ("message=~scan", NOTHING),
        ("name=scan", NOTHING),
        ("-scan", NOTHING),
    ],
)
def test_what_is_needed(text, wanted):
    """Words that are whole, of ASCII, and not negated."""
    assert needs_of(parse(text, now=0.0)) == wanted


def test_a_beginning_may_be_a_part_of_its_last_word():
    """The first one is whole."""
    assert needs_of(Compare(("message",), "^=", "low scan of")) == Every((b"low", b"scan"))


def test_the_last_word_of_a_prefix_may_go_on():
    """The others are whole."""
    assert needs_of(Words(("disk", "ful"), is_prefix=True)) == b"disk"


def test_an_index_of_a_list_is_no_key():
    """It is not in the record."""
    assert needs_of(Has(("extra", "ids", "0"))) == b"ids"


@bounded
@given(searching.trees)
def test_a_match_has_what_is_needed(tree):
    """Whatever is asked about the lot of all searches, in lines without lone surrogates."""
    for record, words in LOT:
        if searching.Filters(tree=tree).matches(record):
            assert may_hold(needs_of(tree), words.__contains__)


class _Words:
    """The words of one line."""

    def __init__(self, line):
        found = WordSet(10_000)
        found.add(line)
        octets = found.hashes()
        self._hashes = {octets[at : at + 8] for at in range(0, len(octets), 8)}

    def __contains__(self, word):
        return hash_of(word).to_bytes(8, "little") in self._hashes


LOT = [(json.loads(line), _Words(line)) for line in searching.make_lines(200) if rb"\ud" not in line]
