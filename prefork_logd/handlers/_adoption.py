"""Sends the spools of ended processes, each on a connection of its own, in a thread of its own.

Knows nothing of this process's own records and connection.
"""
from __future__ import absolute_import, division

import errno
import os
import socket
import threading

from ._clock import TICK_S, jittered, monotonic, pause_in_pieces
from ._compat import text_of
from ._files import to_hex
from ._link import BUSY_PAUSE_S, MESSAGE_BYTES, REFUSED_PAUSE_S
from ._notices import report_failure
from ._segments import read_segment
from ._session import BUSY, GOING_AWAY, ONE_RECORD_EXTRA, ClientProtocol, ProtocolError
from ._sockets import PENDING, RECV_BYTES, begin_connect, close_socket, end_connect, resolve, wait_for, would_block
from ._spool import adopt, is_adopting
from ._threads import make_thread, try_start
from ._tls import TlsError, begin_tls

_ADOPT_EVERY_S = 30.0
_ADOPT_PAUSE_S = 1.0
_PATIENCE_OF_DELIVERY_S = 10.0


class Adopter(object):
    """The thread that sends the spools of ended processes, while there are any."""

    def __init__(self, options, notices, counts, make_socket=None):
        self._options = options
        self._notices = notices
        self._counts = counts
        self._make_socket = make_socket
        counts.setdefault("adopted", 0)
        counts.setdefault("adopted_lost", 0)
        self._thread = self._stop = None
        self._look_at = 0.0
        self.was_at_work = False
        """Whether the thread was told to stop before it was done."""
        self.delivery = None
        """The Delivery that is at work."""

    def is_due(self):
        """Return whether to look for spools again."""
        return monotonic() >= self._look_at

    def start(self, session, run_locked):
        """Start the thread if there are spools of other sessions than this one, and no thread is at work.

        `run_locked(function, *args)` calls with the handler's lock held.
        """
        self._look_at = monotonic() + _ADOPT_EVERY_S
        if self._is_at_work():
            return
        try:
            names = os.listdir(self._options.spool_dir)
        except EnvironmentError:
            return
        own = to_hex(session)
        if not any(name.endswith((".lock", ".spool")) and name[:32] != own for name in names):
            return
        stop = threading.Event()
        self._thread, self._stop = make_thread("prefork-logd spool", stop, self._adopt, run_locked, stop), stop
        if not try_start(self._thread):
            self._thread = None

    def let_finish(self, timeout):
        """Wait while spools are being sent, at most `timeout` (s): a short process would clear none otherwise."""
        deadline = monotonic() + timeout
        while self._is_at_work() and self.delivery is not None and monotonic() < deadline:
            self._thread.join(0.01)

    def ask_to_stop(self):
        """Tell the thread to end; return it, or None."""
        self.was_at_work = self._is_at_work()
        thread, self._thread = self._thread, None
        if self._stop is not None:
            self._stop.set()
        return thread

    def _is_at_work(self):
        return self._thread is not None and self._thread.is_alive()

    def _adopt(self, run_locked, stop):
        """Send every ended session that can be locked; again and again while the collector is away."""
        while not stop.is_set():
            pause = 0.0
            try:
                for session, paths, sender, done in adopt(self._options.spool_dir, self._complain):
                    if stop.is_set():
                        return
                    delivery = self.delivery = Delivery(
                        self._options, session, paths, stop, self._make_socket, sender
                    )
                    try:
                        is_delivered = delivery.run()
                    finally:
                        self.delivery = None
                    if delivery.complaint is not None:
                        self._notices.say_once("certificates", delivery.complaint)
                    if is_delivered:
                        done(delivery.damaged)
                        run_locked(self._count, delivery)
                    else:
                        pause = max(pause, delivery.pause)
            except Exception:  # noqa: BLE001 - as the helper
                if not stop.is_set():
                    report_failure()
                return
            if is_adopting():
                # Another thread sends them now, and may be told to stop before it has.
                pause = max(pause, _ADOPT_PAUSE_S)
            if not pause:
                return
            pause_in_pieces(stop, pause)

    def _complain(self, text):
        self._notices.say_once("adopt", text)

    def _count(self, delivery):
        self._counts["adopted"] += delivery.sent
        self._counts["adopted_lost"] += delivery.lost
        if delivery.damaged:
            text = u"an ended process's spool is damaged: %d of its records were sent, %d are known to be lost; see %s"
            names = u", ".join(text_of(path) + u".damaged" for path in delivery.damaged)
            self._notices.say_once(("damaged", delivery.damaged[0]), text % (delivery.sent, delivery.lost, names))


