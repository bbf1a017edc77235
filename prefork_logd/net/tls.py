"""Encrypts and decrypts the bytes of one TLS connection (RFC 8446, RFC 5246), by OpenSSL in memory.

Owns the bounds on bytes that are held for a connection, and the reasons of failed handshakes. Does not know deadlines,
certificates (certificates.py), or what is said on a connection.

OpenSSL gets received bytes from a buffer that all connections of a process share: each call leaves it empty. With a
buffer for each connection, every connection that has once sent a burst would keep the memory for it.
"""

from __future__ import annotations

import os
import ssl
from typing import Any, cast

from prefork_logd.errors import RemoteProtocolError

FIRST_BYTE = b"\x16"
"""The first byte of a TLS connection: a record of the type handshake (RFC 8446, section 5.1)."""
RECEIVED_BYTES = 65_536
"""Most encrypted bytes that one system call reads."""
FEWEST_RECEIVED = 4096
"""The same for a caller that wants few bytes, since its connection keeps those that it does not take."""
UNANSWERED_BYTES = 4 * RECEIVED_BYTES
"""Most encrypted bytes that are read in one call, and in a whole handshake: a client could send empty records."""
PIECE_BYTES = 17_408
"""Most encrypted bytes that OpenSSL gets in one call, which handles all of them that are not content: 640 KeyUpdates,
10 us each (RFC 8446, section 4.6.3). It is more than a record has, so honest clients have content in each piece."""
MOST_STEPS = 512
"""Calls of OpenSSL, 2 us each, after which a read returns what it has: each byte may be in a record of its own."""
MOST_BARREN = 32_768
"""Most encrypted bytes without content in a row; a half-received record has 16 KiB."""
BARREN_CREDIT = 64
"""A byte of content makes up for so many encrypted ones; a record of one byte has 23."""
NAME_KEPT = 255
"""Characters of a client's name that are kept."""

TIMEOUT, PROTOCOL, VERSION, CERTIFICATE, ALERT, CLOSED, PLAIN, CROWDED = REASONS = (
    "timeout",
    "protocol",
    "version",
    "certificate",
    "alert",
    "closed",
    "plain",
    "crowded",
)
"""Reasons of failed handshakes, as the metric names them (docs/tls.md)."""

_VERSION_ERRORS = frozenset(
    {
        "UNSUPPORTED_PROTOCOL",
        "NO_SHARED_CIPHER",
        "NO_SUITABLE_KEY_SHARE",
        "NO_SUITABLE_SIGNATURE_ALGORITHM",
        "NO_PROTOCOLS_AVAILABLE",
        "VERSION_TOO_LOW",
        "WRONG_SSL_VERSION",
        "INAPPROPRIATE_FALLBACK",
        "NO_SUITABLE_GROUPS",
    }
)
_NAME_KINDS = ("DNS", "URI", "email", "IP Address")
"""Kinds of names in a certificate's subjectAltName; a client is named by the first kind that it has."""


