"""Reports the collector to the service manager: readiness, reloads, the stop, rates, and the writer's progress.

Owns the times of the reports. Does not know their transport (system/systemd.py). Without a service manager it sets no
timer and sends nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.processes.master.lifecycle import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.net.loop import Loop
    from prefork_logd.processes.master.child import Child
    from prefork_logd.system.systemd import Notifier

STATUS_EVERY_S = 10.0
"""Time between two lines of `systemctl status`."""
ALIVE_EVERY = 4
"""Keep-alives in the time that the watchdog allows. A probe is answered before the next one, so two may be late."""


class ServiceManager:
    """Reports one collector to the service manager that started it."""

    def __init__(
        self, loop: Loop, notifier: Notifier, writer: Callable[[], Child], counts: Callable[[], tuple[int, int]]
    ) -> None:
        """Watch the writer; `counts` returns the numbers of records so far and of connections now."""
        self._loop = loop
        self._notifier = notifier
        self._writer = writer
        self._counts = counts
        self._records, self._since_s = 0, 0.0

    @property
    def is_managed(self) -> bool:
        """Whether a service manager started this collector, and so starts another one when it ends."""
        return self._notifier.is_wanted

    @property
    def restart_by(self) -> str:
        """What restarts this collector: `restart` refuses to, where a service manager runs it."""
        return "`systemctl restart` with its unit" if self.is_managed else "`prefork-logd restart`"

    def report_ready(self, *, is_new: bool = True) -> None:
        """Report that clients are served, and go on with rates and keep-alives; not `is_new` after an upgrade."""
        if not self._notifier.is_wanted:
            return
        self._records, self._since_s = self._counts()[0], time.monotonic()
        if is_new:
            self._notifier.send(READY=1, STATUS="Collecting")
        self._loop.later(STATUS_EVERY_S, self._report_status)
        if self._notifier.watchdog_s:
            self._keep_alive()

    def report_reload(self) -> None:
        """Report that a reload begins; by the time of the report systemd knows that it belongs to its request."""
        self._notifier.send(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

    def report_reloaded(self) -> None:
        """Report that no reload is under way any more."""
        self._notifier.send(READY=1)

    def report_stop(self, longest_s: float) -> None:
        """Report that the collector stops, and that this may take so many seconds."""
        self._notifier.send(
            STOPPING=1, STATUS="Stopping: reading what clients have sent", EXTEND_TIMEOUT_USEC=int(longest_s * 1e6)
        )

    def _report_status(self) -> None:
        records, connections = self._counts()
        now_s = time.monotonic()
        rate = max(0, records - self._records) / max(0.001, now_s - self._since_s)
        self._records, self._since_s = records, now_s
        held = f"{format_count(connections, 'connection')}; {format_count(records, 'record')}"
        self._notifier.send(STATUS=f"{rate:,.0f} records/s; {held}")
        self._loop.later(STATUS_EVERY_S, self._report_status)

    def _keep_alive(self) -> None:
        """Send a keep-alive if the writer has answered the last probe, then probe it again.

        The writer answers between two turns. So a writer that hangs or dies again and again ends the keep-alives.
        """
        writer = self._writer()
        if writer.is_inherited:
            # The writer of the last program, for a moment during an upgrade; it may not know the probe.
            self._notifier.send(WATCHDOG=1)
        elif writer.channel is not None and writer.state in {State.RUNNING, State.STOPPING}:
            if writer.channel.silent_since_s is None:
                self._notifier.send(WATCHDOG=1)
            writer.channel.probe(time.monotonic())
        elif writer.state is State.GONE:
            # The end of a stop, in which the stores get their last records; it has a time limit of its own.
            self._notifier.send(WATCHDOG=1)
        self._loop.later(self._notifier.watchdog_s / ALIVE_EVERY, self._keep_alive)
