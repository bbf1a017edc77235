"""The tables of a database: made once, migrated step by step, and never those of a later version. Without a server."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, cast

import pytest

from prefork_logd.errors import StoreError
from prefork_logd.stores.postgresql import schema as module
from prefork_logd.stores.postgresql.copy_rows import COLUMNS
from prefork_logd.stores.postgresql.schema import MIGRATIONS, VERSION, check_columns, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.stores.postgresql.connection import Connection

SERVERS_TYPES = {"timestamptz": "timestamp with time zone"}


class Answer(list[tuple[Any, ...]]):
    """The rows of a query."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        return self[0] if self else None


class Server:
    """A server that knows the version of the tables, and keeps the statements that change something."""

    def __init__(self, version: int | None, *, has_schema: bool = False) -> None:
        self.version = version
        self.has_schema = has_schema
        self.version_of_another: int | None = None
        """The version that another collector has made once the lock is ours."""
        self.columns: list[tuple[str, str, bool]] = []
        self.changes: list[str] = []
        self.in_transaction = False

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self.in_transaction = True
        yield
        self.in_transaction = False

    def execute(self, query: Any, parameters: tuple[Any, ...] = ()) -> Answer:
        text = query if isinstance(query, str) else query.as_string()
        if "pg_advisory_xact_lock" in text:
            assert self.in_transaction, "the lock would end at once"
            self.version = self.version_of_another or self.version
            return Answer()
        if "relname = 'version'" in text:
            return Answer([(1,)] if self.version is not None else [])
        if text.startswith("SELECT version"):
            return Answer([(self.version,)])
        if "FROM pg_namespace" in text:
            return Answer([(1,)] if self.has_schema else [])
        if "FROM pg_attribute" in text:
            return Answer(self.columns)
        assert self.in_transaction, f"a half would stay: {text}"
        if parameters:
            (self.version,) = parameters
        self.changes.append(text)
        return Answer()


def prepared(server: Server) -> list[str]:
    """Return the statements that prepare the database."""
    prepare(cast("Connection", server), "logs")
    return server.changes


def columns() -> list[tuple[str, str, bool]]:
    """Return the columns as the server describes them: name, type, and whether a row has to have a value."""
    found = []
    for name, definition in (*COLUMNS, ("journal", "integer")):
        kind = definition.split(" ")[0] if "double" not in definition else "double precision"
        found.append((name, SERVERS_TYPES.get(kind, kind), "NOT NULL" in definition))
    return found


@pytest.mark.parametrize("has_schema", [False, True])
def test_a_new_database_gets_every_table(*, has_schema: bool) -> None:
    """The schema, too, unless it is there: making it needs a right that its owner may lack."""
    server = Server(None, has_schema=has_schema)
    changes = prepared(server)
    assert ('CREATE SCHEMA "logs"' in changes) is not has_schema
    for table in ("version", "positions", "records"):
        assert any(change.startswith(f'CREATE TABLE "logs".{table} ') for change in changes), table
    (records,) = (change for change in changes if 'TABLE "logs".records ' in change and "CREATE" in change)
    assert all(f'"{name}" {kind}' in records for name, kind in COLUMNS)
    assert server.version == VERSION


def test_tables_of_this_version_are_left_alone() -> None:
    """Without a lock, for which other collectors would wait."""
    server = Server(VERSION)
    server.version_of_another = 1
    assert prepared(server) == []
    assert server.version == VERSION


@pytest.mark.parametrize("version", sorted(MIGRATIONS))
def test_older_tables_are_migrated_step_by_step(version: int) -> None:
    """Every step from their version on, in one transaction, then the version."""
    server = Server(version)
    changes = prepared(server)
    expected = sum(len(steps) for number, steps in MIGRATIONS.items() if number >= version)
    assert len(changes) == expected + 1
    assert all('"logs".' in change or "'logs'" in change for change in changes)
    assert server.version == VERSION


def test_there_is_a_step_from_each_older_version() -> None:
    """None is left out, whatever release has made the tables."""
    assert list(MIGRATIONS) == list(range(1, VERSION))


def test_another_collector_may_have_migrated_meanwhile() -> None:
    """The version is read again once the lock is ours."""
    server = Server(VERSION - 1)
    server.version_of_another = VERSION
    assert [change for change in prepared(server) if not change.startswith("UPDATE")] == []
    server = Server(None)
    server.version_of_another = VERSION
    assert [change for change in prepared(server) if change.startswith("CREATE")] == []


def test_tables_of_a_later_version_are_refused() -> None:
    """The error names both versions and the remedies, and nothing is changed."""
    server = Server(VERSION + 1)
    with pytest.raises(StoreError, match=f"schema logs has version {VERSION + 1}, .* upgrade the collector"):
        prepared(server)
    assert server.changes == []


def check(found: list[tuple[str, str, bool]]) -> None:
    server = Server(VERSION)
    server.columns = found
    check_columns(cast("Connection", server), "logs")


def test_our_own_columns_and_a_missing_table_pass() -> None:
    """A missing table was not changed. Columns of others may be there, if a row need not fill them."""
    check(columns())
    check([])
    check([*columns(), ("team", "text", False)])


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ([one for one in columns() if one[0] != "message"], "column message is missing, and must be text"),
        ([("lineno", "text", False), *columns()[1:]], "column day is missing, and must be date"),
        ([*columns(), ("levelno", "integer", False)], "column levelno is integer, and must be bigint"),
        ([*columns(), ("team", "text", True)], "column team is NOT NULL and has no default"),
    ],
)
def test_each_changed_column_is_named(changed: list[tuple[str, str, bool]], problem: str) -> None:
    """With what it has to be; the records wait."""
    with pytest.raises(StoreError, match=r"table logs\.records was changed: ") as caught:
        check(changed)
    assert problem in str(caught.value)
    assert "the waiting records are stored" in str(caught.value)


def test_the_lock_is_that_of_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collectors of other schemas of a database do not wait for it."""
    given: list[tuple[Any, ...]] = []
    server = Server(VERSION)
    monkeypatch.setattr(server, "execute", lambda _, parameters: given.append(parameters))
    module.lock(cast("Connection", server), "logs")
    assert given == [("logs",)]
