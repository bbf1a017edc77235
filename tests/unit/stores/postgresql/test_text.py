"""Text and JSON that PostgreSQL cannot hold are found, and brought near."""

import json

import pytest
from hypothesis import given

from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json
from prefork_logd.stores import rows
from prefork_logd.stores.postgresql.text import has_foreign_escape, has_inexact_number, postgresql_json, postgresql_text
from tests.support.strategies import attributes, bounded

PEER = "192.0.2.7:40000"


@pytest.mark.slow
@bounded
@given(attributes)
def test_what_postgresql_cannot_hold_is_told(values):
    """A line that is not told to be foreign has text and JSON that PostgreSQL holds as they are."""
    line = render_json(make_record(values, PEER, 1.0))
    row = rows.decode(line)
    texts = [getattr(row, name) or "" for name in rows.TEXT_COLUMNS]
    extra = bytes(row.extra) or b"{}"
    for text in texts:
        assert not set(postgresql_text(text)) & {"\0", *map(chr, range(0xD800, 0xE000))}
    held = json.loads(postgresql_json(extra))
    json.dumps(held, ensure_ascii=False).encode()
    if not has_foreign_escape(line) and not has_inexact_number(extra):
        assert [postgresql_text(text) for text in texts] == texts
        assert held == json.loads(extra)


@pytest.mark.parametrize(
    ("extra", "inexact"),
    [
        (b'{"day":"2026-11-23","id":"5f0c9a8e2b7d4c11","quoted":"\\"1e5"}', False),
        (b'{"a":-1,"b":[-0.5,0.0,10,-12.25],"c":"\\\\"}', False),
        (b'{"a":1e16}', True),
        (b'{"id":"8e2","a":[1.5e-7]}', True),
        (b'{"c":"\\\\","a":-0.0}', True),
        (b'{"a":-0,"id":"x"}', True),
    ],
)
def test_only_numbers_are_inexact(extra, inexact):
    """What looks like an exponent in a date or an id costs no second copy of the line."""
    assert has_inexact_number(extra) is inexact


@pytest.mark.parametrize(
    ("lines", "foreign"),
    [
        (b"{}", False),
        (b'{"a":"\\u00e9\\n"}', False),
        (b'{"a":"\\u0000"}', True),
        (b'{"a":"\\udcff"}', True),
        (b'{"a":"\\uD83D\\uDE00"}', True),
        (b'{"a":1}\n{"b":"\\u0000"}\n', True),
    ],
)
def test_a_foreign_escape_is_found(lines, foreign):
    """In one line or in many; a pair of surrogates is taken for one, which costs a second look alone."""
    assert has_foreign_escape(lines) is foreign


def test_the_nearest_json_keeps_what_is_not_foreign():
    """An escaped backslash before a `u` is none of these escapes."""
    extra = rb'{"nul":"a\u0000","lone":"\udcff","text":"\\u0000","word":"\u0001"}'
    assert postgresql_json(extra) == rb'{"nul":"a\ufffd","lone":"\ufffd","text":"\\u0000","word":"\u0001"}'
