"""Provides a client of the session protocol that a test controls step by step, and one that resends by itself."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.support import wire
from tests.support.harness import DEADLINE_S, frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.harness import Collector


WELCOME, CHALLENGE, ACK, ERROR = 0x81, 0x82, 0x83, 0x84
GOING_AWAY = b"\x00\x05"
FAITHFUL_MESSAGE = re.compile(rb'"message":"([a-z0-9]+)-(\d{7})"')
"""Name and number in a stored line of `Faithful`."""


class Client:
    """One connection."""

    def __init__(self, collector: Collector, index: int = 0) -> None:
        self.sock = collector.connect(index)
        self._data = b""

    def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.sock.sendall(data)

    def message(self) -> tuple[int, bytes]:
        """Return the next message; raise ConnectionError if the collector has closed, or asks to connect again."""
        while True:
            if len(self._data) >= 8:
                _, kind, _, length = struct.unpack_from(">HBBI", self._data)
                if len(self._data) >= 8 + length:
                    body, self._data = self._data[8 : 8 + length], self._data[8 + length :]
                    if kind == ERROR and body[:2] == GOING_AWAY:
                        raise ConnectionResetError("the collector asks to connect again")
                    return kind, body
            data = self.sock.recv(65_536)
            if not data:
                raise ConnectionResetError("the collector has closed")
            self._data += data

    def welcome(self, session: bytes, first: int = 1) -> int:
        """Send HELLO; return the committed number."""
        self.send(hello(session, first))
        kind, body = self.message()
        assert kind == WELCOME, (kind, body)
        return int(struct.unpack_from(">Q", body, 13)[0])

    def acknowledged(self, number: int) -> int:
        """Wait until a number is acknowledged; return the highest acknowledged one."""
        while True:
            kind, body = self.message()
            assert kind == ACK, (kind, body)
            (told,) = struct.unpack(">Q", body)
            if told >= number:
                return int(told)

    def close(self, *, reset: bool = False) -> None:
        """Close the connection, on demand with RST."""
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def hello(session: bytes, first: int = 1) -> bytes:
    """Return a HELLO of a session."""
    return wire.hello(first).replace(wire.SESSION, session)


def records(first: int, names: Sequence[str]) -> bytes:
    """Return a BATCH of records that are numbered from `first` on."""
    return wire.batch(first, *(frame(name)[4:] for name in names))


class Faithful:
    """A client that sends each of its records until it is acknowledged."""

    def __init__(self, collector: Collector, name: str) -> None:
        self._collector = collector
        self.name = name
        self._session = name.encode().rjust(16, b"s")
        self._client: Client | None = None
        self.sent = 0
        self.acknowledged = 0

    def log(self, count: int, batch: int = 5) -> None:
        """Log some records, and return once all are acknowledged."""
        self.sent += count
        end = time.monotonic() + DEADLINE_S
        while self.acknowledged < self.sent:
            assert time.monotonic() < end, f"{self.name}: {self.acknowledged} of {self.sent} acknowledged"
            try:
                self._go_on(batch)
            except OSError:
                self.close()
                time.sleep(0.02)

    def _go_on(self, batch: int) -> None:
        if self._client is None:
            self._client = Client(self._collector)
            committed = self._client.welcome(self._session, self.acknowledged + 1)
            assert self.acknowledged <= committed <= self.sent, "what was acknowledged is not committed"
            self.acknowledged = committed
        while self.acknowledged < self.sent:
            first = self.acknowledged + 1
            last = min(first + batch - 1, self.sent)
            self._client.send(records(first, [f"{self.name}-{number:07d}" for number in range(first, last + 1)]))
            self.acknowledged = self._client.acknowledged(last)

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.close()
        self._client = None


class Spread(Faithful):
    """A client whose records go to many loggers, and that sends each until it is acknowledged."""

    loggers = 10

    def logger(self, number: int) -> str:
        """Return the logger of a record."""
        return f"{self.name}.l{number % self.loggers}"

    def _go_on(self, batch: int) -> None:
        if self._client is None:
            self._client = Client(self._collector)
            self.acknowledged = self._client.welcome(self._session, self.acknowledged + 1)
        while self.acknowledged < self.sent:
            first, last = self.acknowledged + 1, min(self.acknowledged + batch, self.sent)
            bodies = [frame(f"{self.name}-{n:07d}", name=self.logger(n))[4:] for n in range(first, last + 1)]
            self._client.send(wire.batch(first, *bodies))
            self.acknowledged = self._client.acknowledged(last)


@contextlib.contextmanager
def all_logging(clients: Sequence[Faithful]) -> Iterator[None]:
    """Let each client log in a thread of its own until the end of the block; then close them, all acknowledged."""
    is_over = threading.Event()

    def log(client: Faithful) -> None:
        while not is_over.is_set():
            client.log(20)

    with ThreadPoolExecutor(len(clients)) as pool:
        logging = [pool.submit(log, client) for client in clients]
        try:
            yield
        finally:
            is_over.set()
        for one in logging:
            one.result(2 * DEADLINE_S)
    for client in clients:
        assert client.acknowledged == client.sent
        client.close()


def messages_of(clients: Sequence[Faithful]) -> list[str]:
    """Return the messages that the clients have logged, sorted."""
    return sorted(f"{client.name}-{number:07d}" for client in clients for number in range(1, client.sent + 1))


def check_each_once(directory: Path, faithful: list[Faithful]) -> None:
    """See that each record of each client is in the files once, each file whole, and in order."""
    found: dict[str, list[int]] = {}
    for path in directory.glob("*.jsonl*"):
        if path.name == "rejected.jsonl":
            continue
        data = path.read_bytes()
        assert not data or data.endswith(b"\n"), f"{path.name} ends in a torn line"
        for line in data.splitlines():
            json.loads(line)
        inside: dict[str, list[int]] = {}
        for name, number in FAITHFUL_MESSAGE.findall(data):
            inside.setdefault(name.decode(), []).append(int(number))
        for name, numbers in inside.items():
            assert numbers == sorted(numbers), f"{path.name}: {name} out of order"
            found.setdefault(name, []).extend(numbers)
    for client in faithful:
        numbers = found.pop(client.name, [])
        assert sorted(numbers) == list(range(1, client.sent + 1)), f"{client.name} of {client.sent}"
    assert not found
