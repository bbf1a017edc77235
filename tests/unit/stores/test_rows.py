"""A line becomes columns and comes back byte for byte."""

import json

import pytest
from hypothesis import given

from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json
from prefork_logd.stores import rows
from tests.support.corpus import corpus_lines
from tests.support.strategies import attributes, bounded

PEER = "192.0.2.7:40000"


@pytest.mark.slow
def test_the_corpus_comes_back_byte_for_byte():
    """Every accepted record of the corpus, hostile ones included."""
    for line in corpus_lines():
        assert rows.render(rows.decode(line)) == line


@pytest.mark.slow
@bounded
@given(attributes)
def test_any_record_comes_back_byte_for_byte(values):
    """NUL characters, lone surrogates, huge integers, marks that look like our own: all in their place."""
    line = render_json(make_record(values, PEER, 1_795_404_245.125))
    row = rows.decode(line)
    assert rows.render(row) == line
    for name in rows.TEXT_COLUMNS:
        assert getattr(row, name) == json.loads(line).get(name)


def test_a_mark_is_never_mistaken():
    """DEL with hexadecimal digits behind it, escapes that are none, and surrogates in one record."""
    values = {"msg": "\x7fdcff \udcff \\udcff \\\udcff", "name": "\x7f", "\udc80": ["\x7f0041", "\\\ud800"]}
    line = render_json(make_record(values, PEER, 1.0))
    row = rows.decode(line)
    assert (row.message, row.name) == (values["msg"], "\x7f")
    assert json.loads(bytes(row.extra)) == {"\udc80": ["\x7f0041", "\\\ud800"]}
    assert rows.render(row) == line


@pytest.mark.slow
def test_many_lines_at_once():
    """Several lines give what each gives; the caller sees it when one of them is no record."""
    lines = [line for line in corpus_lines() if rb"\ud" not in line]
    assert [rows.render(row) for row in rows.decode_lines(b"".join(lines))] == lines
    with pytest.raises(ValueError, match=r"."):
        rows.decode_lines(lines[0] + b'{"message":"no time"}\n')


@pytest.mark.parametrize(
    "line", [b"{}", b"[]", b"", b'{"created":"x"}', b'{"created":-1}', b'{"created":1,"levelno":99999999999999999999}']
)
def test_what_is_no_record_is_refused(line):
    """A line that no collector wrote raises, and says why."""
    with pytest.raises(ValueError, match=r"."):
        rows.decode(line)
