"""Decides which worker takes a new connection, which workers hand connections over, and how these are spread.

Owns the rules, which read counters before each accept. Does not know sockets.

The same edge wakes every worker. A worker leaves a connection to others while it holds noticeably more than the
emptiest one. The emptiest never declines, so each connection is accepted. (Without a rule the kernel gives nearly all
of them to one: of 400 connections made one by one, four workers got 0, 400, 0 and 0.) A stopped or stuck worker would
leave its share waiting for ever. So a worker without progress while connections wait does not count until it moves on.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TOLERANCE = 2
"""Connections that a worker may hold more than the emptiest one. A share of those held would be more than all that are
busy, where many are idle: with 5,000 of them one worker got every one of 100 busy connections."""
PATIENCE_S = 0.03
"""Longest time that the emptiest worker may leave a connection waiting."""
EVEN_FRACTION = 0.1
"""Part of the average load by which the fullest worker may exceed the emptiest one before connections are moved."""


class Load(NamedTuple):
    """Counters of a worker on the scoreboard."""

    slot: int
    connections: int
    accepted: int
    """Connections accepted since the collector started: it grows as long as the worker makes progress."""


def distribute(count: int, loads: list[int]) -> list[int]:
    """Return how many of `count` connections each of those takes that hold `loads` now, so that they become even."""
    given = [0] * len(loads)
    order = sorted(range(len(loads)), key=loads.__getitem__)
    for filled, index in enumerate(order, 1):
        # The workers before are as full as this one now: raise all of them to the next one's load, as far as possible.
        following = loads[order[filled]] if filled < len(order) else math.inf
        level = loads[index]
        step = min(count, filled * (following - level)) if following > level else 0
        whole, rest = divmod(int(step), filled)
        for place in range(filled):
            given[order[place]] += whole + (place < rest)
        count -= int(step)
    return given


def is_even(loads: Sequence[int]) -> bool:
    """Tell whether workers that hold `loads` connections are even enough to be left alone.

    The margin is wider than the differences that accepting leaves, so ordinary accepts never cause a rebalance.
    """
    if not loads:
        return True
    return max(loads) - min(loads) <= max(TOLERANCE + 1, EVEN_FRACTION * sum(loads) / len(loads))


def surpluses(loads: Sequence[int], most: int) -> list[int]:
    """Return how many connections each worker hands over so that all become even; at most `most` together."""
    if not loads:
        return []
    share, rest = divmod(sum(loads), len(loads))
    # The fullest ones keep the odd connections: that moves the fewest.
    order = sorted(range(len(loads)), key=loads.__getitem__, reverse=True)
    more = [0] * len(loads)
    for place, index in enumerate(order):
        more[index] = max(0, loads[index] - share - (place < rest))
    wanted = sum(more)
    return more if wanted <= most else [count * most // wanted for count in more]


class Budget:
    """Limits the connections moved per second: a stock that each move reduces, and that refills over time."""

    def __init__(self, most: int, per_s: float) -> None:
        """Begin with `most`, which is also the largest stock."""
        self._most = most
        self._per_s = per_s
        self._left = float(most)
        self._filled_s = -math.inf

    def left(self, now_s: float) -> int:
        """Return how many connections may be moved now."""
        if self._filled_s < now_s:
            self._left = min(self._most, self._left + (now_s - self._filled_s) * self._per_s)
            self._filled_s = now_s
        return int(self._left)

    def spend(self, count: int) -> None:
        """Reduce the stock."""
        self._left -= count


class AcceptShare:
    """One worker's decision whether it is its turn to accept."""

    def __init__(self, slot: int, loads: Callable[[], list[Load]], max_connections: int, max_own: int) -> None:
        """Share with the workers that `loads` lists; hold at most `max_own`, all together `max_connections`."""
        self._slot = slot
        self._loads = loads
        self.max_connections = max_connections
        self._max_own = max_own
        self._seen: tuple[int, int] | None = None
        self._since_s = 0.0
        self._stuck: dict[int, int] = {}

    def has_room(self) -> bool:
        """Tell whether this worker may hold one more connection."""
        loads = self._loads()
        own = next((load.connections for load in loads if load.slot == self._slot), 0)
        return own < self._max_own and sum(load.connections for load in loads) < self.max_connections

    def is_my_turn(self, now_s: float, waiting_since_s: float = -math.inf) -> bool:
        """Tell whether this worker should take the next connection.

        `waiting_since_s` is the time at which it first declined while connections waited; infinite on the first call.
        An idle worker is not counted as stuck.
        """
        loads = [load for load in self._loads() if self._stuck.get(load.slot) != load.accepted]
        own = next((load.connections for load in loads if load.slot == self._slot), 0)
        emptiest = min(loads, key=lambda load: load.connections, default=Load(self._slot, own, 0))
        if own <= emptiest.connections + TOLERANCE:
            self._seen = None
            return True
        progress = (emptiest.slot, emptiest.accepted)
        if progress != self._seen:
            self._seen = progress
            self._since_s = now_s
        elif now_s - max(self._since_s, waiting_since_s) >= PATIENCE_S:
            self._stuck[emptiest.slot] = emptiest.accepted
            self._seen = None
            return self.is_my_turn(now_s, waiting_since_s)
        return False
