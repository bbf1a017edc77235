"""Reads one client's connection in fair shares, and sends answers to the client.

Owns the descriptor, and how much is read from it at a time. Does not know protocols: an input turns the bytes into
events, and the owner handles these.

A connection that has sent nothing yet holds no input and no buffer: 10,000 idle ones cost little.

Longer than other modules: it is one class, for the reason in Connection.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import termios
from typing import TYPE_CHECKING, Protocol

from prefork_logd.errors import RemoteProtocolError
from prefork_logd.inputs.detect import AUTHENTICATED, choose, dump_input, load_input
from prefork_logd.inputs.state import ConnectionState
from prefork_logd.ipc.scoreboard import LISTENER_FIELDS
from prefork_logd.net.loop import EDGE, ENDED, PEER_CLOSED, READ, SOON, WRITE, Loop
from prefork_logd.net.peers import peer_host
from prefork_logd.records.sender import read_sender

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.inputs.base import Event, Input, Terms
    from prefork_logd.inputs.state import ClientState
    from prefork_logd.net.tls import TlsStream
    from prefork_logd.processes.worker.limited_client import Client
    from prefork_logd.records.sender import Sender

READ_BYTES = 262_144
"""Size of the owner's buffer, the most that one system call reads."""
GREETING_BYTES = 1032
"""The largest message of a client before its welcome, with its header; read even while reading pauses."""
TURN_BYTES = READ_BYTES
"""Bytes that are read from one connection before the others get their turn."""

REST_BYTES = 8 << 20
"""Unhandled bytes over all connections, above which each connection is read in small pieces."""
SMALL_READ_BYTES = 4096

MOST_UNSENT = 8192
"""Most bytes that wait for a TLS client when TLS itself has something to send: a client can ask for that, and 300 times
at once is no honest one's need."""

EVENTS = READ | PEER_CLOSED | EDGE
_NO_TALLY = memoryview(bytearray(8 * LISTENER_FIELDS)).cast("Q")
"""For a connection that its owner does not count yet; nobody reads it."""


class ConnectionOwner(Protocol):
    """The worker, which handles the events of connections."""

    loop: Loop
    buffer: memoryview
    """READ_BYTES, into which one connection after the other is read. No reference to it is kept."""
    paused: bool
    """Whether reading pauses: only greetings are read, and ready connections are passed to `postpone`."""

    rest_bytes: int
    """Bytes that were read from connections and are not handled yet."""

    @property
    def slice_over(self) -> bool:
        """Whether the current connection's share of the turn is over, or reading pauses."""

    def is_due(self, connection: Connection) -> bool:
        """Tell whether a connection that has become ready is read at once, and not after those that wait."""

    def queue(self, connection: Connection) -> None:
        """Request another turn for a connection that has become ready and is not due."""

    def begin_slice(self, *, waited: bool) -> None:
        """Start a connection's share of the turn; `waited`: it is one of those that wait for another turn."""

    def end_slice(self, connection: Connection, *, waited: bool) -> None:
        """Count what the connection has used of its share."""

    def secure(self, connection: Connection, events: int) -> bool:
        """Go on with the TLS handshake of a connection on a TLS listener; return whether the connection may be read."""

    def enter(self, connection: Connection) -> bool:
        """Decide whether a connection without a place is read; return the decision."""

    def most_to_read(self, connection: Connection) -> int:
        """Return how many bytes of a connection under limits are read at a time; 0: it waits for memory."""

    def postpone(self, connection: Connection) -> None:
        """Read a connection once reading goes on."""

    def terms_for(self, connection: Connection) -> Terms:
        """Return the conditions under which the connection's client is read."""

    def handle_events(self, connection: Connection, events: Sequence[Event]) -> None:
        """Handle an input's events; pass those for which there is no time to `connection.keep_events`."""

    def note_all_sent(self, connection: Connection) -> None:
        """Act on a client that has read everything it was sent."""

    def note_progress(self, connection: Connection, completed: bool) -> None:
        """Start, keep or end the deadline of a half-received record (`connection.input.pending`).

        No deadline runs while the connection has something `unfinished`: then the client is not late.
        """

    def close_violating(self, connection: Connection, error: RemoteProtocolError) -> None:
        """Close the connection after a protocol error of its peer."""

    def close_ended(self, connection: Connection, error: OSError | None) -> None:
        """Close the connection after its peer closed it, or it failed."""

    def close_failed(self, connection: Connection, error: Exception) -> None:
        """Close the connection after an unexpected error; the others go on."""


