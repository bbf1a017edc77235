"""Hands out places among visitors: one that asks for many keeps nobody from theirs.

Owns the order of those who wait. Does not know what is done at a place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING

from prefork_logd.errors import LogdError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class BusyError(LogdError):
    """Too many searches run at once."""

    def __init__(self) -> None:
        super().__init__("too many searches run at once; try again in a few seconds, or for a shorter range of time")


class Places:
    """A number of places, each for one search."""

    def __init__(self, count: int, *, wait_s: float, most_waiting: int, most_of_one: int = 0) -> None:
        """Let at most `most_waiting` wait, half of them for one visitor, who gets `most_of_one` places; 0: all."""
        self._free = count
        self._wait_s = wait_s
        self._most_waiting = most_waiting
        self._most_of_one = most_of_one or count
        self._held: Counter[str] = Counter()
        self._waiting: list[tuple[str, int, asyncio.Future[None]]] = []
        """In the order in which they came."""

    @contextlib.asynccontextmanager
    async def place(self, visitor: str) -> AsyncIterator[None]:
        """Give a place. Raises BusyError if too many wait, or if none becomes free in time."""
        await self.take(visitor)
        try:
            yield
        finally:
            self.give_back(visitor)

    async def take(self, visitor: str, rank: int = 0) -> None:
        """Wait for a place, which must be given back; of a visitor's own, those of a lower rank come first.

        Raises BusyError as `place` does.
        """
        own = sum(1 for name, _, _ in self._waiting if name == visitor)
        if len(self._waiting) >= self._most_waiting or own >= max(1, self._most_waiting // 2):
            raise BusyError
        turn = asyncio.get_running_loop().create_future()
        entry = visitor, rank, turn
        self._waiting.append(entry)
        self._serve()
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except BaseException as error:
            if entry in self._waiting:
                self._waiting.remove(entry)
            elif turn.done() and not turn.cancelled():
                # The place was given in the moment in which the wait ended.
                self.give_back(visitor)
            if isinstance(error, TimeoutError):
                raise BusyError from None
            raise

    def give_back(self, visitor: str) -> None:
        """Give a place to the next who waits."""
        self._free += 1
        self._held[visitor] -= 1
        if not self._held[visitor]:
            del self._held[visitor]
        self._serve()

    def _serve(self) -> None:
        """Give free places to those who hold fewest; among them by rank, then to the first to come."""
        while self._free:
            able = [one for one in self._waiting if self._held[one[0]] < self._most_of_one and not one[2].done()]
            if not able:
                return
            chosen = min(able, key=lambda one: (self._held[one[0]], one[1]))
            self._waiting.remove(chosen)
            self._free -= 1
            self._held[chosen[0]] += 1
            chosen[2].set_result(None)
