"""Bounds the memory that the connections of each client hold by the `memory` of its limit.

Owns the sums, and the choice of the connection that is closed. Does not know rates, or the clients themselves
(client_limits.py).

The sums are exact whenever a client has sent something, and when a connection comes under a limit: by a reload, by what
its client says about itself, or from another worker with a half-received record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.processes.worker.connection import READ_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.net.loop import Loop
    from prefork_logd.processes.worker.connection import Connection
    from prefork_logd.processes.worker.limited_client import Client


class HeldMemory:
    """The bytes that one worker holds for the clients of its limits."""

    def __init__(self, loop: Loop, give_up: Callable[[Connection, str], None]) -> None:
        """Close connections through `give_up`, which gets the reason and must call `forget`."""
        self._loop = loop
        self._give_up = give_up
        self._full: dict[Client[Connection], None] = {}
        """Clients beyond their memory, whose largest connections are closed in the next turn."""

    def note(self, connection: Connection) -> None:
        """Note the bytes that are held for a connection; close the one with the most if its client has too many."""
        nbytes = connection.held_bytes
        for client in connection.clients:
            if client.hold(connection, nbytes):
                self._close_largest(client)

    def begin(self, connection: Connection, client: Client[Connection]) -> None:
        """Count the memory of a connection that has just come under a limit.

        If that is too much, a connection is closed in the next turn: the caller may be using this one.
        """
        if client.hold(connection, connection.held_bytes):
            if not self._full:
                self._loop.later(0.0, self._close_all)
            self._full[client] = None

    def forget(self, connection: Connection, client: Client[Connection]) -> None:
        """Take a connection off its client's sum."""
        client.hold(connection, 0)

    def _close_all(self) -> None:
        full, self._full = self._full, {}
        for client in full:
            self._close_largest(client)

    def _close_largest(self, client: Client[Connection]) -> None:
        """Close connections of a client, the largest first, until its memory suffices."""
        while client.is_beyond_memory:
            client.note_closed()
            limit = client.limit
            self._give_up(
                client.largest(), f"limit {limit.name}: its client holds more than {format_count(limit.memory, 'byte')}"
            )


def reads_little(connection: Connection) -> bool:
    """Return whether a connection is read in small parts.

    That is so if others of its client wait, and if a whole read could exceed its memory: what is read at once is kept
    when a rate lets it wait.
    """
    return any(
        client.waiting or 0 < client.limit.memory < client.held_bytes + READ_BYTES for client in connection.clients
    )
