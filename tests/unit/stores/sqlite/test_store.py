"""The SQLite store: what is in it, once each, whatever happens to its files."""

import contextlib
import sqlite3
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_logd.errors import StoreError
from prefork_logd.query import tree
from prefork_logd.query.filters import Filters
from prefork_logd.query.where import parse_condition
from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json
from prefork_logd.stores.base import Block
from prefork_logd.stores.sqlite import columns, schema
from prefork_logd.stores.sqlite import index as sqlite_index
from prefork_logd.stores.sqlite import store as sqlite_store
from prefork_logd.stores.sqlite.search import SqliteSearch
from prefork_logd.stores.sqlite.store import SqliteStore, day_files, day_name
from tests.support.strategies import attributes, bounded
from tests.unit.stores.test_rows import corpus_lines

JOURNAL = "0123456789abcdef" * 2
NOON = 1_795_435_200.0
DAY = 86_400.0


def line(number, received=NOON, **values):
    """Return the line of a numbered record."""
    return render_json(make_record({"msg": f"record {number}", "created": received, **values}, "192.0.2.7:1", received))


def block(first, lines):
    """Return a block of these lines."""
    return Block(first, len(lines), bytes(16), (), b"".join(lines))


def refuse(number, one, reason):
    """Fail: nothing is to be refused."""
    raise AssertionError((number, one, reason))


def stored(path):
    """Return the lines in the files of a store, file by file in the order of time."""
    found = []
    for _, file in day_files(path):
        with sqlite3.connect(file) as db:
            names = ", ".join(columns.NAMES)
            rows = db.execute(f"SELECT {names} FROM records ORDER BY id").fetchall()
            assert db.execute("SELECT count(*) FROM rows").fetchone() == (len(rows),)
            found += [sqlite_store.columns.render(values) for values in rows]
        db.close()
    return found


@pytest.fixture
def path(tmp_path):
    """Return the path that a store is configured with."""
    return tmp_path / "sub" / "records.db"


@pytest.fixture
def open_store(path):
    """Return a function that makes and opens a store; all are closed in the end."""
    stores = []

    def make(journal=JOURNAL, **options):
        store = SqliteStore(path, **options)
        stores.append(store)
        return store, store.open(journal)

    yield make
    for store in stores:
        store.close()


@pytest.mark.slow
def test_every_record_of_the_corpus_comes_back_byte_for_byte(path, open_store):
    """What was accepted from a client is in the file, lone surrogates, NUL characters and huge integers included."""
    lines = corpus_lines()
    store, first = open_store()
    assert first == 0
    store.write([block(0, lines[:300]), block(300, lines[300:])], refuse)
    assert sorted(stored(path)) == sorted(lines)


@pytest.mark.slow
@settings(bounded, max_examples=20)
@given(st.lists(attributes, min_size=1, max_size=8))
def test_any_record_comes_back_byte_for_byte(tmp_path_factory, many):
    """Any values in any field."""
    path = tmp_path_factory.mktemp("store") / "records.db"
    lines = [render_json(make_record(values, "peer", NOON)) for values in many]
    store = SqliteStore(path)
    store.open(JOURNAL)
    store.write([block(0, lines)], refuse)
    store.close()
    assert sorted(stored(path)) == sorted(lines)


def test_a_position_is_kept_for_each_journal(path, open_store):
    """What a journal has in the store already is left out, also in the middle of a block."""
    store, _ = open_store()
    lines = [line(number) for number in range(10)]
    store.write([block(0, lines[:4])], refuse)
    store.close()
    store, first = open_store()
    assert first == 4
    store.write([block(2, lines[2:6]), block(6, lines[6:])], refuse)
    store.write([block(0, lines)], refuse)
    other, first = open_store("f" * 32)
    assert first == 0
    other.write([block(0, lines[:1])], refuse)
    assert sorted(stored(path)) == sorted([*lines, lines[0]])
    assert [open_store(journal)[1] for journal in (JOURNAL, "f" * 32)] == [10, 1]


