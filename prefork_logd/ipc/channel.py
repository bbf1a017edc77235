"""Delivers messages between the master and its children over a socket pair, with descriptors beside them.

Owns the delivery. Does not know the effect of a message; messages.py has the messages.

SOCK_SEQPACKET keeps messages apart, and reports the death of the other side as end-of-file. Sending never blocks:
messages to a stopped child wait here, and a newer message of a `latest_only` kind replaces an older one.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from prefork_logd.ipc.messages import (
    Alive,
    AnyMessage,
    Probe,
)  # fmt: skip
from prefork_logd.net.loop import READ, WRITE, Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LONGEST_MESSAGE = 65_536
MOST_DESCRIPTORS = 64
"""The most descriptors of one message."""
_LONGEST_QUEUE = 4096
_MOST_A_TURN = 256
"""Messages read at once: a child that sends without pause must not keep the master from the others."""


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
        """Pass each message to `received` with its descriptors; call `closed` when the other side has gone.

        `failed` gets an error in a message or in its handling; without it, such an error is raised.
        """
        self._loop = loop
        self._sock = sock
        self._received = received
        self._closed = closed
        self._failed = failed
        self._waiting: deque[tuple[AnyMessage, list[int]]] = deque()
        self.silent_since_s: float | None = None
        """When the unanswered Probe was sent, on the monotonic clock; None if there is none."""
        self._decoder = msgspec.json.Decoder(AnyMessage)
        sock.setblocking(False)
        loop.add(sock.fileno(), self, READ)

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        """Return the two ends of a new channel."""
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    @property
    def open(self) -> bool:
        """Whether this end is open."""
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
        """Send a Probe, unless one is unanswered; return when the unanswered one was sent."""
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
                # The other side has gone; the next read returns end-of-file.
                self._waiting.popleft()
                _close(fds)
                continue
            self._waiting.popleft()
            _close(fds)
        if self.open:
            self._loop.change(self._sock.fileno(), READ)

    def ready(self, events: int) -> None:
        """Read messages from the other side, and send those that wait."""
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
                self._deliver(self._decoder.decode(data), fds)
            except Exception as error:
                if self._failed is None:
                    raise
                self._failed(error)
                return

    def _deliver(self, message: AnyMessage, fds: list[int]) -> None:
        if isinstance(message, Probe):
            self.send(Alive())
        elif isinstance(message, Alive):
            self.silent_since_s = None
        else:
            self._received(message, fds)

    def close(self) -> None:
        """Close this end; messages that wait to be sent are dropped."""
        if not self.open:
            return
        for _, fds in self._waiting:
            _close(fds)
        self._waiting.clear()
        self._loop.remove(self._sock.fileno())
        self._sock.close()

    def close_in_child(self) -> None:
        """Close the descriptor that a fork copied; it is registered in the parent's loop only."""
        self._sock.close()


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
