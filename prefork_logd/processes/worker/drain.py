"""Ends a worker, by retiring or by draining.

Owns the order of the steps and their time limits. Does not know protocols, pipes or signals.

A retiring worker accepts no more connections, and ends once those it has are handed over. TLS connections cannot be
handed over: their clients are asked to connect again, and after limits.drain_timeout the worker drains.

A draining worker reads what its clients have already sent, closes their connections, and ends once every line is
committed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from prefork_logd.config.values import format_count
from prefork_logd.processes.fork import LOST_STATUS
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from prefork_logd.ipc.batch_sender import BatchSender
    from prefork_logd.net.loop import Loop, Timer
    from prefork_logd.processes.worker.client_limits import ClientLimits
    from prefork_logd.processes.worker.connection import Connection
    from prefork_logd.processes.worker.guard import Guard
    from prefork_logd.processes.worker.migration import Migration
    from prefork_logd.processes.worker.reconnection import Reconnection

PASSES = 2
"""Turns that each connection gets; in the first one its client's last bytes may still have been on their way."""
RETRY_S = 0.1
"""Time until it is checked again whether only TLS connections are left in a retiring worker."""
QUIET_S = 0.05
"""Time between the two."""
LAST_WRITES_S = 5.0
"""How long the commit of the last lines may take."""
FAST_WRITES_S = 2.0
"""The same in a fast stop."""
ORPHAN_S = 0.8
"""Bound of both after the master's death: another collector may wait for the port and the files."""


class DrainPort(Protocol):
    """The worker."""

    loop: Loop
    link: BatchSender
    guard: Guard
    migration: Migration
    limits: ClientLimits
    reconnection: Reconnection
    connections: dict[int, Connection]
    postponed: dict[int, Connection]
    """Connections that are read once reading goes on."""

    def stop_accepting(self, *, takes_queue: bool) -> None:
        """Accept no more connections; with `takes_queue`, accept the kernel's queue first."""

    def close_ended(self, connection: Connection, error: OSError | None) -> None:
        """Close a connection as if its peer had ended it."""


class WorkerDrain:
    """The end of one worker."""

    def __init__(self, port: DrainPort) -> None:
        self._port = port
        self.is_draining = False
        """Whether the worker ends, and reads everything that clients have sent."""
        self.timeout_s = 0.0
        """Time after which connections are closed although their clients still send."""
        self.exit_status = 0
        self._is_retiring = False
        self._first_held = -1
        """The number of the oldest batch that was not committed when the end of the retirement was last due."""
        self._passes_left = PASSES
        self._quiet: Timer | None = None

    def retire(self) -> None:
        """Accept no more connections; end when none is left."""
        port = self._port
        self._is_retiring = True
        port.stop_accepting(takes_queue=False)
        port.reconnection.begin(self.timeout_s)
        port.loop.later(self.timeout_s, self._end_retirement)

    def _end_retirement(self) -> None:
        """Drain if only TLS connections are left, whose time has passed; plain ones are still handed over."""
        port = self._port
        if self.is_draining:
            return
        # While the writer commits nothing (a full disk, for instance), a drain would give the last lines up.
        before, self._first_held = self._first_held, port.link.first_held
        commits = port.link.empty or self._first_held > before >= 0
        if commits and not port.migration.busy and all(one.tls is not None for one in port.connections.values()):
            self.begin(fast=False)
        else:
            port.loop.later(RETRY_S, self._end_retirement)

    def begin(self, *, fast: bool, is_orphan: bool = False) -> None:
        """Read the data that clients have already sent (not if `fast`), and end when all lines are committed.

        A second call can only make it fast.
        """
        port = self._port
        if not self.is_draining:
            self.is_draining = True
            port.migration.cancel()
            port.limits.lift()
            port.stop_accepting(takes_queue=not fast)
            longest_s = ORPHAN_S if is_orphan else math.inf
            timeout_s = min(longest_s, self.timeout_s)
            port.loop.later(timeout_s, self._close_connections)
            port.loop.later(timeout_s + min(longest_s, LAST_WRITES_S), self._give_up_writing)
            self._read_pass()
        if fast:
            self._close_connections()
            port.loop.later(FAST_WRITES_S, self._give_up_writing)

    def end_turn(self) -> None:
        """Take the next step if it is due; called at the end of each turn of the worker."""
        port = self._port
        if self._is_retiring and not self.is_draining and not port.connections and not port.migration.busy:
            self.begin(fast=False)
        if self.is_draining:
            self._continue()

    def _read_pass(self) -> None:
        """Give every connection one more turn."""
        self._passes_left -= 1
        for connection in self._port.connections.values():
            if not connection.queued and connection.fd not in self._port.postponed:
                connection.queued = True
                self._port.loop.again(connection)

    def _continue(self) -> None:
        """Read every connection PASSES times, then close them; end when all lines are committed."""
        port = self._port
        if port.connections and not self._is_reading():
            if self._passes_left:
                self._quiet = port.loop.later(QUIET_S, self._read_pass)
            else:
                self._close_connections()
        if not port.connections and port.link.empty and not port.migration.busy:
            port.loop.stop()

    def _is_reading(self) -> bool:
        """Return whether connections are still to be read."""
        return (
            (self._quiet is not None and self._quiet.pending)
            or bool(self._port.postponed)
            or any(connection.queued for connection in self._port.connections.values())
        )

    def _close_connections(self) -> None:
        for connection in list(self._port.connections.values()):
            with self._port.guard.of(connection):
                self._port.close_ended(connection, None)

    def _give_up_writing(self) -> None:
        link = self._port.link
        if not link.empty:
            LOGGER.error(
                "lost %s of lines, not written in time; see the writer's log lines",
                format_count(link.held_bytes, "byte"),
            )
            self.exit_status = LOST_STATUS
        self._port.loop.stop()
