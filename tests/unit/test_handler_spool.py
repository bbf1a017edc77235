"""The handler's spool when its disk, its files or its directory are harmed: what is kept, counted and said."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import shutil
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd import handlers
from prefork_logd.handlers import SocketHandler, Spool
from tests.fake_collector import FakeCollector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SESSION = bytes(range(16))
COUNT = 300


@pytest.fixture
def nowhere() -> Iterator[int]:
    """Give a port that is bound and refuses."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def service(nowhere: int, tmp_path: Path) -> Iterator[SocketHandler]:
    """Give a handler whose collector is away."""
    handler = SocketHandler("127.0.0.1", nowhere, overflow="spool", spool_dir=str(tmp_path / "spool"), close_timeout=0)
    yield handler
    handler.close()


def emit(handler: SocketHandler, first: int, count: int) -> None:
    for number in range(first, first + count):
        handler.handle(logging.LogRecord("shop", logging.INFO, "x.py", 1, "record %d", (number,), None))


def written(directory: Path) -> list[int]:
    """Return the numbers that an adopter would find."""
    paths = sorted(directory.glob("*.spool"))
    return [entry[0] for path in paths for entry in handlers.read_segment(str(path))[0]]


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


# Damage


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
    entries, _, damaged = handlers.read_segment(str(path), 0, 1 << 30)
    assert damaged
    assert len(entries) >= COUNT - most_lost
    assert all(body == bodies[number - 1] for number, _, body in entries)


def test_a_record_that_looks_like_an_entry_is_none(tmp_path: Path) -> None:
    """Its author does not know the session, with which the checksums are salted."""
    data = b"forged"
    tail = struct.pack(">Qd", 3, 1.7e9) + data
    forged = struct.pack(">IIQd", len(data), handlers._crc(tail), 3, 1.7e9) + data
    path, places = segment(tmp_path, [b"one", b"two" + forged, b"three"])
    flip(path, places[1] + 4)
    entries, _, damaged = handlers.read_segment(str(path))
    assert [body for _, _, body in entries] == [b"one", b"three"]
    assert damaged


