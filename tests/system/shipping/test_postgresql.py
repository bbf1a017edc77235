"""The PostgreSQL store against a real server: every record as it went in, once, whatever fails in between."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg
import pytest
from hypothesis import given, settings
from psycopg import sql

from prefork_logd.errors import RecordRejected, StoreError
from prefork_logd.inputs.pickles.decode import decode
from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json
from prefork_logd.stores.postgresql import partitions as partitions_module
from prefork_logd.stores.postgresql import schema as schemas
from prefork_logd.stores.postgresql.partitions import Partition, parse
from prefork_logd.stores.postgresql.reader import SELECTED, line_of
from prefork_logd.stores.postgresql.store import PostgresqlStore
from prefork_logd.system.log import LOGGER
from tests.support import corpus, strategies
from tests.support.harness import wait_for
from tests.support.postgresql import Cutter, Server, find_programs
from tests.support.stores import NOW, PEER, block, line, never, numbered

ROOT = Path(__file__).parents[3]
PROGRAMS = find_programs()
pytestmark = pytest.mark.skipif(PROGRAMS is None, reason="NO POSTGRESQL: its server's programs are nowhere to be found")
_schemas = (f"logs_{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server():
    """Return a server that no test stops."""
    server = Server(PROGRAMS).start()
    yield server
    server.remove()


@pytest.fixture
def own_server():
    """Return a server for this test, which may do with it what it likes."""
    server = Server(PROGRAMS).start()
    yield server
    server.remove()


@pytest.fixture
def make_store():
    """Return a function that makes stores, closed at the end."""
    made = []

    def make(server: Server, schema: str, dsn: str = "", **options) -> PostgresqlStore:
        made.append(PostgresqlStore(dsn or server.dsn, schema=schema, **options))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def schema():
    return next(_schemas)


@pytest.fixture
def journal():
    return secrets.token_hex(16)


def ask(server: Server, query: str):
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


def stored_numbers(server: Server, schema: str) -> list[int]:
    return [number for (number,) in ask(server, f"SELECT number FROM {schema}.records ORDER BY number")]


# What goes in comes out

SELECT = sql.SQL("SELECT {} FROM kept.records WHERE number >= %s ORDER BY number").format(SELECTED)


@pytest.fixture(scope="module", params=["compiled", "python"])
def comes_back(server, request):
    """Return a function that writes lines, reads them back and compares."""
    store = PostgresqlStore(server.dsn, schema="kept")
    if request.param == "python":
        store._copier = None
    number = store.open("0" * 32)

    def check(lines: list[bytes]) -> None:
        nonlocal number
        store.write([block(number, lines)], never)
        # The order of the journal, whatever their times are.
        back = [line_of(*row) for row in reader.execute(SELECT, (number,))]
        number += len(lines)
        assert len(back) == len(lines)
        for got, sent in zip(back, lines, strict=True):
            if got != sent:  # jsonb has an order of keys of its own, and nothing else may differ
                assert _value(got) == _value(sent)

    with psycopg.connect(server.dsn, autocommit=True) as reader:
        yield check
    store.close()


def _value(text: bytes):
    def number(literal: str) -> tuple[str, str]:
        return ("number", literal)

    value = json.loads(text, parse_int=number, parse_float=number)
    extra = value.pop("extra", None)
    return list(value.items()), extra


def test_every_accepted_record_of_the_corpus_comes_back(comes_back):
    """Real records and hostile ones, from every interpreter and with every type."""
    lines = []
    for payload in corpus.frames():
        try:
            record = decode(payload.data)
        except RecordRejected:
            continue
        lines.append(render_json(make_record(record, PEER, NOW)))
    assert len(lines) > 60
    comes_back(lines)


NASTY = {
    "nul": {"msg": "a\0b", "k\0": ["\0"], "exc_text": "\0"},
    "surrogates": {"msg": "\ud800", "name": "\udcff", "x": {"\udfff": "\ud800 \U0001f600"}},
    "escaped look-alikes": {"msg": r"\u0000 \ud800", "x": r"\\u0000"},
    "exponents": {"x": [1e16, 1.5e300, 5e-324, -0.0, -0.5, 1.0, 0.1, 1e22]},
    "huge integers": {"x": [2**64 - 1, -(2**63), 10**4000]},
    "bounds": {"levelno": 2**63 - 1, "lineno": -(2**63), "thread": 2**63 - 1, "process": 0},
    "long name": {"name": "n." * 50_000},
    "long words": {"msg": "w" * 3000 + " " + " ".join(f"{n:x}" for n in range(200_000))},
    "deep": {"x": eval("[" * 150 + "]" * 150)},
    "empty": {"msg": "", "name": "", "x": [{}, [], "", None]},
    "controls": {"msg": "\x01\x1b[31m\r\n\t\x7f\x85\u2028\ufeff\u202e", "x": {"\x7f": "\x9f"}},
    "times": {"created": 0.000001},
    "end of time": {"created": 7_258_118_399.999999},
    "copy's own marks": {"msg": "\\N \\. \t,", "x": "PGCOPY\n\u00ff\r\n"},
}


@pytest.mark.parametrize("attributes", NASTY.values(), ids=NASTY.keys())
def test_a_nasty_value_comes_back(comes_back, attributes):
    """What jsonb, text or an index cannot hold is kept besides."""
    comes_back([line(), line(**attributes), line()])


@settings(strategies.bounded, max_examples=30)
@given(strategies.attributes, strategies.attributes)
def test_any_record_comes_back(comes_back, first, second):
    """Whatever attributes a client sends."""
    comes_back([render_json(make_record(attributes, PEER, NOW)) for attributes in (first, second)])


def test_columns_hold_what_one_asks_for(server, make_store, schema, journal):
    """The table is readable by people and their SQL."""
    store = make_store(server, schema)
    store.open(journal)
    store.write([block(0, [line(msg="total", trace={"id": "5f"}, lineno=12, funcName="pay", created=NOW)])], never)
    (row,) = ask(
        server,
        "SELECT time, name, levelno, message, lineno, funcname, extra #>> '{trace,id}', peer, raw"
        f" FROM {schema}.records",
    )
    when = dt.datetime.fromtimestamp(NOW, dt.UTC)
    assert row == (when, "shop.orders", 20, "total", 12, "pay", "5f", PEER, None)


# Exactly once


def test_what_is_there_already_is_left_out(server, make_store, schema, journal):
    """Blocks may begin before the position, by whole blocks and within one."""
    store = make_store(server, schema)
    assert store.open(journal) == 0
    store.write([block(0, numbered(0, 10)), block(10, numbered(10, 5))], never)
    store.write([block(0, numbered(0, 10)), block(10, numbered(10, 5)), block(15, numbered(15, 300))], never)
    store.write([block(300, numbered(300, 20))], never)
    store.write([block(300, numbered(300, 20))], never)
    assert store.open(journal) == 320
    assert stored_numbers(server, schema) == [*range(320)]
    assert ask(server, f"SELECT count(*) FROM {schema}.records WHERE message <> 'record ' || number") == [(0,)]


def test_two_shippers_of_one_journal_do_not_double(server, make_store, schema, journal):
    """The position's row is locked, and the second one sees it as the first has left it."""
    stores = [make_store(server, schema) for _ in range(2)]
    for store in stores:
        store.open(journal)

    def write(store):
        for first in range(0, 2000, 100):
            store.write([block(first, numbered(first, 100))], never)

    in_threads(write, stores)
    assert stored_numbers(server, schema) == [*range(2000)]


