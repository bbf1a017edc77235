"""A stop writes what clients have sent, and ends in time, whatever stands in the way."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.disks import TO_THE_LAST_BYTE, mounted
from tests.support.harness import frames, messages, wait_for
from tests.support.load import Load, numbered, stored

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]

SHORT_DRAIN = '[limits]\ndrain_timeout = "1s"\n'


def status_of(collector: Collector) -> int:
    """Wait for a collector that was told to end, and return its status."""
    assert collector.process is not None
    return collector.process.wait(20)


def test_stop_writes_what_clients_have_sent(make_collector: Maker) -> None:
    """Megabytes that many connections have sent, and nobody has read yet, are all stored when stop comes."""
    collector = make_collector("", "--workers", "2").start()
    clients, each = 20, 2000
    with contextlib.ExitStack() as stack:
        for pid in (collector.child("worker", 1), collector.child("worker", 2)):
            os.kill(pid, signal.SIGSTOP)
        sent = {}
        for client in range(clients):
            sock = stack.enter_context(collector.connect())
            sock.setblocking(False)
            data = b"".join(numbered(client, number) for number in range(each))
            with contextlib.suppress(BlockingIOError):
                sent[client] = sock.send(data)
        assert sum(sent.values()) > 5_000_000
        collector.send_signal(signal.SIGTERM)
        for pid in collector.worker_pids().values():
            os.kill(pid, signal.SIGCONT)
        assert status_of(collector) == 0
    size = len(numbered(0, 0))
    found = stored([collector.state_dir / "records.jsonl"])
    for client, nbytes in sent.items():
        assert found[client] == list(range(nbytes // size)), f"client {client}"


def test_stop_takes_connections_that_were_not_accepted_yet(make_collector: Maker) -> None:
    """Clients whose connection still waits in the kernel's queue when stop comes are served like others."""
    collector = make_collector("", "--workers", "1").start()
    worker = collector.child("worker", 1)
    os.kill(worker, signal.SIGSTOP)
    for number in range(50):
        with collector.connect() as sock:
            sock.sendall(frames([f"m{number}"]))
    collector.send_signal(signal.SIGTERM)
    os.kill(worker, signal.SIGCONT)
    assert status_of(collector) == 0
    assert sorted(messages(collector.records())) == sorted(f"m{number}" for number in range(50))


def test_stop_under_full_load_ends_in_time(make_collector: Maker) -> None:
    """Clients that never pause delay a stop no longer than drain_timeout; every line is whole, none is doubled."""
    collector = make_collector(SHORT_DRAIN, "--workers", "2").start()
    with Load(collector, rate=None) as load:
        load.wait_for_more(2000)
        began_s = time.monotonic()
        assert collector.stop() == 0
        assert time.monotonic() - began_s < 4
        load.check(collector.state_dir / "records.jsonl", lossy=range(4))


def test_stop_does_not_wait_for_idle_clients(collector: Collector) -> None:
    """Connections that are open and silent delay a stop by no more than a moment."""
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(collector.connect())
        wait_for(lambda: sum(collector.held()) == 50, "all accepted")
        began_s = time.monotonic()
        assert collector.stop() == 0
        assert time.monotonic() - began_s < 1


def test_killed_in_the_middle_of_a_drain(make_collector: Maker) -> None:
    """A kill in the middle of a stop leaves whole lines, none doubled, and another start succeeds."""
    collector = make_collector("", "--workers", "2").start()
    again = make_collector("", "--workers", "2", "--bind", collector.bind[0])
    with Load(collector, rate=None) as load:
        load.wait_for_more(2000)
        collector.send_signal(signal.SIGTERM)
        wait_for(lambda: "stopping: reading" in collector.log, "the drain")
        assert collector.process is not None
        os.killpg(collector.process.pid, signal.SIGKILL)
        collector.process.wait(5)
        again.start()
        load.check(collector.state_dir / "records.jsonl", lossy=range(4))
    assert again.stop() == 0


def test_fast_stop_writes_what_was_read(make_collector: Maker) -> None:
    """SIGQUIT ends the collector at once under full load: what was read is written, each line whole and once."""
    collector = make_collector("", "--workers", "2").start()
    with Load(collector, rate=None) as load:
        load.wait_for_more(2000)
        began_s = time.monotonic()
        assert collector.stop(signal.SIGQUIT) == 0
        assert time.monotonic() - began_s < 2
        load.check(collector.state_dir / "records.jsonl", lossy=range(4))


def test_stop_in_the_middle_of_a_reload(collector: Collector) -> None:
    """A stop that comes while a reload is under way ends the collector as it would without."""
    collector.send_signal(signal.SIGSTOP)
    for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTERM):
        collector.send_signal(number)
    began_s = time.monotonic()
    collector.send_signal(signal.SIGCONT)
    assert status_of(collector) == 0
    assert time.monotonic() - began_s < 3
    assert "ERROR" not in collector.log


def test_second_sigterm_ends_the_drain(collector: Collector) -> None:
    """Whoever does not want to wait for the drain sends the signal again."""
    with Load(collector, rate=None) as load:
        load.wait_for_more(2000)
        collector.send_signal(signal.SIGTERM)
        wait_for(lambda: "stopping: reading" in collector.log, "the drain")
        began_s = time.monotonic()
        assert collector.stop() == 0
        assert time.monotonic() - began_s < 2


