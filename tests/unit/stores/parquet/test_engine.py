"""DuckDB has bounds, and what it leaves behind is removed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import pytest

from prefork_logd.errors import QueryMemoryError, StoreError, file_reason, remedy_for
from prefork_logd.stores.parquet import engine


def test_temporary_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that needs more of them fails; it does not fill the disk."""
    monkeypatch.setattr(engine, "SPILL_BYTES", 8 << 20)
    query = "SELECT count(*) FROM (SELECT DISTINCT md5(i::VARCHAR) || repeat('x', 50) FROM range(2000000) AS r(i))"
    with contextlib.closing(engine.connect(32 << 20, 1, tmp_path / "spill")) as connection:
        with pytest.raises(StoreError), engine.failing_as_store_error():
            connection.execute(query).fetchall()
        assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_a_query_that_needs_too_much_memory_has_a_remedy() -> None:
    """The error names what was read, and what to ask for."""
    with contextlib.closing(engine.connect(16 << 20, 1)) as connection:
        remedy = r"^records: the query needs more memory .*; ask for a shorter range of time.* \(Out of Memory .*\)$"
        with pytest.raises(QueryMemoryError, match=remedy), engine.failing_as_store_error("records"):
            connection.execute("SELECT list(i) FROM range(100000000) AS r(i)").fetchall()
        with pytest.raises(StoreError, match=r"^records: (?!.*ask for)"), engine.failing_as_store_error("records"):
            connection.execute("SELECT nothing")


@pytest.mark.slow
def test_directories_of_ended_processes_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of processes that run stay, and so does everything else."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    pid = int(ended.stdout)
    for name in (f"prefork-logd-query-{pid}", f"prefork-logd-export-{pid}-abc"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    kept = {f"prefork-logd-query-{os.getpid()}", f"prefork-logd-query-{pid}x", f"other-{pid}"}
    for name in kept:
        (tmp_path / name).mkdir()
    with engine.temporary_directory() as directory:
        engine.remove_old_temporaries()
        assert {path.name for path in tmp_path.iterdir()} == kept | {Path(directory).name}


def test_a_closed_connection_can_be_interrupted(tmp_path: Path) -> None:
    """Another thread closes it at the same time."""
    connection = engine.connect(32 << 20, 1, tmp_path)
    engine.interrupt(connection)
    assert connection.execute("SELECT 1").fetchall() == [(1,)]
    connection.close()
    engine.interrupt(connection)


def test_a_call_that_the_system_refuses_is_named_without_json() -> None:
    """DuckDB words it as an object of JSON."""
    words = (
        'IO Error: Async write failed for range [offset=0, size=1229]: {"exception_type":"IO","exception_message":'
        '"Could not write file \\"/x/a.parquet\\": No space left on device","errno":"28"}'
    )
    with pytest.raises(StoreError) as caught, engine.failing_as_store_error():
        raise duckdb.IOException(words)
    assert str(caught.value) == f"/x/a.parquet: {file_reason(errno.ENOSPC)}"
    words = 'IO Error: a: {"exception_type":"IO","exception_message":"cannot sync","errno":"28"}'
    with (
        pytest.raises(StoreError, match=rf"^cannot sync{re.escape(remedy_for(errno.ENOSPC))}$"),
        engine.failing_as_store_error(),
    ):
        raise duckdb.IOException(words)
    with pytest.raises(StoreError, match=r"^IO Error: a$"), engine.failing_as_store_error():
        raise duckdb.IOException('IO Error: a: {"exception_type"')


UNFINISHED = (
    'IO Error: Async write failed for range [offset=230, size=39696]: {"exception_type":"IO","exception_message":'
    '"Could not write file \\"/srv/records/2026-11-30/.c5e5-7.parquet.97.tmp\\": No space left on device","errno":"28"}'
)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (UNFINISHED, f"/srv/records/2026-11-30: {file_reason(errno.ENOSPC)}"),
        ('IO Error: Cannot open file "/srv/a.parquet": Permission denied', "/srv/a.parquet: Permission denied"),
        ('Parser Error: syntax error at or near "x"', 'Parser Error: syntax error at or near "x"'),
    ],
)
def test_an_error_about_a_file_is_said_in_our_words(line: str, words: str) -> None:
    """With place and reason; names of unfinished files and DuckDB's own words mean nothing to people."""
    assert engine._plain(line) == words


def test_a_directory_that_was_removed_is_named(tmp_path: Path) -> None:
    """DuckDB itself says that no files match a pattern, or that the path is missing."""
    place = tmp_path / "gone" / ".unfinished.parquet"
    connection = engine.connect(1 << 27, 1)
    for statement in (f"COPY (SELECT 1) TO '{place}' (FORMAT parquet)", f"SELECT * FROM read_parquet('{place}')"):
        words = f"^{place.parent}: No such file or directory"
        with pytest.raises(StoreError, match=words), engine.failing_as_store_error():
            connection.execute(statement)
    connection.close()
