"""Which workers hand connections over, and to whom: the master's part.

Owns when that is tried, and when again. Sees how many connections each worker holds, and no connection.

A worker that is to end hands over all of its connections. One that was added gets its fair share from those that hold
more. What a worker could not hand over it still serves, so trying again later is all that ever has to be done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.log import LOGGER
from prefork_logd.net.balance import TOLERANCE, shares
from prefork_logd.net.handover import make_pair
from prefork_logd.processes import control
from prefork_logd.processes.states import State
from prefork_logd.scoreboard import Field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_logd.net.loop import Loop
    from prefork_logd.processes.children import Child
    from prefork_logd.scoreboard import Scoreboard

RETRY_S = 0.5


class Moves:
    """The moves that are under way, and those that are still to be made."""

    def __init__(self, loop: Loop, board: Scoreboard, workers: Callable[[], Iterable[Child]]) -> None:
        """Move between those of `workers` that are running."""
        self._loop = loop
        self._board = board
        self._workers = workers
        self._giving: set[int] = set()
        """Lives of workers that have been told to hand over, and have not answered."""
        self._told: dict[int, str] = {}
        """What was logged of a worker last, so that it is not said again every time."""
        self._level = False
        """Whether a worker was added that has not got its share."""

    def empty(self, child: Child) -> None:
        """Let a worker that is to end hand over everything."""
        if child.state is not State.RETIRING or child.life in self._giving:
            return
        takers = [worker for worker in self._running() if worker is not child and worker.life not in self._giving]
        takers.sort(key=self._load)
        if takers:
            self._plan(child, takers[: control.MOST_DESCRIPTORS], -1)
        else:
            self._try_again(child)

    def level(self) -> None:
        """Let those that hold more than their share give to those that hold less."""
        running = self._running()
        if any(worker.life in self._giving for worker in running):
            self._level = True
            return
        self._level = False
        if not running:
            return
        loads = [self._load(worker) for worker in running]
        fair = shares(sum(loads), [0] * len(loads))
        poor = [worker for worker, load, due in zip(running, loads, fair, strict=True) if load + TOLERANCE < due]
        rich = [(worker, load - due) for worker, load, due in zip(running, loads, fair, strict=True) if load > due]
        if poor:
            for worker, more in rich:
                self._plan(worker, poor[: control.MOST_DESCRIPTORS], more)

    def _plan(self, giver: Child, takers: list[Child], count: int) -> None:
        """Connect a giver with its takers, and tell both."""
        if giver.channel is None:
            return
        try:
            ends = [(taker, *make_pair()) for taker in takers]
        except OSError as error:
            # No descriptors left (socketpair(2)); what was made is closed with its last reference.
            LOGGER.warning("connections cannot be handed over just now: %s", error.strerror)
            self._try_again(giver)
            return
        self._giving.add(giver.life)
        for taker, _, taken in ends:
            if taker.channel is not None:
                taker.channel.send(control.TakeOver(), [taken.detach()])
            else:
                taken.close()
        loads = tuple(self._load(taker) for taker in takers)
        giver.channel.send(control.HandOver(loads, count), [given.detach() for _, given, _ in ends])

    def told(self, child: Child, outcome: control.HandedOver) -> None:
        """Take a worker's word that it has handed over what could be."""
        self._giving.discard(child.life)
        if outcome.problem and outcome.problem != self._told.get(child.life):
            self._told[child.life] = outcome.problem
            LOGGER.warning(
                "%s keeps %d connections for now: %s; it serves them as before",
                child.name,
                outcome.left,
                outcome.problem,
            )
        if child.state is State.RETIRING and outcome.left:
            self._try_again(child)
        if self._level:
            self.level()

    def ended(self, child: Child) -> None:
        """Forget a worker that has ended."""
        self._giving.discard(child.life)
        self._told.pop(child.life, None)
        if self._level:
            self.level()

    def _try_again(self, child: Child) -> None:
        life = child.life
        self._loop.later(RETRY_S, lambda: self.empty(child) if child.life == life else None)

    def _running(self) -> list[Child]:
        return [worker for worker in self._workers() if worker.state is State.RUNNING and worker.channel is not None]

    def _load(self, child: Child) -> int:
        return self._board.slot(child.slot)[Field.CONNECTIONS]
