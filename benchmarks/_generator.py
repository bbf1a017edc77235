"""The load: one process that pushes ready-made buffers into many connections as fast as they take them.

Owns the sending side of a throughput run. Knows no server, no record and no file: shares of bytes go in, two points in
time come out. It is forked from the process that built the shares, so nothing is built or copied while the clock runs.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import struct
import time
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_SEND_BYTES = 256 * 1024
_TIMES = struct.Struct("=dd")
Address = tuple[str, int]


def connect(address: Address, timeout_s: float = 15.0) -> socket.socket:
    """Return a connection, waiting for a server that is still on its way up.

    Raises TimeoutError when nothing listens in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return socket.create_connection(address, timeout=timeout_s)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens on {address[0]}:{address[1]} after {timeout_s:g} s") from None
            time.sleep(0.001)


class Generator:
    """A forked sender. `go` starts it, `times` tells when its first byte left and its last was taken by the kernel."""

    def __init__(self, pid: int, commands: int, answers: int) -> None:
        self.pid = pid
        self._commands = commands
        self._answers = answers

    def go(self) -> None:
        """Start the clock."""
        os.write(self._commands, b"g")

    def times(self, timeout_s: float) -> tuple[float, float] | None:
        """Return (first byte, last byte) in monotonic seconds, or None if the server has not taken all in time."""
        # Not select(): beside thousands of idle connections the descriptor is beyond its reach.
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            return None
        answer = os.read(self._answers, _TIMES.size)
        if len(answer) < _TIMES.size:
            raise RuntimeError("the generator has failed; its traceback is above")
        return _TIMES.unpack(answer)


@contextlib.contextmanager
def generator(
    address: Address,
    shares: Sequence[memoryview],
    *,
    half_close: bool = False,
    greeting: Callable[[int], bytes] | None = None,
    tls_bytes: int = 0,
) -> Iterator[Generator]:
    """Connect one connection per share in a process of its own, ready to `go`; end it with the block.

    Connections stay open to the end, as a service's would, unless `half_close`: then each is shut down after its last
    byte and the time of the last byte is that of the last end-of-file from the server. With a `greeting`, each
    connection says it (for its index) and waits for an answer before the clock starts, and reads what it is told later.
    With `tls_bytes` each share is sent by TLS, in writes of so many bytes, which are encrypted before the clock starts.
    """
    commands_out, commands_in = os.pipe()
    answers_out, answers_in = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.close(commands_in)
            os.close(answers_out)
            _child(address, shares, commands_out, answers_in, half_close, greeting, tls_bytes)
            status = 0
        except BaseException:  # noqa: BLE001 - the child must end here, whatever happens
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(commands_out)
    os.close(answers_in)
    try:
        if os.read(answers_out, 1) != b"r":
            raise RuntimeError("the generator could not connect; its traceback is above")
        yield Generator(pid, commands_in, answers_out)
    finally:
        # End-of-file on its commands ends it; while it is still sending it does not look, hence the signal.
        os.close(commands_in)
        os.close(answers_out)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
        os.waitpid(pid, 0)


def _child(
    address: Address,
    shares: Sequence[memoryview],
    commands: int,
    answers: int,
    half_close: bool,
    greeting: Callable[[int], bytes] | None,
    tls_bytes: int,
) -> None:
    connections = [connect(address) for _ in shares]
    if tls_bytes:
        shares = [_encrypted(*one, tls_bytes) for one in zip(connections, shares, strict=True)]
    if greeting is not None:
        for index, connection in enumerate(connections):
            connection.sendall(greeting(index))
        for connection in connections:
            connection.recv(4096)
    os.write(answers, b"r")
    if os.read(commands, 1) != b"g":
        return
    begin = time.monotonic()
    _send_all(connections, shares, half_close, listening=greeting is not None)
    if half_close:
        for connection in connections:
            connection.setblocking(True)
            connection.recv(1)
    os.write(answers, _TIMES.pack(begin, time.monotonic()))
    os.read(commands, 1)


def _encrypted(connection: socket.socket, share: memoryview, tls_bytes: int) -> memoryview:
    """Complete the TLS handshake of a connection, and return its share of the bytes to send."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            connection.sendall(outgoing.read())
            incoming.write(connection.recv(65_536))
        else:
            break
    connection.sendall(outgoing.read())
    made = bytearray()
    for begin in range(0, len(share), tls_bytes):
        data = share[begin : begin + tls_bytes]
        while data:
            data = data[tls.write(data) :]
        made += outgoing.read()
    return memoryview(made)


def _send_all(
    connections: Sequence[socket.socket], shares: Sequence[memoryview], half_close: bool, *, listening: bool
) -> None:
    """Send every share; each connection in turn gets one big send per readiness, so none runs ahead of the others."""
    epoll = select.epoll(len(connections))
    left: dict[int, tuple[socket.socket, memoryview, int]] = {}
    for connection, share in zip(connections, shares, strict=True):
        connection.setblocking(False)
        left[connection.fileno()] = (connection, share, 0)
        epoll.register(connection.fileno(), select.EPOLLOUT | (select.EPOLLIN if listening else 0))
    while left:
        for fd, events in epoll.poll():
            connection, share, sent = left[fd]
            if events & select.EPOLLIN:
                connection.recv(65_536)
            if not events & select.EPOLLOUT:
                continue
            try:
                sent += connection.send(share[sent : sent + _SEND_BYTES])
            except BlockingIOError:
                continue
            except ConnectionError:
                # The server has closed it; what it did not store of the share is counted as lost.
                sent = len(share)
            if sent < len(share):
                left[fd] = (connection, share, sent)
                continue
            epoll.unregister(fd)
            del left[fd]
            if half_close:
                connection.shutdown(socket.SHUT_WR)
    epoll.close()
