"""Speaks TLS on a connected socket that does not block.

A TLS socket here has the few methods of a socket that the other modules call. Each does what it can at once, and raises
an error of which `would_block` is true where it would have to wait. Knows nothing of messages and sessions.

`close` sends nothing: in a forked process the connection is the parent's, and one byte more would break it.
"""
from __future__ import absolute_import, division

import errno
import re
import socket

from ._compat import text_of
from ._notices import printable
from ._sockets import NO_SIGNAL, RECV_BYTES, close_socket, disable_nagle, would_block

_RECORD_BYTES = 1 << 14
"""Most bytes in one TLS record (RFC 8446, 5.1)."""
_MOST_ENCRYPTED = 4 * _RECORD_BYTES
"""Most bytes that are encrypted before the kernel has taken them."""
_MOST_FLIGHTS = 8
"""How often one call of `handshake` receives; the time limit of the handshake bounds the calls."""
_NO_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST")
"""Reasons of OpenSSL, by its version, for an answer that is not TLS."""
_UNTRUSTED = u"tls_ca names the certificates to trust, tls_server_name the name to look for"
_OUTDATED = u"renew the collector's certificate, or set the clock of this host"
_CUT_OFF = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)
"""Errors of a connection that the peer has closed or reset."""
_DECORATED = re.compile(r"^(?:\[[^\]]*\] *)?(.*?)(?: *\(_ssl\.c:[0-9]+\))?$", re.DOTALL)
"""The text of an ssl.SSLError: library and reason, sentence, and a line of C."""


class TlsError(EnvironmentError):
    """TLS failed. `text` says how, and goes on after the collector's address; `remedy` says what may help, or is empty.

    is_final: whether the next try will probably fail in the same way.
    """

    def __init__(self, text, remedy=u"", is_final=True):
        EnvironmentError.__init__(self, errno.EIO, text)
        self.text = text
        self.remedy = remedy
        self.is_final = is_final


class TlsSocket(object):
    """What the two kinds of TLS sockets share.

    As with SSL_write(3), a `send` that would block has to be repeated with the same data, or more.
    """

    def __init__(self, sock, tls):
        """Take a connected socket that does not block, and the TlsContext. Raises EnvironmentError, ValueError."""
        self._sock = sock
        self._tls = tls
        self.family = sock.family
        self.wants_write = False
        """Whether the handshake goes on when the socket can be written, and not when it can be read."""
        self._has_received = False
        self._failure = None  # of the bytes after those that were returned last

    def fileno(self):
        """Return the descriptor, for poll() and select()."""
        return self._sock.fileno()

    def setsockopt(self, level, option, value):
        """Set an option of the socket."""
        self._sock.setsockopt(level, option, value)

    def handshake(self):
        """Go on with the handshake; return whether it is complete. Raises EnvironmentError, often a TlsError."""
        try:
            return self._handshake()
        except (EnvironmentError, ValueError) as error:  # before 3.7 a wrong host name is a ValueError
            if isinstance(error, EnvironmentError) and would_block(error):
                return False
            if getattr(error, "errno", None) in _CUT_OFF:
                raise _closed_early()
            raise self._explained(error)

    def close(self):
        """Close the socket. Sends nothing, and raises nothing."""
        close_socket(self._sock)

    def _reason_for(self, error):
        """Return the alert with which the peer has refused the connection, for a failed send; else the error itself.

        TLS 1.3 completes the client's handshake before the server has checked its certificate (RFC 8446, 4.4.2.4). So
        the client may send before the alert comes, and the reset for what it has sent may overtake the alert.
        """
        if not self._has_received:
            try:
                self.recv(RECV_BYTES)
            except TlsError as alert:
                return alert
            except EnvironmentError:
                pass
        return error

    def _explained(self, error):
        """Return the TlsError for an error of `ssl`; other errors as they are."""
        if isinstance(error, TlsError):
            return error
        if isinstance(error, EnvironmentError) and type(error).__module__ not in ("ssl", "_ssl"):
            return error
        text = _text_of(error)
        reason = _reason_of(error)
        if "Cert" in type(error).__name__ or reason == u"CERTIFICATE_VERIFY_FAILED":
            why = printable(text_of(getattr(error, "verify_message", None) or text).rstrip(u"."))
            return TlsError(u"is not trusted: %s" % why, _OUTDATED if _is_outdated(why) else _UNTRUSTED)
        words = reason.lower().replace(u"_", u" ")
        if u"ALERT" in reason:
            return TlsError(u"refuses the TLS connection: %s" % words, self._remedy_for(words.split()))
        if reason in _NO_TLS:
            return TlsError(u"answers something else than TLS", u"does it take TLS on this port?")
        return TlsError(u"breaks TLS: %s" % words)

    def _remedy_for(self, words):
        """Return what may help against an alert of the collector (RFC 8446, 6.2)."""
        if u"expired" in words:
            return u"renew tls_cert"
        if u"certificate" in words or u"ca" in words:
            if self._tls.has_own_certificate():
                return u"does it trust the issuer of tls_cert?"
            return u"tls_cert and tls_key name the certificate to show"
        if u"handshake" in words:  # TLS 1.2 calls a missing certificate so, too
            return u"does it want a certificate, tls_cert? do the two share a version of TLS?"
        return u""


