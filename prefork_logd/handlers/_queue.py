"""Holds the records that are not acknowledged: their numbers, the room that they take, and the gaps of dropped ones.

Knows nothing of sockets, threads and files.
"""
from __future__ import absolute_import, division

import collections
import os
import time

from ._clock import monotonic
from ._session import BATCH_BODY, LENGTH

OVERHEAD = 160
"""Bytes of memory that a held record takes beside its pickle."""
_GAP_HELD_S = 1.0
"""How long a gap at the end waits for more drops before it is sent."""


class Gap(object):
    """Numbers that were dropped, as an item of the queue in the place of a pickle."""

    __slots__ = ("count", "newest", "oldest", "reason", "sent")

    def __init__(self, count, oldest, newest, reason, sent):
        self.count = count
        self.oldest = oldest
        self.newest = newest
        self.reason = reason
        self.sent = sent
        """Whether the records themselves had been sent: then they may turn out to be committed."""

    def __len__(self):
        return 0


class Queue(object):
    """The records of one session in memory, oldest first; an item is (number, pickle or Gap, created).

    Numbers have no holes: each is in the queue, in a gap, acknowledged, or in a subclass's files. Not safe for threads.
    """

    writes_ahead = False
    """Whether records are written to files before they are sent."""

    def __init__(self, options, notices, counts):
        """Begin a session; `counts` gets "acknowledged", "handed_over" and "dropped"."""
        self.options = options
        self._notices = notices
        self.counts = counts
        for name in ("acknowledged", "handed_over", "dropped"):
            counts.setdefault(name, 0)
        self.session = os.urandom(16)
        self.next = 1
        """The next record's number."""
        self.unsent = collections.deque()
        self.unacked = collections.deque()  # before those of unsent
        self.held = 0
        """Bytes of memory."""
        self.disk_from = None
        """Number of the first record that only a subclass's files hold."""
        self.is_saturated = False
        """Whether waiting for room was in vain since the last acknowledgement."""
        self.is_hurried = False
        """Whether a gap that may still grow is sent, too."""
        self._gap_since = 0.0

    # Records in

    def write_ahead(self, data, created):
        """Write a record to files; return its place there, None if it is not in any."""

    def fits(self, size):
        """Return whether so many more bytes may be held in memory: one record may, however large."""
        return self.held + size <= self.options.limit_bytes or not self.held

    def has_room(self, data):
        """Return whether a record can be added without dropping one."""
        return self.fits(len(data) + OVERHEAD)

    def add(self, data, created, place):  # noqa: ARG002 - a subclass's files
        """Give a record its number and hold it, or drop it if it does not fit; return whether it is held in memory."""
        if not self.has_room(data):
            self.drop_newest(created)
            return False
        self._append(data, created)
        return True

    def _append(self, data, created):
        self.unsent.append((self.next, data, created))
        self.next += 1
        self.held += len(data) + OVERHEAD

    # Records dropped

    def drop_newest(self, created, reason=u"no room for it"):
        """Use up the next number for a record that is not held."""
        self._count_dropped()
        last = self.unsent[-1] if self.unsent else None
        if last is not None and last[1].__class__ is Gap and last[1].reason == reason and not last[1].sent:
            last[1].newest = created
            last[1].count += 1
        else:
            self.unsent.append((self.next, Gap(1, created, created, reason, False), created))
            self.held += OVERHEAD
            self._gap_since = monotonic()
        self.next += 1

    def drop_oldest(self, with_sent):
        """Turn the oldest record held into a gap, a sent one only if `with_sent`; return whether there was a record."""
        queues = ((self.unacked, True), (self.unsent, False))
        for queue, sent in queues if with_sent else queues[1:]:
            gaps = []
            while queue and queue[0][1].__class__ is Gap:
                gaps.append(queue.popleft())
            has_record = bool(queue)
            if has_record:
                self._drop_first(queue, gaps, sent)
            queue.extendleft(reversed(gaps))
            if has_record:
                return True
        return False

    def _drop_first(self, queue, gaps, sent):
        """Move the first record of a queue into the last of the gaps before it, or into a new one."""
        number, data, created = queue.popleft()
        last = gaps[-1][1] if gaps else None
        if last is not None and last.sent == sent:
            last.count += 1
            last.oldest = min(last.oldest, created)
            last.newest = max(last.newest, created)
            self.held -= len(data) + OVERHEAD
        else:
            gaps.append((number, Gap(1, created, created, u"the oldest, for room", sent), created))
            self.held -= len(data)
        self._count_dropped()

    def _count_dropped(self):
        self.counts["dropped"] += 1
        if not self._notices.has_said("dropping"):
            text = u"records are dropped: %d bytes are held, and overflow is %r; counters() tells how many"
            text = text % (self.held, self.options.overflow) + self._notices.because()
            self._notices.say_once("dropping", text)

    # Records out

    def lowest(self):
        """Return the lowest number held, or the next one to be sent if none is held in memory."""
        for queue in (self.unacked, self.unsent):
            if queue:
                return queue[0][0]
        return self._end()

    def last_sent(self):
        """Return the highest number that was sent, or settled before."""
        return (self.unsent[0][0] if self.unsent else self._end()) - 1

    def _end(self):
        """Return the number that follows the last one in memory."""
        return self.next if self.disk_from is None else self.disk_from

    def count_held(self):
        """Return how many records are neither done nor dropped."""
        return self.next - 1 - sum(self.counts[name] for name in ("acknowledged", "handed_over", "dropped"))

    def is_empty(self):
        """Return whether nothing is held, in memory or in files."""
        return not (self.unsent or self.unacked or self.disk_from is not None)

    def take_batch(self, usual_bytes, most_bytes):
        """Move the next records to those sent, as many as one message takes; return (first number, [pickle, ...]).

        Without a pickle if a gap comes first, or nothing. A message has `usual_bytes`, or one record of `most_bytes`;
        a larger record becomes a gap.
        """
        unsent = self.unsent
        first, size, pickles = (unsent[0][0] if unsent else 0), BATCH_BODY.size, []
        while unsent:
            item = unsent[0]
            data = item[1]
            size += LENGTH.size + len(data)
            if data.__class__ is Gap or (size > usual_bytes and pickles):
                break
            if size > most_bytes:
                reason = u"a record of %d bytes, more than a batch may have" % len(data)
                unsent[0] = (first, Gap(1, item[2], item[2], reason, False), item[2])
                self.held -= len(data)
                self.counts["dropped"] += 1
                break
            pickles.append(data)
            self.unacked.append(item)
            unsent.popleft()
        return first, pickles

    def take_gap(self):
        """Move the gap that comes next to the items sent; return (number, Gap), or None while it may still grow."""
        unsent = self.unsent
        if not unsent or unsent[0][1].__class__ is not Gap:
            return None
        if len(unsent) == 1 and not self.is_hurried and monotonic() - self._gap_since < _GAP_HELD_S:
            return None
        number, gap, _ = unsent[0]
        gap.sent = False
        self.unacked.append(unsent[0])
        unsent.popleft()
        return number, gap

    def skip_gap(self):
        """Forget the gap that comes next, which plain frames cannot tell; return whether there was one."""
        if not self.unsent or self.unsent[0][1].__class__ is not Gap:
            return False
        self.unsent.popleft()
        self.held -= OVERHEAD
        return True

    # Records done

    def forget_sent(self, number):
        """Forget the sent items up to this number, which are acknowledged; return how many records they were."""
        return self._forget(self.unacked, number)

    def forget_unsent(self, number):
        """Forget the items that wait to be sent again, up to this number; return how many records they were."""
        return self._forget(self.unsent, number)

    def _forget(self, queue, number):
        count = freed = 0
        while queue:
            first, data, created = queue[0]
            if first > number:
                break
            if data.__class__ is Gap:
                last = first + data.count - 1
                covered = min(last, number) - first + 1
                if data.sent:
                    # Dropped here, and committed by the collector all the same.
                    self.counts["dropped"] -= covered
                    count += covered
                data.count -= covered
                if data.count:
                    queue[0] = (number + 1, data, created)
                    break
                freed += OVERHEAD
            else:
                count += 1
                freed += len(data) + OVERHEAD
            queue.popleft()
        self.held -= freed
        self.counts["acknowledged"] += count
        self.is_saturated = False
        self._settle(number)
        return count

    def hand_over(self, taken):
        """Forget the plain frames of which the kernel has taken the last byte; return the bytes that it took beyond."""
        unacked = self.unacked
        while unacked and taken >= LENGTH.size + len(unacked[0][1]):
            number, data, _ = unacked.popleft()
            taken -= LENGTH.size + len(data)
            self.held -= len(data) + OVERHEAD
            self.counts["handed_over"] += 1
            self.is_saturated = False
            self._settle(number)
        return taken

    def _settle(self, number):
        """Remove files that hold nothing above this number."""

    def requeue(self):
        """Have everything that is not acknowledged sent again."""
        self.unsent.extendleft(reversed(self.unacked))
        self.unacked.clear()

    def begin_session(self):
        """Go on under a new session, with the same numbers."""
        self.session = os.urandom(16)

    # Files, of which this class has none

    def look_after_files(self):
        """Check files, and write the records that are missing in them."""

    def remove_files(self):
        """Remove files, of which every record is acknowledged."""

    def close_files(self):
        """Close files and leave them, for another process."""

    def count_unwritten(self):
        """Return how many records files should hold and do not."""
        return 0

    def file_bytes(self):
        """Return the bytes of files."""
        return 0

    # After an interruption

    def recover(self):
        """Make the queues whole again after an exception that may have come from any line."""
        items = dict((item[0], item) for item in list(self.unacked) + list(self.unsent))
        self.unacked.clear()
        self.unsent = collections.deque(items[number] for number in sorted(items))
        if self.unsent:
            number, data, _ = self.unsent[-1]
            self.next = max(self.next, number + (data.count if data.__class__ is Gap else 1))
        self._fill_holes()
        self.held = sum(len(item[1]) + OVERHEAD for item in self.unsent)

    def _fill_holes(self):
        """Put gaps where numbers were used up and nothing is in the queue."""
        whole = collections.deque()
        expected = self.unsent[0][0] if self.unsent else self.next
        for item in self.unsent:
            if item[0] > expected:
                gap = Gap(item[0] - expected, item[2], item[2], u"interrupted", False)
                whole.append((expected, gap, item[2]))
            whole.append(item)
            expected = item[0] + (item[1].count if item[1].__class__ is Gap else 1)
        if expected < self._end():
            now = time.time()
            whole.append((expected, Gap(self._end() - expected, now, now, u"interrupted", False), now))
        self.unsent = whole
