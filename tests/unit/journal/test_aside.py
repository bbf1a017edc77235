"""What recovery cuts off a file is copied beside it first."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from prefork_logd.journal import aside
from prefork_logd.journal.aside import copy_end, name_beside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY_S = 1_795_824_000.0
"""2026-11-28."""
NAME = "shop.cut-20261128-jsonl"


@pytest.fixture(autouse=True)
def day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be that day, and pieces small."""
    monkeypatch.setattr(aside.time, "time", lambda: DAY_S)
    monkeypatch.setattr(aside, "PIECE_BYTES", 4)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """Return an open file with a committed line and another one."""
    path = tmp_path / "shop.jsonl"
    path.write_bytes(b"committed\nnot committed\n")
    path.chmod(0o640)
    opened = os.open(path, os.O_RDWR)
    yield opened
    os.close(opened)


def test_the_name_is_no_output_of_that_name() -> None:
    """Patterns such as shop.jsonl* and *.jsonl do not find it; the day is that of UTC."""
    assert name_beside("/logs/shop.jsonl", DAY_S) == f"/logs/{NAME}"
    assert name_beside("/logs/shop", DAY_S) == "/logs/shop.cut-20261128"
    assert name_beside("/logs/shop.log.txt", DAY_S + 86_399) == "/logs/shop.log.cut-20261128-txt"
    assert name_beside("/logs/shop", -5.0) == "/logs/shop.cut-19700101"
    assert time.strftime("%Y-%m-%d", time.gmtime(DAY_S)) == "2026-11-28"


def test_a_link_is_followed_to_the_files_own_directory(tmp_path: Path) -> None:
    """The copy lies on the same disk as the file."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "shop.jsonl").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "shop.jsonl")
    assert name_beside(str(tmp_path / "link"), DAY_S) == str(tmp_path / "disk" / NAME)


def test_the_end_is_copied_with_the_files_mode(fd: int, tmp_path: Path) -> None:
    """The file itself is left as it is: it is cut afterwards."""
    name = copy_end(fd, 10, 24, str(tmp_path / "shop.jsonl"))
    assert name == str(tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == b"not committed\n"
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "shop.jsonl").stat().st_size == 24


def test_all_recoveries_of_a_day_share_a_file(fd: int, tmp_path: Path) -> None:
    """What was cut off before stays in front."""
    (tmp_path / NAME).write_bytes(b"earlier\n")
    copy_end(fd, 10, 24, str(tmp_path / "shop.jsonl"))
    assert (tmp_path / NAME).read_bytes() == b"earlier\nnot committed\n"


def test_a_copy_is_not_made_twice(fd: int, tmp_path: Path) -> None:
    """A recovery that died after copying begins again."""
    for _ in range(2):
        copy_end(fd, 10, 24, str(tmp_path / "shop.jsonl"))
    assert (tmp_path / NAME).read_bytes() == b"not committed\n"


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_what_is_no_file_is_not_written_to(fd: int, tmp_path: Path, kind: str) -> None:
    """The recovery fails, and nothing is cut."""
    (tmp_path / "target").write_text("precious")
    if kind == "link":
        (tmp_path / NAME).symlink_to(tmp_path / "target")
    else:
        os.mkfifo(tmp_path / NAME)
    with pytest.raises(OSError, match=r"."):
        copy_end(fd, 10, 24, str(tmp_path / "shop.jsonl"))
    assert (tmp_path / "target").read_text() == "precious"


def test_a_copy_that_fails_leaves_nothing(fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No part of a line is in the file, which others have copies in."""
    (tmp_path / NAME).write_bytes(b"earlier\n")
    real, left = os.write, [1]

    def write(to: int, data: bytes) -> int:
        if not left:
            raise OSError(28, "No space left on device")
        left.pop()
        return real(to, data[:3])

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="No space"):
        copy_end(fd, 10, 24, str(tmp_path / "shop.jsonl"))
    monkeypatch.undo()
    assert (tmp_path / NAME).read_bytes() == b"earlier\n"


def test_a_file_that_has_become_shorter_is_an_error(fd: int, tmp_path: Path) -> None:
    """What is to be kept cannot be read."""
    with pytest.raises(OSError, match="cannot be read back"):
        copy_end(fd, 10, 40, str(tmp_path / "shop.jsonl"))
    assert (tmp_path / NAME).read_bytes() == b""


def test_a_directory_keeps_a_number_of_them(
    fd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The newest ones, and all of the last days; other files stay, whatever their age."""
    monkeypatch.setattr(aside, "MOST_FILES", 2)
    old = [tmp_path / name for name in ("a.cut-20260101-jsonl", "b.cut-20260102", "c.cut-20261020-jsonl")]
    recent = [tmp_path / name for name in ("a.cut-20261101-jsonl", "b.cut-20261102-log")]
    others = [tmp_path / name for name in ("a.cut-2026-jsonl", "a.cut-20260101.jsonl", "cut-20260101-jsonl", "a.jsonl")]
    for path in (*old, *recent, *others):
        path.write_text("")
    (tmp_path / "d.cut-20260101-jsonl").mkdir()
    copy_end(fd, 10, 24, str(tmp_path / "shop.jsonl"))
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in (*recent, *others, tmp_path / NAME, tmp_path / "d.cut-20260101-jsonl"))
    assert all(f"{path}: removed" in caplog.text for path in old)
    monkeypatch.setattr(aside, "MOST_FILES", 10)
    old[0].write_text("")
    copy_end(fd, 10, 24, str(tmp_path / "shop.jsonl"))
    assert old[0].exists()