@pytest.mark.parametrize("body", [bytes(1 << 20), b"\x00\x00\x00\x01" * (1 << 17), b"\xff" * (1 << 20)])
def test_a_search_after_damage_has_a_bound(body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in data of which each byte looks like the beginning of an entry."""
    path, places = segment(tmp_path, [body, b"two"])
    flip(path, places[0])
    work = []
    monkeypatch.setattr(
        handlers, "_crc", lambda data, salt=0, real=handlers._crc: work.append(len(data)) or real(data, salt)
    )
    handlers.read_segment(str(path))
    assert sum(work) < 40 * len(body)


def test_damaged_files_are_kept_within_bounds(tmp_path: Path) -> None:
    """The newest ones."""
    for number in range(30):
        path = tmp_path / f"{number:032x}.{1:020d}.spool"
        path.write_bytes(b"damaged")
        os.utime(path, (number, number))
        handlers._discard(str(path), True)
    assert sorted(tmp_path.iterdir()) == [
        tmp_path / f"{number:032x}.{1:020d}.spool.damaged" for number in range(14, 30)
    ]


def test_a_spool_damaged_under_a_living_service_is_sent_but_for_what_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The counters tell exactly what is missing, and so does the collector's gap."""
    with FakeCollector() as collector:
        collector.kill()
        directory = tmp_path / "spool"
        handler = SocketHandler(
            "127.0.0.1", collector.port, overflow="spool", spool_dir=str(directory), limit_bytes=20_000
        )
        try:
            emit(handler, 0, COUNT)
            (path,) = directory.glob("*.spool")
            flip(path, path.stat().st_size // 2)
            flip(path, path.stat().st_size - 5)
            collector.start()
            assert handler.flush(10)
            counters = handler.counters()
        finally:
            handler.close()
        assert (counters["dropped"], counters["acknowledged"]) == (2, COUNT - 2)
        (stored,) = collector.sessions.values()
        assert sum(gap.last - gap.first + 1 for gap in stored.gaps) == 2
        assert len(stored.items) == COUNT - 2
        assert [path.suffix for path in directory.iterdir()] == [".damaged"]
    assert capsys.readouterr().err.count("cannot be read: damaged") == 1


# A disk that takes nothing


class FullDisk:
    """Stands in for os.write: as a disk with so many bytes left."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._write = os.write

    def write(self, descriptor: int, data: bytes) -> int:
        """Write as much as there is room for."""
        if self.room <= 0 and data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = self._write(descriptor, data[: self.room])
        self.room -= count
        return count


@pytest.mark.parametrize("room", [0, 4, 8, 5000])
def test_what_a_full_disk_did_not_take_is_written_once_there_is_room(
    room: int,
    service: SocketHandler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Full in the middle of a record, too; until then it is counted, and said once."""
    disk = FullDisk(room)
    monkeypatch.setattr(handlers.os, "write", disk.write)
    emit(service, 0, COUNT)
    counters = service.counters()
    assert counters["unspooled"] > COUNT // 2
    assert (counters["held"], counters["dropped"]) == (COUNT, 0)
    assert len(written(tmp_path / "spool")) == COUNT - counters["unspooled"]
    disk.room = 1 << 30
    service._spool_retry_at = 0.0
    emit(service, COUNT, 1)
    assert service.counters()["unspooled"] == 0
    assert written(tmp_path / "spool") == list(range(1, COUNT + 2))
    err = capsys.readouterr().err
    assert err.count("cannot be written: No space left on device") == 1, err


def test_the_helper_writes_what_is_missing_when_nothing_is_logged(
    service: SocketHandler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quiet service is protected as soon as there is room."""
    disk = FullDisk(2000)
    monkeypatch.setattr(handlers.os, "write", disk.write)
    emit(service, 0, COUNT)
    disk.room = 1 << 30
    service._spool_retry_at = 0.0
    service._within(service._look_after_spool)
    assert written(tmp_path / "spool") == list(range(1, COUNT + 1))


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_directory_that_cannot_be_is_said_and_counted(
    in_memory: bool, nowhere: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in its place: records are held in memory, and beyond that dropped and counted."""
    (tmp_path / "spool").write_text("a file")
    limit = 1 << 20 if in_memory else 20_000
    handler = SocketHandler(
        "127.0.0.1", nowhere, overflow="spool", spool_dir=str(tmp_path / "spool"), limit_bytes=limit, close_timeout=0
    )
    emit(handler, 0, COUNT)
    counters = handler.counters()
    handler.close()
    assert counters["held"] + counters["dropped"] == COUNT
    assert counters["unspooled"] == counters["held"]
    assert (counters["dropped"] == 0) == in_memory
    err = capsys.readouterr().err
    assert err.count("cannot be written: File exists") == 1
    assert err.count("records are dropped") == (not in_memory)
    assert f"{counters['unspooled']} records were neither acknowledged nor written" in err


def test_a_removed_directory_is_made_anew_with_all_that_is_held(
    service: SocketHandler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one that was renamed, of which only a look at the path tells."""
    emit(service, 0, 50)
    shutil.rmtree(tmp_path / "spool")
    emit(service, 50, 50)
    assert written(tmp_path / "spool") == list(range(1, 101))
    (tmp_path / "spool").rename(tmp_path / "moved")
    service._within(service._look_after_spool)
    assert written(tmp_path / "spool") == list(range(1, 101))
    assert handlers._locks
    assert [path.suffix for path in sorted((tmp_path / "spool").iterdir())] == [".spool", ".lock"]
    assert capsys.readouterr().err.count("were removed") == 1


def test_descriptors_closed_by_the_service_cost_nothing(service: SocketHandler, tmp_path: Path) -> None:
    """As programs do that become daemons; what gets their numbers next is not written to."""
    emit(service, 0, 20)
    spool: Any = service._spool
    for descriptor in (spool._file, spool._lock):
        os.close(descriptor)
    foreign = [(tmp_path / f"foreign{number}").open("w+b") for number in range(2)]
    emit(service, 20, 20)
    service._within(service._look_after_spool)
    assert written(tmp_path / "spool") == list(range(1, 41))
    for file in foreign:
        assert file.read() == b""
        file.write(b"still open")
        file.close()


def test_segments_whose_lock_was_removed_are_adopted(tmp_path: Path) -> None:
    """A lock that somebody has cleaned away must not hide them for ever."""
    path, _ = segment(tmp_path, [b"one", b"two"])
    for lock in tmp_path.glob("*.lock"):
        lock.unlink()
    ((session, paths, done),) = list(handlers.adopt(str(tmp_path)))
    assert (session, paths) == (SESSION, [str(path)])
    done()
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_passed_over_and_said(tmp_path: Path) -> None:
    """A FIFO or a link with a lock's name stops nobody."""
    os.mkfifo(tmp_path / f"{1:032x}.lock")
    (tmp_path / f"{2:032x}.lock").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_bytes(b"")
    path, _ = segment(tmp_path, [b"one"])
    said: list[str] = []
    found = [session for session, _, _ in handlers.adopt(str(tmp_path), said.append)]
    assert SESSION in found
    assert any(f"{2:032x}.lock" in text for text in said)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        handlers.read_segment(str(tmp_path / "fifo"))
    assert path.exists()
