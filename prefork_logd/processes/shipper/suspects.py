"""Finds the records that cause unexpected errors in a store, by writing fewer records at once.

Owns the number of records of the next write, which records are suspected, and when suspects become dead letters. Does
not know stores, the journal or files.

A store refuses records that it cannot keep; this module is for unexpected errors. After one, the write is tried with
half the records, down to one. A record that fails alone is a suspect, and left out. Either the suspects cause the
errors, or the store fails for every record: as soon as a record before or after them is written, the suspects are
guilty and become dead letters. If every record fails, none is guilty: the store is in trouble, and all records wait.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefork_logd.stores.base import Block, split_block
from prefork_logd.system.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_PATIENCE = 64
"""Suspects in a row after which the store counts as the cause. It doubles each time that happens, so that any number of
such records is passed in the end, if one after them can be written."""
MOST_UNPROVEN = 16
"""Records that become dead letters without a neighbour that was written; only for the errors in _OF_RECORDS."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""How long no search begins after one without a result."""
_OF_RECORDS = (ValueError, ArithmeticError, LookupError, RecursionError)


class Suspects:
    """The suspects of one store."""

    def __init__(self) -> None:
        self.most: int | None = None
        """The most records of one write; None: a whole batch."""
        self.waiting: dict[int, tuple[bytes, str]] = {}
        """Suspects by number, in order: line and reason."""
        self._guilty: set[int] = set()
        """Guilty records that the store has written nothing after yet."""
        self._patience = FIRST_PATIENCE
        self._has_proof = False
        """Whether the record before the next one was written."""
        self._unproven = 0
        self._from_records = False
        self._pause = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._paused_until_s = 0.0

    def next_blocks(self, batch: Sequence[Block]) -> tuple[list[Block], list[Block]]:
        """Return the blocks to write next, and the blocks left for later."""
        if self.most is None:
            return list(batch), []
        now: list[Block] = []
        room = self.most
        for index, block in enumerate(batch):
            if not room:
                return now, list(batch[index:])
            bit, rest = split_block(block, room)
            now.append(bit)
            room -= bit.count
            if rest is not None:
                return now, [rest, *batch[index + 1 :]]
        return now, []

    def without(self, block: Block) -> list[Block]:
        """Return a block without the suspects and the guilty."""
        numbers = [n for n in (*self.waiting, *self._guilty) if block.first <= n < block.first + block.count]
        parts: list[Block] = []
        rest: Block | None = block
        for number in sorted(numbers):
            if rest is not None and number > rest.first:
                before, rest = split_block(rest, number - rest.first)
                parts.append(before)
            if rest is not None:
                rest = split_block(rest, 1)[1]
        return parts if rest is None else [*parts, rest]

    def failed(self, blocks: Sequence[Block], error: BaseException, reason: str) -> bool:
        """Record that writing these blocks raised an error; return whether it proves that a record is guilty."""
        count = sum(block.count for block in blocks)
        if count > 1:
            self.most = max(1, count // 2)
            return False
        self.most = 1
        (block,) = blocks
        self.waiting[block.first] = block.lines.rstrip(b"\n"), reason
        self._from_records = isinstance(error, _OF_RECORDS)
        is_proven, self._has_proof = self._has_proof, False
        return is_proven

    def written(self, records: int, most: int) -> None:
        """Record that `records` were written, after a conviction of any suspects; a batch has `most`."""
        self._patience, self._unproven = FIRST_PATIENCE, 0
        self._pause.worked()
        self._paused_until_s = 0.0
        self._guilty.clear()
        if self.most is not None:
            self._has_proof = True
            self.most = 2 * records if 2 * records < most else None

    def convict(self) -> None:
        """Make the suspects guilty: they are dead letters now."""
        self._guilty |= self.waiting.keys()
        self.waiting.clear()

    @property
    def is_stuck(self) -> bool:
        """Whether the store itself must be the cause: too many suspects in a row, or found so a short time ago."""
        return len(self.waiting) >= self._patience or (bool(self.waiting) and time.monotonic() < self._paused_until_s)

    def judge_alone(self) -> bool:
        """Return whether the suspects count as the cause although there is no other record to try."""
        if not self._from_records or self._unproven + len(self.waiting) > MOST_UNPROVEN:
            return False
        self._unproven += len(self.waiting)
        return True

    def acquit(self, *, in_vain: bool) -> None:
        """Clear the suspects, because the store itself is in trouble. `in_vain`: after a search without a result."""
        if in_vain and time.monotonic() >= self._paused_until_s:
            if len(self.waiting) >= self._patience:
                self._patience *= 2
            self._paused_until_s = time.monotonic() + self._pause.failed()
        self.waiting.clear()
        self._has_proof = False
