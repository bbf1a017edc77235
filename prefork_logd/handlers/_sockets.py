"""Wraps the socket calls that differ between systems: connect, poll, wait, set options, close.

Knows nothing of sessions, records and threads.
"""
from __future__ import absolute_import, division

import errno
import select
import socket
import struct
import sys
import time

from ._compat import close_on_exec

NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
UNIX = getattr(socket, "AF_UNIX", None)
READABLE = getattr(select, "POLLIN", 1)
PERHAPS = [(-1, READABLE)]  # in Python 2 a signal interrupts even a poll that does not wait
RECV_BYTES = 1 << 14
PENDING = object()
_IN_PROGRESS = (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", -1))
_WOULD_BLOCK = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, getattr(errno, "WSAEWOULDBLOCK", -1))
_PEER_CLOSED = getattr(select, "POLLRDHUP", 0x2000) if sys.platform.startswith("linux") else 0
_TCP = socket.IPPROTO_TCP
_TCP_USER_TIMEOUT = 18  # Linux, tcp(7), ms; Python 2.7 does not name it


def would_block(error):
    """Return whether an error of a socket means "not now" (TLS sockets of subclasses included)."""
    return error.errno in _WOULD_BLOCK or type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError")


def poll_of(sock):
    """Return a function that tells a socket's events, or None where there is no poll().

    poll(0) sees what TCP_INFO shows (the peer's end, a reset, bytes to read) at two thirds of the cost or less.
    """
    monkey = sys.modules.get("gevent.monkey")
    try:
        # gevent's own would let other greenlets run, in the middle of `emit`.
        poll = monkey.get_original("select", "poll")() if monkey is not None else select.poll()
    except Exception:  # noqa: BLE001 - eventlet takes it away, and some systems have none
        return None
    poll.register(sock, READABLE | _PEER_CLOSED)
    return poll.poll


def wait_for(sock, writable, timeout):
    """Wait until a socket can be read (or written, if `writable`), at most `timeout` (s); return whether it can.

    Without a socket, wait the whole time and return False.
    """
    if sock is None:
        time.sleep(timeout)
        return False
    try:
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(sock, select.POLLIN | (select.POLLOUT if writable else 0))
            return bool(poll.poll(timeout * 1000))
        # On Windows the third list has connections that failed: select() of Winsock.
        return any(select.select([sock], [sock] if writable else [], [sock] if writable else [], timeout))
    except (EnvironmentError, ValueError, select.error):  # interrupted, or closed by another thread meanwhile
        return True


def literal_addresses(host, port):
    """Return [(family, address)] of a host that needs no name service, else None."""
    if host.lower() in ("localhost", "localhost."):  # RFC 6761, 6.3
        return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (EnvironmentError, ValueError, AttributeError):
            continue
        return [(family, (host, port))]
    return None


def resolve(host, port):
    """Return [(family, address)] of a host name; blocks as long as the name service does. Raises EnvironmentError."""
    try:
        name = host.encode("ascii")
    except UnicodeError:
        name = host.encode("idna")
    found = socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def begin_connect(family, address):
    """Begin to connect; return (socket that does not block, None if connected, PENDING, or else an errno).

    The socket is None if none can be had (its errno comes with it).
    """
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except EnvironmentError as error:
        return None, error.errno or errno.EIO
    try:
        close_on_exec(sock.fileno())
        sock.setblocking(False)
        _set_options(sock, family)
        failure = sock.connect_ex(address)
    except EnvironmentError as error:
        failure = error.errno or errno.EIO
    if failure in (0, errno.EISCONN):
        return sock, None
    # A Unix socket whose backlog is full answers EAGAIN and connects to nothing: unix(7).
    if failure in _IN_PROGRESS and family != UNIX:
        return sock, PENDING
    return sock, failure


def end_connect(sock):
    """Return how a connection that was PENDING turned out: None if connected, PENDING, or an errno."""
    if not wait_for(sock, True, 0):
        return PENDING
    try:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or None
    except EnvironmentError:
        return errno.EIO


def _set_options(sock, family):
    """Have the kernel notice a peer that vanished without closing: keep-alive, and a limit for unacknowledged bytes."""
    if family == UNIX:
        return
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            options.append((_TCP, getattr(socket, name), value))
    if sys.platform.startswith("linux"):
        options.append((_TCP, _TCP_USER_TIMEOUT, 60000))
    for level, option, value in options:
        try:
            sock.setsockopt(level, option, value)
        except EnvironmentError:
            pass


def disable_nagle_between_hosts(sock):
    """Set TCP_NODELAY unless both ends are on one host: each record has to arrive even if this process is killed.

    A process that dies with an acknowledgement unread resets its connection, and the kernel then forgets the bytes that
    it has not sent. Nagle's algorithm (RFC 896) keeps small segments back until the segment before has arrived. On one
    host a segment arrives as soon as it is sent, and every answer of the collector confirms it: when an answer comes,
    nothing is kept back, and nothing is sent before the answer is read. There Nagle risks nothing, and it halves the
    kernel's work.
    """
    try:
        if sock.getsockname()[0] != sock.getpeername()[0]:
            disable_nagle(sock)
    except (EnvironmentError, IndexError):
        pass


def disable_nagle(sock):
    """Set TCP_NODELAY, where it is a socket of TCP. Raises nothing."""
    try:
        sock.setsockopt(_TCP, socket.TCP_NODELAY, 1)
    except EnvironmentError:
        pass


def reset_connection(sock):
    """Close a connection with a reset instead of an end of file.

    The Logging Cookbook's receiver takes a HELLO for a length of 4 GiB, and on an end of file it would loop for ever.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except (EnvironmentError, struct.error):
        pass
    close_socket(sock)


def close_socket(sock):
    """Close a socket. Raises nothing."""
    try:
        sock.close()
    except EnvironmentError:
        pass
