"""How the master and its children talk: small typed messages over a socket pair, with descriptors beside them.

Owns the messages and their delivery. Knows nothing of what they lead to.

SOCK_SEQPACKET keeps messages apart and tells the death of the other side as end-of-file. Sending never blocks: what a
stopped child does not take waits here, and a message that makes an older one pointless takes its place.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from prefork_logd.net.loop import READ, WRITE, Loop
from prefork_logd.settings import Settings  # noqa: TC001 - msgspec reads the annotation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LONGEST_MESSAGE = 65_536
MOST_DESCRIPTORS = 64
"""With one message."""
_LONGEST_QUEUE = 4096
_MOST_A_TURN = 256
"""Messages read at once: a child that sends without end must not keep the master from the others."""


class Message(msgspec.Struct, frozen=True, tag=True):
    """What is said. `latest_only`: one that waits to be sent is replaced by a newer one of its kind."""

    @property
    def latest_only(self) -> bool:
        """Whether a newer message of this kind makes this one pointless."""
        return False


class Attach(Message, frozen=True, tag=True):
    """To a worker: your pipes to the writer. To the writer: the pipes of this worker.

    Descriptors: batches, commits; for the writer also the memory that the worker makes its lines in, if it has some.
    """

    worker: int
    """Spawn id of the worker (children.py)."""


class WakeupFd(Message, frozen=True, tag=True):
    """To the writer: how to wake the shipper of the store at a place. Descriptor: an eventfd(2)."""

    place: int


class Configure(Message, frozen=True, tag=True):
    """To a child: take this configuration. Descriptor: a file that holds a Configuration."""


class Reopen(Message, frozen=True, tag=True):
    """To the writer: reopen every output. To all: reopen the collector's own log."""

    number: int

    @property
    def latest_only(self) -> bool:
        """True: reopening once serves any number of signals."""
        return True


class Retire(Message, frozen=True, tag=True):
    """To a worker: accept no more, and end with the last connection.

    To the writer: end, for another takes its place; what is not committed stays with the workers.
    """


class HandOver(Message, frozen=True, tag=True):
    """To a worker: hand connections over. Descriptors: a socket to each worker that takes some."""

    loads: tuple[int, ...]
    """How many connections each of them holds."""
    count: int = -1
    """How many to hand over; -1 for all."""


class TakeOver(Message, frozen=True, tag=True):
    """To a worker: take connections over. Descriptor: a socket to the worker that hands them over."""


class HandedOver(Message, frozen=True, tag=True):
    """From a worker: it has handed over what could be."""

    left: int
    """Connections that it still holds."""
    problem: str = ""


class Ping(Message, frozen=True, tag=True):
    """To a worker: answer at once. Connections are moved only between workers that do."""


class Pong(Message, frozen=True, tag=True):
    """From a worker: the answer to a Ping."""


class Drain(Message, frozen=True, tag=True):
    """To a child: finish and end. A worker reads what clients have sent first, unless it is to be fast."""

    fast: bool


class Ready(Message, frozen=True, tag=True):
    """From a child: it is at work, or cannot be because of a problem."""

    problem: str = ""


class Configured(Message, frozen=True, tag=True):
    """From a child: the configuration of this generation was taken."""

    generation: int
    problems: tuple[str, ...] = ()


class Settled(Message, frozen=True, tag=True):
    """From a worker: none of its lines was made under a configuration older than this generation, and waits."""

    generation: int


class StatusReport(Message, frozen=True, tag=True):
    """From a shipper or a source: why it fails, if it does, and what there is to say of its store or stream."""

    problem: str
    details: dict[str, Any] = {}

    @property
    def latest_only(self) -> bool:
        """True: what is said replaces what was."""
        return True


class Forget(Message, frozen=True, tag=True):
    """To the writer: no line will come for an output that only configurations older than this generation have."""

    generation: int


class Reopened(Message, frozen=True, tag=True):
    """From the writer: every output was reopened, but for these problems."""

    number: int
    problems: tuple[str, ...] = ()


class Probe(Message, frozen=True, tag=True):
    """To a child: say that its loop turns. Its end of the channel does that by itself."""


class Alive(Message, frozen=True, tag=True):
    """From a child: the answer to a Probe."""


AnyMessage = (
    Probe
    | Alive
    | WakeupFd
    | Attach
    | Configure
    | Reopen
    | Retire
    | HandOver
    | TakeOver
    | HandedOver
    | Ping
    | Pong
    | Drain
    | Forget
    | Ready
    | Configured
    | Settled
    | Reopened
    | StatusReport
)


