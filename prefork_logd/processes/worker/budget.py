"""Counts what one client may still send: a bucket of records and a bucket of bytes, filled by the clock.

Owns the arithmetic. Does not know connections, other workers or what happens to records beyond a limit.

Records are counted exactly. Bytes are charged after the records are handled, so their bucket may become negative; then
nothing is allowed until it is filled again. The mean rate is the same.
"""

from __future__ import annotations

import math
import sys


class Bucket:
    """Tokens that are filled at a rate, up to those of a burst."""

    __slots__ = ("left", "most", "per_s")

    def __init__(self, per_s: float, burst_s: float) -> None:
        """Begin full; a rate of 0 means that there is no limit."""
        self.per_s = per_s or math.inf
        self.most = max(1.0, self.per_s * burst_s)
        self.left = self.most

    def fill(self, passed_s: float) -> None:
        """Add the tokens of a time in seconds."""
        if self.left < self.most:
            self.left = min(self.most, self.left + passed_s * self.per_s)

    def take(self, count: float) -> None:
        """Take tokens, more than there are if necessary."""
        self.left -= count

    def full_in_s(self) -> float:
        """Return the time until it is full."""
        return (self.most - self.left) / self.per_s if self.left < self.most else 0.0


class Budget:
    """The records and bytes that one client may still send."""

    __slots__ = ("_last_s", "nbytes", "records")

    def __init__(self, records_per_s: float, bytes_per_s: float, burst_s: float, now_s: float) -> None:
        self.records = Bucket(records_per_s, burst_s)
        self.nbytes = Bucket(bytes_per_s, burst_s)
        self._last_s = now_s

    def allowed(self, now_s: float) -> int:
        """Return the number of records that may be taken at this time of the monotonic clock."""
        passed_s, self._last_s = max(0.0, now_s - self._last_s), now_s
        self.records.fill(passed_s)
        self.nbytes.fill(passed_s)
        if self.nbytes.left <= 0:
            return 0
        return int(min(self.records.left, sys.maxsize)) if self.records.left >= 1 else 0

    def take(self, records: float, nbytes: float) -> None:
        """Count records that were taken, here or by another worker."""
        self.records.take(records)
        self.nbytes.take(nbytes)
