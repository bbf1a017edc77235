"""Records that a store's own code fails at: which ones they are, found by writing fewer at once.

Owns how many records are handed over next, which of them are suspected, and when a suspicion is a verdict. Knows no
stores, no journal and no files.

A store refuses records that it cannot keep; this is for unexpected errors. A write that raises one is tried with half
the records, down to one: the first of them, which is then left out. Whether it is to blame, or the store fails at
everything, its neighbours tell: as soon as another record is written, before it or after it, the suspects are guilty
and become dead letters. Where all fail, none is: then the store is in trouble, and everything waits.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefork_logd.stores.base import Block, split_block
from prefork_logd.system.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_PATIENCE = 64
"""Suspects in a row after which the store itself is taken for the cause. It doubles whenever that was said, so that any
number of such records is passed in the end, if one behind them can be written."""
MOST_UNPROVEN = 16
"""Records that are given up without a neighbour that could be written; only for errors that records cause."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""How long no record is suspected after a search without a result."""
_OF_RECORDS = (ValueError, ArithmeticError, LookupError, RecursionError)


class Suspects:
    """The suspects of one store."""

    def __init__(self) -> None:
        self.most: int | None = None
        """How many records are handed over at once; None: a whole batch."""
        self.waiting: dict[int, tuple[bytes, str]] = {}
        """Number to line and reason, in order, of those without a verdict."""
        self._guilty: set[int] = set()
        """Those with one, as far as the store has written nothing after them yet."""
        self._patience = FIRST_PATIENCE
        self._has_proof = False
        """Whether the record before the next one was written."""
        self._unproven = 0
        self._from_records = False
        self._pause = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._paused_until_s = 0.0

    def next_blocks(self, batch: Sequence[Block]) -> tuple[list[Block], list[Block]]:
        """Return the blocks to hand over next, and the blocks left for later."""
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
        """Note that handing over these blocks raised an error; tell whether it proves that a record is guilty."""
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
        """Note that so many records were written, and those that were suspected were convicted; a batch has `most`."""
        self._patience, self._unproven = FIRST_PATIENCE, 0
        self._pause.worked()
        self._paused_until_s = 0.0
        self._guilty.clear()
        if self.most is not None:
            self._has_proof = True
            self.most = 2 * records if 2 * records < most else None

    def convict(self) -> None:
        """Leave the suspects out for good: they are dead letters now."""
        self._guilty |= self.waiting.keys()
        self.waiting.clear()

    @property
    def is_stuck(self) -> bool:
        """Whether so many in a row failed that the store itself must be the cause, or that was found a moment ago."""
        return len(self.waiting) >= self._patience or (bool(self.waiting) and time.monotonic() < self._paused_until_s)

    def judge_alone(self) -> bool:
        """Tell whether the suspects are guilty though there is nothing else that could be tried."""
        if not self._from_records or self._unproven + len(self.waiting) > MOST_UNPROVEN:
            return False
        self._unproven += len(self.waiting)
        return True

    def acquit(self, *, in_vain: bool) -> None:
        """Suspect no record any more; try the store with one record first. `in_vain`: a search had no result."""
        if in_vain and time.monotonic() >= self._paused_until_s:
            if len(self.waiting) >= self._patience:
                self._patience *= 2
            self._paused_until_s = time.monotonic() + self._pause.failed()
        self.waiting.clear()
        self._has_proof = False
