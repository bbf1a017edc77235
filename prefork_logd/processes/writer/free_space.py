"""Stops the writer before a disk is full: compares the free space of each disk with a minimum.

Owns when the disks are measured, the counter on the scoreboard, and the lines in the log. Does not know outputs, stores
or how space is made: a shipper that is woken removes its store's oldest records.

Between the minimum and half of it stores make room, while clients go on. Below half of it clients wait, until three
quarters are free. So a disk whose stores can make room seldom holds up clients, and what was read already, and the
stores themselves, still find some space.
"""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING

from prefork_logd.ipc.scoreboard import DiskState, JournalField
from prefork_logd.system.disk import measure_space
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_logd.config.settings import Settings
    from prefork_logd.system.disk import Space

MEASURE_EVERY_S = 1.0
"""Other programs fill disks, too; this process measures earlier if it wrote half of the room itself."""
STOP_PERCENT, GO_ON_PERCENT = 50, 75
"""Of the minimum."""


class FreeSpace:
    """The space of the disks that one writer appends to."""

    def __init__(self, counters: memoryview, wake_stores: Callable[[], None], settings: Settings) -> None:
        """Publish the state in the journal's `counters`; `wake_stores` is called while space is low."""
        self.is_ending = False
        """Whether the collector ends: the last lines may use the space that is left."""
        self._counters = counters
        self._wake_stores = wake_stores
        self._room = 0
        """Bytes that may be appended before the next measurement."""
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take the minimum and the journal's directory from a configuration."""
        self._min_free_bytes = settings.limits.min_free_bytes
        self._state_dir = settings.server.state_dir
        self._due_s = -math.inf

    def may_append(self, nbytes: int, directories: Callable[[], Iterable[str]]) -> bool:
        """Return whether so many bytes may be appended; False while too little space is free on any disk.

        `directories` returns one on each disk, besides that of the journal.
        """
        now_s = time.monotonic()
        self._room -= nbytes
        if self._room < 0 or now_s >= self._due_s:
            self._due_s = now_s + MEASURE_EVERY_S
            self._measure(directories() if self._min_free_bytes else ())
        return self._counters[JournalField.DISKS] != DiskState.STOPPED or self.is_ending

    def _measure(self, directories: Iterable[str]) -> None:
        before = self._counters[JournalField.DISKS]
        percent = GO_ON_PERCENT if before == DiskState.STOPPED else STOP_PERCENT
        state, place, least, is_known = DiskState.ENOUGH, "", 0, True
        room: float = math.inf
        for directory in {self._state_dir, *directories}:
            try:
                free, wanted = self._measure_disk(directory)
            except OSError:
                # The state directory was moved, or a disk fails. An append to a file that is open may still work.
                is_known = False
                continue
            if free < wanted and not state:
                state = DiskState.LOW
            if free - wanted * percent // 100 < room:
                room = free - wanted * percent // 100
                place, least = directory, free
        if room < 0 or (not is_known and before == DiskState.STOPPED):
            state, room = DiskState.STOPPED, 0
        self._room = max(0, int(room) // 2) if room < math.inf else 0
        self._counters[JournalField.DISKS] = state
        if state:
            self._wake_stores()
        if state == DiskState.STOPPED != before:
            LOGGER.error(
                "%s: only %.1f MB of its disk are free, and limits.min_free_bytes keeps more; clients wait until there "
                "is room",
                place, least / 1e6,
            )  # fmt: skip
        elif before == DiskState.STOPPED != state:
            LOGGER.warning("disks have room again; clients go on")

    def _measure_disk(self, directory: str) -> Space:
        """Return the space of the disk that a directory is on. Raises OSError.

        A removed directory of an output is made again by the next append: its disk is that of the one above.
        """
        while True:
            try:
                return measure_space(directory, self._min_free_bytes)
            except FileNotFoundError:
                above = os.path.dirname(directory)  # noqa: PTH120 - a str
                if directory in (self._state_dir, above):
                    raise
                directory = above
