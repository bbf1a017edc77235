"""Lines of any store as one Parquet file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest

from prefork_logd.errors import StoreError
from prefork_logd.stores.parquet import export
from tests.support.stores import NOW, line

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def rows(lines: Iterable[bytes], directory: Path, columns: str) -> list[tuple[object, ...]]:
    """Return columns of the file of these lines."""
    path = export.write_file(lines, directory)
    with duckdb.connect() as connection:
        return connection.execute(f"SELECT {columns} FROM read_parquet('{path}')").fetchall()


@pytest.mark.parametrize("part_bytes", [1, 1_000, 1 << 20])
def test_lines_become_a_file_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_bytes: int) -> None:
    """However many parts there are."""
    monkeypatch.setattr(export, "PART_BYTES", part_bytes)
    lines = [line(NOW - number, msg=f"record {number}", tenant=number) for number in range(12)]
    found = rows(lines, tmp_path, "created, message, extra, line")
    assert found == [(NOW - number, f"record {number}", f'{{"tenant":{number}}}', None) for number in range(12)]


def test_long_records_take_no_more_memory(tmp_path: Path) -> None:
    """A row group has as many lines as one part, however many bytes these have."""
    text = "\\" + 'abcdefgh "01' * 80_000
    found = rows((line(NOW - number, msg=text) for number in range(250)), tmp_path, "created, length(message)")
    assert found == [(NOW - number, len(text)) for number in range(250)]
    assert [path.name for path in tmp_path.iterdir()] == ["records.parquet"]


def test_no_lines_are_a_file_with_columns(tmp_path: Path) -> None:
    """Programs can read it."""
    assert rows([], tmp_path, "created, message, extra") == []


def test_odd_lines_keep_their_text(tmp_path: Path) -> None:
    """What the columns cannot hold is in `line`; a last line may lack its newline."""
    odd = b'{"created":1.0,"message":"lone \\udcff"}'
    assert rows([odd], tmp_path, "line") == [(odd.decode(),)]


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A larger one is an error with a remedy."""
    monkeypatch.setattr(export, "PART_BYTES", 1)
    monkeypatch.setattr(export, "MOST_BYTES", 1)
    with pytest.raises(StoreError, match="choose a shorter range"):
        export.write_file([line(NOW)] * 3, tmp_path)


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The error says where."""
    with pytest.raises(StoreError, match="missing"):
        export.write_file([line(NOW)], tmp_path / "missing")
