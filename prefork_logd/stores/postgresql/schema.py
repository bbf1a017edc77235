"""Makes the tables, and migrates those of an older version.

Owns every definition in the database but the daily partitions. Knows no rows.

Several collectors may open one database at once: whoever makes or migrates holds one advisory lock for the schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from prefork_logd.errors import StoreError
from prefork_logd.stores.postgresql.copy_rows import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prefork_logd.stores.postgresql.connection import Connection

VERSION = 3

_TABLES: tuple[LiteralString, ...] = (
    "CREATE TABLE {schema}.version (version integer NOT NULL)",
    """CREATE TABLE {schema}.positions (
        journal text PRIMARY KEY CHECK (journal ~ '^[0-9a-f]{{32}}$'),
        next bigint NOT NULL,
        moved timestamptz NOT NULL DEFAULT now(),
        retain_days integer
    )""",
    "CREATE TABLE {schema}.records ({columns}) PARTITION BY RANGE (day, slice)",
    "CREATE INDEX records_time ON {schema}.records (time)",
    # Levels are few and most records are below WARNING: an index of those above is small, in order of time,
    # and counts them without a look at the rows.
    "CREATE INDEX records_warnings ON {schema}.records (time, levelno) WHERE levelno >= 30",
    # Rows lie in the order of their arrival, so a summary for each block range does.
    "CREATE INDEX records_received ON {schema}.records USING brin (received) WITH (pages_per_range = 32)",
    "COMMENT ON TABLE {schema}.records IS 'Log records, kept by prefork-logd; partitioned by the day of arrival'",
    "COMMENT ON COLUMN {schema}.records.raw IS 'The whole record as JSON, where the columns cannot give it back'",
    "COMMENT ON TABLE {schema}.positions IS 'For each journal, the number of the first record that is not here yet'",
)

MIGRATIONS: Mapping[int, Sequence[LiteralString]] = {
    # Each row paid for it on its way in; closed partitions have one of their own instead (indexer.py).
    1: ("DROP INDEX IF EXISTS {schema}.records_name_time",),
    # What each collector wants: the longest counts for all. -1 is for ever.
    2: ("ALTER TABLE {schema}.positions ADD COLUMN IF NOT EXISTS retain_days integer",),
}
"""From each older version, the statements that lead to the next one; `{schema}` stands for the schema."""

_TYPES = {"timestamptz": "timestamp with time zone"}
"""What the server calls types that we call otherwise."""
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('prefork-logd ' || %s, 0))"


def lock(connection: Connection, schema: str) -> None:
    """Hold the schema's lock until the transaction ends: nobody else makes, changes or drops a table meanwhile."""
    connection.execute(_LOCK, (schema,))


def prepare(connection: Connection, schema: str) -> None:
    """Make what is missing, or migrate what is old. Raises StoreError if the database is newer than this collector."""
    if _version(connection, schema) == VERSION:
        return
    with connection.transaction():
        lock(connection, schema)
        version = _version(connection, schema)
        if version is None:
            _make(connection, schema)
            return
        if version > VERSION:
            raise StoreError(
                f"PostgreSQL: schema {schema} has version {version}, which is newer than this collector's {VERSION}; "
                "upgrade the collector, or give it another `schema`"
            )
        while version < VERSION:
            for statement in MIGRATIONS[version]:
                connection.execute(sql.SQL(statement).format(schema=sql.Identifier(schema)))
            version += 1
        connection.execute(sql.SQL("UPDATE {}.version SET version = %s").format(sql.Identifier(schema)), (version,))


def check_columns(connection: Connection, schema: str) -> None:
    """See that the table of records is as it was made, as far as rows depend on it. Raises StoreError."""
    rows = connection.execute(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod),"
        " a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''"
        " FROM pg_attribute a WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped",
        (sql.Identifier(schema, "records").as_string(),),
    ).fetchall()
    found = {name: (kind, is_needed) for name, kind, is_needed in rows}
    if not found:
        return
    problems = []
    for name, definition in COLUMNS:
        wanted = _TYPES.get(kind := definition.split(" COLLATE ")[0].removesuffix(" NOT NULL"), kind)
        if name not in found:
            problems.append(f"column {name} is missing, and is to be {kind}")
        elif found[name][0] != wanted:
            problems.append(f"column {name} is {found[name][0]}, and is to be {kind}")
    ours = {name for name, _ in COLUMNS}
    problems += [
        f"column {name} is NOT NULL and has no default"
        for name, (_, is_needed) in found.items()
        if is_needed and name not in ours
    ]
    if problems:
        raise StoreError(
            f"PostgreSQL: table {schema}.records was changed: {'; '.join(problems)}; put that right, and the records "
            "that wait are stored"
        )


def _version(connection: Connection, schema: str) -> int | None:
    """Return the version of the tables, or None when there are none."""
    found = connection.execute(
        "SELECT 1 FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = %s AND relname = 'version'",
        (schema,),
    ).fetchone()
    if found is None:
        return None
    row = connection.execute(sql.SQL("SELECT version FROM {}.version").format(sql.Identifier(schema))).fetchone()
    return None if row is None else int(row[0])


def _make(connection: Connection, schema: str) -> None:
    name = sql.Identifier(schema)
    # Asked first, because CREATE SCHEMA IF NOT EXISTS wants the right to make schemas also where there is one.
    if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone():
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    columns = sql.SQL(", ").join(
        sql.SQL("{} ").format(sql.Identifier(column)) + sql.SQL(kind) for column, kind in COLUMNS
    )
    for statement in _TABLES:
        connection.execute(sql.SQL(statement).format(schema=name, columns=columns))
    connection.execute(sql.SQL("INSERT INTO {}.version VALUES (%s)").format(name), (VERSION,))
