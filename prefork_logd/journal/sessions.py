"""Remembers the committed number of each session, and which connection may continue it.

Owns the table of sessions, its bound, and its form on disk. Does not know files, sockets or clocks: times are passed
in, as whole seconds for which the collector has run since its journal began. The table keeps the last one on disk. The
wall clock is not used: correcting it would expire sessions of connected clients.

A session has one number, `committed`: everything up to it is settled, and `committed + 1` comes next. A client's
HELLO names the lowest number it still holds. It never sends lower ones again, so `open` counts them as settled, and
returns how many numbers it passed over.

A session is remembered from its first committed range on. One that was only opened is not on disk; memory holds the
epochs of the last few. The first range carries the number at which the client was welcomed (`floor`).

Each `open` makes a new epoch. If a client changes from one worker to another, both may hold ranges of its session at
the same time; those of the older epoch are then refused. The verdict on a range of numbers:

    an older epoch than the last                FENCED        leave it out, acknowledge nothing
    ends at or before `committed`               REPEATED      leave it out; this turn acknowledges it
    begins at `committed + 1`                   NEXT          write it, then `commit`
    of a session that is not known, from `floor` on   NEXT    nothing can be missing before it
    begins after a hole, or overlaps            OUT_OF_STEP   leave it out, close the connection: the client reconnects

An epoch newer than the last is accepted: this table may have been recovered from before that epoch was made. If an
epoch is made twice in this way, the numbers alone still keep any record from being stored twice.

Changes are provisional until `settle`: `rollback` reverts the numbers if the turn that wrote the records failed.
Epochs are never reverted.

The table holds at most `most` sessions, and half of that of one peer. Above it the peer with the most loses the session
with the fewest records, and of several the least recently used (fairness.py). So a client that keeps beginning new
sessions displaces only its own.

    tag "PLS2" | seconds that the collector has run u64                                             12 bytes, big-endian
    for each session: id 16 bytes | epoch u64 | committed u64 | last use u32 | records u32 | peer u64     48 bytes
"""

from __future__ import annotations

import enum
import struct
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.config.values import format_count
from prefork_logd.errors import LocalProtocolError
from prefork_logd.journal.fairness import FairOrder

if TYPE_CHECKING:
    from collections.abc import Iterable

SESSION_BYTES = 16
MOST_OPENED = 256
"""Number of sessions without a record whose epoch is kept."""
_TAG = b"PLS2"
_HEAD = struct.Struct(">4sQ")
_ENTRY = struct.Struct(">16sQQIIQ")
_OLD_ENTRY = struct.Struct(">16sQQI")
"""The older form, without a tag: session, epoch, committed, and a time by the wall clock."""
_MOST_32 = (1 << 32) - 1


class Verdict(enum.Enum):
    """What to do with a range of numbers."""

    NEXT = enum.auto()
    REPEATED = enum.auto()
    FENCED = enum.auto()
    OUT_OF_STEP = enum.auto()


class Opened(NamedTuple):
    """What a connection needs to continue a session."""

    epoch: int
    committed: int
    skipped: int
    """Numbers between the last committed here and the lowest that the client holds: they were acknowledged before a
    state directory was lost, or the session expired."""


class _Entry(NamedTuple):
    epoch: int
    committed: int
    used_s: int
    records: int
    """Number of its records, at least; its worth for fairness.py."""
    peer: int
    """The peer that opened it first, as a number of net/peers.py."""


