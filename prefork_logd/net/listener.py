"""Binds the listening sockets, which all workers share.

Owns their addresses, their files, and taking them over from an earlier program. Does not accept (acceptor.py), and does
not choose a worker (load_balance.py).

All workers share each listening socket. With one SO_REUSEPORT socket a worker, a worker that dies takes the connections
in its own queue with it, and a second collector could bind the same port without an error.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from prefork_logd.config.values import split_address
from prefork_logd.errors import ProcessError
from prefork_logd.system.privileges import acting_as, is_to_be_dropped, make_directories, require_trusted

if TYPE_CHECKING:
    from collections.abc import Iterable


BACKLOG = 4096
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 60, 10, 5
"""Keepalive settings (tcp(7)): a peer that vanished is noticed after 110 s."""

_MAPPED = "::ffff:"
_PEER_CREDENTIALS = struct.Struct("3i")


class ListeningSocket(NamedTuple):
    """A listening socket with the clients that it accepts."""

    sock: socket.socket
    accept: str
    """As in listeners.ListenerSettings.admits."""
    tls_listener: str = ""
    """The configured address of a TLS listener; empty: plain connections only."""


def bind_all(addresses: Iterable[str], user: str = "") -> list[socket.socket]:
    """Return a listening, non-blocking socket for each address; a host name may give several.

    Unix sockets are made with the rights of `user`, and with root's only where root alone can change the directory.
    Raises ProcessError naming the address and the remedy; sockets bound until then are closed again.
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
        listen(sock)
    return sockets


class _OwnUnixSocket(socket.socket):
    """A Unix socket whose file this process removes; the file of an inherited one belongs to systemd."""


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
    listen(sock)
    return sock


def _make_unix(path: str) -> socket.socket:
    """Return a bound socket that all users may connect to; its directory and `accept` restrict senders."""
    make_directories(Path(path).parent)
    _remove_stale(path)
    sock = _OwnUnixSocket(socket.AF_UNIX)
    # The umask sets the mode from the start: a later chmod could hit a link put in its place.
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
    """Remove a socket that a dead process left behind; raise for one that answers, and for other files."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "a file that is not a socket is in its place")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        # Connecting could block for ever if the listener never accepts.
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
        errno.EADDRINUSE: "; stop the program that listens there, or choose another port",
        errno.EACCES: "; choose a port above 1023 or a directory of this user, or start as root and set server.user",
        errno.EADDRNOTAVAIL: "; give an address of this host",
        errno.EEXIST: "; remove it, or choose another path",
        errno.ENOTDIR: "; choose a path whose directories are directories",
        errno.ENOSPC: "; make room",
        errno.EROFS: "; choose a path on a file system that can be written",
    }
    if error.errno is None:
        # socket.bind() refuses what sun_path cannot hold (unix(7)).
        return "; choose a path of at most 107 bytes"
    return remedies.get(error.errno or 0, "")


def listen(sock: socket.socket) -> None:
    """Start listening. Accepted sockets inherit these options, which saves four system calls for each."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    sock.listen(BACKLOG)
    sock.setblocking(False)


def adopt(fd: int, *, is_own: bool) -> socket.socket:
    """Return the listening socket that this process had before it executed another program (`is_own`)."""
    sock = _OwnUnixSocket(fileno=fd) if is_own else socket.socket(fileno=fd)
    sock.setblocking(False)
    os.set_inheritable(fd, False)
    return sock


def is_own(sock: socket.socket) -> bool:
    """Tell whether this process removes the file of a socket."""
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
    """Return the peer of a connection: an address, or the process on a Unix socket (SO_PEERCRED, unix(7)).

    A client of IPv4 has its own address, also on a socket of systemd that takes IPv6 and IPv4 (RFC 4291, section
    2.5.5.2).
    """
    if sock.family == socket.AF_INET6:
        host, port, *_ = cast("tuple[str, int]", place)
        if host.startswith(_MAPPED) and "." in host:
            return f"{host[len(_MAPPED) :]}:{port}"
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
