"""Takes log records from the application: the handler that `logging` calls.

    handler = prefork_logd.handlers.SocketHandler("logs.example.com", 9020)

Owns what the application sees: emit, flush, close, and what a subclass may override. Nothing here raises into the
application, except for wrong arguments to the constructor. Knows nothing of how records get to the collector: that is
the client's business (`Client`), except for the common case of `emit`.
"""
from __future__ import absolute_import, division

import functools
import logging
import logging.handlers
import os
import select
import socket
import threading
import time

from ._client import Client
from ._compat import HAS_FORK_HOOKS, get_ident, getpid
from ._estates import bequeath, inherit, is_reconfiguration, is_shutdown, make_will
from ._notices import report_failure
from ._options import Options, option
from ._pickles import make_pickle
from ._queue import OVERHEAD
from ._session import LENGTH, ONE_RECORD_EXTRA, ONE_RECORD_START, pack_one_record
from ._sockets import NO_SIGNAL, PERHAPS
from ._threads import watch_forks


class SocketHandler(logging.handlers.SocketHandler):
    """Sends records to a prefork-logd collector, each exactly once.

    `host` and `port` as in `logging.handlers.SocketHandler`; "unix:/path" (or a path) with port None is a Unix socket,
    and "tls://host:port" is TLS.

    - key_id, key (text or bytes, at least 16): the secret shared with a collector that demands one. With a key, plain
      frames are never spoken.
    - overflow: what happens when limit_bytes of records are held because the collector is away or slow. "block": emit
      waits for room, at most block_timeout seconds in each stall, then drops new ones; "drop_new"; "drop_old"; "spool":
      every record is also written to a file in spool_dir, until it is acknowledged, up to spool_limit_bytes.
      Whatever is dropped is counted (`counters`) and reported to the collector.
    - limit_bytes: memory for records that are not acknowledged.
    - max_record_bytes: the largest values of larger records are cut.
    - retry_pause, connect_timeout, hello_timeout (s): between two tries to connect; for one try; for the collector's
      first answer.
    - close_timeout (s): how long `flush` and `close`, and so the end of the interpreter, wait for acknowledgements; no
      longer than 3 s without any.
    - fallback: whether to speak plain SocketHandler frames, which are never acknowledged, to a receiver that does not
      answer as a collector does. A collector that hangs, or a proxy without one, looks the same, and loses them.
    - name: what the collector's log calls this client.
    - service, environment, version: who sends the records; None: from OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
    - fields: a dict of texts and numbers that each record gets in its `extra`, unless it has such an attribute itself.
    - default: a function that is asked for plain data for each value of `extra` of a class that is not a plain one; it
      returns the value itself, or raises an Exception, to leave it to the handler (docs/values.md).
    - tls: whether to speak TLS 1.2 or newer (docs/tls.md); None: if one of the following is given. The collector's
      certificate is checked against tls_ca, a file or a folder of certificates in the form PEM (None: those of the
      system), and has to have the name tls_server_name (None: host).
    - tls_cert, tls_key: files with this client's certificate and its key, for a collector that demands one.
    - ssl_context: an ssl.SSLContext of your own, in place of tls_ca, tls_cert and tls_key.
    """

    overflow = option("overflow")
    limit_bytes = option("limit_bytes")
    block_timeout = option("block_timeout")
    spool_dir = option("spool_dir")
    spool_limit_bytes = option("spool_limit_bytes")
    max_record_bytes = option("max_record_bytes")
    retry_pause = option("retry_pause")
    connect_timeout = option("connect_timeout")
    hello_timeout = option("hello_timeout")
    close_timeout = option("close_timeout")
    fallback = option("fallback")
    default = option("default")

    @functools.wraps(Options.__init__)
    def __init__(self, *arguments, **named):
        options = self._options = Options(*arguments, **named)
        self._has_own_pickle = not _is_ours(self, "makePickle")
        has_plain_sockets = _is_ours(self, "makeSocket")
        left = inherit(options) if has_plain_sockets else None
        if left is None:
            self._client = Client(options, None if has_plain_sockets else self.makeSocket)
        else:
            self._client, self._options = left, left.options
        self._pid = getpid()
        logging.handlers.SocketHandler.__init__(self, options.host, options.port)
        watch_forks(self)
        make_will(self, self._client)
        if options.overflow == "spool" and os.path.isdir(options.spool_dir):
            self._client.adopt()

    @property
    def sock(self):
        """The socket of the connection, or None, as in the standard library's handler."""
        return self._client.link.sock

    @sock.setter
    def sock(self, sock):
        # The standard library's constructor does, with None; a client that was inherited keeps its own.
        if sock is not None:
            self._client.link.sock = sock

    def handle(self, record):
        """Emit a record, unless a filter says no. As logging.Handler's, and safe inside of itself.

        A signal handler, a __del__ or a __str__ that logs while this thread is in here has its record queued.
        """
        if self.filters:
            passed = self.filter(record)
            if not passed:
                return passed
            if isinstance(passed, logging.LogRecord):
                record = passed
        if self._pid != getpid():  # also after a fork(2) by C code, of which Python runs no hooks
            self._after_fork_in_child()
        section = self._client.section
        me = get_ident()
        inside = section.inside
        if me in inside:
            self._defer(record)
            return record
        # As Section.run does, without the calls.
        try:
            try:
                inside.add(me)
                with section.mutex:
                    self.emit(record)
            finally:
                inside.discard(me)
        except BaseException:
            section.unstick(me)
            raise
        if section.deferred:
            self._client.take_deferred()
        return record

    def emit(self, record):
        """Give a record its number and try to send it, without waiting. `handle`, which calls this, holds the lock.

        Longer than other functions: the common case (a session with nothing waiting, on a connection that looks
        established) stands here as a whole, because it has to cost no more than the standard library's.
        """
        data = None
        client = self._client
        try:
            options = client.options
            if self._has_own_pickle:
                data = self.makePickle(record)[4:]
            else:
                # A plain receiver gets all that the standard library sends.
                data = make_pickle(
                    record, self.formatter, client.link.max_record_bytes, options.default, not options.fallback
                )
            if not HAS_FORK_HOOKS and self._pid != getpid():
                # A value's __str__ has forked.
                self._after_fork_in_child()
            link = client.link
            if link.is_direct:
                queue = client.queue
                number = queue.next
                size = len(data)
                try:
                    events = link.poll(0)
                except select.error:
                    events = PERHAPS
                if events:
                    link.receive(events)
                held = queue.held + size + OVERHEAD
                if held <= options.limit_bytes and (not events or link.is_direct):
                    message = pack_one_record(ONE_RECORD_START, size + ONE_RECORD_EXTRA, number, 1, size) + data
                    queue.unacked.append((number, data, record.created))
                    queue.next = number + 1
                    queue.held = held
                    try:
                        sent = link.send(message, NO_SIGNAL)
                    except EnvironmentError as error:
                        client.note_unsendable(error, message)
                    else:
                        if sent != len(message):
                            link.out = message[sent:]
                            link.is_direct = False
                    if client.helper.thread is None:
                        client.helper.start(client)
                    return
            client.submit(data, record.created)
        except Exception:  # noqa: BLE001 - whatever happens is not the application's business
            if data is not None:
                client.recover()
            if client.has_forked_inside:
                # Of a fork within emit: the parent has the record.
                client.has_forked_inside = False
            else:
                self.handleError(record)
        except BaseException:  # a KeyboardInterrupt or a gevent.Timeout may come out of any line
            client.recover()
            raise

    def makePickle(self, record):
        """Return a record as the frame that SocketHandler sends: 4 bytes of length, pickle. Raises nothing."""
        client = self._client
        data = make_pickle(record, self.formatter, client.link.max_record_bytes, client.options.default)
        return LENGTH.pack(len(data)) + data

    def send(self, s):
        """Send a frame, made by makePickle; keep it until it is acknowledged."""
        self._check_pid()
        self._client.section.run(self._client.submit, s[4:], time.time())

    def makeSocket(self, timeout=1):
        """Return a connected socket; override it for another kind, such as one through a proxy.

        Called in a thread, and may block. With TLS, the handler speaks it on the socket that this returns.
        """
        if self.port is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            sock.connect(self.host)
            return sock
        return socket.create_connection((self.host, self.port), timeout)

    def createSocket(self):
        """Try to connect, without waiting."""
        self._check_pid()
        self._client.section.run(self._pump)

    def _pump(self):
        self._client.link.pump()

    def handleError(self, record):
        """Report a failure of the handler on stderr, as every handler does; with closeOnError, close the socket."""
        if self.closeOnError and self.sock is not None:
            self._client.link.disconnect()
        else:
            logging.Handler.handleError(self, record)

    def counters(self):
        """Return how many records were emitted, acknowledged, dropped and so on in this process."""
        self._check_pid()
        return self._client.section.run(self._client.count)

    def flush(self, timeout=None):
        """Wait until everything is acknowledged, at most `timeout` (close_timeout) seconds; return whether it is.

        Returns False after plain frames, which are never acknowledged. Gives up after 3 s without any acknowledgement,
        and at once if it has just given up. Of `logging.shutdown`, which calls `close` next, it does not wait.
        """
        try:
            if timeout is None and is_shutdown():
                return False
            self._check_pid()
            return self._client.flush(timeout)
        except Exception:  # noqa: BLE001 - at the end of the interpreter anything may be gone
            report_failure()
            return False

    def close(self):
        """Wait as `flush` does, say goodbye, and close. A record emitted later opens it again.

        With a spool, wait only 0.2 s, and for a collector that is connected. Records that could not be delivered are
        left in the spool, or else counted in a line on stderr. When `logging.config` makes new handlers, do not wait:
        the next handler for the same address sends the rest, or the thread does.
        """
        try:
            self._check_pid()
            if is_reconfiguration() and not self._client.is_done():
                bequeath(self, self._client)
            else:
                self._client.close()
        except Exception:  # noqa: BLE001 - at the end of the interpreter anything may be gone
            report_failure()
        finally:
            logging.Handler.close(self)

    def _defer(self, record):
        """Keep a record for the call of this thread that is inside already."""
        try:
            self._client.section.defer(self.makePickle(record)[4:], record.created)
        except Exception:  # noqa: BLE001 - the record's own __str__ may log, and so on without end
            pass

    # Fork

    def _check_pid(self):
        if self._pid != getpid():
            self._after_fork_in_child()

    def _before_fork(self, timeout):
        self._client.stop_threads(timeout)

    def _needs_threads(self):
        return self._client.needs_threads()

    def _after_fork_in_parent(self):
        self._client.resume_threads()

    def _after_fork_in_child(self):
        """Begin anew, with locks of its own.

        Takes no lock that existed before the fork: a thread that is not here any more may have held it. A fork(2) by C
        code, which Python hears nothing of, leaves the lock of `logging` like that; createLock() would wait for it.
        """
        if self.lock is not None:
            self.lock = threading.RLock()
        self._pid = getpid()
        if self._client.pid != self._pid:  # another handler may share the client, and have been here
            self._client.begin_in_child()


def _is_ours(handler, name):
    """Return whether a method is this class's own, and not a subclass's or an instance's."""
    def function(owner):
        method = getattr(owner, name)
        return getattr(method, "__func__", method)

    return name not in handler.__dict__ and function(type(handler)) is function(SocketHandler)