def test_a_line_that_is_no_record_is_refused_alone(path, open_store):
    """A poison record is handed over with a reason; those beside it are stored, and it is not asked for again."""
    lines = [line(0), b"garbage\n", line(2), b'{"created":1e999}\n', line(4), b'{"created":1,"levelno":"x"}\n']
    refused = []
    store, _ = open_store()
    store.write([block(0, lines[:2]), block(2, lines[2:])], lambda *one: refused.append(one))
    store.write([block(6, [b"\xff\n"])], lambda *one: refused.append(one))
    assert [(number, bad) for number, bad, _ in refused] == [
        (1, lines[1]),
        (3, lines[3]),
        (5, lines[5]),
        (6, b"\xff\n"),
    ]
    assert all(reason for _, _, reason in refused)
    assert stored(path) == [lines[0], lines[2], lines[4]]
    assert open_store()[1] == 7


def test_records_of_one_time_have_ids_of_their_own(path, open_store):
    """A client may give all its records the same time; none takes the place of another, and all are found by it."""
    lines = [line(number, NOON) for number in range(5000)]
    store, _ = open_store()
    for first in range(0, 5000, 1000):
        store.write([block(first, lines[first : first + 1000])], refuse)
    store.close()
    store, _ = open_store("e" * 32)
    store.write([block(0, lines[:10])], refuse)
    assert sorted(stored(path)) == sorted(lines + lines[:10])
    with sqlite3.connect(day_files(path)[0][1]) as db:
        spilled = db.execute("SELECT value FROM facts WHERE name = 'spilled'").fetchone()[0]
        last = db.execute("SELECT max(id) FROM rows").fetchone()[0]
    db.close()
    assert 0 < (last >> schema.ID_BITS) - NOON * 1e6 <= spilled < 10_000


def test_services_that_were_away_send_all_at_once(path, open_store):
    """Records of a minute, interleaved, twice with the same times: every one is there, whichever way it is written."""
    store, _ = open_store()
    lines = [line(number, NOON, created=NOON + number % 100 + number / 1e5) for number in range(2000)]
    for again in range(3):
        blocks = [block(2000 * again + at, lines[at : at + 500]) for at in range(0, 2000, 500)]
        store.write(blocks, refuse)
    distinct = [line(9000 + number, NOON, created=NOON + 500 + number) for number in range(40)]
    for at in range(0, 40, 10):
        store.write([block(6000 + at, distinct[at : at + 10])], refuse)
    assert sorted(stored(path)) == sorted([*lines * 3, *distinct])


def test_a_batch_over_midnight_is_in_two_files_and_resumed_exactly(path, open_store, monkeypatch):
    """Each day has its records; a shipper that died between the two transactions begins the batch again."""
    lines = [line(number, NOON + DAY * (number % 3 == 2)) for number in range(30)]
    store, _ = open_store()
    real, done = sqlite_store.Day.write, []

    def fail_second(day, *arguments):
        if len(done) == 1:
            raise StoreError("the disk is full")
        real(day, *arguments)
        done.append(day)

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_store.Day, "write", fail_second)
        with pytest.raises(StoreError):
            store.write([block(0, lines)], refuse)
    assert len(stored(path)) == 20
    store, first = open_store()
    assert first == 0
    # Again, but cut in another way.
    store.write([block(0, lines[:7])], refuse)
    store.write([block(7, lines[7:])], refuse)
    assert [name for name, _ in day_files(path)] == ["2026-11-23", "2026-11-24"]
    assert sorted(stored(path)) == sorted(lines)
    assert open_store()[1] == 30


@pytest.mark.slow
def test_a_transaction_that_fails_anywhere_leaves_nothing(path, open_store):
    """Wherever SQLite gives up in the middle: none of the batch is there, and all of it once when it is done again."""
    lines = [line(number, name=f"logger.{number % 50}") for number in range(300)]
    store, _ = open_store()
    store.write([block(0, lines[:10])], refuse)
    failed = 0
    while True:
        left = failed + 1

        def gives_up():
            nonlocal left
            left -= 1
            return left == 0

        db = store._day(day_name(NOON))._db
        db.set_progress_handler(gives_up, 100)
        try:
            store.write([block(10, lines[10:])], refuse)
            break
        except StoreError as error:
            said = str(error)
        failed += 1
        assert "interrupted" in said
        assert stored(path) == lines[:10]
        store.close()
        store, first = open_store()
        assert first == 10
    assert failed > 20
    assert sorted(stored(path)) == sorted(lines)


