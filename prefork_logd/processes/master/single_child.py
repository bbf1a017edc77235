"""Keeps at most one child of a kind: forks, ends and forgets it.

The page and the alerts are such children. Does not know when a child is wanted, or its code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.ipc.messages import Drain
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import Event, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_logd.net.loop import Loop


class SingleChild:
    """A child that no record is lost with: its death or its hanging holds up no other."""

    def __init__(
        self, kind: Kind, slot: int, loop: Loop, apply_event: Callable[[Child, Event], None], longest_end_s: float
    ) -> None:
        """Change the state of the child through `apply_event`; kill it if its end takes longer than `longest_end_s`."""
        self._kind, self._slot = kind, slot
        self._loop = loop
        self._apply_event = apply_event
        self._longest_end_s = longest_end_s
        self._child: Child | None = None
        self.restarts: dict[str, int] = {}
        """How often the child of earlier programs was forked again, by the name of its process."""

    def __iter__(self) -> Iterator[Child]:
        if self._child is not None:
            yield self._child

    def forget(self) -> None:
        """Forget the process, which has ended for good."""
        self._child = None

    def stop(self, *, fast: bool) -> bool:
        """End the process; return whether it has gone."""
        self._end()
        if fast and self._child is not None and self._child.channel is not None:
            self._child.channel.send(Drain(fast=True))
        return self._child is None

    def _fork(self) -> None:
        self._child = Child(self._kind, self._slot)
        self._child.restarts = self.restarts.pop(self._child.name, 0)
        self._apply_event(self._child, Event.DUE)

    def _end(self) -> None:
        """End the process, unless there is none or it ends already."""
        child = self._child
        if child is not None and child.state is not State.STOPPING:
            child.kill_after(self._loop, self._longest_end_s, "did not end in time")
            self._apply_event(child, Event.STOP)
