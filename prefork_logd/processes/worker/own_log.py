"""Stores the collector's own log lines as records (server.own_log): one worker takes each line.

Owns the sender of these records. Does not know who has logged a line (system/own_records.py).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from prefork_logd import __version__
from prefork_logd.errors import RecordRejected
from prefork_logd.ipc.scoreboard import Field
from prefork_logd.net.loop import EDGE, READ
from prefork_logd.net.peers import peer_host
from prefork_logd.records.record import make_record
from prefork_logd.records.sender import make_sender
from prefork_logd.system import own_records
from prefork_logd.system.log import LOGGER, describe_bug

if TYPE_CHECKING:
    import socket

    from prefork_logd.ingest.dispatcher import Dispatcher
    from prefork_logd.net.loop import Loop
    from prefork_logd.records.record import Record

SERVICE = "prefork-logd"
MOST_A_TURN = 64
RETRY_S = 0.5
"""How soon lines are taken that came while reading paused."""


class WorkerPort(Protocol):
    """The worker."""

    loop: Loop
    counters: memoryview
    paused: bool
    dispatcher: Dispatcher

    def send_if_large(self) -> None:
        """Send the batch if it has become large."""


class OwnLog:
    """The lines that one worker takes."""

    def __init__(self, port: WorkerPort) -> None:
        """Take lines if the collector passes them."""
        self._port = port
        self._sock: socket.socket | None = own_records.receiver()
        self._sender = make_sender(peer_host("unix:"), SERVICE, "", __version__)
        self._is_waiting = False
        if self._sock is not None:
            port.loop.add(self._sock.fileno(), self, READ | EDGE)

    def close(self) -> None:
        """Take no more lines; other workers do."""
        sock, self._sock = self._sock, None
        if sock is not None:
            self._port.loop.remove(sock.fileno())

    def ready(self, _events: int, /) -> None:
        """Store waiting lines. An unexpected error ends this, not the worker."""
        try:
            with own_records.muted():
                self._take()
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not cost clients anything
            self.close()
            with own_records.muted():
                LOGGER.error("the collector's own log is not stored any more: %s", describe_bug(error))

    def _take(self) -> None:
        if self._sock is None or self._is_waiting:
            return
        if self._port.paused:
            self._is_waiting = True
            self._port.loop.later(RETRY_S, self._retry)
            return
        lines: list[bytes] = []
        while len(lines) < MOST_A_TURN:
            try:
                line = self._sock.recv(own_records.MOST_BYTES)
            except BlockingIOError:
                break
            if not line:
                self.close()
                break
            lines.append(line)
        else:
            self._port.loop.again(self)
        self._store(lines)

    def _store(self, lines: list[bytes]) -> None:
        while lines:
            taken, rejected, _ = self._port.dispatcher.add_texts(lines, _decode, "", time.time(), sender=self._sender)
            self._port.counters[Field.RECORDS] += taken - rejected
            lines = lines[taken:]
            self._port.send_if_large()

    def _retry(self) -> None:
        self._is_waiting = False
        self.ready(0)


def _decode(line: bytes, peer: str, received_s: float) -> Record:
    try:
        attributes = msgspec.json.decode(line, type=dict)
    except msgspec.MsgspecError as error:
        raise RecordRejected("not-json", str(error)) from None
    return make_record(attributes, peer, received_s)
