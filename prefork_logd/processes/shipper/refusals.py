"""Keeps the records that a store refuses for good as dead letters, and counts them.

Owns the dead letters of suspects, which are withdrawn if the store itself is in trouble. suspects.py knows the
suspects, dead_letters.py the file. Does not know the journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError
from prefork_logd.ipc.scoreboard import StoreField
from prefork_logd.stores.dead_letters import Addition, DeadLetters
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_logd.config.stores.base import StoreSettings
    from prefork_logd.processes.shipper.suspects import Suspects
    from prefork_logd.stores.dead_letters import Mark


class Refusals:
    """The refused records of one store."""

    def __init__(self, settings: StoreSettings, path: Path, counters: memoryview, suspects: Suspects) -> None:
        """Keep them in the file `path`, and count them in a store's `counters`."""
        self._store = settings.name
        self._most_bytes = settings.dead_letter_bytes
        self._path = path
        self._counters = counters
        self._suspects = suspects
        self._letters: DeadLetters | None = None
        self._mark: Mark | None = None
        """The end of the dead letters before the suspects were added."""
        self._added = self._dropped = 0
        """Suspects that were added since, and those for which the file had no room."""
        self._is_full = False

    def open(self, journal: str) -> None:
        """Keep records of this journal from now on."""
        if self._letters is None or self._letters.journal != journal:
            self._letters = DeadLetters(self._path, journal, self._most_bytes)

    def refuse(self, number: int, line: bytes, reason: str) -> None:
        """Keep a record that the store refuses for good. Raises StoreError; then the batch is tried again."""
        if self._letters is None:
            return
        addition = self._letters.add(number, line, reason)
        self._count(int(addition is Addition.KEPT), int(addition is Addition.FULL), reason)

    def _count(self, kept: int, dropped: int, reason: str) -> None:
        if kept + dropped and not self._counters[StoreField.REFUSED]:
            LOGGER.warning("store %s: refuses a record (%s); see %s", self._store, reason, self._path)
        self._counters[StoreField.REFUSED] += kept + dropped
        self._counters[StoreField.LOST] += dropped
        if dropped and not self._is_full:
            LOGGER.error(
                "store %s: %s has reached dead_letter_bytes (%d): further refused records (%s) are lost, until "
                "`prefork-logd replay` has sent those in the file, or the file is moved away",
                *(self._store, self._path, self._most_bytes, reason),
            )
        if kept or dropped:
            self._is_full = bool(dropped)

    def keep_suspects(self) -> None:
        """Add the suspects to the dead letters, before the store's position passes them. Raises StoreError."""
        if self._letters is None or not self._suspects.waiting:
            return
        if self._mark is None:
            self._mark = self._letters.mark()
        for number, (line, reason) in self._suspects.waiting.items():
            addition = self._letters.add(number, line, reason)
            self._added += addition is Addition.KEPT
            self._dropped += addition is Addition.FULL

    def confirm_suspects(self) -> None:
        """Keep the suspects' dead letters for good, and count them."""
        if self._suspects.waiting:
            self._count(self._added, self._dropped, next(iter(self._suspects.waiting.values()))[1])
            self._suspects.convict()
        self._mark, self._added, self._dropped = None, 0, 0

    def withdraw_suspects(self, *, in_vain: bool = False) -> None:
        """Remove the suspects' dead letters: the store is in trouble, and gets these records later."""
        mark, self._mark = self._mark, None
        self._added = self._dropped = 0
        self._suspects.acquit(in_vain=in_vain)
        if mark is not None and self._letters is not None:
            try:
                self._letters.go_back(mark)
            except StoreError as error:
                LOGGER.error("store %s: %s; the file has records that are sent to the store, too", self._store, error)
