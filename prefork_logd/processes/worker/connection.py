"""One client's connection: reading fairly, and to its end.

Owns the descriptor and how much is read of it at a time. Knows no protocol: an input makes events of the bytes, and the
owner takes these.

A connection that has sent nothing yet holds no input and no buffer: 10,000 idle ones cost little.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from prefork_logd.errors import RemoteProtocolError
from prefork_logd.inputs.detect import AUTHENTICATED, choose, dump_input, load_input
from prefork_logd.inputs.state import ConnectionState
from prefork_logd.net.loop import EDGE, ENDED, PEER_CLOSED, READ, WRITE, Loop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.inputs.base import Event, Input, Terms
    from prefork_logd.inputs.state import ClientState

READ_BYTES = 262_144
"""Of the owner's buffer: what one system call may read."""
GREETING_BYTES = 1032
"""The largest message of a client that is not welcomed yet, with its header: read even while reading pauses."""
TURN_BYTES = READ_BYTES
"""What one connection may have read before the others get their turn."""

REST_BYTES = 8 << 20
"""Bytes read from all connections and not taken yet, above which each is read in small pieces."""
SMALL_READ_BYTES = 4096

EVENTS = READ | PEER_CLOSED | EDGE


class ConnectionOwner(Protocol):
    """The worker, which takes what connections deliver."""

    loop: Loop
    buffer: memoryview
    """READ_BYTES that every connection is read into, one after the other; nobody keeps any of it."""
    paused: bool
    """No connection is to be read now, but for its greeting; each that is ready is to be given to `postpone`."""

    rest_bytes: int
    """Bytes read from connections and not taken yet."""

    @property
    def slice_over(self) -> bool:
        """Whether the connection whose turn it is has had its time, or reading pauses: the rest waits."""

    def begin_slice(self) -> None:
        """Begin the time of a connection."""

    def enter(self, connection: Connection) -> bool:
        """Decide about a connection that has no place; return whether it is to be read."""

    def postpone(self, connection: Connection) -> None:
        """Remember that a connection is to be read once reading goes on."""

    def terms(self, connection: Connection) -> Terms:
        """Return the conditions under which the connection's client is read."""

    def handle_events(self, connection: Connection, events: Sequence[Event]) -> None:
        """Take an input's events; those for which there is no time are left to `connection.keep_events`."""

    def sent(self, connection: Connection) -> None:
        """Note that the client has taken all it was sent."""

    def progressed(self, connection: Connection, completed: bool) -> None:
        """Note whether a record is half received: `connection.input.pending` tells.

        While the connection has something `unfinished`, its client is not waited for.
        """

    def violated(self, connection: Connection, error: RemoteProtocolError) -> None:
        """Close the connection: its peer broke the protocol."""

    def ended(self, connection: Connection, error: OSError | None) -> None:
        """Close the connection: its peer has, or it failed."""

    def failed(self, connection: Connection, error: Exception) -> None:
        """Close the connection after an unexpected error; the others go on."""


