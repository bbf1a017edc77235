"""The journal's name: kept for good, made anew where it cannot be read, and known to be copied."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from prefork_logd.journal.identity import (
    IDENTITY_FILE,
    is_copied,
    is_sealed,
    read_identity,
    seal_identity,
    write_identity,
)

if TYPE_CHECKING:
    from pathlib import Path

NAME = bytes(range(16))


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    """With the boot, and sealed."""
    problems: list[str] = []
    write_identity(tmp_path, NAME, "boot 1")
    assert read_identity(tmp_path, problems) == (NAME, "boot 1")
    assert problems == []
    assert is_sealed(tmp_path)
    assert not is_copied(tmp_path)


def test_a_new_journal_has_a_new_name(tmp_path: Path) -> None:
    """That is no problem; each has another one."""
    problems: list[str] = []
    first, second = (read_identity(tmp_path, problems) for _ in range(2))
    assert first[0] != second[0]
    assert first[1] == ""
    assert problems == []


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", '{"journal": "xx", "boot": ""}', '{"boot": ""}', json.dumps({"journal": "ab", "boot": ""})],
)
def test_an_identity_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    """The file is named; the journal gets another name."""
    (tmp_path / IDENTITY_FILE).write_text(text)
    problems: list[str] = []
    name, boot = read_identity(tmp_path, problems)
    assert (len(name), boot) == (16, "")
    assert len(problems) == 1
    assert problems[0].startswith(f"{tmp_path / IDENTITY_FILE}: is damaged (")


def test_a_copy_is_noticed(tmp_path: Path) -> None:
    """Whatever times were copied along; once sealed again it is no copy any more."""
    ours, copy = tmp_path / "ours", tmp_path / "copy"
    ours.mkdir()
    write_identity(ours, NAME, "boot 1")
    shutil.copytree(ours, copy)
    assert is_copied(copy)
    assert not is_copied(ours)
    seal_identity(copy)
    assert not is_copied(copy)
