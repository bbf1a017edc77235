"""Joins the parts of one handler in one process: takes records in, sends them, waits, flushes and closes.

Knows nothing of LogRecords: a record is its pickle and the time of its creation.
"""
from __future__ import absolute_import, division

import time

from ._adoption import Adopter
from ._clock import TICK_S, monotonic
from ._compat import get_ident, getpid, is_in_event_loop
from ._connector import Connector
from ._endings import Endings
from ._eventlet import may_wait_here
from ._fallback import Fallback
from ._link import Link
from ._notices import Notices, report_failure
from ._queue import Queue
from ._section import Section
from ._sockets import close_socket, wait_for, would_block
from ._spool import forget_locks_of_parents
from ._spooled_queue import SpooledQueue
from ._threads import Helper, flush_with_multiprocessing, is_interpreter_ending, join_threads

_TRY_EVERY = 64
"""A full socket is tried again by `submit` with each record whose number is a multiple of this."""
_WAIT_BURST_S = 0.02
_WAIT_LEAST_S = 0.005
_WAIT_SHARE = 0.01
"""`submit` waits for a connection at most _WAIT_BURST_S at once, and _WAIT_SHARE of the time from there on, in pieces
of _WAIT_LEAST_S or more: together 30 ms in any second, which leaves as much for its work."""
_STOP_S = 0.2


class Allowance(object):
    """How long `submit` may wait for a connection."""

    def __init__(self):
        self.seconds = _WAIT_BURST_S
        self._at = monotonic()

    def is_spent(self):
        """Return whether the helper alone looks for an answer now; in an asyncio loop always."""
        now = monotonic()
        self.seconds = min(_WAIT_BURST_S, self.seconds + (now - self._at) * _WAIT_SHARE)
        self._at = now
        return self.seconds < _WAIT_LEAST_S or is_in_event_loop()