class Connection:
    """A connected client.

    Longer than other classes: a sixth of it describes the attributes, which all of its steps share.
    """

    __slots__ = (
        "accept",
        "clients",
        "epoch",
        "failures",
        "fd",
        "floor",
        "held",
        "input",
        "is_leaving",
        "is_refused",
        "listener",
        "owner",
        "paid_s",
        "parked",
        "peer",
        "peer_name",
        "pending_error",
        "placed",
        "queued",
        "rest",
        "rest_bytes",
        "sender",
        "sender_document",
        "session",
        "tally",
        "tls",
        "tls_listener",
        "unhandled_events",
        "unsent",
        "warned",
    )

    def __init__(
        self,
        owner: ConnectionOwner,
        fd: int,
        peer: str,
        accept: str = "any",
        listener: int = 0,
        tls_listener: str = "",
    ) -> None:
        """Read `fd`; `accept` is its listener's kind of accepted clients (listeners.ListenerSettings).

        Longer than other functions: a line for each attribute.
        """
        self.owner = owner
        self.accept = accept
        self.fd = fd
        self.listener = listener
        """The index of the listening socket that accepted it."""
        self.tally = _NO_TALLY
        """The counters of that listener (scoreboard.ListenerField)."""
        self.peer = peer
        self.peer_name = ""
        """The name in the verified certificate of its client; empty without one."""
        self.tls_listener = tls_listener
        """The address of its listener if that speaks TLS, until the handshake is complete or the client turns out to be
        plain; then empty."""
        self.tls: TlsStream | None = None
        """Its TLS state; None while nothing has come, and for a plain client."""
        self.clients: tuple[Client[Connection], ...] = ()
        """The clients that it counts for, one for each limit that it is under (client_limits.py)."""
        self.parked = False
        """Whether it is not read because one of them is beyond its limit."""
        self.input: Input | None = None
        self.queued = False
        """Whether it waits for another turn, or for reading to go on."""
        self.warned = False
        self.failures = 0
        """Number of records rejected since the last valid one."""
        self.session = b""
        """The session of its client, once the client has opened it."""
        self.sender: Sender | None = None
        """Who sends its records; None until there are some."""
        self.sender_document = b""
        """The sender as the client described it; empty if it did not."""
        self.epoch = 0
        """Its epoch of the session; a later connection of the same session has a higher one."""
        self.floor = 0
        """The first number that its client sends in this epoch."""
        self.unsent = b""
        """Bytes of answers that the client has not read yet."""
        self.placed = False
        """Whether it may be read: it has a place, or will be refused one."""
        self.is_refused = False
        """Whether there was no place for it: its HELLO is answered BUSY."""
        self.paid_s = 0.0
        """The virtual time at which it has used no more than its share of the worker (shares.py)."""
        self.held = False
        """Whether it is not read, because it is moving to another process, or has just come from one."""

        self.is_leaving = False
        """Whether no more is read, so that it can move once its received events are handled."""

        self.unhandled_events: list[Event] = []
        """Events that are not handled yet."""
        self.rest = b""
        """Bytes that were read after those events, and not passed to the input yet."""
        self.rest_bytes = 0
        """Size of the two together."""
        self.pending_error: RemoteProtocolError | None = None
        """The error after which the connection is closed, once all earlier events are handled."""

    @property
    def is_awaited(self) -> bool:
        """Whether a deadline runs for the client: for the rest of a record, or for its authentication."""
        if self.input is None:
            return self.accept == AUTHENTICATED
        return self.input.pending or self.input.is_greeting

    def find_sender(self) -> Sender:
        """Return who sends its records: always the same object, unless the client describes another sender."""
        if self.sender is None:
            self.sender = read_sender(self.sender_document, peer_host(self.peer), self.peer_name)
        return self.sender

    def describe_sender(self, document: bytes) -> None:
        """Take the description that a client gives of itself."""
        self.sender_document = document
        self.sender = None

    @property
    def unfinished(self) -> bool:
        """Whether received bytes or events are not handled yet; then the connection cannot be handed over."""
        return bool(self.rest or self.unhandled_events)

    @property
    def held_bytes(self) -> int:
        """Bytes held for its client: half-received and waiting records, and answers that it has not read."""
        of_input = self.input.held_bytes if self.input is not None else 0
        return max(of_input, self.rest_bytes) + len(self.unsent)

    def keep_events(self, events: list[Event], nbytes: int) -> None:
        """Keep events of size `nbytes` for the next turn; they must not refer to the owner's buffer."""
        self.unhandled_events = events
        held_bytes = self.input.held_bytes if self.input is not None else 0
        self._count_rest(len(self.rest) + nbytes + held_bytes)

    def _count_rest(self, nbytes: int) -> None:
        self.owner.rest_bytes += nbytes - self.rest_bytes
        self.rest_bytes = nbytes

    def hold(self) -> None:
        """Read no more until `go_on`."""
        self.held = True
        self.owner.loop.change(self.fd, EDGE)

    def go_on(self) -> None:
        """Read again; EPOLL_CTL_MOD reports bytes that have come meanwhile once more (epoll_ctl(2))."""
        self.held = self.is_leaving = False
        self.owner.loop.change(self.fd, EVENTS | WRITE if self.unsent else EVENTS)

    def dump_state(self, left_s: float | None, client: ClientState | None) -> ConnectionState:
        """Return this connection's state for another process."""
        return ConnectionState(
            peer=self.peer,
            accept=self.accept,
            input=dump_input(self.input) if self.input is not None else None,
            session=self.session,
            epoch=self.epoch,
            floor=self.floor,
            unsent=self.unsent,
            failures=self.failures,
            warned=self.warned,
            left_s=left_s,
            client=client,
            sender=self.sender_document,
            listener=self.listener,
            tls_listener=self.tls_listener,
        )

    @classmethod
    def load_state(cls, owner: ConnectionOwner, fd: int, state: ConnectionState) -> Connection:
        """Return a connection of another process, held. Raises ValueError if its state is malformed."""
        connection = cls(owner, fd, state.peer, state.accept, state.listener, state.tls_listener)
        connection.held = True
        if state.input is not None:
            terms = owner.terms_for(connection)
            connection.input = load_input(state.input, terms)
            connection.input.limit(terms.max_record_bytes)
            connection.placed = True
        connection.session, connection.epoch, connection.floor = state.session, state.epoch, state.floor
        connection.unsent, connection.sender_document = state.unsent, state.sender
        connection.failures, connection.warned = state.failures, state.warned
        return connection

    def ready(self, events: int) -> None:
        """Read until the socket is empty, or the turn's bytes are used up. An unexpected error ends the connection."""
        try:
            self._ready(events)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not cost the other connections anything
            self.owner.close_failed(self, error)

    def _ready(self, events: int) -> None:
        owner = self.owner
        if self.fd < 0:
            return
        if events in (ENDED, SOON):
            self.queued = False
        if self.held or (self.tls_listener and not owner.secure(self, events)):
            return
        if not (self.placed or owner.enter(self)):
            return
        if events & WRITE and self.unsent:
            self.send(b"")
            if self.fd < 0:
                return
            if not self.unsent:
                owner.note_all_sent(self)
        if self.parked:
            return
        waited = events == ENDED
        if not waited and (self.queued or not owner.is_due(self)):
            if not self.queued:
                self.queued = True
                owner.queue(self)
            return
        owner.begin_slice(waited=waited)
        if not ((self.unfinished and not self._finish()) or self.is_leaving):
            self._read(to_the_end=bool(events & ENDED))
        owner.end_slice(self, waited=waited)

    def _read(self, *, to_the_end: bool) -> None:
        """Read until the socket is empty, or the turn's bytes are used up; while reading pauses, only a greeting."""
        owner, fd = self.owner, self.fd
        budget = TURN_BYTES
        while not owner.paused:
            if not (most := owner.most_to_read(self) if self.clients else READ_BYTES):
                return
            buffer = owner.buffer[: most if owner.rest_bytes < REST_BYTES else SMALL_READ_BYTES]
            try:
                nbytes = os.readv(fd, (buffer,)) if self.tls is None else self._decrypt(self.tls, buffer)
            except BlockingIOError:
                return
            except OSError as error:
                owner.close_ended(self, error)
                return
            except RemoteProtocolError as error:
                owner.close_violating(self, error)
                return
            if not nbytes:
                self._end_read()
                return
            self._receive(buffer[:nbytes])
            if self.fd < 0:
                return
            if self.unfinished:
                self._wait()
                return
            if nbytes < len(buffer) and not to_the_end and (self.tls is None or self.tls.is_emptied):
                # A short read has emptied the socket; later bytes cause a new edge (epoll(7)).
                return
            budget -= nbytes
            if budget <= 0 or (self.tls is not None and owner.slice_over):
                # Decrypting may take longer than the records in it: they may be of one byte each.
                self.again()
                return
        while self._is_greeting():
            if not self._read_greeting():
                return
        if self.fd >= 0:
            owner.postpone(self)

    def _finish(self) -> bool:
        """Handle the rest of the last turn; return whether all of it is handled, so that the connection may be read."""
        owner = self.owner
        if not owner.paused:
            events, self.unhandled_events = self.unhandled_events, []
            self._count_rest(len(self.rest))
            if events:
                owner.handle_events(self, events)
            if self.fd >= 0 and self.rest and not self.unhandled_events and not (events and owner.slice_over):
                rest, self.rest = self.rest, b""
                self._count_rest(0)
                self._receive(memoryview(rest))
            if self.fd >= 0 and self.pending_error is not None and not self.unfinished:
                owner.close_violating(self, self.pending_error)
            if events and self.fd >= 0:
                # The bytes after them have waited for this worker, so their deadline starts now.
                owner.note_progress(self, completed=True)
        if self.fd >= 0 and (self.unfinished or owner.slice_over):
            self._wait()
            return False
        return self.fd >= 0

    def _wait(self) -> None:
        """Queue for another turn, or for one when reading goes on; client_limits.py queues a parked connection."""
        if self.owner.paused:
            self.owner.postpone(self)
        elif not self.parked:
            self.again()

    def _is_greeting(self) -> bool:
        """Return whether the client's greeting is not complete yet."""
        return self.fd >= 0 and (self.input is None or self.input.is_greeting)

    def _read_greeting(self) -> bool:
        """Read at most GREETING_BYTES; return whether any came.

        A client without an answer to its greeting falls back to plain frames.
        """
        buffer = self.owner.buffer[:GREETING_BYTES]
        try:
            nbytes = os.readv(self.fd, (buffer,)) if self.tls is None else self._decrypt(self.tls, buffer)
        except BlockingIOError:
            return False
        except OSError as error:
            self.owner.close_ended(self, error)
            return False
        except RemoteProtocolError as error:
            self.owner.close_violating(self, error)
            return False
        if nbytes:
            self._receive(buffer[:nbytes])
        else:
            self._end_read()
        return nbytes > 0

    def _decrypt(self, tls: TlsStream, buffer: memoryview) -> int:
        """Do what readv(2) does, for a TLS client; raise RemoteProtocolError, too."""
        try:
            return tls.read_into(self.fd, buffer)
        finally:
            output = tls.take_output()
            if output:
                # Sent in the next turn: an error of the send would lose the received bytes.
                self.unsent += output
                if len(self.unsent) > MOST_UNSENT:
                    raise RemoteProtocolError("tls", "the client makes TLS answer, and does not read the answers")
                self.owner.loop.change(self.fd, EVENTS | WRITE)

    def _end_read(self) -> None:
        """Close the connection, whose peer sends no more; one that has sent TLS without content gets another turn."""
        if self.tls is not None and not self.tls.ended:
            self.again()
        else:
            self.owner.close_ended(self, None)

    def peek(self) -> bytes | None:
        """Return the next unread byte of the client's protocol; empty at the end, None if nothing has come yet."""
        return peek(self.fd) if self.tls is None else self.tls.peek(self.fd)

    def _receive(self, data: memoryview) -> None:
        """Pass received bytes to the input, and its events to the owner."""
        owner = self.owner
        try:
            if self.input is None:
                self.input = choose(data, self.accept, owner.terms_for(self))
            events = self.input.receive(data)
            if self.input.left:
                self.rest = bytes(data[len(data) - self.input.left :])
                self._count_rest(len(self.rest))
            if events:
                owner.handle_events(self, events)
        except RemoteProtocolError as error:
            owner.close_violating(self, error)
            return
        if self.fd >= 0:
            owner.note_progress(self, bool(events))

    def send(self, data: bytes) -> None:
        """Send to the client; bytes that its socket does not accept now are sent later.

        These stay few: a client that does not read gets no second acknowledgement.
        """
        self.send_raw(data if self.tls is None else self.tls.encrypt(data))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are, those of TLS among them."""
        waited = bool(self.unsent)
        data = self.unsent + data
        try:
            self.unsent = data[os.write(self.fd, data) :] if data else b""
        except BlockingIOError:
            self.unsent = data
        except OSError as error:
            self.owner.close_ended(self, error)
            return
        if bool(self.unsent) != waited and not self.held:
            self.owner.loop.change(self.fd, EVENTS | WRITE if self.unsent else EVENTS)

    def again(self) -> None:
        """Request another turn, unless it has been requested."""
        if not self.queued:
            self.queued = True
            self.owner.loop.again(self)

    def close(self) -> None:
        """Close the descriptor, and set `fd` to -1."""
        fd, self.fd = self.fd, -1
        self.rest, self.unhandled_events = b"", []
        self._count_rest(0)
        try:
            self._say_farewell(fd)
            self.owner.loop.remove(fd)
        finally:
            os.close(fd)

    def _say_farewell(self, fd: int) -> None:
        """Tell a TLS client that no more comes, unless it does not read; the answer is not waited for."""
        if self.tls is not None and not self.tls_listener and not self.unsent:
            with contextlib.suppress(OSError):
                os.write(fd, self.tls.farewell())


def has_unread(connection: Connection) -> bool:
    """Tell whether the client has sent bytes that were not read yet (FIONREAD: tcp(7), unix(7))."""
    count = bytearray(4)
    with contextlib.suppress(OSError):
        fcntl.ioctl(connection.fd, termios.FIONREAD, count)
    return any(count)


def peek(fd: int) -> bytes | None:
    """Return the next unread byte; empty at end-of-file or after an error, None if nothing has come yet."""
    sock = socket.socket(fileno=fd)
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""
    finally:
        sock.detach()
