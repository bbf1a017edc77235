"""The records of one journal, put in order again from messages that came in any.

Owns which numbers come next, what is kept until it is its turn, and what is a repetition. Knows no connections and no
bodies: whoever uses it says what an item is.

A message's floor says which numbers are in the stream already. Messages are read in the stream's order, so a number
below it that has not come by then never will: it was removed by the stream's limits, say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from prefork_logd.stores.nats.wire import Range

_Item = TypeVar("_Item")


class Next(NamedTuple, Generic[_Item]):
    """The numbers whose turn it is."""

    first: int
    end: int
    item: _Item | None
    """Whose lines they are, from `first` on; None if they will never come."""


class JournalOrder(Generic[_Item]):
    """One journal."""

    def __init__(self, expected: int) -> None:
        """Begin with the number that comes next."""
        self.expected = expected
        self._held: dict[int, tuple[int, _Item, int]] = {}
        """First number to the number after the last, the item, and its size."""
        self.held_bytes = 0

    @property
    def held(self) -> int:
        """How many messages wait for numbers before theirs."""
        return len(self._held)

    def offer(self, it: Range, item: _Item, nbytes: int = 0) -> tuple[list[Next[_Item]], list[_Item]]:
        """Take a message; return what comes next, in order, and the items that are of no use (any more)."""
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
        """Return the item whose turn would come last, which is held no more; None if none is held."""
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
