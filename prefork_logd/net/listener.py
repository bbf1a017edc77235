"""Listening: addresses to sockets, and accepting on a socket that several workers share.

Owns binding (or inheriting) the listening sockets, and accepting. Who takes a connection is balance.py's question; what
is said on it, the protocol's.

All workers share each listening socket. With one SO_REUSEPORT socket a worker, a worker that dies takes the connections
in its own queue with it, and a second collector could bind the same port without an error.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.errors import ProcessError
from prefork_logd.net.loop import EDGE, READ, Loop, Timer
from prefork_logd.privileges import acting_as, is_to_be_dropped, make_directories, require_trusted
from prefork_logd.values import split_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prefork_logd.net.balance import Share

BACKLOG = 4096
MOST_A_TURN = 8
"""Connections accepted in one turn: a worker that empties the queue at once takes the share of those that are late."""
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 60, 10, 5
"""A peer that vanished without a word is noticed after 110 s."""

_LISTEN_FDS_START = 3
"""sd_listen_fds(3)"""
_LOOK_AGAIN_S = 0.002
_FULL_RETRY_S = 0.1
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_LOST_IN_QUEUE = frozenset(
    {
        errno.ECONNABORTED,
        errno.ENETDOWN,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
        errno.EPERM,
    }
)
"""accept(2): errors of the connection that was to be accepted; the next one may do."""
_PEER_CREDENTIALS = struct.Struct("3i")


def bind_all(addresses: Iterable[str], user: str = "") -> list[socket.socket]:
    """Return a listening, non-blocking socket for each address; a host name may give several.

    Unix sockets are made with the rights of `user`, and with root's only where root alone can change the directory.
    Raises ProcessError naming the address and the remedy; what was bound until then is closed again.
    """
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            place = split_address(address)
            if isinstance(place, str):
                sockets.append(_bind_unix(place, user))
            else:
                sockets.extend(_bind_tcp(*place, address))
    except ProcessError:
        close_all(sockets)
        raise
    return sockets


def _bind_tcp(host: str, port: int, address: str) -> list[socket.socket]:
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV)
    except (socket.gaierror, UnicodeError) as error:
        # UnicodeError: an empty or too long part of a host name.
        why = error.strerror if isinstance(error, socket.gaierror) else "it is not a host name"
        raise ProcessError(f"cannot listen on {address}: {why}; give an address of this host") from error
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, place in dict.fromkeys(infos):
        sock = socket.socket(family, kind, protocol)
        sockets.append(sock)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(place)
        except OSError as error:
            close_all(sockets)
            raise ProcessError(f"cannot listen on {address}: {error.strerror}{_bind_remedy(error)}") from error
        _listen(sock)
    return sockets


class _OwnUnixSocket(socket.socket):
    """A Unix socket whose file is this process's to remove; that of an inherited one is systemd's."""


def _bind_unix(path: str, user: str) -> socket.socket:
    try:
        with acting_as(user):
            sock = _make_unix(path)
    except PermissionError as error:
        if not is_to_be_dropped(user):
            raise _cannot_listen(path, error) from error
        try:
            require_trusted(next(parent for parent in Path(path).parents if parent.is_dir()))
            sock = _make_unix(path)
        except OSError as second:
            raise _cannot_listen(path, second) from second
    except OSError as error:
        raise _cannot_listen(path, error) from error
    _listen(sock)
    return sock


def _make_unix(path: str) -> socket.socket:
    """Return a bound socket. Services of other users are to reach it; its directory and `accept` say who may send."""
    make_directories(Path(path).parent)
    _remove_stale(path)
    sock = _OwnUnixSocket(socket.AF_UNIX)
    # The mode is there from the start: a chmod later could meet a link that was put in its place.
    mask = os.umask(0o111)
    try:
        sock.bind(path)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock


def _cannot_listen(path: str, error: OSError) -> ProcessError:
    return ProcessError(f"cannot listen on unix:{path}: {error.strerror or error}{_bind_remedy(error)}")


def _remove_stale(path: str) -> None:
    """Remove a socket that a dead process left behind; leave alone what answers, and what is no socket."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "a file that is no socket is in its place")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        # To one that is listened on and never accepted from, connecting could take for ever.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108 - a str, as sockets want it
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, "another process listens there")


def _bind_remedy(error: OSError) -> str:
    remedies = {
        errno.EADDRINUSE: "; stop what listens there, or choose another port",
        errno.EACCES: "; choose a port above 1023 or a directory of this user, or start as root and set server.user",
        errno.EADDRNOTAVAIL: "; give an address of this host",
    }
    return remedies.get(error.errno or 0, "")


