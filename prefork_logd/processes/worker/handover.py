"""Live connections from one process to another: their descriptors and their state, over a socket pair.

Owns the three words that this takes, and when a connection changes hands. The form of the state is frozen.py's;
others decide which connections go, and to whom.

    giver   OFFER, with a file in memory that holds the states and, beside it, the descriptors (SCM_RIGHTS, unix(7))
    taker   TAKE, or LEAVE if it cannot: no descriptors left, or states that it does not understand
    giver   GO, or CANCEL if it has changed its mind

Both hold the descriptors in between and neither reads them, so each may die and no connection is closed. Until GO they
are the giver's; from then on the taker's. If the giver dies, the taker reads end-of-file: what it has been offered and
not refused is its own, for nobody else has it. A giver that lives always says CANCEL before it closes.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Protocol

from prefork_logd.inputs.state import pack, unpack
from prefork_logd.net.loop import READ, Loop

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
    """Who has made an offer."""

    def decided(self, giver: Giver, taken: bool) -> None:
        """Take the answer: the taker has the connections and waits for `go`, or does not want them, or is dead."""


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
        """Offer up to GROUP connections, each packed by frozen.pack_one; return whether that was possible.

        They must not be read until it is decided.
        """
        states_fd = os.memfd_create("connections", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(states_fd), "wb") as file:
                file.write(pack(states))
            socket.send_fds(self._sock, [OFFER], [states_fd, *fds])
        except OSError:
            # The taker is gone, or too many descriptors are on their way (unix(7), ETOOMANYREFS).
            return False
        finally:
            os.close(states_fd)
        self._offered = True
        return True

    def go(self) -> bool:
        """Let the taker have what it has said TAKE to; return False if it died, and they are the giver's as before."""
        self._offered = False
        return self._say(GO)

    def close(self) -> None:
        """Take back what is offered, and end."""
        if self._sock.fileno() < 0:
            return
        if self._offered:
            self._say(CANCEL)
        self._loop.remove(self._sock.fileno())
        self._sock.close()

    def _say(self, word: bytes) -> bool:
        try:
            self._sock.send(word)
        except OSError:
            return False
        return True

    def ready(self, events: int) -> None:  # noqa: ARG002 - the read tells more than the flags do
        """Take the taker's answer, or its death."""
        try:
            word = self._sock.recv(16)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        if word == TAKE and self._offered:
            self._owner.decided(self, taken=True)
        else:
            self._owner.decided(self, taken=False)


class Takes(Protocol):
    """Who takes connections."""

    def prepare(self, states: list[ConnectionState], fds: list[int]) -> bool:
        """Make everything ready to go on with these, but read nothing; return whether they are wanted.

        If they are not, their descriptors are closed by the caller.
        """

    def begin(self) -> None:
        """Go on with what was prepared."""

    def discard(self) -> None:
        """Close what was prepared, for the giver goes on with it."""

    def ended(self, taker: Taker) -> None:
        """Note that nothing more comes."""


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
        """Wait no more for a giver that has not offered anything; it keeps what it has."""
        if not self._was_offered and self._sock.fileno() >= 0:
            # An offer that has not been read may be all that is left of a dead giver's connections.
            self.ready(READ)
        if not self._was_offered and self._sock.fileno() >= 0:
            self._end()

    def _end(self) -> None:
        self._loop.remove(self._sock.fileno())
        self._sock.close()
        self._owner.ended(self)

    def ready(self, events: int) -> None:  # noqa: ARG002 - the read tells more than the flags do
        """Take what the giver says, or its death."""
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
            # GO; or the giver is dead, and whatever it has offered belongs to nobody else.
            self._settle(is_ours=True)
            if word != GO:
                self._end()

    def _offered(self, fds: list[int], *, whole: bool) -> None:
        """Prepare what is offered. Where this process has no descriptors left, the kernel leaves out some."""
        self._was_offered = True
        states: list[ConnectionState] = []
        if fds:
            with os.fdopen(fds.pop(0), "rb") as file:
                file.seek(0)
                try:
                    states = unpack(file.read())
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
            # The giver is gone, which the next read tells.
            return

    def _settle(self, *, is_ours: bool) -> None:
        if self._has_prepared:
            self._has_prepared = False
            if is_ours:
                self._owner.begin()
            else:
                self._owner.discard()
