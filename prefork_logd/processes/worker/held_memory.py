"""Bounds the memory that the connections of each client hold by the `memory` of its limit.

Owns the sums, and the choice of the connection that is closed. Does not know rates, or the clients themselves
(client_limits.py).

The sums are exact whenever a client has sent something, and when a connection comes under a limit: by a reload, by what
its client says about itself, or from another worker with a half-received record.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.processes.worker.connection import READ_BYTES, SMALL_READ_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.net.loop import Loop
    from prefork_logd.processes.worker.connection import Connection
    from prefork_logd.processes.worker.limited_client import Client

MOST_COST = 32
"""Most bytes of memory for a byte that was read: lines of one character are texts of their own (intake.py)."""


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


def most_to_read(connection: Connection) -> int:
    """Return how many bytes of a connection under limits are read at a time.

    These are few if others of its client wait, and if more could exceed its memory: what is read at once is kept when a
    rate lets it wait.
    """
    most = READ_BYTES
    for client in connection.clients:
        if client.waiting:
            most = SMALL_READ_BYTES
        if client.limit.memory:
            most = min(most, max(SMALL_READ_BYTES, (client.limit.memory - client.held_bytes) // MOST_COST))
    return most


def find_full(connection: Connection) -> Client[Connection] | None:
    """Return a client of a connection whose records that wait leave no room to read more; None if there is none.

    To read the connection all the same would close one that has only obeyed a rate, and lose its records.
    """
    for client in connection.clients:
        if not places(client, 1) and any(one.unfinished for one in client.waiting):
            return client
    return None


def places(client: Client[Connection], most: int) -> int:
    """Return how many further connections of a client can be read a little within its memory, up to `most`."""
    if not client.limit.memory:
        return most
    return min(most, max(0, client.limit.memory - client.held_bytes) // (MOST_COST * SMALL_READ_BYTES))


def find_able(client: Client[Connection], most: int) -> list[Connection]:
    """Return connections of a client that wait and can go on now, the oldest first: they hold records, or have room."""
    if not client.limit.memory:
        return list(itertools.islice(client.waiting, most))
    room = places(client, most)
    able: list[Connection] = []
    for connection in client.waiting:
        if len(able) == most:
            break
        if connection.unfinished:
            able.append(connection)
        elif room:
            room -= 1
            able.append(connection)
    # With no record that waits, what fills the memory is half received: its connections decide by what they send.
    return able or list(itertools.islice(client.waiting, most))