def in_threads(do, items):
    failed = []

    def guarded(item):
        try:
            do(item)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(item,)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed, failed


def test_many_collectors_make_one_schema_together(server, make_store, schema):
    """They open at once, where there is nothing yet, and make the same partitions; each keeps its own position."""
    stores = {secrets.token_hex(16): make_store(server, schema) for _ in range(6)}
    days = [time.time() - 86_400 * day for day in range(3)]

    def work(journal):
        store = stores[journal]
        assert store.open(journal) == 0
        store.write([block(0, [*itertools.chain(*(numbered(50 * n, 50, day) for n, day in enumerate(days)))])], never)
        store.maintain()

    in_threads(work, stores)
    assert ask(server, f"SELECT count(*), count(DISTINCT day) FROM {schema}.records") == [(900, 3)]
    assert ask(server, f"SELECT DISTINCT next FROM {schema}.positions") == [(150,)]


def test_a_writer_killed_in_the_middle_leaves_whole_transactions(server, make_store, schema, journal):
    """SIGKILL at any time: the next one goes on at the position, and nothing is missing or doubled."""
    make_store(server, schema).open(journal)
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.postgresql_writer", server.dsn, schema, journal],
            cwd=ROOT, stdout=subprocess.PIPE,
        )  # fmt: skip
        before = ask(server, f"SELECT next FROM {schema}.positions")[0][0]
        assert process.stdout.readline() == b"writing\n"
        # A transaction is open: its backend is copying, or was just now.
        wait_for(
            lambda before=before: ask(
                server,
                f"SELECT 1 FROM pg_stat_activity, {schema}.positions WHERE query LIKE 'COPY \"{schema}\"%'"
                f" AND state <> 'idle' AND next > {before}",
            ),
            "the writer writes",
        )
        process.kill()
        process.wait()
        process.stdout.close()
    store = make_store(server, schema)
    number = store.open(journal)
    store.write([block(number, numbered(number, 5))], never)
    assert stored_numbers(server, schema) == [*range(number + 5)]


