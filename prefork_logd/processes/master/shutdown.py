"""Stops the collector: the page, the alerts and the workers end first, then the writer, the shippers and the master.

Does not know how a child ends (supervisor.py), or which signal stops the collector (master.py).

The writer ends on end-of-file of its last pipe, so every line in a pipe is written.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from prefork_logd.errors import ExitStatus
from prefork_logd.ipc.messages import Drain, Retire, Stopping
from prefork_logd.processes.master.child import Kind
from prefork_logd.processes.master.lifecycle import ALIVE, Event, State
from prefork_logd.processes.shipper.shipper import DRAIN_S
from prefork_logd.processes.worker.drain import FAST_WRITES_S, LAST_WRITES_S
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.net.loop import Loop, Timer
    from prefork_logd.processes.master.child import Child
    from prefork_logd.processes.master.configurations import Configurations
    from prefork_logd.processes.master.service_manager import ServiceManager
    from prefork_logd.processes.master.supervisor import Supervisor
    from prefork_logd.processes.master.upgrade.upgrader import Upgrader

KILL_AFTER_S = 3.0
"""The time that a child gets on top of its own limits before it is killed."""
LONGEST_STOP_S = LAST_WRITES_S + DRAIN_S + 4 * KILL_AFTER_S
"""The longest time of a stop on top of limits.drain_timeout."""
UPGRADE_S = 3.0
"""The time that a stop waits for an upgrade to end."""


class Shutdown:
    """The stop of one collector."""

    def __init__(
        self,
        loop: Loop,
        supervisor: Supervisor,
        configurations: Configurations,
        upgrader: Upgrader,
        service_manager: ServiceManager,
    ) -> None:
        self.exit_status = ExitStatus.OK
        self.is_done = False
        """Whether every child has gone."""
        self._loop = loop
        self._supervisor = supervisor
        self._configurations = configurations
        self._upgrader = upgrader
        self._service_manager = service_manager
        self._is_fast = False
        self._is_postponed = False
        """Whether the stop waits for an upgrade to end."""
        self._kill_timer: Timer | None = None
        self._askers: list[Callable[[dict[str, Any]], None]] = []

    @property
    def has_begun(self) -> bool:
        """Whether the collector stops."""
        return self._supervisor.is_stopping

    def promise_status(self, answer: Callable[[dict[str, Any]], None]) -> None:
        """Answer with the exit status when the collector ends."""
        self._askers.append(answer)

    def tell_status(self) -> None:
        """Send the exit status to all who have asked for it."""
        for answer in self._askers:
            answer({"exit_status": int(self.exit_status)})

    def request(self) -> None:
        """Stop gracefully, after an upgrade that is under way; a second request makes it fast."""
        if self._upgrader.replacement is not None and not self._is_postponed and not self.has_begun:
            self._is_postponed = True
            self._loop.later(UPGRADE_S, lambda: self.begin(fast=False))
            return
        self.begin(fast=self.has_begun)

    def end_upgrade(self) -> None:
        """Begin the stop that was postponed until the end of the upgrade, if there is one."""
        if self._is_postponed:
            self.begin(fast=False)

    def begin(self, *, fast: bool) -> None:
        """Stop; with `fast`, without reading the rest of clients' data."""
        if not self.has_begun:
            self._begin_draining(fast=fast)
        if fast:
            self._hurry()
        self.advance()

    def announce(self) -> None:
        """Let the writer use the space that is kept free, if the collector stops; also one that begins meanwhile."""
        if self.has_begun and (channel := self._supervisor.writer.channel) is not None:
            channel.send(Stopping())

    def _begin_draining(self, *, fast: bool) -> None:
        self._supervisor.is_stopping = True
        LOGGER.info("stopping: reading what clients have sent" if not fast else "stopping fast")
        drain_timeout_s = self._configurations.current.settings.limits.drain_timeout_s
        self._service_manager.report_stop(drain_timeout_s + LONGEST_STOP_S)
        self._kill_timer = self._loop.later(drain_timeout_s + LAST_WRITES_S + KILL_AFTER_S, self._kill_children)
        for worker in self._supervisor.all_workers():
            _cancel_timer(worker)
            self._supervisor.apply_event(worker, Event.STOP)
        self.announce()
        self._supervisor.page.stop(fast=fast)
        self._supervisor.alerts.stop(fast=fast)
        # Workers can only end while a writer takes their lines, so an upgrade still has to start its writer.
        self._supervisor.advance_upgrade()

    def _hurry(self) -> None:
        self._is_fast = True
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self._kill_timer = self._loop.later(FAST_WRITES_S + KILL_AFTER_S, self._kill_children)
        for worker in self._supervisor.all_workers():
            if worker.channel is not None:
                worker.channel.send(Drain(fast=True))

    def advance(self) -> None:
        """Take the next step if the children of the last one have gone."""
        supervisor = self._supervisor
        if supervisor.all_workers():
            return
        for child in self._upgrader.old:
            if child.channel is not None:
                child.channel.send(Retire() if child.kind is Kind.WRITER else Drain(fast=True))
        if self._upgrader.old:
            return
        if supervisor.writer.state is State.GONE:
            if self._kill_timer is not None:
                self._kill_timer.cancel()
            have_gone = [
                part.stop(fast=self._is_fast) for part in (supervisor.page, supervisor.alerts, supervisor.shippers)
            ]
            if all(have_gone):
                self.is_done = True
                self._loop.stop()
        elif supervisor.writer.state is not State.STOPPING:
            _cancel_timer(supervisor.writer)
            supervisor.apply_event(supervisor.writer, Event.STOP)

    def record_failure(self, child: Child) -> None:
        """Make the stop a failure after a child failed in it; not for a shipper, whose records wait in the journal.

        Nor for the page and the alerts, which have no records.
        """
        if self.has_begun and child.kind not in (Kind.SHIPPER, Kind.WEB, Kind.ALERTS):
            self.exit_status = ExitStatus.FAILURE

    def _kill_children(self) -> None:
        """Kill the children that have not ended in time."""
        for child in self._supervisor.children():
            if child.state in ALIVE and child.pid:
                LOGGER.error("%s (pid %d) did not end in time", child.name, child.pid)
                os.kill(child.pid, signal.SIGKILL)
                self.exit_status = ExitStatus.FAILURE
        self._kill_timer = self._loop.later(KILL_AFTER_S, self._kill_children)


def _cancel_timer(child: Child) -> None:
    if child.timer is not None:
        child.timer.cancel()
