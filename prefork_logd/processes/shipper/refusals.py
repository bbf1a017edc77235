"""Keeps the records that a store refuses for good as dead letters, and counts them.

Owns the dead letters of suspects, which are withdrawn if the store itself is in trouble. suspects.py knows the
suspects, dead_letters.py the file. Does not know the journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError
from prefork_logd.ipc.scoreboard import StoreField
from prefork_logd.stores.dead_letters import DeadLetters
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_logd.processes.shipper.suspects import Suspects
    from prefork_logd.stores.dead_letters import Mark


class Refusals:
    """The refused records of one store."""

    def __init__(self, store: str, path: Path, counters: memoryview, suspects: Suspects) -> None:
        """Keep them in the file `path`, and count them in a store's `counters`."""
        self._store = store
        self._path = path
        self._counters = counters
        self._suspects = suspects
        self._letters: DeadLetters | None = None
        self._mark: Mark | None = None
        """The end of the dead letters before the suspects were added."""
        self._added = 0

    def open(self, journal: str) -> None:
        """Keep records of this journal from now on."""
        if self._letters is None or self._letters.journal != journal:
            self._letters = DeadLetters(self._path, journal)

    def refuse(self, number: int, line: bytes, reason: str) -> None:
        """Keep a record that the store refuses for good. Raises StoreError; then the batch is tried again."""
        if self._letters is not None and self._letters.add(number, line, reason):
            self._count(1, reason)

    def _count(self, count: int, reason: str) -> None:
        if count and not self._counters[StoreField.REFUSED]:
            LOGGER.warning("store %s: refuses a record (%s); see %s", self._store, reason, self._path)
        self._counters[StoreField.REFUSED] += count

    def keep_suspects(self) -> None:
        """Add the suspects to the dead letters, before the store's position passes them. Raises StoreError."""
        if self._letters is None or not self._suspects.waiting:
            return
        if self._mark is None:
            self._mark = self._letters.mark()
        for number, (line, reason) in self._suspects.waiting.items():
            self._added += self._letters.add(number, line, reason)

    def confirm_suspects(self) -> None:
        """Keep the suspects' dead letters for good, and count them."""
        if self._suspects.waiting:
            self._count(self._added, next(iter(self._suspects.waiting.values()))[1])
            self._suspects.convict()
        self._mark, self._added = None, 0

    def withdraw_suspects(self, *, in_vain: bool = False) -> None:
        """Remove the suspects' dead letters: the store is in trouble, and gets these records later."""
        mark, self._mark, self._added = self._mark, None, 0
        self._suspects.acquit(in_vain=in_vain)
        if mark is not None and self._letters is not None:
            try:
                self._letters.go_back(mark)
            except StoreError as error:
                LOGGER.error("store %s: %s; the file has records that are sent to the store, too", self._store, error)