class Sessions:
    """The table."""

    def __init__(self) -> None:
        self.most = sys.maxsize
        """Most sessions remembered; a change takes effect at the next `settle`."""
        self.now_s = 0
        """The latest time passed in or read."""
        self.forgotten = 0
        """Number of sessions forgotten because there were too many."""
        self._entries: dict[bytes, _Entry] = {}
        self._order = FairOrder()
        self._latest = 0
        """The latest epoch."""
        self._opened: OrderedDict[bytes, int] = OrderedDict()
        """Epochs of the last opened sessions without a record, as data of an older connection often arrives late.

        Without them numbers alone decide, and the newer connection may have to reconnect."""
        self._settled: dict[bytes, int | None] = {}
        """The state at the last `settle` of each session changed since; None: it was not known."""

    def __len__(self) -> int:
        """Return the number of remembered sessions."""
        return len(self._entries)

    @property
    def is_changing(self) -> bool:
        """Whether `delta` has changes that are not on disk."""
        return bool(self._settled)

    def open(self, session: bytes, first: int, now_s: int) -> Opened:
        """Begin a new epoch for a client whose lowest number is `first`.

        The answer holds only settled numbers, none that the current turn has committed provisionally.
        """
        self.now_s = max(self.now_s, now_s)
        self._latest += 1
        entry = self._entries.get(session)
        if entry is None:
            self._opened[session] = self._latest
            self._opened.move_to_end(session)
            if len(self._opened) > MOST_OPENED:
                self._opened.popitem(last=False)
            return Opened(self._latest, first - 1, first - 1)
        known = self._settled.get(session, entry.committed) or 0
        settled = max(known, first - 1)
        committed = max(entry.committed, settled)
        self._put(session, entry._replace(epoch=self._latest, committed=committed, used_s=now_s), entry)
        self._settled[session] = settled
        return Opened(self._latest, settled, settled - known)

    def accepts(self, session: bytes, epoch: int, first: int, last: int, floor: int = 0) -> Verdict:
        """Return the verdict on the numbers from `first` to `last` (both included) of an epoch.

        `floor` is the first number that the client sends in this epoch.
        """
        entry = self._entries.get(session)
        if entry is None:
            if epoch < self._opened.get(session, 0):
                return Verdict.FENCED
            return Verdict.NEXT if first == floor else Verdict.OUT_OF_STEP
        if epoch < entry.epoch:
            return Verdict.FENCED
        if last <= entry.committed:
            return Verdict.REPEATED
        return Verdict.NEXT if first == entry.committed + 1 else Verdict.OUT_OF_STEP

    def commit(self, session: bytes, epoch: int, last: int, now_s: int, records: int = 1, peer: int = 0) -> None:
        """Commit the numbers up to `last`, after the verdict NEXT, with so many records of a peer.

        Raises LocalProtocolError if that would be a step back.
        """
        self.now_s = max(self.now_s, now_s)
        entry = self._entries.get(session)
        total = min(max(1, records) + (entry.records if entry is not None else 0), _MOST_32)
        if entry is None:
            self._settled.setdefault(session, None)
            self._latest = max(self._latest, epoch)
            entry_now = _Entry(epoch, last, now_s, total, peer)
        elif epoch < entry.epoch or last <= entry.committed:
            raise LocalProtocolError(f"a session goes from {entry.epoch}, {entry.committed} to {epoch}, {last}")
        else:
            self._settled.setdefault(session, entry.committed)
            entry_now = _Entry(epoch, last, now_s, total, entry.peer)
        self._put(session, entry_now, entry)

    def _put(self, session: bytes, entry: _Entry, before: _Entry | None) -> None:
        self._entries[session] = entry
        if before is None:
            self._order.add(session, entry.peer, entry.records)
        elif before.peer == entry.peer:
            self._order.use(session, entry.peer, before.records, entry.records)
        else:
            self._order.remove(session, before.peer, before.records)
            self._order.add(session, entry.peer, entry.records)

    def _forget(self, session: bytes) -> None:
        entry = self._entries.pop(session)
        self._order.remove(session, entry.peer, entry.records)

    def settle(self) -> None:
        """Make every change since the last call final, after the result of `delta` is safe from a crash.

        Then forget the sessions above the bound.
        """
        entries = self._entries
        touched = []
        for session, known in self._settled.items():
            if known is None:
                touched.append(entries[session].peer)
        self._settled.clear()
        for peer in touched:
            while self._order.count(peer) > max(1, self.most // 2):
                self._forget(self._order.first(peer))
                self.forgotten += 1
        while len(entries) > self.most:
            self._forget(self._order.first())
            self.forgotten += 1

    def rollback(self) -> None:
        """Revert every number since the last `settle`; epochs stay, and are in the next delta."""
        entries = self._entries
        for session, settled in list(self._settled.items()):
            if settled is None:
                self._forget(session)
                del self._settled[session]
            else:
                entries[session] = entries[session]._replace(committed=settled)

    def expire(self, now_s: int, age_s: int) -> int:
        """Forget sessions not used for more than `age_s`, except those that are changing; return how many."""
        self.now_s = max(self.now_s, now_s)
        oldest_s = now_s - age_s
        old = [key for key, entry in self._entries.items() if entry.used_s < oldest_s and key not in self._settled]
        for session in old:
            self._forget(session)
        return len(old)

    # On disk

    def snapshot(self, *, settled: bool = False) -> bytes:
        """Return every session for `apply`, with provisional changes; without them if `settled`."""
        if not settled or not self._settled:
            return self._encode(self._entries.items())
        changed = self._settled
        return self._encode(
            (session, entry if session not in changed else entry._replace(committed=known))
            for session, entry in self._entries.items()
            if (known := changed.get(session, 0)) is not None
        )

    def delta(self) -> bytes:
        """Return the time, and the sessions changed since the last `settle`, for `apply`."""
        entries = self._entries
        return self._encode((session, entries[session]) for session in self._settled)

    def _encode(self, entries: Iterable[tuple[bytes, _Entry]]) -> bytes:
        pack = _ENTRY.pack
        return _HEAD.pack(_TAG, self.now_s) + b"".join(
            [
                pack(session, epoch, committed, min(max(used_s, 0), _MOST_32), records, peer)
                for session, (epoch, committed, used_s, records, peer) in entries
            ]
        )

    def apply(self, data: bytes | memoryview) -> None:
        """Apply a snapshot or a delta: its sessions replace the known ones, and are settled.

        Raises ValueError for other bytes; then nothing is changed.
        """
        if data[: len(_TAG)] == _TAG and (len(data) - _HEAD.size) % _ENTRY.size == 0:
            self.now_s = max(self.now_s, _HEAD.unpack_from(data)[1])
            found = list(_ENTRY.iter_unpack(data[_HEAD.size :]))
        elif len(data) % _OLD_ENTRY.size == 0:
            # Its times are of the wall clock: the sessions count as used now.
            found = [
                (session, epoch, committed, self.now_s, 1, 0)
                for session, epoch, committed, _ in _OLD_ENTRY.iter_unpack(data)
            ]
        else:
            raise ValueError(f"not a table of sessions: {format_count(len(data), 'byte')}")
        for session, *fields in found:
            entry = _Entry(*fields)
            self._put(session, entry, self._entries.get(session))
            self._latest = max(self._latest, entry.epoch)