# Rows 42 to 44 of the matrix


def retry(do, *, failures=300):
    """Do what a shipper does: again and again until the store takes it; return how often it did not."""
    for failed in range(failures):
        try:
            do()
        except StoreError:
            time.sleep(0.02)
        else:
            return failed
    raise AssertionError("the store never came back")


def test_a_server_that_crashes_and_restarts(own_server, make_store, schema, journal):
    """Down: every call fails at once and cleanly. Up again: all rows once."""
    store = make_store(own_server, schema)
    number = store.open(journal)

    def write():
        nonlocal number
        number = store.open(journal)
        store.write([block(number, numbered(number, 100))], never)

    for how in (signal.SIGQUIT, signal.SIGINT):
        store.write([block(number, numbered(number, 50))], never)
        own_server.stop(how)
        for _ in range(2):
            with pytest.raises(StoreError, match="PostgreSQL"):
                store.write([block(number + 50, numbered(number + 50, 100))], never)
            store.close()
            with pytest.raises(StoreError, match="PostgreSQL"):
                store.open(journal)
        own_server.start()
        retry(write)
        number += 100
    assert stored_numbers(own_server, schema) == [*range(300)]


def test_a_backend_that_is_terminated_again_and_again(server, make_store, schema, journal):
    """pg_terminate_backend under load: each batch fails whole or is there whole."""
    store = make_store(server, schema)
    number = store.open(journal)
    stop = threading.Event()
    killed = 0

    def kill():
        nonlocal killed
        while not stop.wait(0.03):
            killed += len(
                ask(
                    server,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    f" WHERE application_name = 'prefork-logd' AND query LIKE '%\"{schema}\"%'",
                )
            )

    def reopen():
        nonlocal number
        number = store.open(journal)

    killer = threading.Thread(target=kill)
    killer.start()
    failed = 0
    deadline = time.monotonic() + 30
    try:
        while (failed < 3 or number < 3000) and time.monotonic() < deadline:
            try:
                store.write([block(number, numbered(number, 500))], never)
            except StoreError:
                failed += 1
            retry(reopen)
    finally:
        stop.set()
        killer.join()
    assert failed >= 3 <= killed
    number = store.open(journal)
    assert stored_numbers(server, schema) == [*range(number)]


