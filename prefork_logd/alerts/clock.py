"""Measures time for alerts: a clock that nobody can set, and the wall clock's ranges of a window before now.

Owns how ticks and the wall clock belong together. Reads no database.

Ticks are seconds for which the host has run since the database was made. They go on over the death of the process, by
CLOCK_MONOTONIC, and over a reboot from where they were. So `for`, `repeat` and back-off do not depend on the wall
clock.

Records carry `received`, which is the wall clock. An *era* is a time in which nobody has set that clock. A window
before now is a range of `received` for each era that it touches. After the clock was set back a range may have older
records as well; their numbers in the journal tell them apart.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

STEP_S = 2.0
"""A larger difference to the era's offset means that the clock was set; smaller ones are drift, or a slow process."""
MOST_ERAS = 8
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Era(msgspec.Struct, frozen=True):
    """A time in which the wall clock was not set. It began between two looks at the clock."""

    earliest: float
    """The look before it began, in ticks."""
    latest: float
    """The look that noticed it."""
    offset: float
    """The wall clock minus ticks."""
    first: int
    """The journal's next number at the look before it began."""
    known: int
    """The same at the look that noticed it."""


class Range(NamedTuple):
    """Records of a window that arrived in one era."""

    least: float
    """The least `received`."""
    below: float
    """All `received` are below this."""
    first: int
    """The least number in the journal."""
    last: int | None
    """All numbers are below this; None: there is no bound."""


class Saved(NamedTuple):
    """What the database keeps of the clock."""

    boot: str
    monotonic: float
    ticks: float
    number: int
    """The journal's next number at the last look."""
    eras: tuple[Era, ...]


class AlertClock:
    """The clock of one process."""

    def __init__(
        self,
        saved: Saved | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        boot: str | None = None,
    ) -> None:
        """Continue from what was saved."""
        self._monotonic, self._wall = monotonic, wall
        self._boot = boot_id() if boot is None else boot
        base = 0.0
        if saved is not None:
            is_same_boot = saved.boot == self._boot and monotonic() >= saved.monotonic
            base = saved.ticks + (monotonic() - saved.monotonic if is_same_boot else 0.0)
        self._base = base - monotonic()
        self.eras: tuple[Era, ...] = saved.eras if saved is not None else ()
        self._looked = (saved.ticks, saved.number) if saved is not None else (self.ticks(), 0)

    def ticks(self) -> float:
        """Return the seconds on this clock."""
        return self._base + self._monotonic()

    def wall(self) -> float:
        """Return the seconds since 1970."""
        return self._wall()

    def saved(self) -> Saved:
        """Return what the database has to keep."""
        return Saved(self._boot, self._monotonic(), self.ticks(), self._looked[1], self.eras)

    def look(self, number: int) -> bool:
        """Compare with the wall clock; return whether it was set since the last look. `number`: the journal's next."""
        ticks = self.ticks()
        offset = self._wall() - ticks
        is_set = bool(self.eras) and abs(offset - self.eras[-1].offset) > STEP_S
        if is_set or not self.eras:
            earliest, first = self._looked if is_set else (ticks, number)
            self.eras = (*self.eras, Era(earliest, ticks, offset, first, number))[-MOST_ERAS:]
        self._looked = ticks, number
        return is_set

    def ranges(self, window_s: float) -> tuple[Range, ...]:
        """Return the ranges of a window before now, the latest last. Call `look` before."""
        begin = self.ticks() - window_s
        found: list[Range] = []
        for era, following in zip(self.eras, (*self.eras[1:], None), strict=True):
            if following is not None and following.latest <= begin:
                continue
            # Before the first era nothing is known; its offset is the best guess.
            start = begin if era is self.eras[0] else max(begin, era.earliest)
            end = following.latest + era.offset if following is not None else self._wall() + STEP_S
            last = following.known if following is not None else None
            found.append(Range(start + era.offset, end, era.first if era is not self.eras[0] else 0, last))
        return tuple(found)

    def past_range(self, window_s: float, age_s: float) -> Range | None:
        """Return the range of a window that ended `age_s` ago; None if the clock was set since its beginning.

        Call `look` before.
        """
        ranges = self.ranges(window_s + age_s)
        if len(ranges) != 1 or not self.is_simple(ranges):
            return None
        return ranges[0]._replace(below=ranges[0].least + window_s)

    def is_simple(self, ranges: tuple[Range, ...]) -> bool:
        """Tell whether the least `received` alone tells the records of a window: nothing older has a later one."""
        pairs = zip(self.eras, self.eras[1:], strict=False)
        return len(ranges) == 1 and all(following.latest + era.offset <= ranges[0].least for era, following in pairs)


def boot_id() -> str:
    """Return an id of this boot of the host; empty if there is none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def run_id(pid: int | None = None) -> str:
    """Return an id of the run of the parent process: its pid and start (proc_pid_stat(5)); an exec keeps both."""
    parent = os.getppid() if pid is None else pid
    try:
        return f"{parent}-{Path(f'/proc/{parent}/stat').read_text().rpartition(')')[2].split()[19]}"
    except (OSError, IndexError):
        return str(parent)