def _is_outdated(why):
    return u"expired" in why or u"not yet valid" in why


def _text_of(error):
    return printable(_DECORATED.match(text_of(error.args[-1] if error.args else error)).group(1))


def _reason_of(error):
    """Return the reason that OpenSSL gives; of one that is newer than this Python it is in the text."""
    return text_of(getattr(error, "reason", None) or _text_of(error).upper().replace(u" ", u"_"))


def _closed_early():
    return TlsError(u"closes the connection during the TLS handshake; does it take TLS on this port?", is_final=False)


class MemoryTlsSocket(TlsSocket):
    """TLS in memory: the bytes pass through our own calls of send and recv.

    So a write to a closed connection causes no signal. One `recv` returns all that was decrypted, because poll() does
    not see it.
    """

    def __init__(self, sock, tls):
        """As TlsSocket."""
        TlsSocket.__init__(self, sock, tls)
        self._incoming, self._outgoing = tls.make_buffer(), tls.make_buffer()
        self._engine = tls.context.wrap_bio(self._incoming, self._outgoing, server_hostname=tls.server_name)
        self._unsent = b""  # encrypted, and not with the kernel yet
        self._taken = 0  # bytes of the caller that are encrypted, and not reported to it yet
        self._is_ended = False  # by the peer's close_notify

    def _handshake(self):
        for _ in range(_MOST_FLIGHTS):
            is_complete = self._step()
            self.wants_write = True
            self._push()
            self.wants_write = False
            if is_complete:
                return True
            data = self._sock.recv(RECV_BYTES)
            if not data:
                raise _closed_early()
            self._incoming.write(data)
        return False

    def _step(self):
        """Let the engine go on; return whether the handshake is complete on this side."""
        try:
            self._engine.do_handshake()
        except (EnvironmentError, ValueError) as error:
            if isinstance(error, EnvironmentError) and would_block(error):
                return False
            self._push_quietly()  # the alert, by which the peer learns the reason
            raise
        return True

    def send(self, data, flags=0):  # noqa: ARG002 - as a socket's; the flags are ours
        """Encrypt a piece of the data and send it; return its length. Raises EnvironmentError."""
        if not self._taken:
            self._taken = self._encrypt(data)
        try:
            self._push()
        except EnvironmentError as error:
            raise error if would_block(error) else self._reason_for(error)
        taken, self._taken = self._taken, 0
        return taken

    def _encrypt(self, data):
        """Encrypt whole TLS records of the data, up to _MOST_ENCRYPTED; return how many bytes that were."""
        taken = 0
        view = memoryview(data)
        try:
            while taken < min(len(data), _MOST_ENCRYPTED):
                taken += self._engine.write(view[taken : taken + _RECORD_BYTES])
        except EnvironmentError as error:
            if not taken:
                raise self._explained(error)
        return taken

    def recv(self, size):
        """Receive once, and return all that can be decrypted; empty at the end. Raises EnvironmentError."""
        if self._failure is not None:
            raise self._failure
        if self._is_ended:
            return b""
        self._pull(size)
        parts = []
        try:
            while not self._is_ended:
                part = self._engine.read(size)
                if part:
                    self._has_received = True
                    parts.append(part)
                else:
                    self._is_ended = True
        except EnvironmentError as error:
            if not would_block(error):
                self._failure = self._explained(error)
        if self._outgoing.pending:
            self._push_quietly()
        if parts or self._is_ended:
            return b"".join(parts)
        raise self._failure or EnvironmentError(errno.EAGAIN, "no whole TLS record yet")

    def _pull(self, size):
        """Receive encrypted bytes; some may be left from the handshake."""
        try:
            data = self._sock.recv(size)
        except EnvironmentError as error:
            if not (would_block(error) and self._incoming.pending):
                raise
        else:
            self._incoming.write(data)
            self._is_ended = not data

    def _push(self):
        """Send what is encrypted. Raises EnvironmentError if not all of it can be sent at once."""
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent, NO_SIGNAL) :]

    def _push_quietly(self):
        """As `_push`; the rest waits for the next one."""
        try:
            self._push()
        except EnvironmentError:
            pass

    def end(self):
        """Tell the peer that nothing more will be sent (close_notify; RFC 8446, 6.1). Raises nothing."""
        try:
            self._engine.unwrap()
        except (EnvironmentError, ValueError):  # it waits for the peer's close_notify, which we do not need
            pass
        self._push_quietly()


