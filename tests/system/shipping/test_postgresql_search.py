"""Searching PostgreSQL finds what the specification of queries finds."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import psycopg
import pytest
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from prefork_logd.cli.main import cli
from prefork_logd.errors import QueryCancelledError, QueryTimeoutError, StoreError
from prefork_logd.query import analysis, context, statistics, tree
from prefork_logd.query.expressions import compile_expression
from prefork_logd.query.filters import Filters
from prefork_logd.query.fingerprints import fingerprint
from prefork_logd.query.language import parse, parse_field
from prefork_logd.query.search import Limits, RecordId
from prefork_logd.query.where import parse_condition, parse_words
from prefork_logd.stores.postgresql.filters_sql import compile_filters
from prefork_logd.stores.postgresql.regex import translate
from prefork_logd.stores.postgresql.search import PostgresqlSearch
from prefork_logd.stores.postgresql.store import PostgresqlStore
from tests.support.harness import wait_for
from tests.support.postgresql import KEPT_WHOLE, Server, find_programs
from tests.support.searching import TRACE, Stored, check, check_analysis, filters, make_lines
from tests.support.stores import block, line, never
from tests.support.strategies import bounded

PROGRAMS = find_programs()
TEXTS = [
    "", "a", "b", "ab", "aab", "abab", "A", "aB", "k", "\u212a", "s", "\u017f", "1", "a1", "12", "a-b", "]", "[", "^",
    "a.b", "a\nb", "\n", " ", "é", "É", "ß", "ẞ", "日本", "_", "\\", "a b", "\u0661", "\u00a0", "aaaaaaaa", "{1}",
    "a{2}", "/", "#",
]  # fmt: skip
_atoms = st.sampled_from(
    ["a", "b", "A", "k", "s", "1", ".", r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", "[ab]", "[^ab]", "[a-c]", r"[\]^-]",
     "[]a]", r"[\d_]", r"\.", r"\\", " ", "é", "日", "[é日]", r"\n", "#", "/", "-", "_", "]", r"\{1\}", "[^\\s]", "ß"]
)  # fmt: skip
expressions = st.builds(
    "{}{}".format,
    st.sampled_from(["", "", "(?i)"]),
    st.recursive(
        st.builds("{}{}".format, _atoms, st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,}", "{1,3}", "+?"]))
        | st.sampled_from(["^", "$"]),
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3).map("".join)
            | st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})")
            | inner.map(lambda part: f"(?:{part})*")
        ),
        max_leaves=6,
    ),
)
"""Expressions of the parts that are translated."""
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


def has_index(connection, schema="indexed"):
    """Tell whether the indexes of a slice are built: that of values is the last one."""
    return connection.execute(
        "SELECT count(*) FROM pg_indexes WHERE schemaname = %s AND indexname LIKE '%%\\_values'", (schema,)
    ).fetchone()[0]


def test_no_filter_finds_everything(found):
    """All records, in order."""
    check(found, Filters())


@settings(bounded, max_examples=40)
@given(filters)
def test_every_query_finds_what_the_specification_finds(found, wanted):
    """Lines, their order, counts and histogram, whatever is combined."""
    check(found, wanted)


LONG = {
    "message": {"msg": "a " * 100_000 + "afar"},
    "traceback": {"exc_text": "T " * 75_000 + "OSError afar"},
    "stack": {"stack_info": "s " * 25_000 + "afar"},
    "characters of three octets": {"msg": "日" * 199_000 + " afar"},
    "at the bound": {"msg": "b" * 199_990 + " afar"},
}


@pytest.fixture(scope="module")
def long(server):
    """Return a store with long texts in a slice whose words are indexed, and one short record in another."""
    lines = [line(1_795_404_250.5 + n, **values) for n, values in enumerate((*LONG.values(), {"msg": "near"}))]
    store = PostgresqlStore(server.dsn, schema="long", slice_bytes=1)
    store.open(JOURNAL)
    store.write([block(0, lines)], never)
    with psycopg.connect(server.dsn) as connection:
        wait_for(lambda: not store.maintain() < 10 and has_index(connection, "long"), "the index is built")
    store.write([block(len(lines), [line(1_795_404_300.5, msg="near")])], never)
    search = PostgresqlSearch(server.dsn, "long")
    yield search
    search.close()
    store.close()


@pytest.mark.parametrize(("text", "count"), [("afar", len(LONG)), ("afa*", len(LONG)), ("OSError afar", 1), ("far", 0)])
def test_words_behind_the_indexed_part_of_a_long_text_are_found(long, text, count):
    """Whatever field they are in; the index still leaves out the short records."""
    assert long.count(Filters(tree=parse(text, now=0.0))) == count


def test_the_index_answers_a_search_for_words_among_long_texts(long, server):
    """It has no other way to know which records are long."""
    where = compile_filters(Filters(tree=parse("near", now=0.0)))
    with psycopg.connect(server.dsn) as connection:
        connection.execute("SET enable_seqscan = off")
        [(table,)] = connection.execute(
            "SELECT tablename FROM pg_indexes WHERE schemaname = 'long' AND indexname LIKE '%\\_words'"
        ).fetchall()
        query = psycopg.sql.SQL("EXPLAIN SELECT 1 FROM long.{} WHERE {}").format(
            psycopg.sql.Identifier(table), where.text
        )
        assert f"{table}_words" in "\n".join(row[0] for row in connection.execute(query, where.named))


def test_span(found):
    """The first and the last time of all records."""
    lines, search = found.lines, found.search
    times = [json.loads(one)["created"] for one in lines]
    assert search.span() == pytest.approx((min(times), max(times)), abs=1e-5)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("refused*", "_words"),
        ("id:1", "_values"),
        ("o.p=q OR order", "_values"),
        ("logger:shop.cart", "_names"),
        ("(order OR id=1) -disk", "_words"),
    ],
)
def test_conditions_are_looked_up_in_an_index(found, server, text, index):
    """The plan of a search names it where there is one."""
    search = found.search
    where = compile_filters(Filters(tree=parse(text, now=0.0)))
    with psycopg.connect(server.dsn) as connection:
        connection.execute("SET enable_seqscan = off")
        schema = search._reader.table.as_string().split(".")[0]
        query = psycopg.sql.SQL("EXPLAIN SELECT 1 FROM {}.records WHERE {}").format(psycopg.sql.SQL(schema), where.text)
        plan = "\n".join(row[0] for row in connection.execute(query, where.named))
    assert (index in plan) == (schema == '"indexed"')


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


@pytest.fixture(scope="module")
def plain(server):
    """Return a store with records that the columns hold exactly, of two journals with the same numbers."""
    lines = [one for one in make_lines(300) if not KEPT_WHOLE.search(one)]
    for number, part in enumerate((lines[::2], lines[1::2]), 1):
        store = PostgresqlStore(server.dsn, schema="plain")
        store.open(f"{number}" * 32)
        store.write([block(0, part)], never)
        store.close()
    search = PostgresqlSearch(server.dsn, "plain")
    yield Stored(lines, search)
    search.close()


@settings(bounded, max_examples=100)
@given(expressions)
def test_a_translated_expression_has_the_matches_of_re2(server, expression):
    """On texts of the characters that it may name, and of others."""
    translated = translate(expression)
    assume(translated is not None)
    with psycopg.connect(server.dsn) as connection:
        found = connection.execute(
            'SELECT text, text COLLATE "C" ~ %s FROM unnest(%s::text[]) AS texts (text)', (translated, TEXTS)
        ).fetchall()
    compiled = compile_expression(expression)
    assert {text: compiled.search(text.encode()) is not None for text in TEXTS} == dict(found)


@pytest.mark.parametrize(
    "text",
    ["", "order", "level>=30 -order", "logger:shop id:*", 'message=~"^order|full$"', "nothing", "(disk OR id>=1)"],
)
def test_facets_statistics_fields_and_patterns(plain, text):
    """They are those of the specification, also where SQL cannot judge the query."""
    check_analysis(plain, Filters(tree=parse(text, now=0.0)))


@pytest.mark.parametrize(
    "values", [{"levelno": 40, "name": "shop.cart.item", "message": "disk full"}, {"exc_text": TRACE}]
)
@pytest.mark.parametrize("rest", ["", " lineno>=0", " OR level<20"])
def test_the_records_of_a_group_of_errors(found, values, rest):
    """Each record is read for its fingerprint, in an indexed slice, too; every answer is about the same records."""
    key = fingerprint(values)
    wanted = Filters(tree=parse(f"fingerprint={key}{rest}", now=0.0))
    records = [record for record in map(json.loads, found.lines) if wanted.matches(record)]
    assert 0 < len(records) < len(found.lines)
    check(found, wanted)
    assert [json.loads(one.line) for one in found.search.page(replace(wanted, limit=1_000)).records] == sorted(
        records, key=lambda one: one["created"]
    )
    facet = found.search.facets(wanted, [parse_field("levelno")], 20)
    assert facet == (analysis.facets_of(records, [parse_field("levelno")], 20), (len(records), True))
    assert found.search.stats(wanted, statistics.parse("count")).rows == [[len(records)]]
    assert found.search.patterns(wanted, 1).coverage == (len(records), True)


def test_rows_that_the_columns_cannot_hold_are_judged_by_their_lines(found):
    """They are in facets, if they match."""
    for text in ("message=a\0b", "id=9007199254740992", "name~nnn"):
        wanted = Filters(tree=parse_condition(text if text.startswith(("m", "n")) else f"extra.{text}"))
        records = [record for record in map(json.loads, found.lines) if wanted.matches(record)]
        assert len(records) > 5
        facet = found.search.facets(wanted, [parse_field("levelno")], 3)
        assert facet == (analysis.facets_of(records, [parse_field("levelno")], 3), (len(records), True))
        assert found.search.stats(wanted, statistics.parse("count")).rows == [[len(records)]]


def test_answers_about_the_newest_records_say_so(plain):
    """With a bound of records, the answer names how many it is about."""
    plain.search.limits = Limits(most_records=20)
    try:
        newest = sorted(map(json.loads, plain.lines), key=lambda one: one["created"])[-20:]
        facets = plain.search.facets(Filters(), [parse_field("lineno")], 100)
        assert facets.coverage == (20, False)
        assert sum(count for _, count in facets.facets[0].values) == 20
        assert plain.search.stats(Filters(), statistics.parse("min(created)")).rows == [[newest[0]["created"]]]
        assert plain.search.fields(Filters()).coverage == (20, False)
        assert plain.search.patterns(Filters(), 3).coverage == (20, False)
    finally:
        plain.search.limits = Limits()


def test_the_neighbours_of_a_record(plain):
    """Those before and after it, of all records and of the same logger."""
    everything = plain.search.page(Filters(limit=1_000)).records
    middle = everything[100]
    found = context.around(plain.search, middle.id, None, 3, 4)
    assert (found.records, found.before) == (everything[97:105], 3)
    name = json.loads(middle.line)["name"]
    same = [one for one in everything if json.loads(one.line).get("name") == name]
    at = same.index(middle)
    found = context.around(plain.search, middle.id, "logger", 2, 2)
    assert (found.records, found.before) == (same[at - 2 : at + 3], 2)
    with pytest.raises(StoreError, match="it is not in the store, or no longer"):
        context.around(plain.search, RecordId("0" * 32, 10**9), None, 1, 1)


def test_records_by_their_ids_on_the_command_line(plain, server, tmp_path):
    """`--ids` prints what `--around` takes."""
    (tmp_path / "logd.toml").write_text(f'[[store]]\ntype = "postgresql"\ndsn = "{server.dsn}"\nschema = "plain"\n')
    flags = ["--config", str(tmp_path / "logd.toml"), "--state-dir", str(tmp_path), "query"]
    shown = [
        json.loads(one) for one in CliRunner().invoke(cli, [*flags, "--ids", "--format", "json"]).stdout.splitlines()
    ]
    assert len({one["id"] for one in shown}) == len(plain.lines)
    assert [dict(list(one.items())[1:]) for one in shown] == [
        json.loads(one.line) for one in plain.search.page(Filters(limit=1_000)).records
    ]
    flags += ["--around", shown[50]["id"], "--before", "1", "--after", "2"]
    near = CliRunner().invoke(cli, flags).stdout.splitlines()
    assert [one.split()[0] for one in near if not one.startswith("\t")] == [one["id"] for one in shown[49:53]]
    done = CliRunner().invoke(cli, [*flags, "--same", "trace"])
    assert (done.exit_code, "the record has no trace" in done.stderr) == (2, True)


def test_a_query_ends_at_its_deadline(plain):
    """Also one that takes the server long, and one that takes us long; later calls work."""
    plain.search.limits = Limits(deadline_s=0.05)
    reader = plain.search._reader
    try:
        reader.begin()
        with pytest.raises(QueryTimeoutError, match=r"took longer than 0.05 s; ask for a shorter range of time"):
            reader.rows(psycopg.sql.SQL("SELECT pg_sleep(20)"))
        plain.search.limits = Limits(deadline_s=1e-9)
        with pytest.raises(QueryTimeoutError):
            plain.search.page(Filters(tree=parse("message=~order", now=0.0)))
    finally:
        plain.search.limits = Limits()
    assert plain.search.count(Filters()) == len(plain.lines)


def test_a_query_can_be_cancelled(plain):
    """By another thread, while the server works."""
    reader = plain.search._reader
    reader.begin()
    timer = threading.Timer(0.2, plain.search.cancel)
    timer.start()
    with pytest.raises(QueryCancelledError):
        reader.rows(psycopg.sql.SQL("SELECT pg_sleep(20)"))
    timer.join()
    assert plain.search.count(Filters()) == len(plain.lines)


def test_a_server_that_goes_away_meanwhile_is_a_store_error(server):
    """Not a traceback."""
    search = PostgresqlSearch(server.dsn, "many")
    with psycopg.connect(server.dsn, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'prefork-logd'")
    with pytest.raises(StoreError, match="PostgreSQL"):
        search.count(Filters())
    search.close()