class Configuration(msgspec.Struct, frozen=True):
    """The settings with what the master adds: which generation they are, and each output's place on the scoreboard."""

    generation: int
    settings: Settings
    places: tuple[int, ...]
    store_places: tuple[int, ...] = ()
    """Of each store, as the settings have them."""

    def to_file(self) -> int:
        """Return the descriptor of a file in memory that holds this; messages have a bound, settings have none."""
        fd = os.memfd_create("configuration", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(msgspec.json.encode(self))
        return fd

    @classmethod
    def from_file(cls, fd: int) -> Configuration:
        """Return what `to_file` wrote; the descriptor is closed."""
        with os.fdopen(fd, "rb") as file:
            file.seek(0)
            return msgspec.json.decode(file.read(), type=cls)


class Channel:
    """One end of a control channel, registered in a loop."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        received: Callable[[AnyMessage, list[int]], None],
        closed: Callable[[], None],
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Pass each message to `received` with its descriptors, and tell `closed` when the other side is gone.

        `failed` takes an error in a message, or in what it led to; without it, such an error is raised.
        """
        self._loop = loop
        self._sock = sock
        self._received = received
        self._closed = closed
        self._failed = failed
        self._waiting: deque[tuple[AnyMessage, list[int]]] = deque()
        self.silent_since_s: float | None = None
        """When the other side was asked for a sign of life that has not come, on the monotonic clock."""
        self._decoder = msgspec.json.Decoder(AnyMessage)
        sock.setblocking(False)
        loop.add(sock.fileno(), self, READ)

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        """Return the two ends of a new channel."""
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    @property
    def open(self) -> bool:
        """Whether the other side can still be talked to."""
        return self._sock.fileno() >= 0

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._waiting

    @property
    def fd(self) -> int:
        """The descriptor."""
        return self._sock.fileno()

    def send(self, message: AnyMessage, fds: Sequence[int] = ()) -> None:
        """Send a message; its descriptors are duplicated for the other side and closed here."""
        if not self.open:
            _close(fds)
            return
        if message.latest_only:
            self._waiting = deque(entry for entry in self._waiting if type(entry[0]) is not type(message))
        if len(self._waiting) >= _LONGEST_QUEUE:
            _close(self._waiting.popleft()[1])
        self._waiting.append((message, list(fds)))
        self._flush()

    def probe(self, now_s: float) -> float:
        """Ask the other side for a sign of life, unless one is awaited; return since when it is."""
        if self.silent_since_s is None:
            self.silent_since_s = now_s
            self.send(Probe())
        return self.silent_since_s

    def _flush(self) -> None:
        while self._waiting:
            message, fds = self._waiting[0]
            try:
                socket.send_fds(self._sock, [msgspec.json.encode(message)], fds)
            except BlockingIOError:
                self._loop.change(self._sock.fileno(), READ | WRITE)
                return
            except OSError:
                # The other side is gone; its end-of-file is noticed by reading.
                self._waiting.popleft()
                _close(fds)
                continue
            self._waiting.popleft()
            _close(fds)
        if self.open:
            self._loop.change(self._sock.fileno(), READ)

    def ready(self, events: int) -> None:
        """Take what the other side says."""
        if events & WRITE:
            self._flush()
        for _ in range(_MOST_A_TURN):
            if not self.open:
                return
            try:
                data, fds, _, _ = socket.recv_fds(self._sock, _LONGEST_MESSAGE, MOST_DESCRIPTORS)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                _close(fds)
                self.close()
                self._closed()
                return
            for fd in fds:
                os.set_inheritable(fd, False)
            try:
                self._take(self._decoder.decode(data), fds)
            except Exception as error:
                if self._failed is None:
                    raise
                self._failed(error)
                return

    def _take(self, message: AnyMessage, fds: list[int]) -> None:
        if isinstance(message, Probe):
            self.send(Alive())
        elif isinstance(message, Alive):
            self.silent_since_s = None
        else:
            self._received(message, fds)

    def close(self) -> None:
        """Close this end; what waits to be sent is dropped."""
        if not self.open:
            return
        for _, fds in self._waiting:
            _close(fds)
        self._waiting.clear()
        self._loop.remove(self._sock.fileno())
        self._sock.close()

    def close_in_child(self) -> None:
        """Close the descriptor that a fork copied; the loop it was registered in is the parent's."""
        self._sock.close()


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
