"""Where a journal is cut into ranges that are published as one.

Owns the cutting. Knows no connections and no files: the window says which ranges there are already.

A range that was cut once is never cut elsewhere, whatever the blocks are that its records come in after a restart:
its id depends on where it begins and ends.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.stores.base import Block, block_from, split_block
from prefork_logd.stores.nats_window import Piece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.stores.nats_window import Window

PIECE_RECORDS = 2048
PIECE_BYTES = 524_288
"""Where a range ends at the latest, in lines as they are stored: half of what servers take in one message by default,
so that lines which cannot be packed fit as well. A single line may be larger."""


class Cut(NamedTuple):
    """A range that is to be published, with its lines."""

    piece: Piece
    blocks: list[Block]


class Cutter:
    """Cuts what follows one another into ranges: the known ones again, then new ones."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._known = deque(window)
        self._blocks: list[Block] = []
        self._records = 0
        self._nbytes = 0

    def feed(self, blocks: Sequence[Block]) -> list[Cut]:
        """Return the ranges that are to be published now; the new ones are in the window before.

        A known range whose last records are still to come waits for them. Raises StoreError.
        """
        done: list[Cut] = []
        new: list[Piece] = []
        for block in blocks:
            rest: Block | None = block_from(block, self._window.base)
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
            self._window.cut(new)
        return done

    def _pass_known(self, done: list[Cut], number: int) -> None:
        """Be done with the known ranges that end at a number or before it."""
        while self._known and self._known[0].end <= number:
            piece = self._known.popleft()
            if not piece.low:
                done.append(Cut(piece, self._blocks))
            self._empty()

    def _finish(self, done: list[Cut], new: list[Piece]) -> None:
        last = self._blocks[-1]
        piece = Piece(new[-1].end if new else self._window.end, last.first + last.count)
        new.append(piece)
        done.append(Cut(piece, self._blocks))
        self._empty()

    def _empty(self) -> None:
        self._blocks, self._records, self._nbytes = [], 0, 0

    def _room(self, block: Block) -> int:
        """Return how many of a block's records the range that is being made has room for."""
        most = min(block.count, PIECE_RECORDS - self._records)
        if most == block.count and self._nbytes + len(block.lines) <= PIECE_BYTES:
            return most
        room = PIECE_BYTES - self._nbytes
        at = 0
        for taken in range(most):
            at = block.lines.index(b"\n", at) + 1
            if at > room:
                return taken or (0 if self._blocks else 1)
        return most
