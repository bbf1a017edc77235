"""How far each session is committed, and who may go on with it.

Owns the table of sessions and its form on disk. Knows no files, sockets or clocks: times are handed in, whole seconds
of a clock that does not jump while the process lives (the wall clock at its start plus the monotonic time since; a jump
would expire the sessions of clients that are alive).

A session has one number, `committed`: everything up to it is settled, and `committed + 1` comes next. A client that
says HELLO names the lowest number it still holds; what lies below that will never be sent again, so `open` counts it as
settled, and says how many numbers it passed over.

Each `open` makes a new epoch. Two workers may hold ranges of one session at the same moment, when its client has left
one for the other; the older epoch's are then refused. The verdict on a range of numbers:

    an older epoch than the last                FENCED        leave it out, acknowledge nothing
    ends at or before `committed`               REPEATED      leave it out; this turn acknowledges it
    begins at `committed + 1`                   NEXT          write it, then `commit`
    of a session that is not known              NEXT          its worker vouches for where it begins
    begins after a hole, or overlaps            OUT_OF_STEP   leave it out, end the connection: the client comes back

An epoch newer than the last is taken as it is: this table may have been recovered from before that epoch was made.
Should an epoch be made a second time in this way, the numbers alone still keep any record from being taken twice.

Changes are provisional until `settle`: `rollback` takes the numbers back when the turn that wrote the records failed.
Epochs are never taken back.
"""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

SESSION_BYTES = 16
_ENTRY = struct.Struct(">16sQQI")
"""Session, epoch, committed, time of last use in seconds."""
_MAX_TIME_S = (1 << 32) - 1


class Verdict(enum.Enum):
    """What is to become of a range of numbers."""

    NEXT = enum.auto()
    REPEATED = enum.auto()
    FENCED = enum.auto()
    OUT_OF_STEP = enum.auto()


class Opened(NamedTuple):
    """What a connection goes on with."""

    epoch: int
    committed: int
    skipped: int
    """Numbers between what was committed here and what the client still holds: it was told by a collector that knew
    more (before a state directory was lost, or the session expired) that they are settled."""


class _Entry(NamedTuple):
    epoch: int
    committed: int
    used_s: int


class Sessions:
    """The table."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}
        self._settled: dict[bytes, int | None] = {}
        """What was committed, at the last `settle`, in each session changed since; None: it was not known."""

    def __len__(self) -> int:
        return len(self._entries)

    def open(self, session: bytes, first: int, now_s: int) -> Opened:
        """Begin a new epoch for a client whose lowest number is `first`.

        The answer holds only what is settled, whatever the current turn has committed provisionally.
        """
        entry = self._entries.get(session)
        if entry is None:
            entry = _Entry(0, 0, now_s)
        known = self._settled.get(session, entry.committed) or 0
        settled = max(known, first - 1)
        self._entries[session] = _Entry(entry.epoch + 1, max(entry.committed, settled), now_s)
        self._settled[session] = settled
        return Opened(entry.epoch + 1, settled, settled - known)

    def accepts(self, session: bytes, epoch: int, first: int, last: int) -> Verdict:
        """Return the verdict on the numbers from `first` to `last` (both included) of an epoch."""
        entry = self._entries.get(session)
        if entry is None:
            return Verdict.NEXT
        if epoch < entry.epoch:
            return Verdict.FENCED
        if last <= entry.committed:
            return Verdict.REPEATED
        return Verdict.NEXT if first == entry.committed + 1 else Verdict.OUT_OF_STEP

    def commit(self, session: bytes, epoch: int, last: int, now_s: int) -> None:
        """Move on to `last`, after the verdict NEXT. Raises LocalProtocolError if that would be a step back."""
        entry = self._entries.get(session)
        if entry is None:
            self._settled.setdefault(session, None)
        elif epoch < entry.epoch or last <= entry.committed:
            raise LocalProtocolError(f"session {session.hex()}: epoch {epoch} to {last} after {entry}")
        else:
            self._settled.setdefault(session, entry.committed)
        self._entries[session] = _Entry(epoch, last, now_s)

    def settle(self) -> None:
        """Make every change since the last call final: what `delta` returned is where no crash can reach it."""
        self._settled.clear()

    def rollback(self) -> None:
        """Take back every number since the last `settle`; epochs stay, and are in the next delta."""
        entries = self._entries
        for session, settled in list(self._settled.items()):
            if settled is None:
                del entries[session], self._settled[session]
            else:
                entries[session] = entries[session]._replace(committed=settled)

    def expire(self, now_s: int, age_s: int) -> int:
        """Forget sessions not used for more than `age_s`, but none that is changing; return how many."""
        oldest_s = now_s - age_s
        old = [key for key, entry in self._entries.items() if entry.used_s < oldest_s and key not in self._settled]
        for session in old:
            del self._entries[session]
        return len(old)

    # On disk

    def snapshot(self, *, settled: bool = False) -> bytes:
        """Return every session for `apply`, provisional changes included, or with `settled` left out."""
        if not settled or not self._settled:
            return _encode(self._entries.items())
        changed = self._settled
        return _encode(
            (session, entry if session not in changed else entry._replace(committed=known))
            for session, entry in self._entries.items()
            if (known := changed.get(session, 0)) is not None
        )

    def delta(self) -> bytes:
        """Return the sessions changed since the last `settle`, for `apply`."""
        entries = self._entries
        return _encode((session, entries[session]) for session in self._settled)

    def apply(self, data: bytes | memoryview) -> None:
        """Take in a snapshot or a delta: what it says of a session replaces what was known, and is settled.

        Raises ValueError if it is neither; nothing is changed then.
        """
        if len(data) % _ENTRY.size:
            raise ValueError(f"{len(data)} bytes are no table of sessions")
        self._entries.update(
            (session, _Entry(epoch, committed, used_s))
            for session, epoch, committed, used_s in _ENTRY.iter_unpack(data)
        )


def _encode(entries: Iterable[tuple[bytes, _Entry]]) -> bytes:
    pack = _ENTRY.pack
    return b"".join(
        [
            pack(session, epoch, committed, min(max(used_s, 0), _MAX_TIME_S))
            for session, (epoch, committed, used_s) in entries
        ]
    )
