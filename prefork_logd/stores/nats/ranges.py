"""Cuts a journal into ranges, each of which is published as a unit.

Owns the cutting. Does not know connections or files: the log has the ranges that are cut already.

The bounds of a range never change, even if its records come in other blocks after a restart: its id depends on them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.stores.base import Block, block_from, split_block
from prefork_logd.stores.nats.publish_log import PublishedRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.stores.nats.publish_log import PublishLog

RANGE_RECORDS = 2048
RANGE_BYTES = 524_288
"""The most bytes of a range's stored lines: half of the servers' default max_payload, so that lines that do not
compress fit as well. A single line may be larger."""


class Cut(NamedTuple):
    """A range to publish, with its lines."""

    published: PublishedRange
    blocks: list[Block]


class Cutter:
    """Cuts consecutive blocks into ranges: the known ones again, then new ones."""

    def __init__(self, log: PublishLog) -> None:
        self._log = log
        self._known = deque(log)
        self._blocks: list[Block] = []
        self._records = 0
        self._nbytes = 0

    def feed(self, blocks: Sequence[Block]) -> list[Cut]:
        """Return the ranges to publish now; the new ones are added to the log first.

        A known range waits until its last records have come. Raises StoreError.
        """
        done: list[Cut] = []
        new: list[PublishedRange] = []
        for block in blocks:
            rest: Block | None = block_from(block, self._log.base)
            while rest is not None:
                self._pass_known(done, rest.first)
                if self._known:
                    take = min(rest.count, self._known[0].end - rest.first)
                else:
                    take = self._room(rest)
                    if not take:
                        self._finish(done, new)
                        continue
                bit, rest = split_block(rest, take)
                self._blocks.append(bit)
                self._records += bit.count
                self._nbytes += len(bit.lines)
                self._pass_known(done, bit.first + bit.count)
        if self._blocks and not self._known:
            self._finish(done, new)
        if new:
            self._log.cut(new)
        return done

    def _pass_known(self, done: list[Cut], number: int) -> None:
        """Finish the known ranges that end at a number or before it."""
        while self._known and self._known[0].end <= number:
            published = self._known.popleft()
            if not published.low:
                done.append(Cut(published, self._blocks))
            self._empty()

    def _finish(self, done: list[Cut], new: list[PublishedRange]) -> None:
        last = self._blocks[-1]
        published = PublishedRange(new[-1].end if new else self._log.end, last.first + last.count)
        new.append(published)
        done.append(Cut(published, self._blocks))
        self._empty()

    def _empty(self) -> None:
        self._blocks, self._records, self._nbytes = [], 0, 0

    def _room(self, block: Block) -> int:
        """Return the number of a block's records that fit into the current range."""
        most = min(block.count, RANGE_RECORDS - self._records)
        if most == block.count and self._nbytes + len(block.lines) <= RANGE_BYTES:
            return most
        room = RANGE_BYTES - self._nbytes
        at = 0
        for taken in range(most):
            at = block.lines.index(b"\n", at) + 1
            if at > room:
                return taken or (0 if self._blocks else 1)
        return most
