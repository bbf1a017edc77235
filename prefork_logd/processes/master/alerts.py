"""Keeps the process of the alerts while there may be rules: forks, replaces and ends it.

Does not know how a child is forked (supervisor.py), or what the process does. Its death holds up no other child.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.paths import ALERTS_FILE
from prefork_logd.ipc.scoreboard import ALERTS_SLOT
from prefork_logd.processes.alerts.alerts import DRAIN_S
from prefork_logd.processes.master.child import Kind
from prefork_logd.processes.master.single_child import SingleChild

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.config.settings import Settings
    from prefork_logd.net.loop import Loop
    from prefork_logd.processes.master.child import Child
    from prefork_logd.processes.master.lifecycle import Event

KILL_AFTER_S = 1.0
"""Extra time for the process before it is killed; a notice that is on its way is then sent again."""


class Alerts(SingleChild):
    """The alerts of one collector: at most one process."""

    def __init__(self, loop: Loop, apply_event: Callable[[Child, Event], None]) -> None:
        """Change the state of the child through `apply_event`."""
        super().__init__(Kind.ALERTS, ALERTS_SLOT, loop, apply_event, DRAIN_S + KILL_AFTER_S)
        self._wanted: Settings | None = None
        """The settings with which the process was forked."""

    def adjust(self, settings: Settings) -> None:
        """Fork the process if there may be rules; end one with other settings, after which `adjust` forks the next."""
        if self._child is not None:
            if settings != self._wanted or not _may_have_rules(settings):
                self._end()
        elif _may_have_rules(settings):
            self._wanted = settings
            self._fork()


def _may_have_rules(settings: Settings) -> bool:
    """Tell whether there are rules, or may be: users make them on the page, and they stay without it."""
    has_some = settings.alert or settings.web.bind or (Path(settings.server.state_dir) / ALERTS_FILE).exists()
    return bool(settings.alerts.enabled and has_some)
