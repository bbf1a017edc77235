"""Rows that the server refuses are found by halves, without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import psycopg
import pytest

from prefork_logd.errors import StoreError
from prefork_logd.stores.postgresql.culprits import Culprits, Packed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.stores.postgresql.connection import Connection


class Table:
    """A table in a transaction with savepoints, some rows of which are refused."""

    def __init__(self, bad: Sequence[int], error: type[psycopg.Error] = psycopg.errors.RaiseException) -> None:
        self.rows: list[int] = []
        self.bad = set(bad)
        self.error = error
        self.takes_a_plain_row = True
        self.copies = self.probes = 0
        self._saved: list[list[int]] = []

    def execute(self, statement: str) -> None:
        """Keep savepoints, which are never nested."""
        match statement:
            case "SAVEPOINT half":
                assert not self._saved
                self._saved.append(list(self.rows))
            case "ROLLBACK TO SAVEPOINT half":
                self.rows = list(self._saved[-1])
            case "RELEASE SAVEPOINT half":
                self._saved.pop()
            case _:
                raise AssertionError(statement)

    def copy(self, rows: Sequence[Packed]) -> None:
        """Take rows one by one, up to one that is refused."""
        self.copies += 1
        for row in rows:
            if row.number in self.bad:
                raise self.error("no")
            self.rows.append(row.number)

    def probe(self) -> None:
        """Take a plain row."""
        self.probes += 1
        if not self.takes_a_plain_row:
            raise self.error("no row at all")
        self.rows.append(-1)

    def sort_out(self, count: int) -> list[int]:
        """Copy rows; return the numbers of those that were refused."""
        group = [Packed(number, b"line %d" % number, b"") for number in range(count)]
        refused = Culprits(cast("Connection", self), self.copy, self.probe).sort_out(group)
        assert all(line == b"line %d" % number for number, line, _ in refused)
        assert not self._saved
        return [number for number, _, _ in refused]


@pytest.mark.parametrize("bad", [(), (0,), (99,), (3, 4, 5, 60), tuple(range(0, 100, 7)), tuple(range(1, 100))])
def test_the_others_are_copied_in_order(bad: Sequence[int]) -> None:
    """Each of them once, and those that are refused never."""
    table = Table(bad)
    assert table.sort_out(100) == list(bad)
    assert table.rows == [number for number in range(100) if number not in bad]


def test_one_bad_row_costs_few_copies() -> None:
    """As many as there are halves."""
    table = Table([700])
    assert table.sort_out(1000) == [700]
    assert table.copies < 25


def test_a_plain_row_tells_whose_fault_it_is() -> None:
    """Where no neighbour was taken; it is asked for once, and not kept."""
    table = Table(range(8))
    assert table.sort_out(8) == list(range(8))
    assert table.probes == 1
    assert table.rows == []


def test_a_neighbour_that_was_taken_is_enough() -> None:
    """No plain row is tried then."""
    table = Table([1])
    assert table.sort_out(2) == [1]
    assert table.probes == 0


def test_a_table_that_takes_no_row_refuses_none() -> None:
    """The records wait until it is put right, and the error says so."""
    table = Table(range(8), psycopg.errors.CheckViolation)
    table.takes_a_plain_row = False
    with pytest.raises(StoreError, match=r"accepts no row at all.*once that is repaired"):
        table.sort_out(8)


def test_trouble_of_the_server_is_no_fault_of_a_row() -> None:
    """It ends the search, and the whole batch is tried again later."""
    table = Table([3], psycopg.errors.AdminShutdown)
    with pytest.raises(psycopg.errors.AdminShutdown):
        table.sort_out(8)
