"""Runs a worker and a small writer in the test's own process: real sockets and pipes, and turns by the test."""

from __future__ import annotations

import contextlib
import pickle
import socket
from typing import TYPE_CHECKING, Any

from prefork_logd.config.load import load
from prefork_logd.ipc.batch import NO_SESSION, opened, refused
from prefork_logd.ipc.batch_receiver import BatchReceiver
from prefork_logd.ipc.batch_sender import make_pipes
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.scoreboard import Field, Scoreboard
from prefork_logd.journal.sessions import Sessions, Verdict
from prefork_logd.net.loop import Loop
from prefork_logd.processes.worker.worker import Worker
from tests.support import wire

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_logd.ipc.batch import Batch
    from prefork_logd.processes.worker.connection import Connection

DEFAULT = Configuration(1, load(None, {}), (1,))


def configuration(path: Path, toml: str, generation: int = 1) -> Configuration:
    """Return the configuration that a file holds."""
    path.write_text(toml)
    settings = load(path, {})
    return Configuration(generation, settings, tuple(range(1, len(settings.output) + 1)))


def frame(message: str = "x") -> bytes:
    """Return a record as a stdlib client sends it."""
    data = pickle.dumps({"name": "n", "msg": message, "levelno": 20, "created": 1.0}, 1)
    return len(data).to_bytes(4, "big") + data


class NoLimits:
    """Takes the place of ClientLimits where there is no limit."""

    def identify(self, connection: Any) -> bool:
        return True

    def charge(self, connection: Any, records: int, nbytes: int) -> None:
        """Count nothing."""

    def lift(self) -> None:
        """Lift nothing."""


class Writer:
    """Receives the batches of one worker, and commits them as the real writer does; keeps the lines."""

    def __init__(self, worker: Worker) -> None:
        self.loop = Loop()
        self.full = False
        self.sessions = Sessions()
        self.lines: list[bytes] = []
        self.rejected = 0
        self.asked = 0
        self.batches = 0
        ours, theirs = make_pipes()
        worker.link.attach(*ours)
        self._source = BatchReceiver(self, 1, theirs, 0)
        self._opens: list[Any] = []
        self._refusals: list[Any] = []

    def add_batch(self, source: BatchReceiver, batch: Batch) -> None:
        self.batches += 1
        for group in batch.groups:
            if group.session != NO_SESSION:
                verdict = self.sessions.accepts(group.session, group.epoch, group.first, group.last, group.floor)
                if verdict is Verdict.NEXT:
                    self.sessions.commit(group.session, group.epoch, group.last, 0, 1, group.peer)
                else:
                    if verdict is not Verdict.REPEATED:
                        self._refusals.append(group)
                    continue
            self.rejected += sum(segment.lines for segment in group.segments if not segment.output)
            self.lines += [
                line for segment in group.segments for line in bytes(segment.data).splitlines() if segment.output == 1
            ]
        self._opens += batch.opens
        self.asked += len(batch.opens)

    def postpone(self, source: BatchReceiver) -> None:
        self.loop.again(source)

    def turn(self) -> None:
        self.loop.turn(0)
        self.sessions.settle()
        for group in self._refusals:
            self._source.answer(refused(group))
        if self._source.taken > self._source.committed:
            self._source.commit()
        for request in self._opens:
            given = self.sessions.open(request.session, request.first, 0)
            self._source.answer(opened(request.session, request.token, given.epoch, given.committed))
        self.sessions.settle()
        self._opens, self._refusals = [], []

    def close(self) -> None:
        self._source.close()
        self.loop.close()


class Pair:
    """A worker with its writer."""

    def __init__(self, settings: Configuration = DEFAULT, slot: int = 1, board: Scoreboard | None = None) -> None:
        self.board = board or Scoreboard()
        self.board.use_slots(slot)
        self._theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.worker = Worker(slot, self.board, [], ours, settings)
        self.worker.counters[Field.ACCEPTING] = 1
        self.writer = Writer(self.worker)
        self.clients: list[socket.socket] = []
        self._peers = 0

    def connect(self, peer: str = "", accept: str = "any", tls_listener: str = "") -> socket.socket:
        """Return the client's end of a new connection."""
        theirs, ours = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._peers += 1
        peer = peer or f"127.0.0.1:{self._peers}"
        self.worker._admit(accept, ours.detach(), peer, tls_listener=tls_listener)
        self.clients.append(theirs)
        return theirs

    def connection(self, index: int = -1) -> Connection:
        """Return the worker's end of one that is open."""
        return list(self.worker.connections.values())[index]

    def turn(self, count: int = 1) -> None:
        """Run turns of the worker and the writer."""
        for _ in range(count):
            self.worker.loop.turn(0)
            self.writer.turn()

    def welcome(self, session: bytes = wire.SESSION, first: int = 1, peer: str = "") -> socket.socket:
        """Return a client's end of a session that is open."""
        client = self.connect(peer)
        client.sendall(wire.hello(first).replace(wire.SESSION, session))
        self.turn(3)
        assert [kind for kind, _ in said(client)] == [0x81]
        return client

    def close(self) -> None:
        self.writer.close()
        for client in self.clients:
            client.close()
        for connection in list(self.worker.connections.values()):
            self.worker.close(connection)
        self.worker.link.detach()
        self.worker._channel.close()
        self.worker.loop.close()
        self._theirs.close()


def read(client: socket.socket) -> bytes | None:
    """Return the bytes sent to a client; None if the connection was closed without any."""
    data = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            try:
                piece = client.recv(65_536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return data or None
            data += piece
    return data


def said(client: socket.socket) -> list[tuple[int, bytes]]:
    """Return the messages sent to a client, read to the end."""
    return wire.messages(read(client) or b"")


def is_closed(client: socket.socket) -> bool:
    """Tell whether the collector has closed a connection."""
    while True:
        try:
            if not client.recv(65_536):
                return True
        except BlockingIOError:
            return False
        except OSError:
            return True
