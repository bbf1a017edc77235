"""Moves live connections to another process, with their descriptors and state, over a socket pair.

Owns the messages, and the moment at which a connection changes hands. Does not know the form of the state
(inputs/state.py), or which connections go where (migration.py).

    giver   OFFER, with a file in memory that holds the states and, beside it, the descriptors (SCM_RIGHTS, unix(7))
    taker   TAKE, or LEAVE if it cannot: no descriptors left, or states of an unknown form
    giver   GO, or CANCEL if it keeps them

Meanwhile both hold the descriptors and neither reads them, so either may die and no connection is closed. The
connections belong to the giver until GO, and to the taker after it. A giver that lives always sends CANCEL before it
closes the socket. End-of-file therefore means that the giver is dead, and the taker keeps an offer that it has not
refused.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Protocol

from prefork_logd.inputs.state import pack, unpack
from prefork_logd.net.loop import READ, Loop
from prefork_logd.system.memory_file import make_memory_file, take_memory_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgspec import Raw

    from prefork_logd.inputs.state import ConnectionState

GROUP = 250
"""Connections offered at once: the kernel passes at most 253 descriptors with a message (SCM_MAX_FD, unix(7))."""
OFFER, TAKE, LEAVE, GO, CANCEL = b"O", b"T", b"L", b"G", b"C"


def make_pair() -> tuple[socket.socket, socket.socket]:
    """Return the giver's and the taker's end."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Offers(Protocol):
    """The owner of a giver."""

    def accepted(self, giver: Giver) -> None:
        """Call `go`: the taker waits for it."""

    def refused(self, giver: Giver) -> None:
        """Keep the offered connections: the taker has refused them, or is dead."""


class Giver:
    """The end that gives."""

    def __init__(self, loop: Loop, sock: socket.socket, owner: Offers) -> None:
        self._loop = loop
        self._sock = sock
        self._owner = owner
        self._offered = False
        sock.setblocking(False)
        loop.add(sock.fileno(), self, READ)

    def offer(self, states: list[Raw], fds: Sequence[int]) -> bool:
        """Offer up to GROUP connections, each packed by state.pack_one; return whether the offer was sent.

        The connections must not be read until the answer.
        """
        try:
            states_fd = make_memory_file("connections", pack(states))
            try:
                socket.send_fds(self._sock, [OFFER], [states_fd, *fds])
            finally:
                os.close(states_fd)
        except OSError:
            # The taker is gone; or too many descriptors are in flight (unix(7), ETOOMANYREFS) or open here.
            return False
        self._offered = True
        return True

    def go(self) -> bool:
        """Pass the offered connections to the taker; return False if it has died: then the giver keeps them."""
        self._offered = False
        return self._send(GO)

    def close(self) -> None:
        """Cancel an open offer, and close the socket."""
        if self._sock.fileno() < 0:
            return
        if self._offered:
            self._send(CANCEL)
        self._loop.remove(self._sock.fileno())
        self._sock.close()

    def _send(self, word: bytes) -> bool:
        try:
            self._sock.send(word)
        except OSError:
            return False
        return True

    def ready(self, _events: int, /) -> None:
        """Read the taker's answer, or its end-of-file."""
        try:
            word = self._sock.recv(16)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        if word == TAKE and self._offered:
            self._owner.accepted(self)
        else:
            self._owner.refused(self)


class Takes(Protocol):
    """The owner of a taker."""

    def prepare(self, states: list[ConnectionState], fds: list[int]) -> bool:
        """Make connections of these, but read nothing; return False to refuse them.

        The caller closes the descriptors of refused ones.
        """

    def begin(self) -> None:
        """Start to read the prepared connections."""

    def discard(self) -> None:
        """Close the prepared connections; the giver keeps them open."""

    def ended(self, taker: Taker) -> None:
        """Forget a taker; no further offer will come."""


class Taker:
    """The end that takes. One offer is open at a time."""

    def __init__(self, loop: Loop, sock: socket.socket, owner: Takes) -> None:
        self._loop = loop
        self._sock = sock
        self._owner = owner
        self._has_prepared = False
        self._was_offered = False
        sock.setblocking(False)
        loop.add(sock.fileno(), self, READ)

    def give_up(self) -> None:
        """End the wait for a giver that has made no offer; it keeps its connections."""
        if not self._was_offered and self._sock.fileno() >= 0:
            # An unread offer of a dead giver may hold the last descriptors of its connections.
            self.ready(READ)
        if not self._was_offered and self._sock.fileno() >= 0:
            self._end()

    def _end(self) -> None:
        self._loop.remove(self._sock.fileno())
        self._sock.close()
        self._owner.ended(self)

    def ready(self, _events: int, /) -> None:
        """Read the giver's message, or its end-of-file."""
        try:
            word, fds, flags, _ = socket.recv_fds(self._sock, 16, GROUP + 1)
        except BlockingIOError:
            return
        except OSError:
            word, fds, flags = b"", [], 0
        if word == OFFER:
            self._offered(fds, whole=not flags & socket.MSG_CTRUNC)
        elif word == CANCEL:
            self._settle(is_ours=False)
        else:
            # GO; or the giver is dead, and no other process has the offered connections.
            self._settle(is_ours=True)
            if word != GO:
                self._end()

    def _offered(self, fds: list[int], *, whole: bool) -> None:
        """Prepare an offer; not `whole`: the kernel left out descriptors above this process's limit."""
        self._was_offered = True
        states: list[ConnectionState] = []
        if fds:
            try:
                states = unpack(take_memory_file(fds.pop(0)))
            except ValueError:
                whole = False
        for fd in fds:
            os.set_inheritable(fd, False)
        self._has_prepared = whole and len(fds) == len(states) and self._owner.prepare(states, fds)
        if not self._has_prepared:
            for fd in fds:
                os.close(fd)
        try:
            self._sock.send(TAKE if self._has_prepared else LEAVE)
        except OSError:
            # The giver is gone; the next read returns end-of-file.
            return

    def _settle(self, *, is_ours: bool) -> None:
        if self._has_prepared:
            self._has_prepared = False
            if is_ours:
                self._owner.begin()
            else:
                self._owner.discard()
