"""Makes the tables, and migrates those of an older version.

Owns every definition in the database except the daily partitions. Does not know rows.

Several collectors may open one database at once: the one that makes or migrates tables holds an advisory lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from prefork_logd.errors import StoreError
from prefork_logd.stores.postgresql.copy_rows import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prefork_logd.stores.postgresql.connection import Connection

VERSION = 5

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
    # Levels are few and most records are below WARNING: an index of the others is small, in order of time, and
    # counts them without reading the rows.
    "CREATE INDEX records_warnings ON {schema}.records (time, levelno) WHERE levelno >= 30",
    # Rows lie in the order of their arrival, so a summary of each block range is enough.
    "CREATE INDEX records_received ON {schema}.records USING brin (received) WITH (pages_per_range = 32)",
    "COMMENT ON TABLE {schema}.records IS 'Log records, kept by prefork-logd; partitioned by the day of arrival'",
    "COMMENT ON COLUMN {schema}.records.raw IS 'The whole record as JSON, where the columns cannot give it back'",
    "COMMENT ON TABLE {schema}.positions IS 'For each journal, the number of the first record that is not here yet'",
)

MIGRATIONS: Mapping[int, Sequence[LiteralString]] = {
    # It slowed every insert down; closed partitions have such an index instead (indexer.py).
    1: ("DROP INDEX IF EXISTS {schema}.records_name_time",),
    # The `retain` of each collector, of which the longest counts; -1 for ever.
    2: ("ALTER TABLE {schema}.positions ADD COLUMN IF NOT EXISTS retain_days integer",),
    # Without a default: no row is written.
    3: (
        """ALTER TABLE {schema}.records
            ADD COLUMN IF NOT EXISTS msg text COLLATE "C",
            ADD COLUMN IF NOT EXISTS host text COLLATE "C",
            ADD COLUMN IF NOT EXISTS service text COLLATE "C",
            ADD COLUMN IF NOT EXISTS environment text COLLATE "C",
            ADD COLUMN IF NOT EXISTS version text COLLATE "C",
            ADD COLUMN IF NOT EXISTS truncated jsonb,
            ADD COLUMN IF NOT EXISTS exception jsonb""",
    ),
    # Words are folded since (fulltext.py): the indexer builds the indexes again.
    4: (
        """DO $$
        DECLARE old text;
        BEGIN
            FOR old IN
                SELECT format('%I.%I', schemaname, indexname) FROM pg_indexes
                WHERE schemaname = {name} AND indexname ~ '^records_[0-9]{{8}}_[0-9]+_words$'
            LOOP EXECUTE 'DROP INDEX ' || old; END LOOP;
        END $$""",
    ),
}
"""Each older version to the statements that migrate it to the next one; `{schema}` stands for the schema as an
identifier, `{name}` as a text."""

_TYPES = {"timestamptz": "timestamp with time zone"}
"""The server's names of types, where ours differ."""
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('prefork-logd ' || %s, 0))"


def lock(connection: Connection, schema: str) -> None:
    """Hold the schema's lock until the transaction ends: no other collector changes a table meanwhile."""
    connection.execute(_LOCK, (schema,))


def prepare(connection: Connection, schema: str) -> None:
    """Make missing tables, or migrate old ones. Raises StoreError if the database is newer than this collector."""
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
                connection.execute(sql.SQL(statement).format(schema=sql.Identifier(schema), name=sql.Literal(schema)))
            version += 1
        connection.execute(sql.SQL("UPDATE {}.version SET version = %s").format(sql.Identifier(schema)), (version,))


def check_columns(connection: Connection, schema: str) -> None:
    """Check the columns of the table of records, as far as rows depend on them. Raises StoreError."""
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
            problems.append(f"column {name} is missing, and must be {kind}")
        elif found[name][0] != wanted:
            problems.append(f"column {name} is {found[name][0]}, and must be {kind}")
    ours = {name for name, _ in COLUMNS}
    problems += [
        f"column {name} is NOT NULL and has no default"
        for name, (_, is_needed) in found.items()
        if is_needed and name not in ours
    ]
    if problems:
        raise StoreError(
            f"PostgreSQL: table {schema}.records was changed: {'; '.join(problems)}; once that is repaired, the "
            "waiting records are stored"
        )


def _version(connection: Connection, schema: str) -> int | None:
    """Return the version of the tables; None if there are none."""
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
    # Checked first, because CREATE SCHEMA IF NOT EXISTS needs the right to make schemas even if the schema exists.
    if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone():
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    columns = sql.SQL(", ").join(
        sql.SQL("{} ").format(sql.Identifier(column)) + sql.SQL(kind) for column, kind in COLUMNS
    )
    for statement in _TABLES:
        connection.execute(sql.SQL(statement).format(schema=name, columns=columns))
    connection.execute(sql.SQL("INSERT INTO {}.version VALUES (%s)").format(name), (VERSION,))
