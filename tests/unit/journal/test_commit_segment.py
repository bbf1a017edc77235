"""A file of the journal holds what was written, and tells where that ends."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.errors import OutputError
from prefork_logd.journal.commit_segment import SegmentWriter, read_segment

if TYPE_CHECKING:
    from pathlib import Path

BODIES = [b"first", b"x" * 1000, b"third"]
ENTRY_BYTES = 12


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
    assert read_segment(tmp_path / "s", 7) == (BODIES, "")
    write(tmp_path / "t", BODIES, size=100)
    assert read_segment(tmp_path / "t", 7) == (BODIES, "")


def test_an_entry_torn_anywhere_ends_the_file(tmp_path: Path) -> None:
    """Of an entry that was not written whole nothing counts, and those before it do."""
    end = write(tmp_path / "s", BODIES, size=1200)
    whole = (tmp_path / "s").read_bytes()[:end]
    last = end - len(BODIES[-1])
    head = last - ENTRY_BYTES
    for cut in range(head, end):
        (tmp_path / "t").write_bytes(whole[:cut] + bytes(200))
        segment = read_segment(tmp_path / "t", 7)
        assert segment.bodies == BODIES[:-1]
        assert bool(segment.problem) is (cut > head)


@pytest.mark.parametrize("place", range(16, 60))
def test_a_changed_byte_costs_its_entry_and_no_other(tmp_path: Path, place: int) -> None:
    """No altered entry is ever taken for a genuine one, and the others stay."""
    write(tmp_path / "s", BODIES)
    data = bytearray((tmp_path / "s").read_bytes())
    data[place] ^= 0x10
    (tmp_path / "s").write_bytes(data)
    segment = read_segment(tmp_path / "s", 7)
    changed = 0 if place < 16 + ENTRY_BYTES + len(BODIES[0]) else 1
    assert segment.bodies == BODIES[:changed] + BODIES[changed + 1 :]
    assert "torn or was changed" in segment.problem


def test_a_zeroed_block_costs_the_entries_in_it(tmp_path: Path) -> None:
    """Zeros in the middle are not taken for the end."""
    write(tmp_path / "s", BODIES)
    data = bytearray((tmp_path / "s").read_bytes())
    data[100:600] = bytes(500)
    (tmp_path / "s").write_bytes(data)
    assert read_segment(tmp_path / "s", 7).bodies == [BODIES[0], BODIES[2]]


def test_an_entry_within_another_or_elsewhere_is_none(tmp_path: Path) -> None:
    """A body may hold the bytes of an entry: they count neither there nor when the entry around them is damaged."""
    write(tmp_path / "s", [b"forged"])
    forged = (tmp_path / "s").read_bytes()[16 : 16 + ENTRY_BYTES + 6]
    write(tmp_path / "t", [b"xx" + forged, b"last"])
    assert read_segment(tmp_path / "t", 7).bodies == [b"xx" + forged, b"last"]
    data = bytearray((tmp_path / "t").read_bytes())
    data[16 + ENTRY_BYTES] ^= 1
    (tmp_path / "t").write_bytes(data)
    assert read_segment(tmp_path / "t", 7).bodies == [b"last"]
    assert read_segment(tmp_path / "s", 8).bodies == []


@given(st.binary(max_size=100))
def test_what_is_no_journal_is_told(data: bytes) -> None:
    """Any file can be read; none becomes entries by chance."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "s"
        path.write_bytes(data)
        segment = read_segment(path, 7)
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
