"""A file of the journal holds what was written, and tells where that ends."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.errors import OutputError
from prefork_logd.journal.segment import SegmentWriter, read_segment

if TYPE_CHECKING:
    from pathlib import Path

BODIES = [b"first", b"x" * 1000, b"third"]


def write(path: Path, bodies: list[bytes], size: int = 8192) -> int:
    segment = SegmentWriter(path, 7, size)
    for body in bodies:
        segment.append(body)
    segment.sync()
    position = segment.position
    segment.close()
    return position


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    """What was appended is read, within what was allocated and beyond it."""
    write(tmp_path / "s", BODIES)
    assert read_segment(tmp_path / "s") == (7, BODIES, "")
    write(tmp_path / "t", BODIES, size=100)
    assert read_segment(tmp_path / "t") == (7, BODIES, "")


def test_an_entry_torn_anywhere_ends_the_file(tmp_path: Path) -> None:
    """Of an entry that was not written whole nothing counts, and those before it do."""
    end = write(tmp_path / "s", BODIES, size=1200)
    whole = (tmp_path / "s").read_bytes()[:end]
    last = end - len(BODIES[-1])
    for cut in range(last - 8, end):
        (tmp_path / "t").write_bytes(whole[:cut] + bytes(200))
        segment = read_segment(tmp_path / "t")
        assert segment.bodies == BODIES[:-1]
        assert bool(segment.problem) is (cut > last - 8)


@pytest.mark.parametrize("place", range(16, 60))
def test_a_changed_byte_is_noticed(tmp_path: Path, place: int) -> None:
    """No altered entry is ever taken for a genuine one."""
    write(tmp_path / "s", BODIES)
    data = bytearray((tmp_path / "s").read_bytes())
    data[place] ^= 0x10
    (tmp_path / "s").write_bytes(data)
    segment = read_segment(tmp_path / "s")
    assert segment.bodies == BODIES[: len(segment.bodies)]
    assert len(segment.bodies) < len(BODIES)
    assert segment.problem


@given(st.binary(max_size=100))
def test_what_is_no_journal_is_told(data: bytes) -> None:
    """Any file can be read; none becomes entries by chance."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "s"
        path.write_bytes(data)
        segment = read_segment(path)
    assert segment.bodies == []
    assert segment.problem


def test_a_full_disk_is_met_when_the_file_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a file that cannot be allocated is left."""

    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match="No space left"):
        SegmentWriter(tmp_path / "s", 1, 100)
    assert list(tmp_path.iterdir()) == []