class WrappedTlsSocket(TlsSocket):
    """TLS by ssl.SSLSocket, for Python 2.7, which has no MemoryBIO.

    A read asks for a whole TLS record or more, so that nothing that was decrypted stays where poll() cannot see it.
    """

    def __init__(self, sock, tls):
        """As TlsSocket."""
        TlsSocket.__init__(self, sock, tls)
        self._engine = tls.context.wrap_socket(
            sock, server_hostname=tls.server_name, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )

    def _handshake(self):
        try:
            self._engine.do_handshake()
        except EnvironmentError as error:
            self.wants_write = type(error).__name__ == "SSLWantWriteError"
            if would_block(error) or not self._is_at_end():
                raise
            raise _closed_early()
        return True

    def send(self, data, flags=0):  # noqa: ARG002 - as a socket's
        """Encrypt a piece of the data and send it; return its length. Raises EnvironmentError."""
        try:
            return self._engine.write(data)
        except EnvironmentError as error:
            raise error if would_block(error) else self._reason_for(self._explained(error))

    def recv(self, size):
        """Return the content of one TLS record; empty at the end. Raises EnvironmentError."""
        if self._failure is not None:
            raise self._failure
        try:
            data = self._engine.read(max(size, _RECORD_BYTES))
        except EnvironmentError as error:
            if would_block(error):
                raise
            # After an alert the peer closes the connection, so both may be here already; the alert has the reason.
            if u"ALERT" not in _reason_of(error) and self._is_at_end():
                return b""
            self._failure = self._explained(error)
            raise self._failure
        self._has_received = True
        return data

    def _is_at_end(self):
        """Return whether the peer has closed the connection: versions of OpenSSL report that in different ways."""
        try:
            return not self._sock.recv(1, socket.MSG_PEEK)
        except EnvironmentError:
            return False

    def end(self):
        """Tell the peer that nothing more will be sent (close_notify; RFC 5246, 7.2.1). Raises nothing."""
        try:
            self._engine.unwrap()
        except (EnvironmentError, ValueError):
            pass

    def close(self):
        """Close the socket. Sends nothing, and raises nothing."""
        close_socket(self._engine)
        close_socket(self._sock)


def begin_tls(sock, tls):
    """Return a TLS socket on a connected one that does not block; its handshake has not begun.

    Raises EnvironmentError, and then has closed the socket.
    """
    # The collector answers the end of the handshake of TLS 1.3 with nothing. Nagle's algorithm (RFC 896) would keep
    # HELLO back until the collector's system has confirmed that end, which it may delay by 40 ms.
    disable_nagle(sock)
    kind = MemoryTlsSocket if tls.make_buffer is not None else WrappedTlsSocket
    try:
        return kind(sock, tls)
    except (EnvironmentError, ValueError) as error:
        close_socket(sock)
        raise TlsError(u"cannot be reached by TLS: %s" % printable(text_of(error)), is_final=False)