class HandshakeError(Exception):
    """A handshake that has failed."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """One of REASONS."""


class SharedBuffers:
    """The memory that all TLS connections of one process use, one after the other."""

    def __init__(self) -> None:
        self.incoming = ssl.MemoryBIO()
        """Received bytes on their way to OpenSSL; empty after each call."""
        self.received = memoryview(bytearray(RECEIVED_BYTES))
        self.one = memoryview(bytearray(1))


class TlsStream:
    """The TLS state of one connection; the descriptor stays with its owner, and does not block."""

    __slots__ = (
        "_barren",
        "_first",
        "_handshake_bytes",
        "_has_bytes",
        "_held",
        "_outgoing",
        "_shared",
        "_ssl",
        "_unfed",
        "ended",
        "is_emptied",
    )

    def __init__(self, context: ssl.SSLContext, shared: SharedBuffers) -> None:
        self._shared = shared
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(shared.incoming, self._outgoing, server_side=True)
        self._first = b""
        """A decrypted byte that `peek` has read."""
        self._held = b""
        """Received bytes that OpenSSL has not taken, because the caller's buffer was full."""
        self._unfed = memoryview(b"")
        """Received bytes that OpenSSL has not got yet in this call."""
        self._barren = 0
        """Encrypted bytes that have come since the last content."""
        self._has_bytes = False
        """Whether OpenSSL may have decrypted bytes, or can decrypt some, without another system call."""
        self._handshake_bytes = 0
        self.ended = False
        """Whether the client sends no more."""
        self.is_emptied = False
        """Whether the last call has emptied the socket, so that later bytes cause a new edge (epoll(7))."""

    def handshake(self, fd: int) -> bool:
        """Go on with the handshake by the bytes that one system call reads; return whether it is complete.

        Raises HandshakeError. Bytes to send are in `take_output`, also after an error: the alert.
        """
        received = self._shared.received[:FEWEST_RECEIVED]
        try:
            nbytes = os.readv(fd, (received,))
        except BlockingIOError:
            self.is_emptied = True
            return False
        except OSError as error:
            raise HandshakeError(CLOSED, f"the connection failed: {error.strerror}") from error
        if not nbytes:
            raise HandshakeError(CLOSED, "the client closed the connection before the handshake was complete")
        self._handshake_bytes += nbytes
        self.is_emptied = nbytes < FEWEST_RECEIVED
        incoming = self._shared.incoming
        incoming.write(received[:nbytes])
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            if self._handshake_bytes > UNANSWERED_BYTES:
                raise HandshakeError(PROTOCOL, f"no handshake after {UNANSWERED_BYTES} bytes") from None
            return False
        except ssl.SSLError as error:
            raise _failure(error) from error
        else:
            self._has_bytes = True
            return True
        finally:
            self._hold_rest()

    def _hold_rest(self) -> None:
        incoming = self._shared.incoming
        if incoming.pending or self._unfed:
            self._held = incoming.read() + self._unfed
            self._unfed = memoryview(b"")

    def read_into(self, fd: int, buffer: memoryview) -> int:
        """Decrypt received bytes into `buffer`, until it is full, the socket is empty or MOST_STEPS are done.

        Returns their number. 0: the client has ended the connection (`ended`), or has sent much without content: call
        again later. Raises BlockingIOError if there are none now, OSError as readv(2), and RemoteProtocolError for a
        damaged stream, or one without content. Longer than other functions: its bounds depend on each other.
        """
        filled, taken, size, shared = 0, 0, len(buffer), self._shared
        if self._first:
            buffer[:1], self._first = self._first, b""
            filled = 1
        self.is_emptied = False
        self._unfed, self._held = memoryview(self._held), b""
        steps, barren = 0, self._barren
        try:
            while filled < size:
                if self._has_bytes:
                    count = self._decrypt(buffer[filled:] if filled else buffer)
                    filled += count
                    barren -= BARREN_CREDIT * count
                    steps += 1
                    if steps == MOST_STEPS or barren >= PIECE_BYTES:
                        # A short read that has not emptied the socket, as far as the caller is concerned.
                        self.is_emptied = self.is_emptied and not (self._has_bytes or self._unfed)
                        break
                    if self._has_bytes:
                        continue
                if self._unfed:
                    piece, self._unfed = self._unfed[:PIECE_BYTES], self._unfed[PIECE_BYTES:]
                    shared.incoming.write(piece)
                    self._has_bytes = True
                    barren = max(0, barren) + len(piece)
                elif self.ended or self.is_emptied or taken >= UNANSWERED_BYTES:
                    break
                else:
                    taken += self._receive(fd, size - filled)
        finally:
            self._barren = barren
            self._hold_rest()
        if barren > MOST_BARREN and not filled:
            raise RemoteProtocolError("tls", "the client sends TLS without content")
        if not filled and self.is_emptied and not self.ended:
            raise BlockingIOError
        return filled

    def _decrypt(self, buffer: memoryview) -> int:
        """Decrypt one record at most into `buffer`; return the number of its bytes."""
        try:
            # With a buffer it returns a number; the type checker knows it without one.
            count = cast("int", self._ssl.read(len(buffer), buffer))
        except ssl.SSLWantReadError:
            self._has_bytes = False
            return 0
        except ssl.SSLZeroReturnError:
            count = 0
        except ssl.SSLError as error:
            what = "the client reports" if "ALERT" in (error.reason or "") else "the TLS stream is damaged"
            raise RemoteProtocolError("tls", f"{what}: {_explain(error)}") from error
        if not count:
            # The client's close_notify (RFC 8446, section 6.1).
            self.ended, self._has_bytes = True, False
        return count

    def _receive(self, fd: int, wanted: int) -> int:
        """Read about as many encrypted bytes as are wanted decrypted; return their number."""
        received = self._shared.received[: max(FEWEST_RECEIVED, wanted)]
        try:
            nbytes = os.readv(fd, (received,))
        except BlockingIOError:
            self.is_emptied = True
            return 0
        if nbytes:
            self._unfed = received[:nbytes]
            self.is_emptied = nbytes < len(received)
        else:
            self.ended = True
        return nbytes

    def peek(self, fd: int) -> bytes | None:
        """Return the next decrypted byte; empty at the end or after an error, None if nothing has come yet."""
        if not self._first:
            try:
                count = self.read_into(fd, self._shared.one)
            except BlockingIOError:
                return None
            except (OSError, RemoteProtocolError):
                return b""
            if not count:
                return b"" if self.ended else None
            self._first = bytes(self._shared.one)
        return self._first

    def encrypt(self, data: bytes) -> bytes:
        """Return the bytes to send for `data`, behind those that OpenSSL wants to send itself."""
        while data:
            data = data[self._ssl.write(data) :]
        return self.take_output()

    def take_output(self) -> bytes:
        """Return the bytes that OpenSSL wants to send: of the handshake, an alert, or the answer to a KeyUpdate."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def farewell(self) -> bytes:
        """Return the bytes that tell the client that no more will come: close_notify (RFC 8446, section 6.1)."""
        try:
            self._ssl.unwrap()
        except (ssl.SSLError, ValueError):
            # The client's own close_notify is not waited for; before the handshake there is nothing to say.
            pass
        finally:
            self._hold_rest()
        return self.take_output()

    def peer_name(self) -> str:
        """Return the client's name by its certificate, which was verified; empty if it has none."""
        return name_of(self._ssl.getpeercert() or {})


