"""Files that could not be synced keep their committed records, and do not become more and more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prefork_logd.files import failed_files


def _make(tmp_path: Path, *names: str) -> str:
    for age, name in enumerate(reversed(names)):
        (tmp_path / name).write_bytes(b"committed\n")
        os.utime(tmp_path / name, (1000 - age,) * 2)
    return str(tmp_path / "all.jsonl")


def test_only_files_of_this_output_are_found(tmp_path: Path) -> None:
    """By their names; the one written first comes first. Links and directories do not count."""
    path = _make(tmp_path, "all.jsonl.failed-7", "all.jsonl.failed-12", "other.jsonl.failed-3", "all.jsonl.failed-x")
    (tmp_path / "all.jsonl.failed-1").mkdir()
    (tmp_path / "all.jsonl.failed-2").symlink_to(tmp_path / "all.jsonl.failed-7")
    assert [Path(one.path).name for one in failed_files.find(path)] == ["all.jsonl.failed-7", "all.jsonl.failed-12"]


def test_there_are_at_most_so_many(tmp_path: Path) -> None:
    """Another one is refused with the remedy; the records in the others may be nowhere else."""
    path = _make(tmp_path, *(f"all.jsonl.failed-{number}" for number in range(failed_files.MOST_FILES - 1)))
    assert failed_files.name_for(path, 123) == f"{path}.failed-123"
    _make(tmp_path, "all.jsonl.failed-123")
    with pytest.raises(OSError, match=r"100 files .*all.jsonl.failed-\* .*; look after the disk, then move or remove"):
        failed_files.name_for(path, 124)
    assert failed_files.name_for(str(tmp_path / "other.jsonl"), 124).endswith("other.jsonl.failed-124")


def test_those_written_before_a_time_are_removed(tmp_path: Path) -> None:
    """That of this time, too; newer ones stay."""
    path = _make(tmp_path, "all.jsonl.failed-1", "all.jsonl.failed-2", "all.jsonl.failed-3")
    assert failed_files.remove_until(path, 999) == [f"{path}.failed-1", f"{path}.failed-2"]
    assert [one.path for one in failed_files.find(path)] == [f"{path}.failed-3"]