def test_a_locked_table_is_waited_for_with_a_limit(server, make_store, schema, journal):
    """LOCK TABLE by somebody: a StoreError after the limit, and the rows once it is gone."""
    store = make_store(server, schema, lock_limit_s=0.1)
    store.open(journal)
    store.write([block(0, numbered(0, 10))], never)
    with psycopg.connect(server.dsn) as other:
        other.execute(f"LOCK TABLE {schema}.records IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreError, match="55P03"):
            store.write([block(10, numbered(10, 10))], never)
        store.close()
    assert store.open(journal) == 10
    store.write([block(10, numbered(10, 10))], never)
    assert stored_numbers(server, schema) == [*range(20)]


def test_a_server_that_does_not_answer_is_given_up(own_server, make_store, schema, journal):
    """A frozen server cannot even say that time is up."""
    store = make_store(own_server, schema, statement_limit_s=0.4)
    store.open(journal)
    (backend,) = ask(
        own_server, "SELECT pid FROM pg_stat_activity WHERE application_name = 'prefork-logd' AND state = 'idle'"
    )[0]
    os.kill(backend, signal.SIGSTOP)
    try:
        with pytest.raises(StoreError, match="no answer"):
            store.write([block(0, numbered(0, 1000))], never)
        store.close()
    finally:
        os.kill(backend, signal.SIGCONT)
    assert retry(lambda: store.open(journal)) >= 0
    number = store.open(journal)
    store.write([block(number, numbered(number, 10))], never)
    assert stored_numbers(own_server, schema) == [*range(number + 10)]


def test_a_commit_whose_answer_is_lost_counts_once(server, make_store, schema, journal):
    """The position tells, when it is asked for again, that the rows are there."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        cutter = Cutter(server.socket, Path(directory))
        store = make_store(server, schema, dsn=cutter.dsn)
        try:
            assert store.open(journal) == 0
            store.write([block(0, numbered(0, 100))], never)  # makes the partition, with a commit of its own
            for number in (100, 200, 300):
                cutter.wanted_cuts += 1
                with pytest.raises(StoreError):
                    store.write([block(number, numbered(number, 100))], never)
                store.close()
                retry(lambda number=number: open_at(store, journal, number + 100))
                store.write([block(number, numbered(number, 100))], never)
            assert cutter.cuts == 3
        finally:
            store.close()
            cutter.close()
    assert stored_numbers(server, schema) == [*range(400)]


def test_a_connection_that_is_cut_anywhere_in_a_transaction(server, make_store, schema, journal):
    """Whatever the server had got of it: the batch is there whole or not at all, and once when it is done again."""
    number = cut = 0
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        cutter = Cutter(server.socket, Path(directory))
        store = make_store(server, schema, dsn=cutter.dsn)
        try:
            store.open(journal)
            store.write([block(0, numbered(0, 100))], never)  # makes the partition
            for budget in range(1, 32_000, 1_337):
                number += 100
                cutter.budget = budget
                try:
                    store.write([block(number, numbered(number, 100))], never)
                except StoreError:
                    cut += 1
                cutter.budget = None
                store.close()
                retry(lambda: store.open(journal))
                assert stored_numbers(server, schema) in ([*range(number)], [*range(number + 100)])
                store.write([block(number, numbered(number, 100))], never)
            assert cut == cutter.cuts > 10
        finally:
            store.close()
            cutter.close()
    assert stored_numbers(server, schema) == [*range(number + 100)]


def open_at(store, journal, number):
    if store.open(journal) != number:  # the commit is still on its way
        raise StoreError("not yet")


def test_a_poison_row_among_500_costs_itself_alone(server, make_store, schema, journal):
    """What is no record, and what the server refuses: each alone, with its reason, before the commit."""
    store = make_store(server, schema)
    store.open(journal)
    ask(server, f"ALTER TABLE {schema}.records ADD CHECK (message <> 'poison')")
    lines = numbered(0, 500)
    lines[137] = line(msg="poison")
    lines[138] = b'{"created":"yesterday"}\n'
    lines[499] = b"\xff\x00 no JSON\n"
    refused = []
    store.write([block(0, lines[:300]), block(300, lines[300:])], lambda *what: refused.append(what))
    assert [(number, text) for number, text, _ in refused] == [
        (137, lines[137].rstrip(b"\n")),
        (138, lines[138].rstrip(b"\n")),
        (499, lines[499].rstrip(b"\n")),
    ]
    assert "23514" in refused[0][2]
    assert "created" in refused[1][2]
    assert "JSON" in refused[2][2]
    assert stored_numbers(server, schema) == [n for n in range(500) if n not in (137, 138, 499)]
    assert store.open(journal) == 500
    store.write([block(500, numbered(500, 5))], never)
    assert len(stored_numbers(server, schema)) == 502


# Partitions


def partitions(server, schema) -> list[Partition]:
    found = ask(server, f"SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        f" WHERE nspname = '{schema}' AND relkind = 'r'")  # fmt: skip
    return sorted(partition for (name,) in found if (partition := parse(name)))


def today() -> int:
    return int(time.time() // 86_400)


def test_no_clock_makes_many_partitions(server, make_store, schema, journal):
    """Days long past share one, and days to come another."""
    store = make_store(server, schema, retain_s=5 * 86_400)
    store.open(journal)
    received = [0.0, 1.0, 86_400.0 * 9000, 7_258_118_399.0, 86_400.0 * 84_000, time.time(), time.time() - 86_400 * 400]
    lines = [line().replace(f'"received":{NOW!r}'.encode(), f'"received":{when!r}'.encode()) for when in received] * 3
    store.write([block(0, lines)], never)
    assert {partition.day for partition in partitions(server, schema)} <= {today() - 5, today(), today() + 1}
    assert len(stored_numbers(server, schema)) == len(lines)


def test_old_partitions_are_dropped_and_nothing_else(server, make_store, schema, journal):
    """Retention is a drop; a reader in the middle of another day is not in the way."""
    store = make_store(server, schema)
    store.open(journal)
    now = time.time()
    store.write([block(0, [line(now - 86_400 * day) for day in range(6)])], never)
    assert len(partitions(server, schema)) == 6
    store = make_store(server, schema, retain_s=2.5 * 86_400)
    store.open(journal)
    kept = {today() - age for age in range(4)}
    wait_for(
        lambda: [store.maintain(), {it.day for it in partitions(server, schema)} == kept][1], "the old ones are gone"
    )
    assert ask(server, f"SELECT count(*) FROM {schema}.records") == [(4,)]


def test_a_drop_that_a_crash_cut_short_is_finished(server, make_store, schema, journal):
    """A table that is detached and still there, and one that is detached by half; not one that somebody keeps."""
    store = make_store(server, schema)
    store.open(journal)
    now = time.time()
    store.write([block(0, [line(now - 86_400 * day) for day in (0, 8, 9, 10)])], never)
    kept, ninth, eighth, _ = (partition.table for partition in partitions(server, schema))
    for doomed in (ninth, eighth):
        ask(server, f"COMMENT ON TABLE {schema}.{doomed} IS 'prefork-logd drops this table'")
    ask(server, f"ALTER TABLE {schema}.records DETACH PARTITION {schema}.{kept}")
    ask(server, f"ALTER TABLE {schema}.records DETACH PARTITION {schema}.{ninth}")
    with psycopg.connect(server.dsn, autocommit=True) as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute(f"SELECT count(*) FROM {schema}.records")
        with psycopg.connect(server.dsn, autocommit=True) as impatient:
            impatient.execute("SET lock_timeout = '50ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                impatient.execute(f"ALTER TABLE {schema}.records DETACH PARTITION {schema}.{eighth} CONCURRENTLY")
    assert len(partitions(server, schema)) == 4
    store = make_store(server, schema, retain_s=86_400)
    store.open(journal)
    kept = [today() - 10, today()]
    wait_for(lambda: [store.maintain(), [it.day for it in partitions(server, schema)] == kept][1], "it is finished")


def test_a_drop_that_waits_stops_nobody(server, make_store, schema, journal, caplog, monkeypatch):
    """An open transaction holds the drop up, not the rows; each drop is logged."""
    monkeypatch.setattr(LOGGER, "propagate", True)
    caplog.set_level("INFO", LOGGER.name)
    store = make_store(server, schema, retain_s=86_400, lock_limit_s=0.5)
    other = make_store(server, schema)
    other.open(journal)
    now = time.time()
    other.write([block(0, [line(now - 86_400 * day) for day in (5, 0)])], never)
    other.close()
    with psycopg.connect(server.dsn, autocommit=True) as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute(f"SELECT count(*) FROM {schema}.records")
        store.open(journal)
        began_s = time.monotonic()
        for number in range(2, 20):
            store.write([block(number, [line(now)])], never)
            assert store.maintain() < 1
        assert time.monotonic() - began_s < 5
    said = "dropped partition"
    wait_for(lambda: [store.maintain(), any(said in it.getMessage() for it in caplog.records)][1], "it is gone")
    assert len(partitions(server, schema)) == 1
    assert len(stored_numbers(server, schema)) == 19


def test_a_clock_that_is_ahead_drops_nothing(server, make_store, schema, journal, monkeypatch):
    """Neither the server's alone, which is said, nor both together."""
    store = make_store(server, schema, retain_s=86_400)
    store.open(journal)
    store.write([block(0, [line(time.time())])], never)
    real = partitions_module._first_int

    def ahead(connection, query, *parameters):
        return real(connection, query, *parameters) + (8 if query.startswith("SELECT (now()") else 0)

    monkeypatch.setattr(partitions_module, "_first_int", ahead)
    for _ in range(3):
        store.maintain()
        assert not store._dropping
    assert "date is" in store.status()["warnings"][0]
    later_s = (today() + 8) * 86_400.0
    monkeypatch.setattr(partitions_module.time, "time", lambda: later_s)
    for _ in range(3):
        store.maintain()
        assert not store._dropping
    assert stored_numbers(server, schema) == [0]


def test_the_longest_retention_of_a_schema_counts(server, make_store, schema, journal, caplog, monkeypatch):
    """Two collectors share a table: what one of them wants to keep stays, and the other says so."""
    monkeypatch.setattr(LOGGER, "propagate", True)
    now = time.time()
    longer = make_store(server, schema, retain_s=5 * 86_400)
    longer.open("b" * 32)
    longer.write([block(0, [line(now - 86_400 * day) for day in (4, 0)])], never)
    shorter = make_store(server, schema, retain_s=86_400)
    shorter.open(journal)
    shorter.maintain()
    assert not shorter._dropping
    assert len(partitions(server, schema)) == 2
    assert any("for 5 days, which is longer than this" in record.getMessage() for record in caplog.records)


def test_a_partition_that_somebody_detached_is_left_alone(server, make_store, schema, journal):
    """Its rows are theirs now, and the day goes on in another slice."""
    store = make_store(server, schema)
    store.open(journal)
    now = time.time()
    store.write([block(0, numbered(0, 10, now))], never)
    ask(server, f"ALTER TABLE {schema}.records DETACH PARTITION {schema}.{partitions(server, schema)[0].table}")
    store.open(journal)
    store.write([block(10, numbered(10, 10, now))], never)
    store.maintain()
    assert len(partitions(server, schema)) == 2
    assert stored_numbers(server, schema) == [*range(10, 20)]


def test_a_large_partition_is_followed_by_the_next_and_indexed(server, make_store, schema, journal):
    """Words and loggers of a closed slice are indexed by the server, while rows go on coming."""
    store = make_store(server, schema, slice_bytes=20_000)
    store.open(journal)
    now = time.time()
    for first in range(0, 600, 200):
        store.write([block(first, numbered(first, 200, now))], never)
    assert len(partitions(server, schema)) >= 3
    query = (
        "SELECT count(*) FROM pg_indexes JOIN pg_class i ON i.relname = indexname JOIN pg_index ON indexrelid = i.oid"
        f" WHERE schemaname = '{schema}' AND (indexname LIKE '%_words' OR indexname LIKE '%_names') AND indisvalid"
    )
    wait_for(
        lambda: [store.maintain(), ask(server, query)[0][0] == 2 * len(partitions(server, schema)) - 2][1],
        "the closed slices are indexed",
    )
    assert stored_numbers(server, schema) == [*range(600)]


def test_a_partition_that_somebody_dropped_is_made_again(server, make_store, schema, journal):
    """Rows that were dropped by hand are gone; the store goes on."""
    store = make_store(server, schema)
    store.open(journal)
    store.write([block(0, numbered(0, 10))], never)
    (partition,) = partitions(server, schema)
    ask(server, f"DROP TABLE {schema}.{partition.table}")
    store.write([block(10, numbered(10, 10))], never)
    assert stored_numbers(server, schema) == [*range(10, 20)]


@pytest.mark.parametrize("how", ["DETACH PARTITION {}", "DETACH PARTITION {} CONCURRENTLY"])
def test_rows_do_not_follow_a_partition_that_is_detached(server, make_store, schema, journal, how):
    """While the store is open: later rows are in another slice, not in the detached table."""
    store = make_store(server, schema)
    store.open(journal)
    now = time.time()
    store.write([block(0, numbered(0, 10, now))], never)
    (table,) = (partition.table for partition in partitions(server, schema))
    ask(server, f"ALTER TABLE {schema}.records " + how.format(f"{schema}.{table}"))
    store.write([block(10, numbered(10, 10, now))], never)
    store.write([block(20, numbered(20, 10, now))], never)
    assert stored_numbers(server, schema) == [*range(10, 30)]
    assert ask(server, f"SELECT count(*) FROM {schema}.{table}") == [(10,)]


def test_a_partition_may_be_called_anything(server, make_store, schema, journal):
    """It is known by its bounds: rows go on into it, it is followed by the next slice, and indexed once."""
    store = make_store(server, schema, slice_bytes=20_000)
    store.open(journal)
    now = time.time()
    store.write([block(0, numbered(0, 10, now))], never)
    (table,) = (partition.table for partition in partitions(server, schema))
    ask(server, f"ALTER TABLE {schema}.{table} RENAME TO november")
    store.write([block(10, numbered(10, 300, now))], never)
    assert ask(server, f"SELECT count(*) FROM {schema}.november") == [(310,)]
    store.open(journal)
    store.write([block(310, numbered(310, 300, now))], never)
    store.maintain()
    assert stored_numbers(server, schema) == [*range(610)]
    indexed = f"SELECT count(*) FROM pg_index WHERE indrelid = '{schema}.november'::regclass AND indisvalid"
    wait_for(lambda: [store.maintain(), ask(server, indexed) == [(7,)]][1], "the renamed slice is indexed")
    assert not store._partitions.unindexed(("names", "words", "values"))


def test_a_partition_of_somebody_else_takes_rows(server, make_store, schema, journal):
    """One that covers our days with other bounds: rows go through the parent table."""
    store = make_store(server, schema)
    store.open(journal)
    bounds = "FROM ('2000-01-01', 0) TO ('2100-01-01', 0)"
    ask(server, f"CREATE TABLE {schema}.century PARTITION OF {schema}.records FOR VALUES {bounds}")
    store.write([block(0, numbered(0, 10, time.time()))], never)
    store.maintain()
    assert store.open(journal) == 10
    store.write([block(10, numbered(10, 10, time.time()))], never)
    assert ask(server, f"SELECT count(*) FROM {schema}.century") == [(20,)]


# Rows that are refused, and tables that take none


def test_many_refused_rows_of_a_full_batch(server, make_store, schema, journal):
    """One in twenty: each is a dead letter, and the others are stored, in a moment."""
    store = make_store(server, schema)
    store.open(journal)
    ask(server, f"ALTER TABLE {schema}.records ADD CHECK ((extra->>'n')::int % 20 <> 0) NOT VALID")
    lines = [line(msg=f"record {number}", n=number) for number in range(6000)]
    refused = []
    began_s = time.monotonic()
    store.write([block(0, lines)], lambda number, *_: refused.append(number))
    assert time.monotonic() - began_s < 40  # a second, on a machine that does nothing else
    assert refused == [*range(0, 6000, 20)]
    assert stored_numbers(server, schema) == [number for number in range(6000) if number % 20]


TRIGGER = """CREATE FUNCTION {0}.f() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF {1} THEN {2}; END IF; RETURN new; END $$;
CREATE TRIGGER t BEFORE INSERT ON {0}.records FOR EACH ROW EXECUTE FUNCTION {0}.f()"""


@pytest.mark.parametrize(
    ("action", "code"),
    [("RAISE EXCEPTION 'no such record here'", "P0001"), ("RAISE EXCEPTION USING ERRCODE = '42501'", "42501"),
     ("PERFORM no_such_function()", "42883"), ("PERFORM * FROM no_such_table", "42P01"), ("PERFORM 1 / 0", "22012")],
)  # fmt: skip
@pytest.mark.parametrize("alone", [False, True])
def test_a_row_that_a_trigger_refuses_costs_itself(server, make_store, schema, journal, action, code, alone):
    """Whatever the code of the error: the table takes other rows, or a plain one that is taken back."""
    store = make_store(server, schema)
    store.open(journal)
    ask(server, TRIGGER.format(schema, "new.message LIKE 'poison%'", action))
    lines = [line(msg="poison")] if alone else [*numbered(0, 100), line(msg="poison"), *numbered(101, 100)]
    refused = []
    store.write([block(0, lines)], lambda number, _, why: refused.append((number, why)))
    ((number, why),) = refused
    assert number == len(lines) // 2
    assert code in why
    assert len(stored_numbers(server, schema)) == len(lines) - 1
    store.write([block(len(lines), numbered(0, 5))], never)


CHANGES = {
    "a column that must be given": (
        "ALTER TABLE {0}.records ADD site text NOT NULL DEFAULT 'x'; ALTER TABLE {0}.records ALTER site DROP DEFAULT",
        "ALTER TABLE {0}.records DROP site", "column site is NOT NULL and has no default",
    ),
    "another type": (
        "ALTER TABLE {0}.records ALTER lineno TYPE integer", "ALTER TABLE {0}.records ALTER lineno TYPE bigint",
        "column lineno is integer, and must be bigint",
    ),
    "a column gone": (
        "ALTER TABLE {0}.records RENAME peer TO client", "ALTER TABLE {0}.records RENAME client TO peer",
        "column peer is missing",
    ),
    "a constraint that all fail": (
        "ALTER TABLE {0}.records ADD CONSTRAINT c CHECK (length(name) < 2) NOT VALID",
        "ALTER TABLE {0}.records DROP CONSTRAINT c", "accepts no row at all",
    ),
    "a trigger that always raises": (
        TRIGGER.replace("{1}", "true").replace("{2}", "RAISE 'closed'"), "DROP TRIGGER t ON {0}.records",
        "accepts no row at all",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("count", [1, 300])
def test_a_table_that_takes_no_row_holds_them_all(server, make_store, schema, journal, change, count):
    """No row is refused for what somebody did to the table: it is said what, and they are stored when it is mended."""
    do, undo, words = change
    store = make_store(server, schema)
    store.open(journal)
    store.write([block(0, [line(lineno=5)])], never)
    ask(server, do.format(schema))
    # Some rows would even fit.
    lines = [line() if number % 2 else line(lineno=number) for number in range(count)]

    def open_and_write():
        store.open(journal)
        store.write([block(1, lines)], never)

    with pytest.raises(StoreError, match=words):
        store.write([block(1, lines)], never)
    with pytest.raises(StoreError, match=words):
        open_and_write()
    ask(server, undo.format(schema))
    assert store.open(journal) == 1
    store.write([block(1, lines)], never)
    assert len(stored_numbers(server, schema)) == 1 + count


@pytest.mark.parametrize("change", list(CHANGES.values())[-2:], ids=list(CHANGES)[-2:])
def test_a_table_that_is_mended_during_the_search(server, make_store, schema, journal, change, monkeypatch):
    """What was refused just before it is not taken for the fault of its row: the owner waits for the search to end."""
    do, undo, words = change
    store = make_store(server, schema)
    store.open(journal)
    store.write([block(0, [line()])], never)
    ask(server, do.format(schema))
    probe = store._probe

    def mend_and_probe(partition):
        with pytest.raises(psycopg.errors.LockNotAvailable):
            ask(server, f"SET lock_timeout = '100ms'; {undo.format(schema)}")
        probe(partition)

    monkeypatch.setattr(store, "_probe", mend_and_probe)
    with pytest.raises(StoreError, match=words):
        store.write([block(1, [line()])], never)
    ask(server, undo.format(schema))
    assert store.open(journal) == 1
    store.write([block(1, [line()])], never)
    assert len(stored_numbers(server, schema)) == 2


# Versions and rights


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_does_not_hold_every_text_is_refused(server, make_store, journal, encoding):
    """With the remedy, before anything is made in it."""
    name = f"db_{encoding.lower()}"
    ask(server, f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    store = make_store(server, "logs", dsn=server.dsn.replace("dbname=postgres", f"dbname={name}"))
    with pytest.raises(StoreError, match=rf"database {name} has the encoding {encoding}.*ENCODING 'UTF8'.*`dsn`"):
        store.open(journal)


def test_an_older_schema_is_migrated_and_a_newer_one_refused(server, make_store, schema, journal, monkeypatch):
    """Each step once, in one transaction; nobody touches what a later version has made."""
    make_store(server, schema).open(journal)
    # As version 1 left it, with the index that every row paid for.
    ask(server, f"UPDATE {schema}.version SET version = 1")
    ask(server, f"CREATE INDEX records_name_time ON {schema}.records (name, time)")
    ask(server, f"ALTER TABLE {schema}.positions DROP retain_days, DROP id")
    ask(server, f"CREATE INDEX records_20261123_0_words ON {schema}.records (name)")
    for column in (
        "msg",
        "host",
        "service",
        "environment",
        "version",
        "peer_name",
        "truncated",
        "exception",
        "journal",
    ):
        ask(server, f"ALTER TABLE {schema}.records DROP {column}")
    later = {8: ["ALTER TABLE {schema}.positions ADD note text"], 9: ["UPDATE {schema}.positions SET note = 'here'"]}
    monkeypatch.setattr(schemas, "MIGRATIONS", schemas.MIGRATIONS | later)
    monkeypatch.setattr(schemas, "VERSION", 10)
    stores = [make_store(server, schema) for _ in range(3)]
    in_threads(lambda store: store.open(journal), stores)
    assert ask(server, f"SELECT note, version FROM {schema}.positions, {schema}.version") == [("here", 10)]
    stores[0].write([block(0, numbered(0, 3))], never)
    assert stored_numbers(server, schema) == [0, 1, 2]
    for index in ("records_name_time", "records_20261123_0_words"):
        assert ask(server, f"SELECT to_regclass('{schema}.{index}')") == [(None,)]
    monkeypatch.undo()
    with pytest.raises(StoreError, match="upgrade the collector"):
        make_store(server, schema).open(journal)


def test_a_role_that_owns_nothing_but_the_schema_will_do(server, make_store, schema, journal):
    """What docs/stores.md says to grant is enough."""
    ask(server, f"CREATE ROLE role_{schema} LOGIN")
    ask(server, f"CREATE SCHEMA {schema} AUTHORIZATION role_{schema}")
    store = make_store(server, schema, dsn=server.dsn.replace("user=postgres", f"user=role_{schema}"))
    store.open(journal)
    store.write([block(0, numbered(0, 3))], never)
    store.maintain()
    assert stored_numbers(server, schema) == [0, 1, 2]


def test_a_wrong_dsn_is_a_store_error(make_store):
    """Whatever is wrong with it."""
    for dsn in ("nonsense", "host=/nowhere", "host=127.0.0.1 port=1 connect_timeout=2", "sslmode=perhaps"):
        with pytest.raises(StoreError, match="PostgreSQL"):
            make_store(None, "x", dsn=dsn).open("0" * 32)
