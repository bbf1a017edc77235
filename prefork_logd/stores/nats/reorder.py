"""Reorders messages of one journal.

Owns the next number, the messages that wait for their turn, and which ones are repeated. Does not know connections or
bodies: the caller defines an item.

All numbers below a message's floor are in the stream already. Messages are read in the stream's order, so a number
below the floor that has not come by then never will; for example, the stream's limits have removed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from prefork_logd.stores.nats.wire import Range

_Item = TypeVar("_Item")


class Next(NamedTuple, Generic[_Item]):
    """The next numbers, and the item that has their lines."""

    first: int
    end: int
    item: _Item | None
    """The item with their lines, from `first` on; None if they will never come."""


class JournalOrder(Generic[_Item]):
    """The order of one journal's messages."""

    def __init__(self, expected: int) -> None:
        """Begin with the number `expected`."""
        self.expected = expected
        self._held: dict[int, tuple[int, _Item, int]] = {}
        """First number to the number after the last, the item, and its size."""
        self.held_bytes = 0

    @property
    def held(self) -> int:
        """Number of messages that wait for earlier numbers."""
        return len(self._held)

    def offer(self, it: Range, item: _Item, nbytes: int = 0) -> tuple[list[Next[_Item]], list[_Item]]:
        """Add a message; return the next numbers, in order, and the items that are not needed (any more)."""
        useless: list[_Item] = []
        if it.end <= self.expected or (it.first in self._held and self._held[it.first][0] >= it.end):
            useless.append(item)
        else:
            if it.first in self._held:
                useless.append(self._pop(it.first)[1])
            self._held[it.first] = it.end, item, nbytes
            self.held_bytes += nbytes
        return list(self._advance(it.floor, useless)), useless

    def give_up_last(self) -> _Item | None:
        """Remove and return the waiting item with the highest numbers; None if none waits."""
        return self._pop(max(self._held))[1] if self._held else None

    def _pop(self, first: int) -> tuple[int, _Item]:
        end, item, nbytes = self._held.pop(first)
        self.held_bytes -= nbytes
        return end, item

    def _advance(self, floor: int, useless: list[_Item]) -> list[Next[_Item]]:
        steps: list[Next[_Item]] = []
        while True:
            lowest = min(self._held, default=None)
            if lowest is not None and lowest <= self.expected:
                end, item = self._pop(lowest)
                if end <= self.expected:
                    useless.append(item)
                    continue
                steps.append(Next(self.expected, end, item))
                self.expected = end
            elif floor > self.expected:
                end = floor if lowest is None else min(floor, lowest)
                steps.append(Next(self.expected, end, None))
                self.expected = end
            else:
                return steps
