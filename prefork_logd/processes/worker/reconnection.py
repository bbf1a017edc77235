"""Asks the TLS clients of a retiring worker to connect again, a few at a time.

Owns their order and pace. Does not know why the worker retires, or the messages of a protocol.

The state of a TLS connection is in OpenSSL's memory and cannot move to another process. A client of a session loses
nothing by connecting again: the collector tells it what is committed. Any other client would lose records that are on
their way, so it is served here until it leaves, or until the worker's time is over (drain.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prefork_logd.net.loop import Loop
    from prefork_logd.processes.worker.connection import Connection
    from prefork_logd.processes.worker.guard import Guard

STEP_S = 0.05
"""Time between two groups of clients."""
SPREAD_S = 5.0
"""Time over which all clients are spread; half of limits.drain_timeout, if that is shorter."""
FEWEST = 8
"""Clients of a group, at least."""


class WorkerPort(Protocol):
    """The worker."""

    loop: Loop
    guard: Guard
    connections: dict[int, Connection]

    def close(self, connection: Connection) -> None:
        """Close a connection."""


class Reconnection:
    """The TLS sessions of one worker that are asked to connect again."""

    def __init__(self, port: WorkerPort) -> None:
        self._port = port
        self._waiting: list[Connection] = []
        self._group = FEWEST

    def begin(self, drain_timeout_s: float) -> None:
        """Ask every client of a session over TLS, spread over a part of limits.drain_timeout (in seconds)."""
        self._waiting = [one for one in self._port.connections.values() if one.tls is not None and one.session]
        steps = max(1, int(min(SPREAD_S, drain_timeout_s / 2) / STEP_S))
        self._group = max(FEWEST, -(-len(self._waiting) // steps))
        self._ask()

    def _ask(self) -> None:
        group, self._waiting = self._waiting[: self._group], self._waiting[self._group :]
        for connection in group:
            if connection.fd >= 0 and connection.input is not None:
                with self._port.guard.of(connection):
                    why = "this worker ends; connect again, and go on from what is committed"
                    connection.send(connection.input.dismiss(why, may_return=True))
                    self._port.close(connection)
        if self._waiting:
            self._port.loop.later(STEP_S, self._ask)