class Client(object):
    """What a handler has in one process. Methods whose docstring says so need the lock (`section`)."""

    def __init__(self, options, make_socket=None):
        """Take the function that makes a subclass's sockets, or None for plain ones. Connects to nothing."""
        self.options = options
        self._make_socket = make_socket
        where = options.host if options.port is None else "%s:%d" % (options.host, options.port)
        self.notices = Notices(where)
        if options.sender_trouble is not None:
            self.notices.say_once("sender", options.sender_trouble)
        self._fallback = Fallback(options, self.notices)
        self.section = Section(options)
        self.is_bequeathed = False
        """Whether the handler is gone, and this goes on without it (`Estate`)."""
        self._begin({})

    def _begin(self, counts):
        """Start with a new session, and with no thread and no connection."""
        self.pid = getpid()
        self.counts = counts
        queue_class = SpooledQueue if self.options.overflow == "spool" else Queue
        self.queue = queue_class(self.options, self.notices, counts)
        self._fallback.reset()
        self.connector = Connector(self.options, self.notices, self._make_socket)
        self.link = Link(self.options, self.queue, self.connector, self._fallback, self.notices, counts)
        self.helper = Helper()
        self.adopter = Adopter(self.options, self.notices, counts, self._make_socket)
        self.has_forked_inside = False
        """Whether this process was forked by a thread that was inside: its record is the parent's."""
        self._is_new = True
        """Whether no record was submitted yet."""
        self.is_closed = False
        """Whether `close` was called, and nothing submitted since."""
        self._endings = Endings(self)
        self._allowance = Allowance()

    # Records in; the lock is held

    def submit(self, data, created):
        """Give one record its number, keep it, and try to send it: any case. Needs the lock."""
        queue, link = self.queue, self.link
        if self.is_closed:
            self.is_closed = False
            if is_interpreter_ending():
                self._endings.begin_late()
        number = queue.next
        place = queue.write_ahead(data, created)
        if not queue.has_room(data):
            self._make_room(data)
        link.is_direct = False
        if queue.add(data, created, place):
            self._send_queued(number)
        elif queue.disk_from is not None:
            link.pump()
        if self._endings.is_late():
            self._endings.deliver_late()
        else:
            self.start_helper()

    def start_helper(self):
        """Start the helper's thread, if there is none."""
        if self.helper.thread is None:
            self.helper.start(self)

    def _send_queued(self, number):
        if self._is_new:
            self._is_new = False
            flush_with_multiprocessing(self)
        link = self.link
        # The helper waits until a full socket has room; but not always, for it may be a greenlet that gets no turn.
        is_tried = not (link.out or link.has_more) or not number % _TRY_EVERY or self.helper.thread is None
        if link.is_ready() and is_tried and link.flush() and link.looks_alive():
            link.write()
        if not link.is_ready():
            self._pump_and_wait()

    def note_unsendable(self, error, message):
        """Take note that `emit` could not send a message at all. Needs the lock."""
        self.link.is_direct = False
        if would_block(error):
            self.link.out = message
        else:
            self.link.read_last_words()
            self._pump_and_wait()

    def _make_room(self, data):
        """Make room in memory, as the policy says."""
        overflow = self.options.overflow
        if overflow == "drop_old":
            # Of plain frames, the first of those handed to the kernel may be on its way in part.
            while not self.queue.has_room(data) and self.queue.drop_oldest(with_sent=not self.link.is_plain()):
                pass
        elif overflow == "block":
            self._wait_for_room(data)
        else:
            self.link.pump()

    def _wait_for_room(self, data):
        """Wait for room at most block_timeout, unless that was in vain since the last acknowledgement.

        In a thread with a running asyncio loop, do not wait. The lock is free meanwhile: such a thread may need it.
        """
        link, queue = self.link, self.queue
        link.pump()
        if is_in_event_loop():
            return
        deadline = None
        while not queue.has_room(data) and not queue.is_saturated:
            now = monotonic()
            if deadline is None:
                deadline = now + self.options.block_timeout
            if now >= deadline:
                queue.is_saturated = True
                return
            self.start_helper()
            self.section.run_outside(wait_for, link.sock, link.wants_to_write(), min(deadline - now, TICK_S))
            link.pump()

    def _pump_and_wait(self):
        """As the link's `pump`, and wait a little for the collector's first answers, as far as the allowance goes."""
        link, connector = self.link, self.connector
        if not (link.is_opening() and self.helper.thread is not None and self._allowance.is_spent()):
            link.pump()
        while link.is_opening() or (link.sock is None and connector.step is not None):
            if self._allowance.is_spent() or (link.sock is None and not may_wait_here()):
                return
            started, asked = time.time(), self._allowance.seconds
            if link.sock is None:
                self.start_helper()
                connector.step_done.wait(asked)
                in_time = connector.step_done.is_set()
            else:
                in_time = wait_for(link.sock, link.wants_to_write(), asked)
            spent = min(max(time.time() - started, 0.0005), asked) if in_time else asked
            self._allowance.seconds -= spent
            if not in_time:
                return
            link.pump()

    def take_deferred(self):
        """Submit the records that were logged by threads while they were inside. Raises no Exception."""
        section = self.section
        me = get_ident()
        while section.deferred and me not in section.inside:
            try:
                section.run(self._take_one_deferred)
            except Exception:  # noqa: BLE001 - as in emit
                report_failure()

    def _take_one_deferred(self):
        try:
            data, created = self.section.deferred.popleft()
        except IndexError:
            return
        try:
            self.submit(data, created)
        except BaseException:
            self.recover()
            raise

    def recover(self):
        """Make everything whole again after an exception that may have come from any line. Needs the lock."""
        self.link.close_socket()
        self.queue.recover()

    # Files

    def look_after_files(self):
        """Check the spool's files, and now and then look for those of ended processes. Needs the lock."""
        self.queue.look_after_files()
        if self.queue.writes_ahead and self.adopter.is_due():
            self.adopt()

    def adopt(self):
        """Start to send the spools of ended processes, if there are any."""
        self.adopter.start(self.queue.session, self.section.run)

    # Counters, and the wait for acknowledgements

    def is_done(self):
        """Return whether nothing is held."""
        return self.queue.is_empty() and not self.link.out and not self.section.deferred

    def count(self):
        """Return the counters of this process. Needs the lock."""
        queue = self.queue
        counts = dict(self.counts)
        counts["emitted"] = queue.next - 1
        counts["held"] = queue.count_held()
        counts["held_bytes"] = queue.held
        counts["spool_bytes"] = queue.file_bytes()
        counts["unspooled"] = queue.count_unwritten()
        counts["connected"] = self.link.is_in_use()
        counts["plain"] = self._fallback.is_plain
        return counts

    def is_spooled(self):
        """Return whether files have every record that is not acknowledged."""
        return self.queue.writes_ahead and not self.queue.count_unwritten() and not self.section.deferred

    def flush(self, timeout=None):
        """Wait until everything is acknowledged, at most `timeout` (close_timeout) seconds; return whether it is.

        Records that were handed over as plain frames since the last call are not: it waits until they are sent, and
        returns False. Gives up after 3 s without any acknowledgement, and at once if it has just given up. Raises
        nothing.
        """
        try:
            return not self.section.is_mine() and self._endings.flush(timeout)
        except Exception:  # noqa: BLE001 - at the end of the interpreter anything may be gone
            report_failure()
            return False

    def pump_hurried(self):
        """As the link's `pump`, and hold nothing back.

        Return (whether all is acknowledged, how many are, the socket, whether it waits to write).
        """
        queue, link = self.queue, self.link
        queue.is_hurried = True
        try:
            link.pump()
        finally:
            queue.is_hurried = False
        gone = self.counts["acknowledged"] + self.counts["handed_over"]
        return self.is_done(), gone, link.sock, link.wants_to_write()

    # The end, and a new beginning

    def close(self):
        """Wait as `flush` does, but not for records in a spool; stop the threads, say goodbye, close, say what is left.

        A record submitted later opens it again. Raises nothing.
        """
        try:
            if not self.section.is_mine():
                self._endings.flush(None, is_leaving=True)
            self.adopter.let_finish(_STOP_S)
            self.stop_threads(_STOP_S)
            self.section.run(self._close)
        except Exception:  # noqa: BLE001 - at the end of the interpreter anything may be gone
            report_failure()

    def _close(self):
        is_done = self.is_done()
        if is_done:
            self.link.say_bye()
        self.link.disconnect()
        self._endings.say_left(is_done)
        self.is_closed = True
        if not self.queue.writes_ahead:
            return
        if is_done:
            self.queue.remove_files()
        else:
            self.queue.close_files()
            self._begin(self.counts)
            self.is_closed = True

    def stop_threads(self, timeout):
        """Tell the threads to end, and wait at most `timeout` (s) for each."""
        join_threads([self.helper.ask_to_stop(), self.adopter.ask_to_stop()], timeout)

    def needs_threads(self):
        """Return whether `resume_threads` has something to do."""
        return not self.is_done() or (self.queue.writes_ahead and self.adopter.was_at_work)

    def end_idle(self):
        """Act on a thread that ends because nothing is held. Needs the lock."""
        if self.is_bequeathed:
            self.link.say_bye()
            self.link.disconnect()
        self.queue.remove_files()

    def has_plain_sockets(self):
        """Return whether the sockets are this package's own, and not a subclass's."""
        return self._make_socket is None

    def resume_threads(self):
        """Start the threads again that were stopped before a fork, where there is something to do."""
        if not self.is_done():
            self.start_helper()
        if self.queue.writes_ahead and self.adopter.was_at_work:
            self.adopt()

    def begin_in_child(self):
        """Leave everything to the parent, except our copies of the descriptors of its sockets and spool."""
        is_inside = self.section.is_mine()
        sock, queue, delivery = self.link.sock, self.queue, self.adopter.delivery
        self.section = Section(self.options)
        self._begin({})
        forget_locks_of_parents()
        self.has_forked_inside = is_inside
        if sock is not None:
            close_socket(sock)
        queue.close_files()
        if delivery is not None:
            delivery.close_socket()
