"""Counts the connections of each service, and reports the counts to the master.

Owns the counts. Does not know how a client describes itself (records/sender.py).

A connection costs one step when its client names its service, and one when it closes; a record costs nothing. A report
is sent at most once in REPORT_S seconds, and only after a change.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING

from prefork_logd.ipc.messages import StatusReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.net.loop import Loop, Timer
    from prefork_logd.processes.worker.connection import Connection

REPORT_S = 1.0
MOST_SERVICES = 100
"""Services in a report: those with most connections."""
SERVICES, OTHERS = "services", "others"
"""Names in a report: a list of [service, connections], and the number of connections of the services left out."""


class ServiceCounts:
    """The number of connections of each service in one worker."""

    def __init__(self, loop: Loop, send: Callable[[StatusReport], object]) -> None:
        """Send reports through `send`."""
        self._loop = loop
        self._send = send
        self._of: dict[Connection, str] = {}
        self._counts: Counter[str] = Counter()
        self._timer: Timer | None = None

    def count(self, connection: Connection) -> None:
        """Count a connection under the service that its client has named, if it has named one."""
        service = connection.find_sender().service if connection.sender_document else ""
        if self._of.get(connection, "") != service:
            self.forget(connection)
        if service and connection not in self._of:
            self._of[connection] = service
            self._counts[service] += 1
            self._report_soon()

    def forget(self, connection: Connection) -> None:
        """Count a connection no longer."""
        service = self._of.pop(connection, None)
        if service is not None:
            self._counts[service] -= 1
            if not self._counts[service]:
                del self._counts[service]
            self._report_soon()

    def _report_soon(self) -> None:
        if self._timer is None:
            self._timer = self._loop.later(REPORT_S, self._report)

    def _report(self) -> None:
        self._timer = None
        most = heapq.nlargest(MOST_SERVICES, self._counts.items(), key=lambda one: (one[1], one[0]))
        others = len(self._of) - sum(count for _, count in most)
        self._send(StatusReport("", {SERVICES: most, OTHERS: others}))