def name_of(certificate: dict[str, Any]) -> str:
    """Return the name in a certificate: of subjectAltName the first DNS name, URI or address, else the common name.

    `certificate` has the form of SSLSocket.getpeercert.
    """
    others = certificate.get("subjectAltName", ())
    for kind in _NAME_KINDS:
        for other, name in others:
            if other == kind and name:
                return str(name)[:NAME_KEPT]
    for relative in certificate.get("subject", ()):
        for key, value in relative:
            if key == "commonName":
                return str(value)[:NAME_KEPT]
    return ""


def _failure(error: ssl.SSLError) -> HandshakeError:
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return HandshakeError(CERTIFICATE, f"the client's certificate is refused: {_explain(error)}")
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return HandshakeError(CERTIFICATE, "the client has no certificate, and tls_client_ca demands one")
    if reason == "EXCESSIVE_MESSAGE_SIZE":
        # SSL_CTX_set_max_cert_list(3).
        return HandshakeError(CERTIFICATE, "the client's certificates have more than 100 KiB; it may send fewer")
    if "ALERT" in reason:
        return HandshakeError(ALERT, f"the client refuses the connection: {_explain(error)}")
    if reason in _VERSION_ERRORS:
        return HandshakeError(VERSION, f"no version or cipher in common with the client: {_explain(error)}")
    return HandshakeError(PROTOCOL, f"the client does not speak TLS: {_explain(error)}")


def _explain(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason as words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return (error.reason or str(error)).lower().replace("_", " ")
