"""Errors of PostgreSQL during a search: one that a narrower query does not have is told apart."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from prefork_logd.errors import QueryMemoryError, StoreError
from prefork_logd.stores.postgresql.reader import Reader


class Server:
    """A connection whose every statement fails."""

    def __init__(self, error: type[psycopg.Error]) -> None:
        self._error = error

    def execute(self, statement: object, parameters: object) -> None:
        """Fail."""
        raise self._error("it failed")


@pytest.mark.parametrize(
    ("error", "is_heavy"),
    [
        (psycopg.errors.OutOfMemory, True),
        (psycopg.errors.ConfigurationLimitExceeded, True),
        (psycopg.errors.ProgramLimitExceeded, True),
        (psycopg.errors.DiskFull, False),
        (psycopg.errors.AdminShutdown, False),
        (psycopg.OperationalError, False),
    ],
)
def test_a_query_that_is_too_heavy_has_an_error_of_its_own(error: type[psycopg.Error], is_heavy: bool) -> None:
    """It says how to narrow the query; the others pass by themselves."""
    reader = Reader.__new__(Reader)
    reader._connection = Server(error)  # type: ignore[assignment]
    reader._is_cancelled = False
    with pytest.raises(StoreError, match="it failed") as raised:
        reader.rows(sql.SQL("SELECT"))
    assert isinstance(raised.value, QueryMemoryError) == is_heavy
    assert ("; ask for a shorter range of time" in str(raised.value)) == is_heavy
