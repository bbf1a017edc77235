"""One client's connection: reading fairly, and to its end.

Owns the descriptor and how much is read of it at a time. Knows frames only as what a receiver hands out; what
becomes of them is the owner's business.

A connection that has sent nothing yet holds no receiver and no buffer: 10,000 idle ones cost little.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from prefork_logd.errors import RemoteProtocolError
from prefork_logd.net.loop import EDGE, ENDED, PEER_CLOSED, READ, WRITE, Loop
from prefork_logd.protocol.detect import choose
from prefork_logd.protocol.framing import FrameReader
from prefork_logd.protocol.frozen import FrozenConnection, FrozenFrames
from prefork_logd.protocol.messages import State
from prefork_logd.protocol.session import ServerSession

if TYPE_CHECKING:
    from prefork_logd.protocol.framing import Oversize
    from prefork_logd.protocol.frozen import FrozenClient
    from prefork_logd.protocol.messages import Event

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


class Owner(Protocol):
    """Who takes what connections deliver: the worker."""

    loop: Loop
    max_record_bytes: int
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

    def take_run(self, connection: Connection, data: memoryview) -> int:
        """Take the whole frames at the beginning of `data`, and return the offset of the rest.

        Ends early, after one frame at least, when `slice_over`.
        """

    def take(self, connection: Connection, frames: list[bytes], skipped: list[Oversize]) -> None:
        """Take whole frames, and note those skipped."""

    def happened(self, connection: Connection, events: list[Event]) -> None:
        """Take a session's events; those for which there is no time are left to `connection.keep_events`."""

    def sent(self, connection: Connection) -> None:
        """Note that the client has taken all it was sent."""

    def progressed(self, connection: Connection, completed: bool) -> None:
        """Note whether a record is half received: `connection.receiver.pending` tells."""

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
        "is_leaving",
        "is_refused",
        "owner",
        "peer",
        "placed",
        "queued",
        "receiver",
        "rest",
        "rest_bytes",
        "session",
        "unsent",
        "untold",
        "verdict",
        "warned",
    )

    def __init__(self, owner: Owner, fd: int, peer: str, accept: str = "any") -> None:
        """Read `fd`, on which `accept` says who is let in (settings.ListenerSettings)."""
        self.owner = owner
        self.accept = accept
        self.fd = fd
        self.peer = peer
        self.receiver: FrameReader | ServerSession | None = None
        self.queued = False
        """Waiting for another turn, or for reading to go on."""
        self.warned = False
        self.failures = 0
        """Frames rejected since the last good one."""
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
        """What the client of a session said, and was not taken yet."""
        self.rest = b""
        """Bytes that were read after that, and not looked at yet."""
        self.rest_bytes = 0
        """Bytes of the two together."""
        self.verdict: RemoteProtocolError | None = None
        """Why the connection is to be closed, once all that came before is taken."""

    @property
    def unfinished(self) -> bool:
        """Whether something was read and not taken yet: it is not to be handed over."""
        return bool(self.rest or self.untold)

    def keep_events(self, events: list[Event], nbytes: int) -> None:
        """Keep events for the next turn; nothing of them may lie in the owner's buffer."""
        self.untold = events
        self._count_rest(len(self.rest) + nbytes)

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

    def freeze(self, left_s: float | None, client: FrozenClient | None) -> FrozenConnection:
        """Return what another process has to know of this connection to go on with it."""
        return FrozenConnection(
            peer=self.peer,
            accept=self.accept,
            receiver=self.receiver.freeze() if self.receiver is not None else None,
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
    def thaw(cls, owner: Owner, fd: int, frozen: FrozenConnection) -> Connection:
        """Return a frozen connection of another process, held. Raises ValueError if it cannot be understood."""
        connection = cls(owner, fd, frozen.peer, frozen.accept)
        connection.held = True
        if isinstance(frozen.receiver, FrozenFrames):
            connection.receiver = FrameReader.thaw(frozen.receiver)
        elif frozen.receiver is not None:
            connection.receiver = ServerSession.thaw(frozen.receiver)
        if connection.receiver is not None:
            connection.receiver.limit(owner.max_record_bytes)
            connection.placed = True
        connection.session, connection.epoch, connection.floor = frozen.session, frozen.epoch, frozen.floor
        connection.unsent = frozen.unsent
        connection.failures, connection.warned = frozen.failures, frozen.warned
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
        owner, fd = self.owner, self.fd
        if fd < 0:
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
            if nbytes < len(buffer) and not events & ENDED:
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
                owner.happened(self, events)
            if self.fd >= 0 and self.rest and not self.untold and not (events and owner.slice_over):
                rest, self.rest = self.rest, b""
                self._count_rest(0)
                self._receive(memoryview(rest))
            if self.fd >= 0 and self.verdict is not None and not self.unfinished:
                owner.violated(self, self.verdict)
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
        receiver = self.receiver
        if self.fd < 0 or receiver is None:
            return self.fd >= 0
        return isinstance(receiver, ServerSession) and receiver.state in (State.AWAITING_HELLO, State.AWAITING_AUTH)

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
        owner = self.owner
        receiver = self.receiver
        if receiver is None:
            receiver = self.receiver = choose(data, owner.max_record_bytes)
            if self.accept != "any" and isinstance(receiver, FrameReader):
                what = "plain frames are not accepted on this listener, only sessions"
                owner.violated(self, RemoteProtocolError("not-accepted", what))
                return
        try:
            if isinstance(receiver, FrameReader):
                completed = self._take_frames(receiver, data)
            else:
                events = receiver.receive(data)
                completed = bool(events)
                if receiver.left:
                    self.rest = bytes(data[len(data) - receiver.left :])
                    self._count_rest(len(self.rest))
                if completed:
                    owner.happened(self, events)
        except RemoteProtocolError as error:
            owner.violated(self, error)
            return
        if self.fd >= 0:
            owner.progressed(self, completed)

    def _take_frames(self, receiver: FrameReader, data: memoryview) -> bool:
        """Hand out the frames that what was read completes; return whether there were any.

        Whole ones go to the owner as they lie in the buffer. What is begun and not ended goes through the receiver,
        which keeps it, and so does what is too large or no frame, which it knows how to tell.
        """
        owner = self.owner
        completed = False
        while data and self.fd >= 0:
            piece = data
            if not receiver.pending:
                end = owner.take_run(self, data)
                completed = completed or end > 0
                data = piece = data[end:]
                if not data or self.fd < 0:
                    break
                if owner.slice_over:
                    self.rest = bytes(data)
                    self._count_rest(len(data))
                    break
            elif receiver.missing:
                piece = data[: receiver.missing]
            data = data[len(piece) :]
            frames, skipped = receiver.receive(bytes(piece))
            if frames or skipped:
                completed = True
                owner.take(self, frames, skipped)
        return completed

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
