"""A statement of SQL reads the records and reaches nothing else."""

import contextlib

import pytest

from prefork_logd.errors import StoreError
from prefork_logd.stores.parquet import sql
from prefork_logd.stores.parquet.search import open_search
from tests.support.parquet_store import written


@pytest.fixture
def database(tmp_path):
    """Return a database over a store with three records."""
    store, _ = written(tmp_path / "records", [2, 1])
    with contextlib.closing(open_search(store._settings)) as search, search.database() as opened:
        yield opened


def test_the_view_has_every_record(database):
    """With its columns under their own names."""
    columns, rows = sql.answer(database, "SELECT number, message, extra->>'n' AS n FROM records ORDER BY number;")
    assert columns == ["number", "message", "n"]
    assert [*rows] == [(0, "record 0", "0"), (1, "record 1", "1"), (2, "record 2", "2")]
    assert [*sql.answer(database, "FROM records SELECT count(*)")[1]] == [(3,)]
    assert "journal" in [row[0] for row in sql.answer(database, "DESCRIBE records")[1]]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("", "0 statements; write one"),
        ("SELECT 1; SELECT 2", "2 statements; write one"),
        ("DROP VIEW records", "DROP is not possible"),
        ("COPY records TO '/tmp/x'", "COPY is not possible"),
        ("SET memory_limit = '9GB'", "SET is not possible"),
        ("ATTACH '/tmp/x.db'", "ATTACH is not possible"),
        ("SELEC 1", "Parser Error"),
        ("SELECT nothing FROM records", "Binder Error: .*nothing.*; DESCRIBE records prints the columns"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled by configuration"),
        ("SELECT * FROM read_text('/proc/self/environ')", "disabled by configuration"),
        ("SELECT * FROM glob('/etc/*')", "disabled by configuration"),
        ("SELECT CAST(message AS INT) FROM records", "Conversion Error"),
    ],
)
def test_anything_else_is_refused(database, statement, said):
    """With a sentence, and no traceback."""
    with pytest.raises(StoreError, match=f"SQL: .*{said}"):
        next(sql.answer(database, statement)[1])


def test_an_answer_becomes_a_parquet_file(tmp_path):
    """The one that was named beforehand, and no other."""
    store, _ = written(tmp_path / "records", [2])
    target = tmp_path / "answer.parquet"
    with contextlib.closing(open_search(store._settings)) as search, search.database(str(target)) as database:
        sql.write_parquet(database, "SELECT message FROM records -- all", str(target))
        assert target.read_bytes()[:4] == b"PAR1"
        with pytest.raises(StoreError, match="disabled by configuration"):
            sql.write_parquet(database, "SELECT 1", str(tmp_path / "other"))


def test_an_empty_store_has_an_empty_view(tmp_path):
    """A question about it is no error."""
    store, _ = written(tmp_path / "records", [])
    with contextlib.closing(open_search(store._settings)) as search, search.database() as database:
        assert [*sql.answer(database, "SELECT count(*) FROM records")[1]] == [(0,)]