def test_stop_while_a_disk_is_full_ends_in_time(tmp_path: Path, make_collector: Maker) -> None:
    """What cannot be written is told, with how much it was, and the stop ends with a failure."""
    with mounted(tmp_path / "disk", "size=16m") as disk:
        path = disk.path / "all.jsonl"
        collector = make_collector(
            f'{SHORT_DRAIN}min_free_bytes = 0\n[[output]]\npath = "{path}"\n', "--workers", "1"
        ).start()
        disk.fill(leave_bytes=100_000)
        with collector.connect() as sock:
            sock.sendall(b"".join(numbered(1, number) for number in range(1000)))
            wait_for(lambda: collector.status()["outputs"][0]["failing"], "the disk is full")
            collector.send_signal(signal.SIGQUIT)
            began_s = time.monotonic()
            assert status_of(collector) == 1
            assert time.monotonic() - began_s < 5
        assert "SIGKILL" not in collector.log
        assert "bytes of lines, not written in time" in collector.log
        assert all(numbers == list(range(len(numbers))) for numbers in stored([path]).values())


def test_stop_while_clients_wait_for_free_space(tmp_path: Path, make_collector: Maker) -> None:
    """What was read uses the space that is kept free; nothing of it is lost."""
    with mounted(tmp_path / "disk", "size=64m") as disk:
        path = disk.path / "all.jsonl"
        collector = make_collector(f'{SHORT_DRAIN}[[output]]\npath = "{path}"\n', "--workers", "1").start()
        disk.fill(leave_bytes=1_200_000)
        with collector.connect() as sock:
            sock.sendall(b"".join(numbered(1, number) for number in range(500)))
            wait_for(lambda: collector.status()["low_space"], "clients wait")
            assert not path.stat().st_size
            assert collector.stop() == 0
        assert stored([path]) == {1: list(range(500))}


def test_killed_master_while_a_disk_is_full(tmp_path: Path, make_collector: Maker) -> None:
    """A disk that stays full does not keep the children of a killed master: another start succeeds at once."""
    with mounted(tmp_path / "disk", "size=16m") as disk:
        path = disk.path / "all.jsonl"
        collector = make_collector(f'{TO_THE_LAST_BYTE}[[output]]\npath = "{path}"\n', "--workers", "1").start()
        again = make_collector(
            f'{TO_THE_LAST_BYTE}[[output]]\npath = "{path}"\n', "--workers", "1", "--bind", collector.bind[0]
        )
        disk.fill(leave_bytes=100_000)
        with collector.connect() as sock:
            sock.sendall(b"".join(numbered(1, number) for number in range(1000)))
            wait_for(lambda: collector.status()["outputs"][0]["failing"], "the disk is full")
            collector.send_signal(signal.SIGKILL)
            assert collector.process is not None
            collector.process.wait(5)
            began_s = time.monotonic()
            again.start()
            assert time.monotonic() - began_s < 4
        assert list(collector.survivors()) == []
        disk.free()
        with again.connect() as sock:
            sock.sendall(numbered(2, 0))
            wait_for(lambda: 2 in stored([path]), "it writes again")
        assert again.stop() == 0


def test_stop_while_the_writer_is_down(collector: Collector) -> None:
    """A stop right after the writer's death waits for another one: nothing is lost."""
    with collector.connect() as sock:
        sock.sendall(frames(["before"]))
        collector.wait_for_records(1)
        os.kill(collector.child("writer"), signal.SIGKILL)
        sock.sendall(frames(["while it is away"]))
        assert collector.stop() == 0
    assert messages(collector.records()) == ["before", "while it is away"]


@pytest.mark.slow
def test_stop_while_the_writer_is_stopped(make_collector: Maker) -> None:
    """A writer that does not run is ended by force after its time, and the stop is a failure."""
    collector = make_collector(SHORT_DRAIN, "--workers", "1").start()
    os.kill(collector.child("writer"), signal.SIGSTOP)
    with collector.connect() as sock:
        sock.sendall(frames(["never written"]))
        began_s = time.monotonic()
        assert collector.stop(signal.SIGQUIT) == 1
        assert time.monotonic() - began_s < 8
    assert "did not end in time" in collector.log


def test_unix_socket_goes_with_its_collector(tmp_path: Path, make_collector: Maker) -> None:
    """The file of a Unix socket is removed at the end; one that a killed collector left behind is replaced."""
    path = tmp_path / "run" / "collector.sock"
    toml = f'[server]\nbind = ["unix:{path}"]\n'
    collector = make_collector(toml, "--workers", "1").start()
    assert path.is_socket()
    assert collector.process is not None
    os.killpg(collector.process.pid, signal.SIGKILL)
    collector.process.wait(5)
    assert path.is_socket()
    collector.start()
    with collector.connect() as sock:
        sock.sendall(frames(["through the new one"]))
        collector.wait_for_records(1)
    assert collector.stop() == 0
    assert not path.exists()
