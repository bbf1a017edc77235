"""Sends numbered records under full load, and checks that each is stored exactly once and whole."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support.harness import DEADLINE_S, frame, wait_for

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from tests.support.harness import Collector

CHUNK = 40
"""Records a client sends with one call."""
RATE = 8_000
"""Default rate of all clients together, in records a second: enough that every process always has lines on their way,
and little enough to read back quickly, even after a long test on a slow machine."""
_PLACE = b"LL-NNNNNNNN"
_NUMBER = re.compile(rb'"message":"(\d\d)-(\d{8}) ')
_TEXT_NUMBER = re.compile(rb"(\d\d)-(\d{8}) ")


def numbered(client: int, number: int, padding: int = 300) -> bytes:
    """Return the frame of a record, which its client and number identify."""
    return _template(padding).replace(_PLACE, b"%02d-%08d" % (client, number))


_templates: dict[int, bytes] = {}


def _template(padding: int) -> bytes:
    if padding not in _templates:
        _templates[padding] = frame(_PLACE.decode() + " " + "x" * padding)
    return _templates[padding]


def stored(paths: Iterable[Path]) -> dict[int, list[int]]:
    """Return each client's numbers in files of JSON or text lines, duplicates included; fail for a torn line."""
    found: dict[int, list[int]] = {}
    for path in paths:
        data = path.read_bytes()
        assert not data or data.endswith(b"\n"), f"{path} ends with a torn line: {data[-80:]!r}"
        for line in data.splitlines():
            is_json = line.startswith(b"{")
            matches = (_NUMBER if is_json else _TEXT_NUMBER).findall(line)
            assert len(matches) == 1, f"a torn line in {path}: {line!r}"
            assert line.endswith(b"}" if is_json else b"x"), f"a torn line in {path}: {line!r}"
            client, number = matches[0]
            found.setdefault(int(client), []).append(int(number))
    return found


class Load:
    """Clients that send so many records a second, each in a thread, until stopped; without a rate, as many as possible.

    A client sends whole chunks of whole records and closes as the stdlib handler does at the end of its process.
    """

    def __init__(
        self, collector: Collector, clients: int = 4, *, first: int = 0, padding: int = 300, rate: float | None = RATE
    ) -> None:
        self.sent: dict[int, int] = {}
        """Client to the number of records it has passed to the kernel, from number 0 on."""
        self.broken: dict[int, OSError] = {}
        """Clients whose connection failed, with their error."""
        self._padding = padding
        self._pause_s = 0.0 if rate is None else CHUNK * clients / rate
        self._stop = threading.Event()
        self.sockets = {client: collector.connect() for client in range(first, first + clients)}
        self._threads = [
            threading.Thread(target=self._send, args=(client, sock), daemon=True)
            for client, sock in self.sockets.items()
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        wait_for(lambda: len(self.sent) == len(self.sockets), "every client sends")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _send(self, client: int, sock: socket.socket) -> None:
        number = 0
        due_s = time.monotonic()
        try:
            while not self._stop.wait(due_s - time.monotonic()):
                chunk = (numbered(client, n, self._padding) for n in range(number, number + CHUNK))
                sock.sendall(b"".join(chunk))
                number += CHUNK
                self.sent[client] = number
                due_s = max(due_s + self._pause_s, time.monotonic())
        except OSError as error:
            self.broken[client] = error
        finally:
            sock.close()

    def total(self) -> int:
        """Return how many records were sent until now."""
        return sum(self.sent.values())

    def wait_for_more(self, records: int) -> None:
        """Wait until so many further records were sent."""
        goal = self.total() + records
        wait_for(lambda: self.total() >= goal, f"{records} more records sent")

    def stop(self) -> None:
        """Let every client end its chunk and close."""
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "a client is stuck"

    def check_rotating(self, files: Callable[[], Iterable[Path]]) -> None:
        """Do as `check`, but list the files again each time, as rotation changes their names."""
        self.stop()
        wait_for(lambda: _count(files(), self.sent) >= self.total(), f"{self.total()} records stored")
        wait_for(lambda: _numbers(files()) == {c: list(range(n)) for c, n in self.sent.items()}, "each is stored once")

    def check(self, *paths: Path, lossy: Iterable[int] = ()) -> None:
        """Stop, wait until everything is stored, and fail unless each record is there once, in no torn line.

        Records of `lossy` clients may be missing, but not doubled.
        """
        self.stop()
        lossy = set(lossy)
        assert not self.broken.keys() - lossy, f"connections broke: {self.broken}"
        whole = {client: sent for client, sent in self.sent.items() if client not in lossy}
        goal = sum(whole.values())
        wait_for(lambda: _count(paths, whole) >= goal, f"{goal} records of clients {[*whole]} stored")
        if lossy:
            wait_for(lambda: _is_whole(paths), "no line is torn", 2)
        found = stored(paths)
        for client, sent in whole.items():
            numbers = sorted(found.get(client, []))
            missing = sorted(set(range(sent)) - set(numbers))
            assert not missing, f"client {client}: {len(missing)} of {sent} lost, from {missing[0]} to {missing[-1]}"
            doubled = len(numbers) - len(set(numbers))
            assert numbers == list(range(sent)), f"client {client}: {doubled} doubled"
        for client in lossy:
            numbers = found.get(client, [])
            assert len(numbers) == len(set(numbers)), f"client {client}: some doubled"


def _count(paths: Iterable[Path], clients: Iterable[int]) -> int:
    """Return how many records of some clients files hold."""
    wanted = {b"%02d" % client for client in clients}
    found = (match[0] for path in paths if path.exists() for match in _TEXT_NUMBER.findall(path.read_bytes()))
    return sum(client in wanted for client in found)


def _numbers(paths: Iterable[Path]) -> dict[int, list[int]]:
    """Return each client's numbers in order, or nothing while a file among them is being renamed."""
    try:
        return {client: sorted(numbers) for client, numbers in stored(paths).items()}
    except FileNotFoundError:
        return {}


def _is_whole(paths: Iterable[Path]) -> bool:
    """Tell whether files hold whole lines only; while one is being written, its last line may not be."""
    try:
        stored(paths)
    except AssertionError:
        return False
    return True


def count_lines(paths: Iterable[Path]) -> int:
    """Return how many lines files hold; one that is not there holds none."""
    return sum(path.read_bytes().count(b"\n") for path in paths if path.exists())
