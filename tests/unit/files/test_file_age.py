"""The age of a file goes by its creation where the file system has recorded it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from prefork_logd.files import file_age

if TYPE_CHECKING:
    from pathlib import Path


def test_the_creation_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the file was written since."""
    monkeypatch.setattr(file_age.libc, "birth_s", lambda _: 1000.0)
    assert file_age.age_s(str(tmp_path), 1060.0) == 60.0


def test_the_last_write_counts_where_the_creation_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The age is at least that."""
    monkeypatch.setattr(file_age.libc, "birth_s", lambda _: None)
    path = tmp_path / "file"
    path.write_text("")
    os.utime(path, (1000.0, 1030.0))
    assert file_age.age_s(str(path), 1060.0) == 30.0


def test_no_file_is_younger_than_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the clock was set back since."""
    monkeypatch.setattr(file_age.libc, "birth_s", lambda _: 2000.0)
    assert file_age.age_s(str(tmp_path), 1000.0) == 0.0


def test_a_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """Whoever asks decides what that means."""
    with pytest.raises(FileNotFoundError):
        file_age.age_s(str(tmp_path / "missing"), 1000.0)
