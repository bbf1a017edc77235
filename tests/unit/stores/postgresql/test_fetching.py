"""Rows of a query come from PostgreSQL a few at a time, and fewer when they are large."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from psycopg import sql

from prefork_logd.stores.postgresql.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server:
    """A connection, and its cursor, that has so many rows of these sizes."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.fetched: list[int] = []

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Begin and end one."""
        yield

    @contextlib.contextmanager
    def cursor(self, name: str) -> Iterator[Server]:
        """Open one by name: the server keeps what is not fetched."""
        assert name
        yield self

    def execute(self, statement: object, parameters: object) -> None:
        """Begin."""

    def fetchmany(self, count: int) -> list[tuple[Any, ...]]:
        """Return the next rows."""
        sizes, self.sizes = self.sizes[:count], self.sizes[count:]
        self.fetched.append(sum(sizes))
        return [(None, "x" * size, 7) for size in sizes]


def test_what_is_held_is_bounded_by_size() -> None:
    """Whatever comes behind small rows, at most 64 of a size that was not met yet are fetched, then few."""
    reader = Reader.__new__(Reader)
    server = Server([10] * 1000 + [500_000] * 200 + [10_000_000] * 3 + [10] * 5)
    reader._connection = server  # type: ignore[assignment]
    stream = reader.stream(sql.SQL("SELECT"), {})
    assert sum(1 for _ in stream) == 1208
    assert max(server.fetched) <= 64 * 500_010
    assert sorted(server.fetched)[-3] <= 4 << 20  # but for what came unawares, twice
