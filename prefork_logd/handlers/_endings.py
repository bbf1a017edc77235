"""Waits for acknowledgements: in `flush`, in `close`, and for records that are logged after the end of logging.

Knows nothing of sockets, and of how records are kept: `Client` has them.
"""
from __future__ import absolute_import, division

from ._clock import monotonic
from ._compat import count_records
from ._sockets import wait_for

_PATIENCE_S = 3.0
"""How long `flush` waits without any acknowledgement."""
_FLUSH_AGAIN_S = 0.5
_SPOOLED_S = 0.2
"""How long `close` waits for a connected collector when a spool has everything that is not acknowledged."""
_SAY_WAITING_S = 1.0
"""After this time `close` reports that it waits."""
_LATE_S = 1.0
"""How long all records together wait that are logged after the end of logging, in the last steps of an interpreter."""


class Endings(object):
    """What one client waits for."""

    def __init__(self, client):
        self._client = client
        self._failed_at = None
        self._handed_over = 0  # plain frames, at the end of the last flush
        self._late_until = None
        self._late_lost = 0

    def flush(self, timeout, is_leaving=False):
        """Wait as `Client.flush` does; if `is_leaving`, not for records in a spool, and say so where it takes long."""
        client = self._client
        started = monotonic()
        if timeout is None:
            timeout = client.options.close_timeout
            if self._failed_at is not None and started - self._failed_at < _FLUSH_AGAIN_S:
                return False
        deadline, patience = started + timeout, min(timeout, _PATIENCE_S)
        acknowledged, progress_at = -1, started
        while True:
            is_done, gone, sock, is_writing = client.section.run(client.pump_hurried)
            if is_done:
                self._failed_at = None
                before, self._handed_over = self._handed_over, client.counts["handed_over"]
                return before == self._handed_over
            before, acknowledged = acknowledged, gone
            client.take_deferred()
            now = monotonic()
            if acknowledged != before:
                progress_at = now
            is_late = now >= deadline or now - progress_at >= patience
            if is_late or (is_leaving and not self._is_worth_waiting(now - started)):
                self._failed_at = now
                return False
            client.start_helper()
            if client.helper.thread is None and client.connector.step is not None:
                client.connector.take_step()
            wait_for(sock, is_writing, min(0.02, max(deadline - now, 0.001)))

    def _is_worth_waiting(self, waited):
        """Return whether `close`, which has waited so long (s), waits on."""
        client = self._client
        if client.is_spooled():
            return waited < _SPOOLED_S and (client.link.sock is not None or client.connector.step is not None)
        if waited >= _SAY_WAITING_S and not client.notices.has_said("waiting"):
            text = u"has not acknowledged %s%s; the end waits for that, at most %g s (close_timeout)"
            text %= (count_records(client.queue.count_held()), client.notices.because(), client.options.close_timeout)
            client.notices.say_once("waiting", text)
        return True

    def say_left(self, is_done):
        """Say how many records the collector has not got, as far as no spool has them."""
        client = self._client
        counts = client.count()
        if not client.queue.writes_ahead and not is_done:
            text = u"did not acknowledge %s before the handler was closed" % count_records(counts["held"])
        elif counts["unspooled"]:
            text = u"did not acknowledge %s before the handler was closed, and the spool does not have them"
            text %= count_records(counts["unspooled"])
        elif counts["dropped"]:
            text = u"got all other records before the handler was closed"
        else:
            return
        if counts["dropped"]:
            text += u", and %d were dropped before" % counts["dropped"]
        client.notices.say_once("closed", text + client.notices.because())

    def begin_late(self):
        """Have each record waited for from now on: no thread can start, and no function of atexit will wait."""
        self._late_until = monotonic() + min(self._client.options.close_timeout, _LATE_S)

    def is_late(self):
        """Return whether `begin_late` was called."""
        return self._late_until is not None

    def deliver_late(self):
        """Wait for the acknowledgement of what is held, within _LATE_S for all calls, or say that there is none.

        Needs the lock.
        """
        client, link = self._client, self._client.link
        while True:
            link.pump()
            link.is_direct = False
            remaining = self._late_until - monotonic()
            if client.is_done() or client.is_spooled():
                return
            if remaining <= 0:
                break
            if client.connector.step is not None:
                client.connector.take_step()
            else:
                wait_for(link.sock, link.wants_to_write(), min(remaining, 0.01))
        self._late_lost += 1
        if self._late_lost in (1, 10, 100, 1000, 10000):
            text = u"did not acknowledge %s that came after the end of logging" % count_records(self._late_lost)
            client.notices.say_once(("late", self._late_lost), text + client.notices.because())
