"""Connections are even within a second of any event: a start, a stopped or killed worker, clients that leave."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import threading
from typing import TYPE_CHECKING, Self

from tests.support.harness import DEADLINE_S, frame, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]

LEVEL_S = 1.0


class Clients:
    """Connections that are made again when the collector closes them, as SocketHandler does."""

    def __init__(self, address: tuple[str, int], count: int) -> None:
        self._address = address
        self._selector = selectors.DefaultSelector()
        self._ended = False
        self._thread = threading.Thread(target=self._run, args=(count,))
        self._thread.start()

    def _run(self, count: int) -> None:
        for _ in range(count):
            self._open()
        while not self._ended:
            for key, _ in self._selector.select(0.02):
                with contextlib.suppress(OSError):
                    if key.fileobj.recv(1):  # type: ignore[union-attr]
                        continue
                self._selector.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]
                self._open()

    def _open(self) -> None:
        while not self._ended:
            try:
                sock = socket.create_connection(self._address, DEADLINE_S)
            except OSError:
                continue
            sock.sendall(frame("hello"))
            self._selector.register(sock, selectors.EVENT_READ)
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join(DEADLINE_S)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()


def _wait_until_even(collector: Collector, count: int, workers: int, why: str) -> None:
    """Wait until so many workers hold equally many connections, within 20%, for at most a second."""
    held: list[int] = []

    def even() -> bool:
        held[:] = collector.held()
        fair = count / workers
        return len(held) == workers and sum(held) == count and all(abs(load - fair) <= 0.2 * fair for load in held)

    try:
        wait_for(even, why, LEVEL_S)
    except AssertionError:
        raise AssertionError(f"{why}: {held} after {LEVEL_S} s") from None


def _running(collector: Collector) -> int:
    return sum(child["state"] == "running" for child in collector.status()["children"] if child["kind"] == "worker")


def test_clients_that_come_at_a_start_are_shared_evenly(make_collector: Maker) -> None:
    """Whichever worker is ready first, all have their share a second later; three starts with 200 clients at once."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    collector = make_collector("", "--workers", "4", "--bind", f"127.0.0.1:{address[1]}")
    for number in range(3):
        with Clients(address, 200):
            collector.start()
            wait_for(lambda: sum(collector.held()) == 200, "every client connected")
            _wait_until_even(collector, 200, 4, f"start {number}")
        assert collector.stop(signal.SIGQUIT) == 0


def test_connections_are_level_after_whatever_happens(make_collector: Maker) -> None:
    """Workers are stopped and go on, one is killed, two more come, one goes, clients of one worker leave."""
    collector = make_collector("", "--workers", "4").start()
    pids = collector.worker_pids()
    try:
        for index in (1, 2, 3):
            os.kill(pids[index], signal.SIGSTOP)
        with Clients(collector.address(), 200):
            wait_for(lambda: sum(collector.held()) == 200, "every client connected")
            os.kill(pids[1], signal.SIGCONT)
            wait_for(
                lambda: collector.held()[0] == 100 == collector.held()[3], "two are level beside two stopped ones", 2
            )
            os.kill(pids[2], signal.SIGCONT)
            os.kill(pids[3], signal.SIGCONT)
            _wait_until_even(collector, 200, 4, "three workers went on")

            os.kill(pids[2], signal.SIGKILL)
            wait_for(lambda: collector.child("worker", 2) != pids[2], "another worker 2")
            _wait_until_even(collector, 200, 4, "a worker was killed")

            for signals, workers in ((signal.SIGTTIN, 5), (signal.SIGTTOU, 4)):
                collector.send_signal(signals)
                wait_for(lambda w=workers: len(collector.held()) == w == _running(collector), f"{workers} workers")
                _wait_until_even(collector, 200, workers, f"{workers} workers")
    finally:
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def test_connections_are_level_after_uneven_leaving(make_collector: Maker) -> None:
    """When every client of one worker leaves, those of the others are shared anew."""
    collector = make_collector("", "--workers", "4").start()
    with contextlib.ExitStack() as stack:
        of_first: list[socket.socket] = []
        for number in range(80):
            before = collector.held()[0]
            sock = stack.enter_context(collector.connect())
            wait_for(lambda n=number: sum(collector.held()) == n + 1, "the connection held")
            if collector.held()[0] > before:
                of_first.append(sock)
        assert 16 <= len(of_first) <= 24
        for sock in of_first:
            sock.close()
        wait_for(lambda: sum(collector.held()) == 80 - len(of_first), "they have left")
        _wait_until_even(collector, 80 - len(of_first), 4, "the clients of one worker left")
