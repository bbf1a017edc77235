"""Holds records in memory and in a spool: each is written to a file before it is sent.

Records beyond the limit of memory are in the spool only, until there is room for them. Knows nothing of sockets and
threads.
"""
from __future__ import absolute_import, division

import time

from ._clock import monotonic
from ._compat import text_of
from ._queue import OVERHEAD, Gap, Queue
from ._spool import Spool

_SPOOL_RETRY_S = 0.25
_RESPOOL_BYTES = 1 << 20
"""How much one call writes to a spool again that could not be written for a while."""


class SpooledQueue(Queue):
    """A queue with a spool behind it. Not safe for threads."""

    writes_ahead = True

    def __init__(self, options, notices, counts):
        """Begin a session; its files are made with the first record."""
        Queue.__init__(self, options, notices, counts)
        self.spool = self._make_spool()
        self.spool_retry_at = 0.0
        self.unspooled = None
        """Number of the first record that is in memory and could not be written to the spool."""
        self._disk_place = None  # in the spool, of record disk_from
        self._disk_dropped = None  # (oldest, newest) created of records that had no room there
        self._disk_lost = 0  # how many those are, as far as no gap covers them yet

    def _make_spool(self):
        options = self.options
        return Spool(options.spool_dir, self.session, options.spool_limit_bytes, options.sender)

    # Records in

    def write_ahead(self, data, created):
        """Write a record to the spool, after those that could not be written before; return its place or None."""
        spool = self.spool
        if monotonic() < self.spool_retry_at:
            return None
        if self.unspooled is not None and not self._respool(not self.fits(len(data) + OVERHEAD)):
            return None
        place = spool.append(self.next, created, data)
        if place is None and spool.lost:
            self._note_lost_spool()
            if self._respool(everything=True):
                place = spool.append(self.next, created, data)
        if place is None:
            self._note_unwritable()
        return place

    def has_room(self, data):
        """Return whether a record can be added without dropping one, as far as memory goes."""
        return self.disk_from is not None or Queue.has_room(self, data)

    def add(self, data, created, place):
        """Give a record its number; hold it in memory, or leave it in the spool, or drop it if it is in neither."""
        if self.disk_from is None and self.fits(len(data) + OVERHEAD):
            if place is None and self.unspooled is None:
                self.unspooled = self.next
            self._append(data, created)
            return True
        if place is None and self.disk_from is None:
            self.drop_newest(created)
            return False
        if place is None:
            self._count_dropped()
            self._disk_lost += 1
            self._disk_dropped = ((self._disk_dropped or (created,))[0], created)
        elif self.disk_from is None:
            self.disk_from, self._disk_place = self.next, place
        self.next += 1
        return False

    def _note_unwritable(self):
        """Say why the spool cannot be written, and leave it alone for a moment."""
        failure = self.spool.failure
        if failure is None:
            why = u"is full (spool_limit_bytes is %d)" % self.spool.max_bytes
        else:
            why = u"cannot be written: %s" % text_of(failure.strerror or failure)
        if failure is not None or self.unspooled is not None:
            self.spool_retry_at = monotonic() + _SPOOL_RETRY_S
        text = u"the spool in %s %s; records are kept in memory, and dropped when that is full"
        self._notices.say_once("spool", text % (text_of(self.options.spool_dir), why))

    # Records that are in memory only

    def _unwritten(self):
        """Yield the items that the spool should hold and does not, in order."""
        if self.unspooled is not None:
            for queue in (self.unacked, self.unsent):
                for item in queue:
                    if item[0] >= self.unspooled and item[1].__class__ is not Gap:
                        yield item

    def count_unwritten(self):
        """Return how many records the spool should hold and does not."""
        return sum(1 for _ in self._unwritten())

    def _respool(self, everything):
        """Write to the spool the records that are missing in it; return whether it has all of them now.

        At most about _RESPOOL_BYTES, unless `everything`.
        """
        if monotonic() < self.spool_retry_at:
            return False
        size = 0
        for number, data, created in self._unwritten():
            if size > _RESPOOL_BYTES and not everything:
                self.unspooled = number
                return False
            if self.spool.append(number, created, data) is None:
                self.unspooled = number
                self._note_unwritable()
                return False
            size += len(data)
        self.unspooled = None
        return True

    def _note_lost_spool(self):
        """Have the records that are held written again, to another file: the spool's file was removed."""
        self.spool.lost = False
        text = u"the spool's files in %s were removed or closed; records that are not acknowledged are written again"
        self._notices.say_once("lost", text % text_of(self.options.spool_dir))
        self.unspooled = min(self.spool.last + 1, self.next)
        self.spool_retry_at = 0.0

    def look_after_files(self):
        """Check the spool's files, and write the records that are missing in them."""
        self.spool.look()
        if self.spool.lost:
            self._note_lost_spool()
        if self.unspooled is not None:
            self._respool(False)

    # Records that are in the spool only

    def take_batch(self, usual_bytes, most_bytes):
        """As Queue's; when memory has nothing to send, take records out of the spool first."""
        if self.disk_from is not None and not self.unsent:
            self._refill()
        return Queue.take_batch(self, usual_bytes, most_bytes)

    def _refill(self):
        """Take records that are in the spool only into memory, as far as there is room."""
        while self.disk_from is not None and self.held < self.options.limit_bytes // 2:
            entries, self._disk_place = self.spool.read(self.disk_from, self._disk_place)
            failure = self.spool.failure
            if failure is not None:
                text = u"a part of the spool in %s cannot be read: %s; missing records are counted as dropped"
                where, why = text_of(self.options.spool_dir), text_of(failure.strerror or failure)
                self._notices.say_once("unreadable", text % (where, why))
            for number, created, data in entries:
                if number > self.disk_from:
                    self._add_disk_gap(number)
                self.unsent.append((number, data, created))
                self.held += len(data) + OVERHEAD
                self.disk_from = number + 1
            if not entries:
                if self.disk_from < self.next:
                    self._add_disk_gap(self.next)
                self.disk_from = self._disk_place = self._disk_dropped = None

    def _add_disk_gap(self, number):
        """Put a gap up to this number into the queue: the spool had no room for these records, or has lost them."""
        oldest, newest = self._disk_dropped or (time.time(), time.time())
        count = number - self.disk_from
        counted = min(count, self._disk_lost)
        self._disk_lost -= counted
        self.counts["dropped"] += count - counted
        self.unsent.append((self.disk_from, Gap(count, oldest, newest, u"not in the spool", False), oldest))
        self.held += OVERHEAD

    # Records done

    def _settle(self, number):
        self.spool.forget(number)

    def begin_session(self):
        """Go on under a new session and with a new spool; records that only the old spool has are dropped."""
        Queue.begin_session(self)
        self.spool.remove()
        self.spool = self._make_spool()
        self.unspooled = self.lowest()

    def remove_files(self):
        """Remove the spool, of which every record is acknowledged; the next record begins another."""
        self.spool.remove()
        self.unspooled = None

    def close_files(self):
        """Close the spool's files and leave them, for a sibling or the next start."""
        self.spool.close()

    def file_bytes(self):
        """Return the bytes of the spool's files."""
        return self.spool.bytes
