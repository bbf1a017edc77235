"""Speaks with one receiver: connect, greet, read, write, plain frames. A step at a time, and never waiting.

Knows nothing of threads, and of who calls it; the caller holds the lock.
"""
from __future__ import absolute_import, division

import os
import socket
import sys

from ._clock import jittered, monotonic
from ._compat import count_records, text_of
from ._notices import printable
from ._session import BUSY, GOING_AWAY, LENGTH, TLS_REQUIRED, ClientProtocol
from ._sockets import close_socket, reset_connection
from ._tls import TlsError, TlsSocket, begin_tls
from ._wire import Wire

IDLE, CONNECTING, SECURING, GREETING, READY, PLAIN = range(6)
MESSAGE_BYTES = 1 << 16
REFUSED_PAUSE_S = 5.0
_UNKNOWN_PAUSE_S = 15.0
"""Before the next try after an ERROR with a code of a later version."""
BUSY_PAUSE_S = 1.0
"""Before the next try with a full collector, jittered."""
_FRUITLESS_PAUSE_S = 1.0
_MOST_FRUITLESS = 20
"""After this many connections in a row without an acknowledgement the pause is _FRUITLESS_PAUSE_S."""
_AWAY_S = 5.0
"""After this time without a connection, while records are held, a notice reports it."""
_WELCOME_PATIENCE_S = 300.0
"""Longest wait on one connection for a collector that has sent WAIT. A dead one is noticed much sooner: it closes the
connection, or its keep-alive fails."""
_WRITE_BYTES = 1 << 20
"""Bytes that one call sends at most; the helper sends the rest."""
_PLAIN_RECORD_BYTES = 1 << 32