class Delivery(object):
    """Sends one ended session's records, on a connection of its own.

    Waits in pieces of TICK_S, and looks between them whether to stop; only names and a subclass's makeSocket block.
    """

    def __init__(self, options, session, paths, stop, make_socket=None, sender=b""):
        """Take a session's id, its segments in order, an event that ends the delivery, and the session's sender."""
        self._options = options
        self._paths = paths
        self._stop = stop
        self._make_socket = make_socket
        self._protocol = ClientProtocol(session, options.key_id, options.key, u"adopted spool", sender=sender)
        self._committed = 0
        self._sock = None
        self.pause = _ADOPT_PAUSE_S
        """How long (s) to wait before the next try."""
        self.damaged = []
        """Paths of segments that could not be read as a whole."""
        self.complaint = None
        """A sentence about certificates that could not be read again, or None."""
        self.sent = self.lost = 0
        """Records; lost as far as their numbers are known to be missing."""

    def run(self):
        """Return whether everything that can be read is committed."""
        try:
            first = self._first()
            if first is None:
                return True
            self._sock = self._secured(self._connect())
            self._send(self._protocol.hello(first))
            if not self._wait(lambda: self._protocol.heard, self._options.hello_timeout):
                return False
            return self._wait(lambda: self._protocol.state == "ready") and self._send_all(first)
        except ProtocolError:
            self.pause = REFUSED_PAUSE_S
            return False
        except EnvironmentError as error:
            if isinstance(error, TlsError) and error.is_final:
                self.pause = REFUSED_PAUSE_S
            return False
        finally:
            self.close_socket()

    def close_socket(self):
        """Close the socket; in a child, our copy of it."""
        if self._sock is not None:
            close_socket(self._sock)

    def _connect(self):
        """Return a socket that is connected and does not block. Raises EnvironmentError."""
        options = self._options
        if self._make_socket is not None:
            sock = self._make_socket(options.connect_timeout)
            sock.setblocking(False)
            return sock
        if options.port is None:
            addresses = [(socket.AF_UNIX, options.host)]
        else:
            addresses = options.literal or resolve(options.host, options.port)
        for family, address in addresses:
            sock, failure = begin_connect(family, address)
            deadline = monotonic() + options.connect_timeout
            while failure is PENDING:
                if self._stop.is_set() or monotonic() >= deadline:
                    failure = errno.ETIMEDOUT
                else:
                    wait_for(sock, True, TICK_S)
                    failure = end_connect(sock)
            if failure is None:
                return sock
            if sock is not None:
                close_socket(sock)
        raise EnvironmentError(errno.ECONNREFUSED, "no connection")

    def _secured(self, sock):
        """Return the socket after the TLS handshake; without TLS, as it is. Raises EnvironmentError."""
        tls = self._options.tls
        if tls is None:
            return sock
        self.complaint = tls.renew()
        self._sock = sock = begin_tls(sock, tls)
        deadline = monotonic() + self._options.connect_timeout
        while not sock.handshake():
            if self._stop.is_set() or monotonic() >= deadline:
                raise EnvironmentError(errno.ETIMEDOUT, "no TLS handshake")
            wait_for(sock, sock.wants_write, TICK_S)
        return sock

    def _first(self):
        """Return the lowest number that the files have or had; None if nothing in them is readable."""
        first = None
        for entries in self._chunks():
            first = entries[0][0]
            break
        try:
            named = int(os.path.basename(self._paths[0])[33:53])
        except (ValueError, IndexError):
            named = 0
        return first if first is None else min(named or first, first)

    def _chunks(self):
        """Yield the entries of all segments, some at a time."""
        for path in self._paths:
            offset = 0
            while not self._stop.is_set():
                entries, offset, damaged = read_segment(path, offset, MESSAGE_BYTES)
                if damaged and path not in self.damaged:
                    self.damaged.append(path)
                if not entries:
                    break
                yield entries

    def _send_all(self, first):
        """Send every record and a gap for each missing one; return whether the collector has committed all."""
        # The collector takes the numbers below the first of HELLO for settled.
        last = max(self._committed, first - 1)
        previous = None
        self.sent = self.lost = 0
        for entries in self._chunks():
            for number, created, data in entries:
                if number <= last:
                    continue
                if number > last + 1:
                    oldest = created if previous is None else previous
                    self._send(self._protocol.gap(last + 1, number - last - 1, oldest, created, u"not in the spool"))
                    self.lost += number - last - 1
                self._send_record(number, created, data)
                last, previous = number, created
            self._receive(0.0)
        if self._stop.is_set() or not self._wait(lambda: self._committed >= last):
            return False
        self._send(self._protocol.bye())
        return True

    def _send_record(self, number, created, data):
        if len(data) + ONE_RECORD_EXTRA > self._protocol.max_batch_bytes:
            self._send(self._protocol.gap(number, 1, created, created, u"too large"))
            self.lost += 1
        else:
            self._send(self._protocol.one(number, data))
            self.sent += 1

    def _send(self, data):
        """Send it all. Raises EnvironmentError, also when it takes too long or the delivery is to stop."""
        deadline = monotonic() + _PATIENCE_OF_DELIVERY_S
        while data:
            sent = 0
            try:
                sent = self._sock.send(data)
            except EnvironmentError as error:
                if not would_block(error):
                    self._receive(0.0)  # the reason of the end
                    raise
            data = data[sent:]
            if not sent:
                if self._stop.is_set() or monotonic() >= deadline:
                    raise EnvironmentError(errno.ETIMEDOUT, "not sent")
                wait_for(self._sock, True, TICK_S)

    def _wait(self, reached, patience=_PATIENCE_OF_DELIVERY_S):
        """Read until the condition holds; return whether it did, within `patience` (s) of the last progress."""
        deadline = monotonic() + patience
        while not reached():
            if self._stop.is_set() or self._protocol.state == "closed" or monotonic() >= deadline:
                return False
            before = self._committed, self._protocol.state
            self._receive(TICK_S)
            if (self._committed, self._protocol.state) != before:
                deadline = monotonic() + patience
        return True

    def _receive(self, timeout):
        """Read what has come within `timeout` (s). Raises EnvironmentError, ProtocolError."""
        if not wait_for(self._sock, False, timeout):
            return
        try:
            data = self._sock.recv(RECV_BYTES)
        except EnvironmentError as error:
            if would_block(error):
                return
            raise
        if not data:
            raise EnvironmentError(errno.ECONNRESET, "closed")
        for event in self._protocol.feed(data):
            if event[0] == "send":
                self._send(event[1])
            elif event[0] in ("welcome", "ack"):
                self._committed = event[1]
            elif event[0] == "error":
                self.pause = jittered(BUSY_PAUSE_S) if event[1] in (BUSY, GOING_AWAY) else REFUSED_PAUSE_S
