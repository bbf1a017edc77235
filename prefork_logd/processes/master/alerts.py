"""Keeps the process of the alerts while there may be rules: forks, replaces and ends it.

Does not know how a child is forked (supervisor.py), or what the process does. Its death holds up no other child.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.paths import ALERTS_FILE
from prefork_logd.ipc.messages import Drain
from prefork_logd.ipc.scoreboard import ALERTS_SLOT
from prefork_logd.processes.alerts.alerts import DRAIN_S
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import Event, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_logd.config.settings import Settings
    from prefork_logd.net.loop import Loop

KILL_AFTER_S = 1.0
"""Extra time for the process before it is killed; a notice that is on its way is then sent again."""


class Alerts:
    """The alerts of one collector: at most one process."""

    def __init__(self, loop: Loop, apply_event: Callable[[Child, Event], None]) -> None:
        """Change the state of the child through `apply_event`."""
        self._loop = loop
        self._apply_event = apply_event
        self._child: Child | None = None
        self._wanted: Settings | None = None
        """The settings with which the process was forked."""

    def __iter__(self) -> Iterator[Child]:
        if self._child is not None:
            yield self._child

    def adjust(self, settings: Settings) -> None:
        """Fork the process if there may be rules; end one with other settings, after which `adjust` forks the next."""
        if self._child is not None:
            if (settings != self._wanted or not _may_have_rules(settings)) and self._child.state is not State.STOPPING:
                self._end(self._child)
        elif _may_have_rules(settings):
            self._wanted = settings
            self._child = Child(Kind.ALERTS, ALERTS_SLOT)
            self._apply_event(self._child, Event.DUE)

    def forget(self) -> None:
        """Forget the process, which has ended for good."""
        self._child = None

    def stop(self, *, fast: bool) -> bool:
        """End the process; return whether it has gone."""
        if self._child is not None and self._child.state is not State.STOPPING:
            self._end(self._child)
        if fast and self._child is not None and self._child.channel is not None:
            self._child.channel.send(Drain(fast=True))
        return self._child is None

    def _end(self, child: Child) -> None:
        child.kill_after(self._loop, DRAIN_S + KILL_AFTER_S, "did not end in time")
        self._apply_event(child, Event.STOP)


def _may_have_rules(settings: Settings) -> bool:
    """Tell whether there are rules, or may be: users make them on the page, and they stay without it."""
    has_some = settings.alert or settings.web.bind or (Path(settings.server.state_dir) / ALERTS_FILE).exists()
    return bool(settings.alerts.enabled and has_some)
