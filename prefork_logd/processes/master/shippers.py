"""Keeps one shipper for each store of the configuration: forks, replaces and ends it.

Does not know how a child is forked (supervisor.py), or how a store gets its slot (configurations.py).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prefork_logd.ipc.messages import Drain, WakeupFd
from prefork_logd.ipc.scoreboard import SHIPPER_SLOT, Scoreboard, StoreField
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import Event, State
from prefork_logd.processes.shipper.shipper import DRAIN_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_logd.ipc.channel import Channel
    from prefork_logd.ipc.configuration import Configuration
    from prefork_logd.net.loop import Loop

KILL_AFTER_S = 3.0
"""Extra time for a shipper before it is killed. A call to its store may take a second or two; one that hangs cannot be
interrupted otherwise."""


class Shippers:
    """The shippers of one collector, by the slots of their stores."""

    def __init__(self, loop: Loop, board: Scoreboard, apply_event: Callable[[Child, Event], None]) -> None:
        """Change the states of children through `apply_event`."""
        self._loop = loop
        self._board = board
        self._apply_event = apply_event
        self._children: dict[int, Child] = {}
        self._wakers: dict[int, int] = {}
        self.restarts: dict[str, int] = {}
        """How often the shippers of earlier programs were forked again, by name."""

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._children.values()))

    def store_ids(self) -> set[int]:
        """Return the slots of the stores whose shippers have not ended."""
        return set(self._children)

    def adjust(self, configuration: Configuration) -> None:
        """Fork a shipper for each store that has none; end those whose store was removed or has changed."""
        wanted = dict(zip(configuration.store_ids, configuration.settings.shipped, strict=True))
        for store_id, child in list(self._children.items()):
            if child.store != wanted.get(store_id) and child.state is not State.STOPPING:
                self._end(child)
        for store_id, store in wanted.items():
            if store_id not in self._children:
                self.waker(store_id)  # made before the fork, so that both have it
                child = self._children[store_id] = Child(Kind.SHIPPER, SHIPPER_SLOT + store_id, store=store)
                child.restarts = self.restarts.pop(child.name, 0)
                self._apply_event(child, Event.DUE)

    def waker(self, store_id: int) -> int:
        """Return the eventfd(2) by which the writer wakes the shipper in a slot."""
        if store_id not in self._wakers:
            self._wakers[store_id] = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return self._wakers[store_id]

    def connect(self, writer: Channel, child: Child | None = None) -> None:
        """Send the writer the eventfd of one shipper, or of all."""
        for store_id, shipper in self._children.items():
            if child is None or child is shipper:
                writer.send(WakeupFd(store_id), [os.dup(self.waker(store_id))])

    def forget(self, child: Child) -> None:
        """Free the slot of a shipper that has ended for good, and clear its counters for the next store."""
        store_id = child.index
        del self._children[store_id]
        counters = self._board.store(store_id)
        counters[StoreField.READY] = 0
        counters[:] = memoryview(bytes(counters.nbytes)).cast("Q")

    def stop(self, *, fast: bool) -> bool:
        """End every shipper, after a last attempt to send unless `fast`; return whether all have gone."""
        for child in self:
            if child.state is not State.STOPPING:
                self._end(child)
            if fast and child.channel is not None:
                child.channel.send(Drain(fast=True))
        return not self._children

    def _end(self, child: Child) -> None:
        # The journal has the records that its store has not committed.
        child.kill_after(self._loop, DRAIN_S + KILL_AFTER_S, "waits for its store")
        self._apply_event(child, Event.STOP)
