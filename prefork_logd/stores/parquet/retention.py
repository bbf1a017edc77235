"""Removes the oldest segments when a store is beyond its bounds of age or size, or the disk is nearly full.

Owns the choice of segments. Does not know their content.

A clock that was just set may be wrong, and be put right soon; a file that it cost would be gone. So records are removed
by age only while the clock has gone steadily for an hour.
"""

from __future__ import annotations

import calendar
import time
from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.stores.parquet import segments
from prefork_logd.system.disk import measure_space
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefork_logd.stores.parquet.segments import Directory, Segment

_DAY_S = 86_400
STEADY_S = 3600.0
STEP_S = 60.0
"""A clock that was ahead by so much more or less than before was set."""


def _ahead() -> float:
    """Return by how many seconds the clock is ahead of one that is never set and goes on in a suspended machine."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def choose_expired(found: Sequence[Segment], now_s: float, retain_s: float) -> list[Segment]:
    """Return the segments of days that ended more than `retain_s` seconds ago; 0: none."""
    return [one for one in found if retain_s and _end_s(one.day) < now_s - retain_s]


def choose_above(found: Sequence[Segment], most_bytes: int) -> list[Segment]:
    """Return the oldest segments, so that the others have at most `most_bytes` bytes; 0: any number."""
    chosen: list[Segment] = []
    excess = sum(one.nbytes for one in found) - most_bytes if most_bytes else 0
    for one in sorted(found, key=lambda one: (one.day, one.written_s)):
        if excess <= 0:
            break
        chosen.append(one)
        excess -= one.nbytes
    return chosen


def choose_for_space(found: Sequence[Segment], free_bytes: int, wanted_bytes: int) -> list[Segment]:
    """Return the oldest segments without which `wanted_bytes` bytes are free, or all if that is not enough."""
    if free_bytes >= wanted_bytes:
        return []
    return choose_above(found, max(1, sum(one.nbytes for one in found) - (wanted_bytes - free_bytes)))


def _end_s(day: str) -> float:
    return calendar.timegm(time.strptime(day, "%Y-%m-%d")) + _DAY_S


class Retention:
    """The bounds of one store."""

    def __init__(
        self,
        directory: Directory,
        retain_s: float,
        most_bytes: int,
        min_free_bytes: int = 0,
        ahead: Callable[[], float] = _ahead,
    ) -> None:
        """Keep records for `retain_s` seconds, `most_bytes` bytes of segments, and so much free space; 0: no bound."""
        self._min_free_bytes = min_free_bytes
        self._directory = directory
        self._retain_s = retain_s
        self._most_bytes = most_bytes
        self._clock = ahead
        self._ahead = ahead()
        self._steady_since_s = time.monotonic()

    def apply(self) -> None:
        """Remove segments beyond the bounds; the directory is locked. Raises OSError."""
        found = self._find()
        if self._is_steady():
            self._remove(choose_expired(found, time.time(), self._retain_s), "older than retain")
            found = self._find()
        self._remove(choose_above(found, self._most_bytes), f"above retain_bytes = {self._most_bytes}")
        self.make_room()

    def _find(self) -> list[Segment]:
        """Return the segments, and the damaged files, which take room as well. Raises OSError."""
        root = self._directory.root
        return [*segments.find_segments(root), *segments.find_files(root, segments.DAMAGED)]

    def make_room(self) -> None:
        """Remove the oldest segments while the disk has too little free space; the directory is locked.

        Raises OSError.
        """
        if not self._min_free_bytes:
            return
        free, wanted = measure_space(self._directory.root, self._min_free_bytes)
        if free < wanted:
            found = self._find()
            self._remove(choose_for_space(found, free, wanted), f"only {free / 1e6:.0f} MB of the disk are free")

    def _remove(self, chosen: Sequence[Segment], why: str) -> None:
        if chosen:
            self._directory.remove(chosen)
            days = sorted({one.day for one in chosen})
            LOGGER.info(
                "store: removed %s, %.1f MB of %s: %s",
                format_count(len(chosen), "file"), sum(one.nbytes for one in chosen) / 1e6,
                days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}", why,
            )  # fmt: skip

    def _is_steady(self) -> bool:
        before, self._ahead = self._ahead, self._clock()
        if abs(self._ahead - before) > STEP_S:
            self._steady_since_s = time.monotonic()
        return time.monotonic() - self._steady_since_s >= STEADY_S
