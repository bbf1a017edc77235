"""Searching PostgreSQL finds what the specification of queries finds."""

from __future__ import annotations

import json

import psycopg
import pytest
from hypothesis import given, settings

from prefork_logd.errors import StoreError
from prefork_logd.query import tree
from prefork_logd.query.filters import Filters
from prefork_logd.query.where import parse_words
from prefork_logd.stores.postgresql.filters_sql import compile_filters
from prefork_logd.stores.postgresql.search import PostgresqlSearch
from prefork_logd.stores.postgresql.store import PostgresqlStore
from tests.support.harness import wait_for
from tests.support.postgresql import Server, find_programs
from tests.support.searching import Stored, check, filters, make_lines
from tests.support.stores import block, line, never
from tests.support.strategies import bounded

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
    yield Stored(lines, search)
    search.close()
    store.close()


def has_index(connection):
    return connection.execute("SELECT count(*) FROM pg_indexes WHERE indexname LIKE '%\\_words'").fetchone()[0]


def test_no_filter_finds_everything(found):
    """All records, in order."""
    check(found, Filters())


@settings(bounded, max_examples=40)
@given(filters)
def test_every_query_finds_what_the_specification_finds(found, wanted):
    """Lines, their order, counts and histogram, whatever is combined."""
    check(found, wanted)


def test_span(found):
    """The first and the last time of all records."""
    lines, search = found.lines, found.search
    times = [json.loads(one)["created"] for one in lines]
    assert search.span() == pytest.approx((min(times), max(times)), abs=1e-5)


def test_words_are_looked_up_in_the_index(found, server):
    """The plan of a search for a word names the full-text index where there is one."""
    search = found.search
    where = compile_filters(Filters(tree=parse_words("refused*")))
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
    for wanted in (Filters(), Filters(tree=tree.logger("shop")), Filters(tree=parse_words("record"))):
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