def test_expired_days_are_removed_and_the_position_stays(path, open_store, monkeypatch):
    """Retention removes whole files; how far the journal is stands in every newer one."""
    monkeypatch.setattr(sqlite_store, "STEADY_S", 0.0)
    now = time.time()
    store, _ = open_store(retain_s=2 * DAY)
    for number, age in enumerate((9, 5, 3.5, 1.5, 0)):
        store.write([block(number, [line(number, now - age * DAY)])], refuse)
    store.maintain()
    assert stored(path) == [line(number, now - age * DAY) for number, age in ((3, 1.5), (4, 0))]
    assert len(day_files(path)) == 2
    assert not [file for file in path.parent.iterdir() if file.name[8:18] < day_files(path)[0][0]]
    store, first = open_store(retain_s=2 * DAY)
    assert first == 5
    # Whatever its age, the last file is kept: it alone knows the position.
    store, _ = open_store(retain_s=0.001)
    store.maintain()
    assert len(day_files(path)) == 1
    assert open_store()[1] == 5


def test_a_clock_that_was_set_ahead_removes_nothing_for_a_while(path, open_store, monkeypatch):
    """Records come under the wrong time, too; once it is mended, everything is there. One that stays is believed."""
    wall, even = [time.time()], [1000.0]
    monkeypatch.setattr(sqlite_store.time, "time", lambda: wall[0])
    monkeypatch.setattr(sqlite_store.time, "monotonic", lambda: even[0])
    monkeypatch.setattr(sqlite_store.time, "clock_gettime", lambda clock: even[0])

    def go_on(seconds):
        wall[0] += seconds
        even[0] += seconds

    store, _ = open_store(retain_s=30 * DAY)
    lines = [line(0, wall[0] - 20 * DAY), line(1, wall[0])]
    for number, one in enumerate(lines):
        store.write([block(number, [one])], refuse)
    go_on(2 * sqlite_store.STEADY_S)
    store.maintain()
    wall[0] += 3650 * DAY
    lines.append(line(2, wall[0]))
    store.write([block(2, lines[2:])], refuse)
    for _ in range(10):
        store.maintain()
        go_on(sqlite_store.STEADY_S / 11)
    assert stored(path) == lines
    wall[0] -= 3650 * DAY
    store.maintain()
    go_on(2 * sqlite_store.STEADY_S)
    store.maintain()
    assert stored(path) == lines
    wall[0] += 20 * DAY
    store.maintain()
    go_on(2 * sqlite_store.STEADY_S)
    store.maintain()
    assert stored(path) == lines[1:]


def test_two_processes_write_to_one_file(path, open_store):
    """An import or a replay beside the shipper: both number loggers, and no record gets another's."""
    ours, theirs = open_store()[0], open_store("e" * 32)[0]
    lines = []
    for number in range(12):
        store = (ours, theirs, theirs)[number % 3]
        some = [line(number, NOON + number, name=f"logger {number} {part}", process=number) for part in range(3)]
        store.write([block(3 * number, some)], refuse)
        lines += some
    assert sorted(stored(path)) == sorted(lines)


def test_a_removed_file_is_told_and_begun_anew(path, open_store):
    """Someone removes the database under us: that is a StoreError, and what the journal has comes again."""
    store, _ = open_store()
    store.write([block(0, [line(0)])], refuse)
    for file in path.parent.iterdir():
        file.unlink()
    with pytest.raises(StoreError, match="was removed or replaced"):
        store.write([block(1, [line(1)])], refuse)
    store, first = open_store()
    assert first == 0
    store.write([block(0, [line(0)])], refuse)
    store.write([block(7, [line(7)])], refuse)  # the journal may have forgotten what is before
    assert stored(path) == [line(0), line(7)]


def test_a_file_that_another_process_holds_is_a_store_error(path, open_store, monkeypatch):
    """A lock is waited for, then told; nothing is lost or doubled when it is gone."""
    monkeypatch.setattr("prefork_logd.stores.sqlite.day_file.BUSY_S", 0.05)
    store, _ = open_store()
    store.write([block(0, [line(0)])], refuse)
    other = sqlite3.connect(day_files(path)[0][1], isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match=r"records-2026-11-23.db: database is locked"):
        store.write([block(1, [line(1)])], refuse)
    other.execute("ROLLBACK")
    other.close()
    store.write([block(1, [line(1)])], refuse)
    assert stored(path) == [line(0), line(1)]


