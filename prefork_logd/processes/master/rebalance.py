"""Decides which workers hand connections over, to which workers, and when: the master's part.

Owns the rounds of moves and their limits. Does not know connections, only how many of them each worker holds.

There are two reasons for a move. A retiring worker hands over all of its connections. Workers with uneven loads are
levelled: the loads are compared a few times a second, and whenever a worker becomes ready or answers again. A
comparison reads a few counters. The workers are pinged only when there is something to move, and only those that answer
soon take part: a stopped worker neither gives nor gets connections, and delays no other worker. A worker goes on
serving the connections that it could not hand over, so trying again later is always enough.

Levelling is bounded. Loads within a margin are left alone (load_balance.py). A budget bounds the connections moved per
second. When loads stay uneven after a move, the pause before the next one doubles.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.ipc.channel import MOST_DESCRIPTORS
from prefork_logd.ipc.messages import HandedOver, HandOver, Ping, TakeOver
from prefork_logd.ipc.scoreboard import WRITER_SLOT, Field
from prefork_logd.net.load_balance import Budget, distribute, is_even, surpluses
from prefork_logd.processes.master.lifecycle import State
from prefork_logd.processes.worker.handover import make_pair
from prefork_logd.system.backoff import Backoff
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_logd.ipc.scoreboard import Scoreboard
    from prefork_logd.net.loop import Loop, Timer
    from prefork_logd.processes.master.child import Child

RETRY_S = 0.5
COMPARE_S = 0.25
"""How often the loads are compared."""
PING_S = 0.25
"""How long a move waits for workers to answer; it is then planned without the silent ones."""
GIVE_S = 5.0
"""How long the takers of a move are left out of other moves. Bounded, because a giver that hangs never answers."""
LONGEST_PAUSE_S = 8.0
"""The longest time between two moves while loads stay uneven."""
MOST_MOVED, MOVED_PER_S = 10_000, 1_000
"""Connections moved by levelling: at most so many at once, and so many a second on average."""


class Rebalancer:
    """The moves under way, and those still to come."""

    def __init__(self, loop: Loop, board: Scoreboard, workers: Callable[[], Iterable[Child]]) -> None:
        """Move connections between those of `workers` that are running."""
        self._loop = loop
        self._board = board
        self._workers = workers
        self._giving: dict[int, frozenset[int]] = {}
        """Spawn ids of workers that were sent HandOver and have not answered, with the spawn ids of the takers."""
        self._silent: set[int] = set()
        """Spawn ids of workers that were sent a Ping and have not answered."""
        self._emptying: dict[int, Child] = {}
        """Workers that hand over everything in the next round, by their spawn ids."""
        self._asked: set[int] = set()
        """Spawn ids of the workers pinged in this round."""
        self._round: Timer | None = None
        """Ends the time to answer while workers are being pinged."""
        self._warned: dict[int, str] = {}
        """The last warning about each worker, so that it is logged once."""
        self._budget = Budget(MOST_MOVED, MOVED_PER_S)
        self._pause = Backoff(COMPARE_S, LONGEST_PAUSE_S)
        """The time between two moves; it grows while loads stay uneven."""
        self._next_level_s = 0.0
        loop.later(COMPARE_S, self._tick)

    def hand_over_all(self, child: Child) -> None:
        """Let a retiring worker hand over everything."""
        if child.state is State.RETIRING and child.spawn_id not in self._giving:
            self._emptying[child.spawn_id] = child
            self._begin_round()

    def level(self) -> None:
        """Level at once if loads are uneven; for a worker that has become ready or answers again."""
        self._pause.worked()
        self._next_level_s = 0.0
        self._begin_round()

    def _tick(self) -> None:
        self._loop.later(COMPARE_S, self._tick)
        self._begin_round()

    def _begin_round(self) -> None:
        """Ping the workers if there is something to move, unless a round is under way."""
        if self._round is None and (self._emptying or self._is_level_due()):
            self._round = self._loop.later(PING_S, self._end_round)
            self._asked = {worker.spawn_id for worker in self._takers()}
            for worker in self._takers():
                if worker.channel is not None:
                    self._silent.add(worker.spawn_id)
                    worker.channel.send(Ping())

    def _is_level_due(self) -> bool:
        if is_even([self._load(worker) for worker in self._idle()]):
            if not self._giving:
                self._pause.worked()
            return False
        return time.monotonic() >= self._next_level_s and self._writer_commits()

    def _writer_commits(self) -> bool:
        """Return whether the writer commits now; a connection is moved once its last lines are committed."""
        writer = self._board.slot(WRITER_SLOT)
        return bool(writer[Field.PID]) and not writer[Field.PAUSED]

    def record_pong(self, child: Child) -> None:
        """Record a worker's answer to a Ping."""
        if child.spawn_id not in self._silent:
            return
        self._silent.discard(child.spawn_id)
        if self._round is None:
            # A late answer: the worker was stopped, or busy for long.
            self.level()
        elif not self._asked & self._silent:
            self._end_round()

    def _end_round(self) -> None:
        """Plan the moves between the workers that have answered."""
        if self._round is not None:
            self._round.cancel()
            self._round = None
        emptying, self._emptying = self._emptying, {}
        for child in emptying.values():
            if child.state is State.RETIRING:
                self._give_all(child)
        if not emptying and self._is_level_due():
            self._level_between(self._idle())

    def _give_all(self, child: Child) -> None:
        takers = [worker for worker in self._takers() if worker is not child]
        takers.sort(key=self._load)
        if takers:
            self._hand_over(child, takers[:MOST_DESCRIPTORS], [self._load(taker) for taker in takers], -1)
        else:
            if any(worker.spawn_id in self._silent for worker in self._workers()):
                self._warn(child, self._load(child), "no other worker answers")
            self._try_again(child)

    def _level_between(self, workers: list[Child]) -> None:
        """Let the workers that hold more than their share give to those that hold less."""
        loads = [self._load(worker) for worker in workers]
        now_s = time.monotonic()
        more = surpluses(loads, self._budget.left(now_s))
        self._next_level_s = now_s + self._pause.failed()
        takers = [index for index, load in enumerate(loads) if load < sum(loads) // len(loads)]
        for giver, count in enumerate(more):
            if not count or not takers:
                continue
            # The worker distributes them by the same rule, so the resulting loads are known here.
            takers.sort(key=loads.__getitem__)
            chosen = takers[:MOST_DESCRIPTORS]
            self._budget.spend(count)
            self._hand_over(workers[giver], [workers[index] for index in chosen], [loads[i] for i in chosen], count)
            for index, share in zip(chosen, distribute(count, [loads[index] for index in chosen]), strict=True):
                loads[index] += share

    def _hand_over(self, giver: Child, takers: list[Child], loads: list[int], count: int) -> None:
        """Send a giver and its takers, which hold `loads`, the socket pairs for `count` connections (-1: all)."""
        if giver.channel is None:
            return
        try:
            ends = [(taker, *make_pair()) for taker in takers]
        except OSError as error:
            # No descriptors left (socketpair(2)); the pairs made so far are closed with their last reference.
            LOGGER.warning("connections cannot be handed over just now: %s", error.strerror)
            self._try_again(giver)
            return
        move = frozenset(taker.spawn_id for taker in takers)
        self._giving[giver.spawn_id] = move
        self._loop.later(GIVE_S, lambda: self._free_takers(giver.spawn_id, move))
        for taker, _, taken in ends:
            if taker.channel is not None:
                taker.channel.send(TakeOver(), [taken.detach()])
            else:
                taken.close()
        message = HandOver(tuple(loads[: len(takers)]), count)
        giver.channel.send(message, [given.detach() for _, given, _ in ends])

    def _free_takers(self, giver: int, move: frozenset[int]) -> None:
        if self._giving.get(giver) is move:
            self._giving[giver] = frozenset()

    def record_handover(self, child: Child, outcome: HandedOver) -> None:
        """Record the outcome of a move; a retiring worker that still has connections tries again."""
        self._giving.pop(child.spawn_id, None)
        if outcome.problem:
            self._warn(child, outcome.left, outcome.problem)
        if child.state is State.RETIRING and outcome.left:
            self._try_again(child)

    def _warn(self, child: Child, left: int, problem: str) -> None:
        if problem != self._warned.get(child.spawn_id):
            self._warned[child.spawn_id] = problem
            LOGGER.warning(
                "%s keeps %s for now: %s; it serves them as before",
                child.name,
                format_count(left, "connection"),
                problem,
            )

    def forget_worker(self, child: Child) -> None:
        """Forget a worker that has ended."""
        self._giving.pop(child.spawn_id, None)
        self._silent.discard(child.spawn_id)
        self._emptying.pop(child.spawn_id, None)
        self._warned.pop(child.spawn_id, None)

    def _try_again(self, child: Child) -> None:
        spawn_id = child.spawn_id
        self._loop.later(RETRY_S, lambda: self.hand_over_all(child) if child.spawn_id == spawn_id else None)

    def _takers(self) -> list[Child]:
        """Return the workers that may take connections: running, answering, and not giving themselves."""
        return [
            worker
            for worker in self._workers()
            if worker.state is State.RUNNING
            and worker.channel is not None
            and worker.spawn_id not in self._silent
            and worker.spawn_id not in self._giving
        ]

    def _idle(self) -> list[Child]:
        """Return those takers that are not receiving connections now."""
        taking = frozenset[int]().union(*self._giving.values())
        return [worker for worker in self._takers() if worker.spawn_id not in taking]

    def _load(self, child: Child) -> int:
        return self._board.slot(child.slot)[Field.CONNECTIONS]
