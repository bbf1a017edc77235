"""A handler's spool when its disk, its files or its directory are harmed: what is kept, counted and said."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.handlers import SocketHandler, _segments, _spool
from tests.support.fake_collector import FakeCollector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    return [entry[0] for path in paths for entry in _segments.read_segment(str(path))[0]]


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (octet,) = file.read(1)
        file.seek(offset)
        file.write(bytes([octet ^ 4]))


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
    monkeypatch.setattr(_spool.os, "write", disk.write)
    emit(service, 0, COUNT)
    counters = service.counters()
    assert counters["unspooled"] > COUNT // 2
    assert (counters["held"], counters["dropped"]) == (COUNT, 0)
    assert len(written(tmp_path / "spool")) == COUNT - counters["unspooled"]
    disk.room = 1 << 30
    service._client.queue.spool_retry_at = 0.0
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
    monkeypatch.setattr(_spool.os, "write", disk.write)
    emit(service, 0, COUNT)
    disk.room = 1 << 30
    service._client.queue.spool_retry_at = 0.0
    service._client.section.run(service._client.look_after_files)
    assert written(tmp_path / "spool") == list(range(1, COUNT + 1))


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_directory_that_cannot_be_is_said_and_counted(
    in_memory: bool, nowhere: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in its place: records are held in memory, and beyond that dropped and counted."""
    limit = 1 << 20 if in_memory else 20_000
    handler = SocketHandler(
        "127.0.0.1", nowhere, overflow="spool", spool_dir=str(tmp_path / "spool"), limit_bytes=limit, close_timeout=0
    )
    (tmp_path / "spool").write_text("a file")
    emit(handler, 0, COUNT)
    counters = handler.counters()
    handler.close()
    assert counters["held"] + counters["dropped"] == COUNT
    assert counters["unspooled"] == counters["held"]
    assert (counters["dropped"] == 0) == in_memory
    err = capsys.readouterr().err
    assert err.count("cannot be written: File exists") == 1
    assert err.count("records are dropped") == (not in_memory)
    assert f"did not acknowledge {counters['unspooled']} records before the handler was closed, and the spool" in err


def test_a_removed_directory_is_made_anew_with_all_that_is_held(
    service: SocketHandler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one that was renamed, of which only a look at the path tells."""
    emit(service, 0, 50)
    shutil.rmtree(tmp_path / "spool")
    emit(service, 50, 50)
    assert written(tmp_path / "spool") == list(range(1, 101))
    (tmp_path / "spool").rename(tmp_path / "moved")
    service._client.section.run(service._client.look_after_files)
    assert written(tmp_path / "spool") == list(range(1, 101))
    assert _spool.locks
    assert [path.suffix for path in sorted((tmp_path / "spool").iterdir())] == [".spool", ".lock"]
    assert capsys.readouterr().err.count("were removed") == 1


def test_descriptors_closed_by_the_service_cost_nothing(service: SocketHandler, tmp_path: Path) -> None:
    """As programs do that become daemons; what gets their numbers next is not written to."""
    emit(service, 0, 20)
    spool: Any = service._client.queue.spool
    for descriptor in (spool._file, spool._lock):
        os.close(descriptor)
    foreign = [(tmp_path / f"foreign{number}").open("w+b") for number in range(2)]
    emit(service, 20, 20)
    service._client.section.run(service._client.look_after_files)
    assert written(tmp_path / "spool") == list(range(1, 41))
    for file in foreign:
        assert file.read() == b""
        file.write(b"still open")
        file.close()
