"""Finds the rows of a batch that the server refuses, by halves, and decides whether the rows are at fault.

Owns the search, and the decision. Does not know tables or the form of rows: the caller provides the copying.

The server's error code does not identify the fault: a trigger may raise any error for one row, and a new constraint
refuses every row with the same code as a bad row. The decision therefore depends on whether the table accepts another
row at the same time: a neighbour, or a plain row that is rolled back at once. If it accepts none, no row is refused:
the records wait until the table is repaired.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import psycopg

from prefork_logd.errors import StoreError
from prefork_logd.stores.postgresql.connection import is_servers_trouble, store_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefork_logd.stores.postgresql.connection import Connection


class Packed(NamedTuple):
    """A packed row, and its line."""

    number: int
    line: bytes
    row: bytes


class Culprits:
    """The search in the rows of one partition, within a transaction."""

    def __init__(
        self, connection: Connection, copy: Callable[[Sequence[Packed]], None], probe: Callable[[], None]
    ) -> None:
        """`copy` copies rows, `probe` a plain row; both raise psycopg.Error."""
        self._connection = connection
        self._copy = copy
        self._probe = probe
        self._takes_rows = False

    def sort_out(self, group: Sequence[Packed]) -> list[tuple[int, bytes, str]]:
        """Copy rows; return (number, line, reason) of the refused ones. Raises StoreError, psycopg.Error."""
        refused: list[tuple[int, bytes, str]] = []
        waiting = [group]
        while waiting:
            some = waiting.pop()
            error = self._try(lambda some=some: self._copy(some), keep=True)  # type: ignore[misc]
            if error is None:
                self._takes_rows = True
            elif len(some) > 1:
                middle = len(some) // 2
                waiting += (some[middle:], some[:middle])
            else:
                self._insist_on_fault_of_row(error)
                refused.append((some[0].number, some[0].line, str(store_error(error))))
        return refused

    def _insist_on_fault_of_row(self, error: psycopg.Error) -> None:
        if self._takes_rows:
            return
        if self._try(self._probe, keep=False) is not None:
            raise StoreError(
                f"{store_error(error)}; the table accepts no row at all: a trigger, a constraint or a column of it was "
                "changed; once that is repaired, the waiting records are stored"
            )
        self._takes_rows = True

    def _try(self, do: Callable[[], None], *, keep: bool) -> psycopg.Error | None:
        """Call `do` in a subtransaction; return the error that ended it."""
        # Each savepoint is released at once: nested ones would use up the server's table of locks.
        self._connection.execute("SAVEPOINT half")
        try:
            do()
        except psycopg.Error as error:
            if is_servers_trouble(error):
                raise
            self._connection.execute("ROLLBACK TO SAVEPOINT half")
            self._connection.execute("RELEASE SAVEPOINT half")
            return error
        if not keep:
            self._connection.execute("ROLLBACK TO SAVEPOINT half")
        self._connection.execute("RELEASE SAVEPOINT half")
        return None
