"""Reads and writes one socket without waiting; what the bytes mean is a subclass's business.

Knows nothing of messages, records and threads; the caller holds the lock.
"""
from __future__ import absolute_import, division

import select
import socket

from ._session import ProtocolError
from ._sockets import (
    NO_SIGNAL,
    PERHAPS,
    READABLE,
    RECV_BYTES,
    close_socket,
    disable_nagle_between_hosts,
    poll_of,
    would_block,
)
from ._tls import TlsSocket

_MOST_READS = 4
"""How often one call receives: a peer that never stops sending must not hold `emit`. The next call reads on."""
_INBOX_READS = 16
"""After how many reads of `receive` the bytes are understood, unless the helper is quicker."""
_FAMILIES_OF_POLL = (socket.AF_INET, socket.AF_INET6)


class Wire(object):
    """One socket at a time, and the message that is being sent. Its public attributes are read by `emit` itself."""

    def __init__(self):
        self.sock = None
        self.out = b""
        """The rest of the message that is being sent."""
        self.is_direct = False
        """Whether the next record can be sent by itself, past the queue, by `send`."""
        self.send = self.poll = None
        """The socket's send(); a poll() of its events, or None."""
        self._recv = None
        self._send_flags = 0
        self._reads_all = False  # whether a read that is not full has left nothing
        self._inbox = []  # bytes that `receive` has left to be understood

    # What a subclass does

    def take_in(self, data):
        """Act on received bytes. May raise ProtocolError."""
        raise NotImplementedError

    def note_sent(self, count):
        """Take note of bytes that the kernel has taken."""
        raise NotImplementedError

    def end_closed(self):
        """Act on a connection that the peer has closed, or that is broken."""
        raise NotImplementedError

    def end_failed(self, error):  # noqa: ARG002 - for subclasses
        """Act on an EnvironmentError of a read."""
        self.end_closed()

    def end_violation(self, error):
        """Act on a ProtocolError."""
        raise NotImplementedError

    # The socket

    def use(self, sock):
        """Speak on this socket, which is connected."""
        self.sock = sock
        is_plain_socket = type(sock).__name__ in ("socket", "_socketobject")
        self._send_flags = NO_SIGNAL if is_plain_socket else 0
        self._reads_all = is_plain_socket and bool(NO_SIGNAL)
        self.send, self._recv = sock.send, sock.recv
        self._inbox = []
        self.poll = None
        is_secure = isinstance(sock, TlsSocket)
        if (is_plain_socket or is_secure) and sock.family in _FAMILIES_OF_POLL:
            if not is_secure:
                disable_nagle_between_hosts(sock)
            self.poll = poll_of(sock)
        self.out = b""

    def drop(self):
        """Close the socket, if there is one, and forget the message that is being sent."""
        sock, self.sock = self.sock, None
        self.is_direct = False
        self.send = self._recv = self.poll = None
        self._inbox = []
        self.out = b""
        if sock is not None:
            close_socket(sock)

    # Bytes in

    def receive(self, events):
        """Take bytes in as poll() has announced, and leave them to be understood later: many at once are cheaper.

        Nothing stays unread for long, because a process that dies with something unread resets its connection, and
        then the kernel forgets what it has not sent yet.
        """
        if events[0][1] != READABLE:
            self.read_last_words()
            return
        try:
            data = self._recv(RECV_BYTES)
        except EnvironmentError as error:
            if not would_block(error):
                self.read_last_words()
        else:
            if not data:
                self.read_last_words()
                return
            self._inbox.append(data)
            if len(self._inbox) >= _INBOX_READS or len(data) == RECV_BYTES:
                self.read()

    def looks_alive(self):
        """Look at the socket before writing, and return whether it is still in use."""
        if self.poll is not None:
            try:
                events = self.poll(0)
            except select.error:
                events = PERHAPS
            if events and events[0][1] != READABLE:
                self.read_last_words()
            elif events or self._inbox:
                self.read()
        else:
            self.read()
        return self.sock is not None

    def read_last_words(self):
        """Take in what came before the end of a connection that is broken or closed, and end it."""
        sock = self.sock
        self.read()
        if self.sock is sock and sock is not None:
            self.end_closed()

    def read(self):
        """Take in what has come, and act on it."""
        sock = self.sock
        try:
            if self._inbox:
                received, self._inbox = b"".join(self._inbox), []
                self.take_in(received)
            for _ in range(_MOST_READS):
                if sock is None or self.sock is not sock:
                    return
                data = sock.recv(RECV_BYTES)
                if not data:
                    self.end_closed()
                else:
                    self.take_in(data)
                if len(data) < RECV_BYTES and self._reads_all:
                    return
        except EnvironmentError as error:
            if not would_block(error):
                self.end_failed(error)
        except ProtocolError as error:
            self.end_violation(error)

    # Bytes out

    def flush(self):
        """Send the rest of a message; return whether nothing is left of it."""
        while self.out:
            if self.sock is None:
                return False
            try:
                sent = self.sock.send(self.out, self._send_flags)
            except EnvironmentError as error:
                if not would_block(error):
                    # What came before the end counts: acknowledgements, or the reason of a refusal.
                    self.read_last_words()
                return False
            if not sent:  # SSLSocket of Python 2.7, as a subclass may make it, raises nothing when it has to wait
                return False
            self.out = self.out[sent:]
            self.note_sent(sent)
        return True