class Link(Wire):
    """The connection of one session to its collector, and what is on its way there.

    Longer than other classes: each state of a connection has its step here, and each event of the protocol its answer.
    """

    def __init__(self, options, queue, connector, fallback, notices, counts):
        Wire.__init__(self)
        self._options = options
        self._queue = queue
        self._connector = connector
        self._fallback = fallback
        self._notices = notices
        self._counts = counts
        counts.setdefault("connections", 0)
        counts.setdefault("busy", 0)
        counts.setdefault("rejected", 0)
        self.state = IDLE
        self.has_more = False
        """Whether `write` has stopped at _WRITE_BYTES."""
        self.max_record_bytes = options.max_record_bytes
        self._protocol = None
        self._deadline = 0.0
        self._handed_over = 0  # plain frames: bytes of the first sent record that the kernel has taken
        self._fruitless = 0  # connections since the last acknowledgement
        self._away_since = None
        notices.trouble = u""
        notices.is_sending = False

    def is_in_use(self):
        """Return whether records go out on this connection."""
        return self.state in (READY, PLAIN)

    def is_ready(self):
        """Return whether a session is open."""
        return self.state == READY

    def is_plain(self):
        """Return whether plain frames are spoken."""
        return self.state == PLAIN

    def is_connecting(self):
        """Return whether a socket is there that is not connected yet, by TCP and TLS."""
        return self.state in (CONNECTING, SECURING)

    def is_opening(self):
        """Return whether a connection is on its way to its first answer from the collector."""
        return self.state in (CONNECTING, SECURING, GREETING)

    def wants_to_write(self):
        """Return whether something waits until the socket can be written."""
        if self.state == SECURING:
            return self.sock.wants_write
        return self.state == CONNECTING or bool(self.out) or self.has_more

    def pump(self):
        """Do whatever can be done now: connect, read, send."""
        for _ in range(5):
            state = self.state
            if state == IDLE:
                if not self._connect():
                    return
            elif state == CONNECTING:
                self._finish_connecting()
            elif state == SECURING:
                self._finish_securing()
            elif state == GREETING:
                self.flush()
                self.read()
                if self.state == GREETING and monotonic() >= self._deadline:
                    self._end_unanswered()
            else:
                if state == PLAIN and not self._fallback.is_due() and not self._queue.unsent and not self.out:
                    self.disconnect()
                    continue
                if state == READY:
                    self.looks_alive()
                else:
                    self.read()
                if self.state == state:
                    self.write()
            if self.state == state:
                return

    # Connecting

    def _connect(self):
        """Begin to connect; return whether something began."""
        sock = self._connector.take_made_socket()
        if sock is not None:
            self._secure(sock)
            return True
        now = monotonic()
        if not self._connector.is_due(now) or (self._queue.is_empty() and not self.out):
            return False
        if self._away_since is None:
            self._away_since = now
        is_tired = self._fruitless > _MOST_FRUITLESS
        opened = self._connector.open(now, _FRUITLESS_PAUSE_S if is_tired else self._options.retry_pause)
        if opened is None:
            return False
        sock, is_connected = opened
        if sock is None:
            self._fallback.note_unreachable()
            return False
        if is_connected:
            self._secure(sock)
        else:
            self.sock = sock
            self.state = CONNECTING
        return True

    def _finish_connecting(self):
        is_connected = self._connector.is_connected(self.sock)
        if is_connected:
            self._secure(self.sock)
        elif is_connected is not None:
            self.close_socket()

    def _secure(self, sock):
        """Begin the TLS handshake on a connected socket; without TLS begin to speak at once."""
        self._fruitless += 1
        if self._options.tls is None:
            self._greet(sock)
            return
        self._connector.has_connected = True
        try:
            self.sock = begin_tls(sock, self._options.tls)
        except TlsError as error:
            self.sock = None
            self.end_failed(error)
            return
        self.state = SECURING
        self._deadline = monotonic() + self._options.connect_timeout
        self._finish_securing()

    def _finish_securing(self):
        try:
            is_secure = self.sock.handshake()
        except EnvironmentError as error:
            self.end_failed(error)
            return
        if is_secure:
            self._greet(self.sock)
        elif monotonic() >= self._deadline:
            text = u"does not answer the TLS handshake within %g s" % self._options.connect_timeout
            self.end_failed(TlsError(text, is_final=False))

    def _greet(self, sock):
        """Begin to speak on a connected socket: HELLO, or plain frames."""
        self._connector.begin_anew()
        self.use(sock)
        self._counts["connections"] += 1
        self._handed_over = 0
        if self._fallback.is_due():
            self.state = PLAIN
            self._away_since = None
            self._notices.is_sending = True
            return
        version = "%d.%d.%d" % sys.version_info[:3]
        name = text_of(self._options.client_name or socket.gethostname())
        client = u"%s python %s pid %d" % (name, version, os.getpid())
        options = self._options
        self._protocol = ClientProtocol(
            self._queue.session, options.key_id, options.key, client, sender=options.sender
        )
        self.out = self._protocol.hello(self._queue.lowest())
        self.state = GREETING
        self._deadline = monotonic() + self._options.hello_timeout
        self.flush()

    def _end_unanswered(self):
        """Act on a HELLO that was not answered in time."""
        sock, self.sock = self.sock, None
        self.close_socket()
        if self._protocol.heard:
            close_socket(sock)
        else:
            reset_connection(sock)
            if self._fallback.speak_plain(u"answers no HELLO"):
                self._connector.retry_at = 0.0
                return
        self._fallback.note_no_answer(u"does not answer within %g s" % self._options.hello_timeout)

    # Bytes in

    def take_in(self, data):
        """Act on received bytes; a plain receiver's mean nothing. Raises ProtocolError."""
        if self.state == PLAIN:
            return
        if self.state == READY:
            # Records that `emit` sends itself do not go through the protocol's object.
            self._protocol.sent = max(self._protocol.sent, self._queue.last_sent())
        for event in self._protocol.feed(data):
            self._apply_event(event)

    def end_closed(self):
        """Act on a connection that the peer has closed, or that is broken."""
        is_silent = self.state == GREETING and not self._protocol.heard
        self.disconnect()
        if is_silent and self._fallback.note_silent_close():
            self._connector.retry_at = 0.0

    def end_failed(self, error):
        """Act on an EnvironmentError of a read or of the TLS handshake; the reason of a TlsError counts."""
        if not isinstance(error, TlsError) and self.state != SECURING:
            self.end_closed()
            return
        self.disconnect()
        if not isinstance(error, TlsError):
            self._notices.trouble = u"is lost during the TLS handshake: %s" % text_of(error.strerror)
            return
        self._notices.trouble = error.text
        if error.is_final:
            self._connector.retry_at = monotonic() + REFUSED_PAUSE_S
            remedy = u" (%s)" % error.remedy if error.remedy else u""
            self._notices.say_once("tls", u"%s; records are kept%s" % (error.text, remedy))

    def end_violation(self, error):
        """Act on bytes that break the protocol."""
        is_silent = self.state == GREETING and not self._protocol.heard
        self.disconnect()
        if is_silent and self._fallback.speak_plain(u"answers something else"):
            self._connector.retry_at = 0.0
            return
        self._connector.retry_at = monotonic() + REFUSED_PAUSE_S
        self._notices.trouble = u"breaks the protocol: %s" % error
        self._notices.say_once("broken", u"breaks the protocol (%s); records are kept" % error)

    def _apply_event(self, event):
        kind = event[0]
        if kind == "ack":
            self._note_acknowledged(self._queue.forget_sent(event[1]))
            return
        self._fallback.has_collector = True
        if kind == "rejected":
            self._counts["rejected"] += event[2]
            text = u"does not store %s; its rejected.jsonl has the reasons" % count_records(event[2])
            self._notices.say_once("rejected", text)
        elif kind == "send":
            self.out += event[1]
            self.flush()
        elif kind == "wait":
            self._deadline = monotonic() + _WELCOME_PATIENCE_S
        elif kind == "welcome":
            self._begin_session(event[1])
        else:
            self._end_refused(event[1], printable(event[2]))

    def _note_acknowledged(self, count):
        if count:
            self._fruitless = 0

    def _begin_session(self, committed):
        """Act on a welcome: everything up to the number `committed` is stored."""
        self._fallback.note_session()
        self._notices.forget()
        self._notices.is_sending = True
        self._away_since = None
        self.max_record_bytes = min(self._options.max_record_bytes, self._protocol.max_record_bytes)
        self.state = READY
        if committed >= self._queue.next:
            # The collector has records of this session that are not ours: go on under another name.
            self.disconnect()
            self._queue.begin_session()
            return
        self._note_acknowledged(self._queue.forget_unsent(committed))

    def _end_refused(self, code, text):
        """Act on an error by which the collector ends a session; keep records without acknowledgement."""
        self.disconnect()
        self._notices.trouble = u"%s (error %d)" % (text, code)
        if code == GOING_AWAY:
            return
        now = monotonic()
        if code == BUSY:
            self._counts["busy"] += 1
            self._connector.retry_at = now + jittered(BUSY_PAUSE_S)
            said = u"is busy: %s (error %d); records are kept, and sent later" % (text, code)
            self._notices.say_once("busy", said)
            return
        self._connector.retry_at = now + (REFUSED_PAUSE_S if code <= TLS_REQUIRED else _UNKNOWN_PAUSE_S)
        self._notices.say_once(("error", code), u"answers: %s (error %d); records are kept" % (text, code))

    def say_away(self):
        """Say that there has been no connection for long, unless something else has been said."""
        since = self._away_since
        if since is None or monotonic() - since < _AWAY_S or self._notices.has_said_since(since):
            return
        text = u"no connection for %d s%s; kept: %s (%d bytes)"
        text %= (_AWAY_S, self._notices.because(), count_records(self._queue.count_held()), self._queue.held)
        self._notices.say_once("away", text)

    # Bytes out

    def write(self):
        """Send records until the socket takes no more, or _WRITE_BYTES are sent."""
        sent = 0
        self.has_more = False
        while self.flush():
            if sent >= _WRITE_BYTES:
                self.has_more = True
                return
            self.out = self._next_message()
            sent += len(self.out)
            if not self.out:
                queue = self._queue
                is_clear = self.state == READY and not queue.unsent and not queue.writes_ahead
                self.is_direct = is_clear and self.poll is not None
                return

    def _next_message(self):
        """Take the next items from the queue and return them as one message; empty if there is nothing to send."""
        queue = self._queue
        if self.state == PLAIN:
            while True:
                _, pickles = queue.take_batch(MESSAGE_BYTES, _PLAIN_RECORD_BYTES)
                if pickles or not queue.skip_gap():
                    return b"".join([part for data in pickles for part in (LENGTH.pack(len(data)), data)])
        most = self._protocol.max_batch_bytes
        first, pickles = queue.take_batch(min(most, MESSAGE_BYTES), most)
        if pickles:
            return self._protocol.batch(first, pickles)
        taken = queue.take_gap()
        if taken is None:
            return b""
        number, gap = taken
        return self._protocol.gap(number, gap.count, gap.oldest, gap.newest, gap.reason)

    def note_sent(self, count):
        """Forget plain frames that the kernel has taken: nothing else will be heard of them."""
        if self.state == PLAIN:
            self._handed_over = self._queue.hand_over(self._handed_over + count)

    def say_bye(self):
        """End the session in order, if there is one, and TLS."""
        if self.state == READY:
            self.out += self._protocol.bye()
        if self.is_in_use() and self.flush() and isinstance(self.sock, TlsSocket):
            self.sock.end()

    # The end

    def disconnect(self):
        """Close the connection, and have everything that is not acknowledged sent again."""
        self.close_socket()
        self._queue.requeue()

    def close_socket(self):
        """Close the connection, and leave the queue as it is."""
        self.drop()
        self.state = IDLE
        self.has_more = False
        self._handed_over = 0
        self._notices.is_sending = False
