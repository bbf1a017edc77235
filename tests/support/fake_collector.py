"""Runs a collector for the handler's tests: real sockets, the real server state machine, and faults on demand.

It commits to memory instead of a disk, so that it can be "killed" (every connection reset, uncommitted records
forgotten) and started again on the same address.
"""

from __future__ import annotations

import contextlib
import os
import random
import selectors
import socket
import struct
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prefork_logd.inputs.base import Bye, Gap, Records, TooLarge
from prefork_logd.inputs.pickles import flat
from prefork_logd.inputs.session import auth
from prefork_logd.inputs.session.messages import Authenticate, Capability, ErrorCode, Hello
from prefork_logd.inputs.session.server import ServerSession, ViolationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

RESET = struct.pack("ii", 1, 0)


def message(kind: int, body: bytes = b"") -> bytes:
    """Return one message of a session."""
    return struct.pack(">HBBI", 0xF750, kind, 0, len(body)) + body


WELCOME = message(0x81, struct.pack(">BIIIQB", 1, 0, 1 << 20, (1 << 20) + 64, 0, 0))


class Chatterbox:
    """A server that reads nothing beyond HELLO, answers `first`, and then repeats `again` as fast as it is read."""

    def __init__(self, first: bytes, again: bytes, pause_s: float = 0.0) -> None:
        self._first, self._again, self._pause_s = first, again, pause_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        self.connections = 0

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def _accept(self) -> None:
        threads = []
        while not self._is_over.is_set():
            sock, _ = self._listener.accept()
            self.connections += 1
            threads.append(threading.Thread(target=self._talk, args=(sock,), daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join(10)

    def _talk(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            sock.settimeout(0.2)
            sock.recv(65536)
            sock.sendall(self._first)
            while not self._is_over.is_set():
                with contextlib.suppress(TimeoutError):
                    sock.sendall(self._again)
                self._is_over.wait(self._pause_s)

    def __enter__(self) -> Chatterbox:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_over.set()
        with socket.create_connection(self._listener.getsockname()):
            self._thread.join(10)
        self._listener.close()


@dataclass
class Stored:
    """The committed records of one session."""

    committed: int = 0
    items: list[tuple[int, bytes]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    client: str = ""


@dataclass
class Behaviour:
    """The behaviour of the collector, which a test may change while it runs."""

    reads: bool = True
    greets: bool = True
    acks: bool = True
    closes_on_hello: bool = False
    welcomes: bool = True
    """False: HELLO is answered only with WAIT."""
    plain: bool = False
    """A receiver of SocketHandler's frames only, as in the Logging Cookbook."""
    error: tuple[int, str] | None = None
    """Code and text of the ERROR that answers each HELLO."""
    keys: Mapping[bytes, bytes] = field(default_factory=dict)
    false_proof: bool = False
    commits: float = 1.0
    """Probability that the records of a read are committed at once, instead of with those of the next read."""
    acks_lost: float = 0.0
    resets: float = 0.0
    """Probability of a reset after a read, before the acknowledgement."""
    max_record_bytes: int = 1 << 20
    max_batch_bytes: int = (1 << 20) + 64


class FakeCollector:
    """Listens until `close`; `sessions` and `plain` have the committed records."""

    def __init__(self, address: str = "127.0.0.1", behaviour: Behaviour | None = None, seed: int = 0) -> None:
        self.behaviour = behaviour or Behaviour()
        self.sessions: dict[bytes, Stored] = defaultdict(Stored)
        self.plain: list[bytes] = []
        self.connections = 0
        self.hellos = 0
        self.byes = 0
        self._random = random.Random(seed)
        self._address: tuple[str, int] | str = address if "/" in address else (address, 0)
        self._thread: threading.Thread | None = None
        self._wake: socket.socket | None = None
        self.failure: BaseException | None = None
        self.start()

    @property
    def port(self) -> int:
        assert isinstance(self._address, tuple)
        return self._address[1]

    @property
    def records(self) -> list[bytes]:
        return [body for stored in list(self.sessions.values()) for _, body in list(stored.items)] + self.plain

    @property
    def dicts(self) -> list[dict[str, object]]:
        """The records, which the collector's fast path reads."""
        found = []
        for body in self.records:
            record = flat.load_flat(body)
            assert record is not None, body
            found.append(record)
        return found

    def start(self) -> None:
        """Listen, on the same address as before."""
        family = socket.AF_INET if isinstance(self._address, tuple) else socket.AF_UNIX
        listener = socket.socket(family)
        if family == socket.AF_UNIX:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(str(self._address))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(self._address)
        listener.listen(128)
        self._address = listener.getsockname()
        self._wake, ours = socket.socketpair()
        self._thread = threading.Thread(target=self._run, args=(listener, ours), daemon=True)
        self._thread.start()

    def kill(self) -> None:
        """Reset every connection, forget uncommitted records, and stop listening."""
        assert self._wake is not None
        assert self._thread is not None
        self._wake.close()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._thread = None

    def close(self) -> None:
        if self._thread is not None:
            self.kill()
        assert self.failure is None, self.failure

    def __enter__(self) -> FakeCollector:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self, listener: socket.socket, wake: socket.socket) -> None:
        peers: dict[socket.socket, _Peer] = {}
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(wake, selectors.EVENT_READ)
            try:
                while self._turn(selector, listener, wake, peers):
                    pass
            except BaseException as error:  # noqa: BLE001 - shown by close
                self.failure = error
        listener.close()
        wake.close()
        for sock in peers:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()

    def _turn(
        self,
        selector: selectors.BaseSelector,
        listener: socket.socket,
        wake: socket.socket,
        peers: dict[socket.socket, _Peer],
    ) -> bool:
        for sock, peer in list(peers.items()):
            registered = sock in selector.get_map()
            if self.behaviour.reads != registered:
                if registered:
                    selector.unregister(sock)
                else:
                    selector.register(sock, selectors.EVENT_READ)
            if self.behaviour.acks:
                peer.acknowledge()
        for key, _ in selector.select(0.02):
            sock = key.fileobj
            if sock is wake:
                return False
            if sock is listener:
                accepted, _ = listener.accept()
                self.connections += 1
                peers[accepted] = _Peer(self, accepted)
                if self.behaviour.reads:
                    selector.register(accepted, selectors.EVENT_READ)
            elif not peers[sock].read():
                selector.unregister(sock)
                peers.pop(sock).sock.close()
        return True

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability


class _Peer:
    """One connection."""

    def __init__(self, collector: FakeCollector, sock: socket.socket) -> None:
        behaviour = collector.behaviour
        self.sock = sock
        self._collector = collector
        self._session = ServerSession(behaviour.max_record_bytes, behaviour.max_batch_bytes)
        self._begun = self._plain = False
        self._buffer = b""
        self._hello: Hello | None = None
        self._nonce = b""
        self._pending: list[Records | TooLarge | Gap] = []
        self._unacknowledged = 0

    def read(self) -> bool:
        """Handle the received bytes; return whether the connection stays open."""
        behaviour = self._collector.behaviour
        try:
            data = self.sock.recv(65536)
            if not data:
                return False
            if not self._begun:
                self._begun, self._plain = True, behaviour.plain or data[:1] < b"\x10"
            if self._plain:
                return self._read_plain(data)
            if behaviour.closes_on_hello:
                return False
            if not behaviour.greets:
                return True
            return self._read_session(data)
        except (ConnectionError, BlockingIOError):
            return False

    def _read_plain(self, data: bytes) -> bool:
        self._buffer += data
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < 4 + size:
                break
            self._collector.plain.append(self._buffer[4 : 4 + size])
            self._buffer = self._buffer[4 + size :]
        return True

    def _read_session(self, data: bytes) -> bool:
        try:
            events = self._session.receive(data)
        except ViolationError as violation:
            self.sock.sendall(violation.reply)
            if violation.reason != "no-key":
                self._collector.failure = violation
            return False
        for event in events:
            if isinstance(event, Hello):
                if not self._greet(event):
                    return False
            elif isinstance(event, Authenticate):
                if not self._authenticate(event):
                    return False
            elif isinstance(event, Bye):
                self._collector.byes += 1
                return False
            else:
                self._pending.append(event)
        return self._commit()

    def _commit(self) -> bool:
        collector, behaviour = self._collector, self._collector.behaviour
        if self._hello is None or not collector.chance(behaviour.commits):
            return True
        stored = collector.sessions[self._hello.session]
        for event in self._pending:
            if isinstance(event, Gap):
                stored.gaps.append(event)
                stored.committed = event.last
            elif isinstance(event, Records):
                stored.items += enumerate(event.bodies, event.first)
                stored.committed = event.first + len(event.bodies) - 1
            else:
                stored.committed = event.number
            self._unacknowledged = stored.committed
        self._pending = []
        if collector.chance(behaviour.resets):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return False
        if behaviour.acks and not collector.chance(behaviour.acks_lost):
            self.acknowledge()
        return True

    def acknowledge(self) -> None:
        """Send an acknowledgement, unless more input waits.

        A client that is killed with an unread ACK resets its connection, and its kernel drops the unsent bytes: so it
        gets no ACK while it has bytes to send.
        """
        if self._unacknowledged and not self._more_waits():
            with contextlib.suppress(ConnectionError):
                self.sock.sendall(self._session.ack(self._unacknowledged))
            self._unacknowledged = 0

    def _more_waits(self) -> bool:
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    def _greet(self, hello: Hello) -> bool:
        self._collector.hellos += 1
        error = self._collector.behaviour.error
        if error is not None:
            text = error[1].encode()
            body = struct.pack(">HH", error[0], len(text)) + text
            self.sock.sendall(message(0x84, body))
            return False
        self._hello = hello
        self._collector.sessions[hello.session].client = hello.client
        if self._collector.behaviour.keys:
            self._nonce = os.urandom(32)
            self.sock.sendall(self._session.challenge(self._nonce))
            return True
        if hello.capabilities & Capability.WAIT:
            self.sock.sendall(self._session.wait())
        if self._collector.behaviour.welcomes:
            self._welcome(b"")
        return True

    def _welcome(self, proof: bytes) -> None:
        assert self._hello is not None
        self.sock.sendall(self._session.welcome(self._collector.sessions[self._hello.session].committed, proof))

    def _authenticate(self, answer: Authenticate) -> bool:
        assert self._hello is not None
        keys, session = self._collector.behaviour.keys, self._hello.session
        if not auth.verify(keys, answer.key_id, self._nonce, answer.client_nonce, session, answer.mac):
            self.sock.sendall(self._session.error(ErrorCode.REFUSED, "refused"))
            return False
        proof = auth.server_proof(keys[answer.key_id], answer.client_nonce, self._nonce, session)
        self._welcome(bytes(32) if self._collector.behaviour.false_proof else proof)
        return True
