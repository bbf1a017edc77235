"""The segments after a start: what is committed is kept, and what is known of each is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_logd.journal import record_block
from prefork_logd.journal.commit_entry import NOTHING, Committed
from prefork_logd.journal.intent import Evidence
from prefork_logd.journal.record_block import HEADER_BYTES, Header
from prefork_logd.journal.record_segments import FoundSegments, segment_name, segment_paths

if TYPE_CHECKING:
    from pathlib import Path

JOURNAL, SESSION = bytes(range(16)), b"s" * 16


def _segment(directory: Path, first: int, counts: list[int], ordinal: int = 0, offset: int = 0) -> Path:
    """Write a segment with blocks of so many records."""
    data = record_block.encode_header(Header(JOURNAL, first, ordinal, offset)).ljust(HEADER_BYTES, b"\0")
    number = first
    for count in counts:
        lines = b"x\n" * count
        head = record_block.encode_block(first, len(data), number, count, 1, SESSION, [(number + 1, count)], (lines,))
        data += head + lines
        number += count
    path = directory / segment_name(first)
    path.write_bytes(data)
    return path


def _find(directory: Path, committed: Committed = NOTHING) -> FoundSegments:
    return FoundSegments(directory, b"j" * 16, committed, Evidence())


def test_segments_are_found_in_order(tmp_path: Path) -> None:
    """With their sizes, and the header of the last."""
    paths = [_segment(tmp_path, first, [3, 4], ordinal=first) for first in (0, 7, 14)]
    (tmp_path / "position").write_bytes(b"")
    found = _find(tmp_path)
    assert [segment.path for segment in found.segments] == paths
    assert [segment.first for segment in found.segments] == [0, 7, 14]
    assert found.length == paths[-1].stat().st_size
    assert found.last == Header(JOURNAL, 14, 14, 0)
    assert found.end(0, 1 << 32) == 21
    assert len(found.identities) == 3
    assert found.problems == []


def test_nothing_is_there(tmp_path: Path) -> None:
    """Then there is no end, either."""
    found = _find(tmp_path)
    assert (found.segments, found.empty, found.last, found.length, found.end(5, 1 << 32)) == ([], [], None, 0, 0)


def test_empty_segments_hold_no_records(tmp_path: Path) -> None:
    """They say how far numbers were given."""
    _segment(tmp_path, 0, [3])
    empty = [_segment(tmp_path, first, []) for first in (50, 90)]
    found = _find(tmp_path)
    assert [segment.first for segment in found.segments] == [0]
    assert (found.empty, found.begun) == (empty, 90)


def test_a_header_that_cannot_be_read(tmp_path: Path) -> None:
    """Its number is in its name, and the rest follows from the segment before it."""
    before = _segment(tmp_path, 0, [3], ordinal=100, offset=1000)
    damaged = _segment(tmp_path, 3, [4])
    damaged.write_bytes(b"\xff" * 16 + damaged.read_bytes()[16:])
    found = _find(tmp_path)
    assert found.last == Header(b"j" * 16, 3, 100, 1000 + before.stat().st_size)
    assert [str(damaged) in problem for problem in found.problems] == [True]


def test_committed_records_count_though_they_cannot_be_read(tmp_path: Path) -> None:
    """But not a number that is far beyond the segment."""
    path = _segment(tmp_path, 10, [3, 4])
    path.write_bytes(path.read_bytes()[:-1])
    found = _find(tmp_path)
    assert found.end(0, 1 << 32) == 13
    assert found.end(17, 1 << 32) == 17
    assert found.end(17, 5) == 13


@pytest.mark.parametrize(("is_copy", "kept"), [(True, True), (False, False)])
def test_uncommitted_bytes(tmp_path: Path, is_copy: bool, kept: bool) -> None:
    """In a copy they are kept; else they are moved aside where nothing proves that they may be cut off."""
    path = _segment(tmp_path, 0, [3, 4])
    whole, status = path.read_bytes(), path.stat()
    committed = Committed(1, {(status.st_dev, status.st_ino): len(whole) - 8}, {}, 3)
    found = FoundSegments(tmp_path, JOURNAL, committed, Evidence(is_copy=is_copy))
    assert path.read_bytes() == (whole if kept else whole[:-8])
    assert found.length == path.stat().st_size
    (problem,) = found.problems
    assert ("8 bytes more than the journal knows" in problem) == kept
    aside = [other for other in tmp_path.iterdir() if other != path]
    assert [other.read_bytes() for other in aside] == ([] if kept else [whole[-8:]])
    assert [found_path for _, found_path in segment_paths(tmp_path)] == [path]