def test_a_newer_schema_is_left_alone(path, open_store):
    """A file of a later version is not written to."""
    store, _ = open_store()
    store.write([block(0, [line(0)])], refuse)
    store.close()
    with sqlite3.connect(day_files(path)[0][1]) as db:
        db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    db.close()
    store, _ = open_store()
    with pytest.raises(StoreError, match="was made by a newer version"):
        store.write([block(1, [line(1)])], refuse)


def test_an_older_schema_is_migrated(path, open_store, monkeypatch):
    """Each step is done once, in order, and what is in the file stays."""
    store, _ = open_store()
    store.write([block(0, [line(0)])], refuse)
    store.close()
    steps = (*schema.MIGRATIONS, "ALTER TABLE facts ADD COLUMN note TEXT;\nUPDATE facts SET note = 'migrated'")
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    monkeypatch.setattr(schema, "VERSION", len(steps))
    for number in (1, 2):
        store, first = open_store()
        assert first == number
        store.write([block(number, [line(number)])], refuse)
        store.close()
    with sqlite3.connect(day_files(path)[0][1]) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(steps),)
        assert db.execute("SELECT note FROM facts").fetchall() == [("migrated",)]
    db.close()
    assert stored(path) == [line(number) for number in range(3)]


def test_indexes_are_built_in_pieces(path, open_store, monkeypatch):
    """Today's rows wait until there are enough of them; those of a day that is over do not."""
    for module in (sqlite_index, sqlite_store):
        monkeypatch.setattr(module, "PIECE_ROWS", 100)
    monkeypatch.setattr("prefork_logd.stores.sqlite.day_file.PIECE_ROWS", 100)
    monkeypatch.setattr(sqlite_store, "INDEX_ROWS", 200)
    now = time.time()
    store, _ = open_store()
    store.write([block(0, [line(number, now - DAY) for number in range(50)])], refuse)
    for first in range(50, 550, 100):
        store.write([block(first, [line(first + number, now, name="shop") for number in range(100)])], refuse)
    calls = 0
    while store.maintain() == 0.0:
        calls += 1
    assert calls
    store.write([block(550, [line(number, now) for number in range(30)])], refuse)
    assert store.maintain() > 0
    store.close()
    indexed = []
    for _, file in day_files(path):
        with sqlite3.connect(file) as db:
            indexed.append(
                (
                    db.execute("SELECT count(*) FROM by_site").fetchone()[0],
                    db.execute("SELECT count(*) FROM words WHERE words MATCH 'record'").fetchone()[0],
                    db.execute("SELECT coalesce(sum(length(ids)), 0) / 8 FROM pending").fetchone()[0],
                )
            )
        db.close()
    assert indexed == [(50, 50, 0), (500, 500, 30)]


def test_no_full_text_index_when_it_is_switched_off(path, open_store):
    """Without it there is no table for it, and nothing waits for it."""
    store, _ = open_store(full_text=False)
    store.write([block(0, [line(0, time.time() - DAY)])], refuse)
    store.maintain()
    store.close()
    with sqlite3.connect(day_files(path)[0][1]) as db:
        assert db.execute("SELECT count(*) FROM sqlite_master WHERE name LIKE 'words%'").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM pending").fetchone() == (0,)
    db.close()


def test_a_file_of_the_first_version_is_read_and_written(path, open_store):
    """Fields that records have got since then are missing in it, until it is written again."""
    store, _ = open_store()
    store.write([block(0, [line(0)])], refuse)
    store.close()
    tables = {"msg": "sites", "truncated": "rows", "exception": "rows"}
    with sqlite3.connect(day_files(path)[0][1]) as db:
        db.execute("DROP VIEW records")
        for name in schema.SECOND_COLUMNS:
            db.execute(f"ALTER TABLE {tables.get(name, 'origins')} DROP COLUMN {name}")
        db.execute("CREATE VIEW records AS SELECT * FROM rows")
        db.execute("PRAGMA user_version = 1")
    db.close()
    assert _searched(path) == [line(0)]
    signed = line(1).replace(b',"peer"', b',"host":"web-1","service":"shop","environment":"prod","version":"1","peer"')
    store, _ = open_store()
    store.write([block(1, [signed])], refuse)
    store.close()
    assert stored(path) == _searched(path) == [line(0), signed]
    assert _searched(path, "service=shop", "host!=web-2") == [signed]


def _searched(path, *conditions):
    with contextlib.closing(SqliteSearch(path)) as search:
        return [*search.lines(Filters(tree=tree.all_of(map(parse_condition, conditions))))]
