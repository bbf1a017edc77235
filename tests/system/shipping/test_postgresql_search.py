"""Searching PostgreSQL finds what the rules of `query` find, and what SQLite finds."""

from __future__ import annotations

import json

import psycopg
import pytest
from hypothesis import given, settings

from prefork_logd.errors import StoreError
from prefork_logd.query import fulltext
from prefork_logd.query.filters import Filters
from prefork_logd.stores.postgresql.filters_sql import compile_filters
from prefork_logd.stores.postgresql.search import PostgresqlSearch
from prefork_logd.stores.postgresql.store import PostgresqlStore
from tests.support.harness import wait_for
from tests.support.postgresql import Server, find_programs
from tests.support.stores import block, line, never
from tests.support.strategies import bounded
from tests.unit.stores.sqlite.test_search import filters, make_lines

PROGRAMS = find_programs()
pytestmark = pytest.mark.skipif(PROGRAMS is None, reason="NO POSTGRESQL: its server's programs are nowhere to be found")
JOURNAL = "5" * 32


@pytest.fixture(scope="module")
def server():
    server = Server(PROGRAMS).start()
    yield server
    server.remove()


@pytest.fixture(scope="module", params=["indexed", "waiting"])
def found(request, server):
    """Return (lines, a search of a store with them): in two slices of which one is indexed, or in none."""
    lines = make_lines()
    is_indexed = request.param == "indexed"
    store = PostgresqlStore(server.dsn, schema=request.param, full_text=is_indexed, slice_bytes=1)
    store.open(JOURNAL)
    store.write([block(0, lines[:250])], never)
    if is_indexed:
        with psycopg.connect(server.dsn) as connection:
            wait_for(lambda: not store.maintain() < 10 and has_index(connection), "the index is built")
    store.write([block(250, lines[250:])], never)
    search = PostgresqlSearch(server.dsn, request.param)
    yield lines, search
    search.close()
    store.close()


def has_index(connection):
    return connection.execute("SELECT count(*) FROM pg_indexes WHERE indexname LIKE '%\\_words'").fetchone()[0]


def check(found, wanted):
    """Check every answer of a search against the matcher; extra's keys may come in another order."""
    lines, search = found
    records = [json.loads(one) for one in lines]
    want = [record for record in records if wanted.matches(record)]
    for newest in (False, True):
        order = Filters(**{**vars(wanted), "order": "newest" if newest else "oldest"})
        got = [json.loads(one) for one in search.lines(order)]
        assert sorted(map(repr, map(_sorted, got))) == sorted(map(repr, map(_sorted, want)))
        times = [record["created"] for record in got]
        assert times == sorted(times, reverse=newest)
        few = search.lines(Filters(**{**vars(order), "limit": 3}))
        assert [json.loads(one) for one in few] == got[:3]
    assert search.count(wanted) == len(want)
    start, slot_s, slots = records[0]["received"] - 86_400, 21_600, 20
    bars = {}
    for record in want:
        slot = int((record["created"] - start) // slot_s)
        if 0 <= slot < slots:
            key = (slot, record.get("levelno", 0))
            bars[key] = bars.get(key, 0) + 1
    assert {(slot, level): count for slot, level, count in search.histogram(wanted, start, slot_s, slots)} == bars


def _sorted(record):
    return {key: sorted(map(repr, value.items())) if key == "extra" else value for key, value in record.items()}


def test_no_filter_finds_everything(found):
    """All records, in order."""
    check(found, Filters())


@settings(bounded, max_examples=25)
@given(filters)
def test_every_filter_finds_what_the_matcher_finds(found, wanted):
    """Lines, their order, counts and histogram, whatever is combined."""
    check(found, wanted)


def test_span(found):
    """The first and the last time of all records."""
    lines, search = found
    times = [json.loads(one)["created"] for one in lines]
    assert search.span() == pytest.approx((min(times), max(times)), abs=1e-5)


def test_words_are_looked_up_in_the_index(found, server):
    """The plan of a search for a word names the full-text index where there is one."""
    _, search = found
    where = compile_filters(Filters(grep=fulltext.parse("refused*")))
    with psycopg.connect(server.dsn) as connection:
        connection.execute("SET enable_seqscan = off")
        schema = search._table.as_string().split(".")[0]
        query = psycopg.sql.SQL("EXPLAIN SELECT 1 FROM {}.records WHERE {}").format(psycopg.sql.SQL(schema), where.text)
        plan = "\n".join(row[0] for row in connection.execute(query, where.parameters))
    assert ("_words" in plan) == (schema == '"indexed"')


def test_a_schema_without_tables_says_so(server):
    """There is nothing to search yet."""
    with pytest.raises(StoreError, match="nothing stored yet"):
        PostgresqlSearch(server.dsn, "nowhere")


def test_the_first_of_many_comes_at_once(server):
    """Rows come through a cursor: the rest is neither read nor held."""
    store = PostgresqlStore(server.dsn, schema="many")
    store.open(JOURNAL)
    store.write([block(0, [line(1_795_404_250.5 + n / 1000, msg=f"record {n}") for n in range(5_000)])], never)
    search = PostgresqlSearch(server.dsn, "many")
    for wanted in (Filters(), Filters(loggers=("shop",)), Filters(grep=fulltext.parse("record"))):
        stream = search.lines(wanted)
        assert json.loads(next(stream))["message"] == "record 0"
        stream.close()
    assert len(list(search.lines(Filters()))) == 5_000
    search.close()
    store.close()


def test_a_server_that_goes_away_meanwhile_is_a_store_error(server):
    """Not a traceback."""
    search = PostgresqlSearch(server.dsn, "many")
    with psycopg.connect(server.dsn, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'prefork-logd'")
    with pytest.raises(StoreError, match="PostgreSQL"):
        search.count(Filters())
    search.close()