class Connection:
    """A client that is connected."""

    __slots__ = (
        "accept",
        "epoch",
        "failures",
        "fd",
        "floor",
        "held",
        "input",
        "is_leaving",
        "is_refused",
        "owner",
        "peer",
        "placed",
        "queued",
        "rest",
        "rest_bytes",
        "session",
        "unsent",
        "untold",
        "verdict",
        "warned",
    )

    def __init__(self, owner: ConnectionOwner, fd: int, peer: str, accept: str = "any") -> None:
        """Read `fd`, on which `accept` says who is let in (settings.ListenerSettings)."""
        self.owner = owner
        self.accept = accept
        self.fd = fd
        self.peer = peer
        self.input: Input | None = None
        self.queued = False
        """Waiting for another turn, or for reading to go on."""
        self.warned = False
        self.failures = 0
        """Records rejected since the last good one."""
        self.session = b""
        """Whose records these are, once its client has said so."""
        self.epoch = 0
        """Of the session: a connection that its client has left has an older one than the next."""
        self.floor = 0
        """From which number on its client sends in this epoch."""
        self.unsent = b""
        """What the client has not taken yet."""
        self.placed = False
        """Whether it may be read: it has a place, or is to be refused one."""
        self.is_refused = False
        """Whether there was no place for it: its HELLO is answered BUSY."""
        self.held = False
        """Not to be read, for it is to go to another process, or has just come from one."""

        self.is_leaving = False
        """What was read is still taken, but no more is read: it cannot go to another process before."""

        self.untold: list[Event] = []
        """Events that were not taken yet."""
        self.rest = b""
        """Bytes that were read after that, and not looked at yet."""
        self.rest_bytes = 0
        """Bytes of the two together."""
        self.verdict: RemoteProtocolError | None = None
        """Why the connection is to be closed, once all that came before is taken."""

    @property
    def is_awaited(self) -> bool:
        """Whether a deadline runs for the client: for the rest of a record, or for saying who it is."""
        if self.input is None:
            return self.accept == AUTHENTICATED
        return self.input.pending or self.input.is_greeting

    @property
    def unfinished(self) -> bool:
        """Whether something was read and not taken yet: it is not to be handed over."""
        return bool(self.rest or self.untold)

    def keep_events(self, events: list[Event], nbytes: int) -> None:
        """Keep events for the next turn; nothing of their `nbytes` may lie in the owner's buffer."""
        self.untold = events
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
        """Read again; whatever has come meanwhile is reported once more (epoll_ctl(2), EPOLL_CTL_MOD)."""
        self.held = self.is_leaving = False
        self.owner.loop.change(self.fd, EVENTS | WRITE if self.unsent else EVENTS)

    def dump_state(self, left_s: float | None, client: ClientState | None) -> ConnectionState:
        """Return what another process has to know of this connection to go on with it."""
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
        )

    @classmethod
    def load_state(cls, owner: ConnectionOwner, fd: int, state: ConnectionState) -> Connection:
        """Return a connection of another process, held. Raises ValueError if its state cannot be understood."""
        connection = cls(owner, fd, state.peer, state.accept)
        connection.held = True
        if state.input is not None:
            terms = owner.terms(connection)
            connection.input = load_input(state.input, terms)
            connection.input.limit(terms.max_record_bytes)
            connection.placed = True
        connection.session, connection.epoch, connection.floor = state.session, state.epoch, state.floor
        connection.unsent = state.unsent
        connection.failures, connection.warned = state.failures, state.warned
        return connection

    def ready(self, events: int) -> None:
        """Read until nothing is left, or this turn's bytes are used up. An unexpected error ends this connection."""
        try:
            self._ready(events)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not cost the other connections anything
            self.owner.failed(self, error)

    def _ready(self, events: int) -> None:
        owner = self.owner
        if self.fd < 0:
            return
        if events == ENDED:
            self.queued = False
        if self.held or not (self.placed or owner.enter(self)):
            return
        if events & WRITE and self.unsent:
            self.send(b"")
            if self.fd < 0:
                return
            if not self.unsent:
                owner.sent(self)
        if events != ENDED and (self.queued or owner.loop.crowded):
            # Those that wait for another turn come first; else only connections with endless data would be served.
            self._again()
            return
        owner.begin_slice()
        if (self.unfinished and not self._finish()) or self.is_leaving:
            return
        self._read(to_the_end=bool(events & ENDED))

    def _read(self, *, to_the_end: bool) -> None:
        """Read until the socket is empty, or this turn's bytes are used up; while reading pauses, only a greeting."""
        owner, fd = self.owner, self.fd
        budget = TURN_BYTES
        while not owner.paused:
            buffer = owner.buffer if owner.rest_bytes < REST_BYTES else owner.buffer[:SMALL_READ_BYTES]
            try:
                nbytes = os.readv(fd, (buffer,))
            except BlockingIOError:
                return
            except OSError as error:
                owner.ended(self, error)
                return
            if not nbytes:
                owner.ended(self, None)
                return
            self._receive(buffer[:nbytes])
            if self.fd < 0:
                return
            if self.unfinished:
                self._wait()
                return
            if nbytes < len(buffer) and not to_the_end:
                # A short read has emptied the socket (epoll(7)); what comes later makes an edge of its own.
                return
            budget -= nbytes
            if budget <= 0:
                self._again()
                return
        while self._is_greeting():
            if not self._read_greeting():
                return
        if self.fd >= 0:
            owner.postpone(self)

    def _finish(self) -> bool:
        """Take the rest of the last turn; return whether it is all taken, so that the connection may be read."""
        owner = self.owner
        if not owner.paused:
            events, self.untold = self.untold, []
            self._count_rest(len(self.rest))
            if events:
                owner.handle_events(self, events)
            if self.fd >= 0 and self.rest and not self.untold and not (events and owner.slice_over):
                rest, self.rest = self.rest, b""
                self._count_rest(0)
                self._receive(memoryview(rest))
            if self.fd >= 0 and self.verdict is not None and not self.unfinished:
                owner.violated(self, self.verdict)
            if events and self.fd >= 0 and not self.unfinished:
                # What follows them has waited for us: its time begins now.
                owner.progressed(self, completed=True)
        if self.fd >= 0 and (self.unfinished or owner.slice_over):
            self._wait()
            return False
        return self.fd >= 0

    def _wait(self) -> None:
        """Ask for another turn, or for one when reading goes on."""
        if self.owner.paused:
            self.owner.postpone(self)
        else:
            self._again()

    def _is_greeting(self) -> bool:
        """Tell whether nothing has been read yet, or less than it takes to know who the client is."""
        return self.fd >= 0 and (self.input is None or self.input.is_greeting)

    def _read_greeting(self) -> bool:
        """Read a little; return whether there was something.

        A client that is left without an answer may take us for a receiver of plain frames.
        """
        try:
            nbytes = os.readv(self.fd, (self.owner.buffer[:GREETING_BYTES],))
        except BlockingIOError:
            return False
        except OSError as error:
            self.owner.ended(self, error)
            return False
        if nbytes:
            self._receive(self.owner.buffer[:nbytes])
        else:
            self.owner.ended(self, None)
        return nbytes > 0

    def _receive(self, data: memoryview) -> None:
        """Give what was read to the input, and its events to the owner."""
        owner = self.owner
        try:
            if self.input is None:
                self.input = choose(data, self.accept, owner.terms(self))
            events = self.input.receive(data)
            if self.input.left:
                self.rest = bytes(data[len(data) - self.input.left :])
                self._count_rest(len(self.rest))
            if events:
                owner.handle_events(self, events)
        except RemoteProtocolError as error:
            owner.violated(self, error)
            return
        if self.fd >= 0:
            owner.progressed(self, bool(events))

    def send(self, data: bytes) -> None:
        """Send to the client; what it does not take now goes when it does.

        What waits stays small: a client that reads nothing is not sent more than one acknowledgement at a time.
        """
        waited = bool(self.unsent)
        data = self.unsent + data
        try:
            self.unsent = data[os.write(self.fd, data) :] if data else b""
        except BlockingIOError:
            self.unsent = data
        except OSError as error:
            self.owner.ended(self, error)
            return
        if bool(self.unsent) != waited and not self.held:
            self.owner.loop.change(self.fd, EVENTS | WRITE if self.unsent else EVENTS)

    def _again(self) -> None:
        if not self.queued:
            self.queued = True
            self.owner.loop.again(self)

    def close(self) -> None:
        """Close the descriptor; whoever still holds this object sees fd -1."""
        fd, self.fd = self.fd, -1
        self.rest, self.untold = b"", []
        self._count_rest(0)
        try:
            self.owner.loop.remove(fd)
        finally:
            os.close(fd)
