"""A condition is applied to each kind of place in which records are, and to no line beside the columns."""

import contextlib

import pytest

from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.stores.parquet import engine
from prefork_logd.stores.parquet.contents import Contents
from prefork_logd.stores.parquet.snapshot import Snapshot
from tests.support.record_logs import write_log
from tests.support.stores import block, line, never
from tests.unit.stores.parquet.test_store import JOURNAL, NOON, make_store


@pytest.fixture
def contents(tmp_path):
    """Return the contents of a store with a file of exact lines, one with another line, and two in the journal."""
    store = make_store(tmp_path / "records")
    store.open(JOURNAL)
    lines = [line(NOON + at, msg="\udcff" if at in (3, 5) else str(at), lineno=at) for at in range(6)]
    store.write([block(0, lines[:2])], never)
    store.write([block(2, lines[2:4])], never)
    journal = tmp_path / "journal"
    journal.mkdir()
    write_log(journal, JOURNAL, lines)
    settings = ParquetStoreSettings(path=str(tmp_path / "records"))
    with (
        contextlib.closing(Snapshot(settings, journal, never)) as snapshot,
        contextlib.closing(engine.connect(64 << 20, 1)) as connection,
    ):
        yield Contents(snapshot, connection), connection


@pytest.mark.parametrize(("lines", "wanted"), [("with", [1, 3, 5]), ("without", [1]), ("only", [3, 5])])
def test_lines_beside_columns_are_asked_for_apart(contents, lines, wanted):
    """The condition does not apply to them, for Python judges them."""
    found, connection = contents
    statement = found.select("lineno", "lineno = 1", f"created < {NOON + 9}", lines)
    assert sorted(row[0] for row in connection.execute(statement).fetchall()) == wanted
    statement = found.select("lineno", "true", f"created < {NOON + 3}", lines)
    assert all(row[0] < 3 for row in connection.execute(statement).fetchall())


def test_a_file_of_exact_lines_is_read_without_a_look_at_them(contents):
    """So DuckDB can leave out row groups by their statistics."""
    found, connection = contents
    statement = found.select("lineno", "lineno = 1")
    assert statement.partition(" UNION ALL ")[0].endswith("WHERE lineno = 1")
    assert statement.count("line IS NOT NULL") == 2
    assert connection.execute(f"SELECT count(*) FROM ({statement})").fetchall() == [(3,)]


def test_the_ends_are_those_of_files_and_journal(contents):
    """By statistics, where there are some."""
    assert contents[0].ends() == (NOON, NOON + 5, 6)
