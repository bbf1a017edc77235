"""The spool's files: what survives a torn tail, and who may send what an ended process has left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.handlers import Spool, _segments, _spool

if TYPE_CHECKING:
    from collections.abc import Iterator

SESSION = bytes(range(16))
SENDER = b'{"host":"web-1","service":"shop"}'


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(str(tmp_path), SESSION, 1 << 20, SENDER)
    yield made
    made.close()


def adopted(directory: Path) -> list[tuple[bytes, list[tuple[int, float, bytes]]]]:
    """Return what an adopter finds, without removing it."""
    return [
        (session, [entry for path in paths for entry in _segments.read_segment(path)[0]])
        for session, paths, *_ in _spool.adopt(str(directory))
    ]


@pytest.mark.slow
@given(bodies=st.lists(st.binary(max_size=100), min_size=1, max_size=10), data=st.data())
def test_a_torn_tail_costs_only_itself(bodies: list[bytes], data: st.DataObject, tmp_path_factory: Any) -> None:
    """Cut or damaged anywhere in its last entry, a segment still gives every entry before it."""
    spool = Spool(str(tmp_path_factory.mktemp("spool")), SESSION, 1 << 20)
    places = [spool.append(number, 1.5, body) for number, body in enumerate(bodies, 1)]
    path, last = places[-1]
    spool.close()
    whole = data.draw(st.integers(last, Path(path).stat().st_size - 1))
    with Path(path).open("r+b") as file:
        if data.draw(st.booleans()):
            file.truncate(whole)
        else:
            file.seek(whole)
            (octet,) = file.read(1)
            file.seek(whole)
            file.write(bytes([octet ^ 0x40]))
    entries, _, damaged = _segments.read_segment(path)
    assert entries == [(number, 1.5, body) for number, body in enumerate(bodies[:-1], 1)]
    assert (not damaged) == (Path(path).stat().st_size == last)


def test_only_what_a_dead_process_left_is_adopted_and_by_one(spool: Spool, tmp_path: Path) -> None:
    """A live spool is locked, and so is one that somebody is sending."""
    spool.append(1, 1.0, b"one")
    spool.append(2, 2.0, b"two")
    assert adopted(tmp_path) == []
    spool.close()
    first = _spool.adopt(str(tmp_path))
    session, paths, sender, done = next(first)
    assert (session, sender) == (SESSION, SENDER)
    assert adopted(tmp_path) == []
    done()
    assert not Path(paths[0]).exists()
    first.close()
    assert list(tmp_path.iterdir()) == []


def test_an_adopter_that_gives_up_leaves_it_to_the_next(spool: Spool, tmp_path: Path) -> None:
    """Nothing is removed before everything is acknowledged."""
    spool.append(1, 1.0, b"one")
    spool.close()
    assert adopted(tmp_path) == adopted(tmp_path) == [(SESSION, [(1, 1.0, b"one")])]


def test_a_full_spool_says_so_and_takes_more_once_it_is_emptied(spool: Spool) -> None:
    """The limit counts bytes on disk."""
    spool.max_bytes = 200
    places = [spool.append(number, 1.0, b"x" * 50) for number in range(1, 5)]
    assert [place is None for place in places] == [False, False, True, True]
    spool.remove()
    assert spool.append(5, 1.0, b"x" * 50) is not None


def segment(tmp_path: Path, bodies: list[bytes]) -> tuple[Path, list[int]]:
    """Return the file of an ended session, and where its entries begin."""
    spool = Spool(str(tmp_path), SESSION, 1 << 30)
    places = [spool.append(number, 1.7e9, body) for number, body in enumerate(bodies, 1)]
    spool.close()
    return Path(places[0][0]), [offset for _, offset in places]


def test_segments_whose_lock_was_removed_are_adopted(tmp_path: Path) -> None:
    """A lock that somebody has cleaned away must not hide them for ever."""
    path, _ = segment(tmp_path, [b"one", b"two"])
    for lock in tmp_path.glob("*.lock"):
        lock.unlink()
    ((session, paths, sender, done),) = list(_spool.adopt(str(tmp_path)))
    assert (session, paths, sender) == (SESSION, [str(path)], b"")
    done()
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_passed_over_and_said(tmp_path: Path) -> None:
    """A FIFO or a link with a lock's name stops nobody."""
    os.mkfifo(tmp_path / f"{1:032x}.lock")
    (tmp_path / f"{2:032x}.lock").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_bytes(b"")
    path, _ = segment(tmp_path, [b"one"])
    said: list[str] = []
    found = [session for session, *_ in _spool.adopt(str(tmp_path), said.append)]
    assert SESSION in found
    assert any(f"{2:032x}.lock" in text for text in said)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        _segments.read_segment(str(tmp_path / "fifo"))
    assert path.exists()