def _listen(sock: socket.socket) -> None:
    """Start listening. Accepted sockets inherit what is set here, which spares four system calls for each."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    sock.listen(BACKLOG)
    sock.setblocking(False)


def inherited(environment: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the listening sockets that systemd activation passed to this process (sd_listen_fds(3)); often none.

    Raises ProcessError when one of them cannot be listened on.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    try:
        count = int(environment.get("LISTEN_FDS", "0"))
    except ValueError:
        raise ProcessError(f"LISTEN_FDS is {environment['LISTEN_FDS']!r}, which is no number") from None
    sockets = []
    for fd in range(_LISTEN_FDS_START, _LISTEN_FDS_START + count):
        try:
            sock = socket.socket(fileno=fd)
            listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ProcessError(f"LISTEN_FDS passes descriptor {fd}, which is no socket: {error.strerror}") from error
        if not listening or sock.type != socket.SOCK_STREAM:
            raise ProcessError(f"LISTEN_FDS passes descriptor {fd}, which is no listening stream socket")
        os.set_inheritable(fd, False)
        _listen(sock)
        sockets.append(sock)
    return sockets


def adopt(fd: int, *, is_own: bool) -> socket.socket:
    """Return the listening socket that this process has had before it became another program (`is_own`)."""
    sock = _OwnUnixSocket(fileno=fd) if is_own else socket.socket(fileno=fd)
    sock.setblocking(False)
    os.set_inheritable(fd, False)
    return sock


def is_own(sock: socket.socket) -> bool:
    """Tell whether the file of a socket is this process's to remove."""
    return isinstance(sock, _OwnUnixSocket)


def describe(sock: socket.socket) -> str:
    """Return a listening socket's address as the configuration writes it, with the port that was picked."""
    return _address_text(sock.family, sock.getsockname())


def _address_text(family: int, place: object) -> str:
    if family == socket.AF_UNIX:
        return f"unix:{place if isinstance(place, str) else os.fsdecode(place)}"  # type: ignore[arg-type]
    host, port = place[0], place[1]  # type: ignore[index]
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"


def peer_text(sock: socket.socket, place: object) -> str:
    """Return who a connection comes from: an address, or the process on a Unix socket (SO_PEERCRED, unix(7))."""
    if sock.family != socket.AF_UNIX:
        return _address_text(sock.family, place)
    pid, uid, _ = _PEER_CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    )
    return f"unix:pid={pid},uid={uid}"


def close_all(sockets: Iterable[socket.socket]) -> None:
    """Close listening sockets, and remove the files that `bind_all` has made for those on a path."""
    for sock in sockets:
        if isinstance(sock, _OwnUnixSocket) and isinstance(path := sock.getsockname(), str) and path:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108 - a str, as sockets want it
        sock.close()


class Acceptor:
    """Takes a worker's share of the connections that wait on one listening socket.

    The socket is watched with EPOLLET, so an edge comes once, whether this worker can use it or not. Whenever it leaves
    somebody waiting it therefore looks again by itself: soon when it was another's turn, less soon when it was full.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        admit: Callable[[int, str], None],
        share: Share,
        report: Callable[[OSError], None],
    ) -> None:
        """Pass each connection to `admit` as (descriptor, peer); tell `report` of errors that keep some waiting."""
        self._loop = loop
        self._sock = sock
        self._admit = admit
        self._share = share
        self._report = report
        self._timer: Timer | None = None
        self._waiting_since_s = math.inf
        """When this worker first left somebody waiting; infinite when nobody waits."""
        self._waiting = select.poll()
        self._waiting.register(sock.fileno(), select.POLLIN)
        loop.add(sock.fileno(), self, READ | EDGE)

    def ready(self, events: int) -> None:  # noqa: ARG002 - the accept tells more than the flags do
        """Accept until the queue is empty, this worker has its share, or it has accepted enough for one turn."""
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(MOST_A_TURN):
            if not self._share.has_room():
                self._look_again(_FULL_RETRY_S)
                return
            if not self._share.is_my_turn(self._loop.now_s, self._waiting_since_s):
                self._look_again(_LOOK_AGAIN_S)
                return
            if not self._accept_one():
                return
        # Others may be a few milliseconds late; the rest of a burst is left to the next turn.
        self._look_again(0)

    def _accept_one(self) -> bool:
        """Accept one connection; return whether to go on."""
        try:
            sock, place = self._sock.accept()
        except BlockingIOError:
            self._waiting_since_s = math.inf
            return False
        except OSError as error:
            if error.errno in _LOST_IN_QUEUE:
                return True
            if error.errno not in _NO_DESCRIPTOR:
                raise
            self._report(error)
            self._look_again(_FULL_RETRY_S)
            return False
        try:
            sock.setblocking(False)
            peer = peer_text(sock, place)
        except OSError:
            # It was reset before it could be asked who it is.
            sock.close()
            return True
        self._admit(sock.detach(), peer)
        return True

    def take_queue(self) -> None:
        """Take what has connected until now, however full this worker is."""
        for _ in range(BACKLOG):
            if not self._accept_one():
                break

    def close(self) -> None:
        """Stop accepting; the shared socket stays open in the other processes."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove(self._sock.fileno())
        self._sock.close()

    def look(self) -> None:
        """Look whether someone waits, because a place has become free here."""
        if self._timer is not None and self._timer.pending:
            self.ready(0)

    def _look_again(self, delay_s: float) -> None:
        if not self._waiting.poll(0):
            self._waiting_since_s = math.inf
            return
        self._waiting_since_s = min(self._waiting_since_s, self._loop.now_s)
        if self._timer is None or not self._timer.pending:
            self._timer = self._loop.later(delay_s, self._timed)

    def _timed(self) -> None:
        self.ready(0)
