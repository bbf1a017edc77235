"""Segments of a spool that are damaged: every whole entry is found, with bounded work."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_logd.handlers import Spool, _segments

if TYPE_CHECKING:
    from collections.abc import Callable

SESSION = bytes(range(16))
COUNT = 300


def segment(tmp_path: Path, bodies: list[bytes]) -> tuple[Path, list[int]]:
    """Return the file of an ended session, and where its entries begin."""
    spool = Spool(str(tmp_path), SESSION, 1 << 30)
    places = [spool.append(number, 1.7e9, body) for number, body in enumerate(bodies, 1)]
    spool.close()
    return Path(places[0][0]), [offset for _, offset in places]


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (octet,) = file.read(1)
        file.seek(offset)
        file.write(bytes([octet ^ 4]))


def blank(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(4096))


@pytest.mark.parametrize(
    ("harm", "most_lost"),
    [
        (lambda path, _: flip(path, 3), 0),
        (lambda path, places: flip(path, places[0]), 1),
        (lambda path, places: flip(path, places[0] + 12), 1),
        (lambda path, places: flip(path, places[10] + 1), 1),
        (lambda path, places: flip(path, places[20] + 40), 1),
        (lambda path, _: blank(path, 0), 50),
        (lambda path, _: blank(path, 8192), 50),
        (lambda path, places: os.truncate(path, places[-1] - 1), 2),
    ],
    ids=["magic", "length", "number", "another length", "pickle", "first block", "a block", "cut"],
)
def test_damage_costs_what_is_damaged_and_is_counted(
    harm: Callable[[Path, list[int]], None], most_lost: int, tmp_path: Path
) -> None:
    """Everything before and after it is read, by its checksums."""
    bodies = [pickle.dumps({"msg": f"record {number}", "zeros": 1 << 60, "text": "x" * 50}) for number in range(COUNT)]
    path, places = segment(tmp_path, bodies)
    harm(path, places)
    entries, _, damaged = _segments.read_segment(str(path), 0, 1 << 30)
    assert damaged
    assert len(entries) >= COUNT - most_lost
    assert all(body == bodies[number - 1] for number, _, body in entries)


def test_a_record_that_looks_like_an_entry_is_none(tmp_path: Path) -> None:
    """Its author does not know the session, with which the checksums are salted."""
    data = b"forged"
    tail = struct.pack(">Qd", 3, 1.7e9) + data
    forged = struct.pack(">IIQd", len(data), _segments.crc32_of(tail), 3, 1.7e9) + data
    path, places = segment(tmp_path, [b"one", b"two" + forged, b"three"])
    flip(path, places[1] + 4)
    entries, _, damaged = _segments.read_segment(str(path))
    assert [body for _, _, body in entries] == [b"one", b"three"]
    assert damaged


@pytest.mark.parametrize("body", [bytes(1 << 20), b"\x00\x00\x00\x01" * (1 << 17), b"\xff" * (1 << 20)])
def test_a_search_after_damage_has_a_bound(body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in data of which each byte looks like the beginning of an entry."""
    path, places = segment(tmp_path, [body, b"two"])
    flip(path, places[0])
    work = []
    monkeypatch.setattr(
        _segments, "crc32_of", lambda data, salt=0, real=_segments.crc32_of: work.append(len(data)) or real(data, salt)
    )
    _segments.read_segment(str(path))
    assert sum(work) < 40 * len(body)


def test_damaged_files_are_kept_within_bounds(tmp_path: Path) -> None:
    """The newest ones."""
    for number in range(30):
        path = tmp_path / f"{number:032x}.{1:020d}.spool"
        path.write_bytes(b"damaged")
        os.utime(path, (number, number))
        _segments.discard_segment(str(path), True)
    assert sorted(tmp_path.iterdir()) == [
        tmp_path / f"{number:032x}.{1:020d}.spool.damaged" for number in range(14, 30)
    ]
