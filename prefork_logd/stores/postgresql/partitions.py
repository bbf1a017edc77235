"""Manages the table's partitions: one a day, in slices; made ahead, indexed when closed, dropped when old.

Owns their names, bounds and life cycle. Does not know rows. The day is the server's; a partition is dropped only if the
local clock agrees.

A partition is named after the day of arrival (`received`, in UTC) and the slice of that day: records_20261123_0. A
slice that has become large is closed, and the next one follows. Closed slices get the indexes that would slow inserts
down; the server builds them in the background, on a separate connection, without blocking readers or writers.

All state is in the server's catalogue, so a crash, or another collector on the same database, cannot make it wrong.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from prefork_logd.config.values import format_count
from prefork_logd.stores.postgresql import schema as schemas
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from prefork_logd.stores.postgresql.connection import Connection

SLICE_BYTES = 128 << 20
"""A slice is closed above this size, if it is also above an eighth of its day: a day of a terabyte has about seventy.

Words are looked for row by row in the open one: it has to stay small enough for that."""
GAP_S = 3600.0
"""How long no partition is dropped after a day without records: the clocks may have been set ahead."""
ALWAYS_KEPT_DAYS = 400
"""Without `retain`, records that arrived longer ago than this share a partition."""
_NAME = re.compile(r"records_(\d{8})_(\d{1,9})")
_BOUNDS = re.compile(r"FOR VALUES FROM \('(\d{4}-\d\d-\d\d)', (\d{1,9})\) TO \('(\d{4}-\d\d-\d\d)', (\d{1,9})\)")
_DOOMED = "prefork-logd drops this table"
"""The comment on a partition that a collector is dropping; a partition that an operator detached does not have it."""
_EPOCH = dt.date(1970, 1, 1)


class Partition(NamedTuple):
    """One slice of one day."""

    day: int
    """Days since 1970."""
    slice: int

    @property
    def table(self) -> str:
        """The name of its table."""
        return f"records_{_date(self.day):%Y%m%d}_{self.slice}"


def _date(day: int) -> dt.date:
    return _EPOCH + dt.timedelta(days=day)


def parse(table: str) -> Partition | None:
    """Return the partition of a table's name; None if the name is not one of ours."""
    match = _NAME.fullmatch(table)
    if match is None:
        return None
    try:
        day = dt.datetime.strptime(match[1], "%Y%m%d").replace(tzinfo=dt.UTC).date()
    except ValueError:
        return None
    return Partition((day - _EPOCH).days, int(match[2]))


def _parse_bounds(bounds: str) -> Partition | None:
    """Return the partition with these bounds; None if they are not a slice of a day."""
    match = _BOUNDS.fullmatch(bounds or "")
    if match is None:
        return None
    (first, low, last, high) = match.groups()
    if first != last or int(high) != int(low) + 1:
        return None
    return Partition((dt.date.fromisoformat(first) - _EPOCH).days, int(low))


class Partitions:
    """The partitions as known to this collector."""

    def __init__(self, connection: Connection, schema: str, retain_days: int | None, slice_bytes: int) -> None:
        self._connection = connection
        self._schema = schema
        self._ours_days = retain_days
        self.retain_days = retain_days
        """Days that records are kept, None for ever: the longest `retain` of all collectors of the schema."""
        self.warning = ""
        """Why old partitions are not dropped; empty if they are."""
        self._gap_since_s = 0.0
        self._slice_bytes = slice_bytes
        self._current: dict[int, Partition] = {}
        self._tables: dict[Partition, tuple[str, str]] = {}
        """Schema and table of each attached partition, also of renamed ones."""
        self._shared: set[Partition] = set()
        """Slices that a partition with other bounds covers: their rows go through the parent table."""
        self.today = 0
        """The server's day, in UTC, as days since 1970."""

    def refresh(self) -> None:
        """Read the server's day, and the open slice of each day."""
        self.today = _first_int(self._connection, "SELECT (now() AT TIME ZONE 'UTC')::date - date '1970-01-01'")
        self._agree()
        self._current.clear()
        self._shared.clear()
        for partition in self.all():
            known = self._current.get(partition.day)
            if known is None or known < partition:
                self._current[partition.day] = partition

    def _agree(self) -> None:
        """Keep records for the longest `retain` of all collectors, because they are in one table."""
        rows = self._connection.execute(
            sql.SQL(
                "SELECT retain_days FROM {} WHERE retain_days IS NOT NULL AND moved > now() - interval '30 days'"
            ).format(self._name("positions"))
        ).fetchall()
        wanted = [None if days < 0 else int(days) for (days,) in rows]
        wanted.append(self._ours_days)
        known = [days for days in wanted if days is not None]
        longest = None if len(known) < len(wanted) else max(known)
        if longest not in (self.retain_days, self._ours_days):
            kept = "for ever" if longest is None else f"for {format_count(longest, 'day')}"
            LOGGER.warning(
                "PostgreSQL: another collector of schema %s keeps records %s, which is longer than this one's "
                "`retain`; all records are kept %s", self._schema, kept, kept,
            )  # fmt: skip
        self.retain_days = longest

    def all(self) -> list[Partition]:
        """Return the attached partitions whose bounds are a slice of a day, oldest first."""
        rows = self._connection.execute(
            "SELECT n.nspname, c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i"
            " JOIN pg_class c ON c.oid = inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE inhparent = %s::regclass AND NOT inhdetachpending",
            (self._name("records").as_string(),),
        )
        self._tables = {
            partition: (schema, table) for schema, table, bounds in rows if (partition := _parse_bounds(bounds))
        }
        return sorted(self._tables)

    def table(self, partition: Partition) -> sql.Identifier:
        """Return the present name of a partition's table."""
        if partition in self._shared:
            return self._name("records")
        return sql.Identifier(*self._tables.get(partition, (self._schema, partition.table)))

    def are_attached(self, partitions: Collection[Partition]) -> bool:
        """Return whether these partitions are attached to `records`. One that a transaction has written to stays so."""
        tables = [self._text(partition) for partition in partitions if partition not in self._shared]
        if not tables:
            return True
        attached = _first_int(
            self._connection,
            "SELECT count(*) FROM pg_inherits WHERE inhparent = to_regclass(%s) AND NOT inhdetachpending"
            " AND inhrelid IN (SELECT to_regclass(name) FROM unnest(%s::text[]) AS name)",
            self._name("records").as_string(),
            tables,
        )
        return attached == len(tables)

    def bounded(self, received: float) -> int:
        """Return the day of a record's partition: that of its arrival, between `oldest_day` and tomorrow."""
        day = int(received // 86_400) if abs(received) < 1e15 else self.today
        return max(self.oldest_day, min(day, self.today + 1))

    def span(self, day: int) -> tuple[float, float]:
        """Return the first and the last time of arrival, in seconds, of the records in a day's partitions."""
        return (
            0.0 if day == self.oldest_day else day * 86_400.0,
            1e15 if day == self.today + 1 else (day + 1) * 86_400.0,
        )

    @property
    def oldest_day(self) -> int:
        """The first day that is kept, or may have a separate partition."""
        return self.today - (ALWAYS_KEPT_DAYS if self.retain_days is None else self.retain_days)

    def of(self, day: int) -> Partition | None:
        """Return the open partition of a day; None if there is none yet."""
        return self._current.get(day)

    def make(self, day: int) -> None:
        """Make a day's first partition, unless another collector has made it. Not inside a transaction."""
        self._make(Partition(day, 0))

    def roll(self) -> None:
        """Begin the next slice of each day that still gets rows, if the last one has become large."""
        sizes: dict[int, list[tuple[Partition, int]]] = {}
        for partition, size in self._sizes(self.today - 1):
            sizes.setdefault(partition.day, []).append((partition, size))
        for slices in sizes.values():
            newest, size = slices[-1]
            if size >= max(self._slice_bytes, sum(size for _, size in slices) // 8):
                self._make(Partition(newest.day, newest.slice + 1))
            else:
                self._current[newest.day] = newest

    def _sizes(self, since: int) -> list[tuple[Partition, int]]:
        return [
            (partition, _first_int(self._connection, "SELECT pg_relation_size(to_regclass(%s))", self._text(partition)))
            for partition in self.all()
            if partition.day >= since and partition not in self._shared
        ]

    def _text(self, partition: Partition) -> str:
        return self.table(partition).as_string()

    def _make(self, partition: Partition) -> Partition:
        """Make a partition, unless another collector has just made it.

        A table that is made separately and then attached does not block readers or writers; CREATE TABLE ... PARTITION
        OF would wait for all of them.
        """
        parent = self._name("records")
        with self._connection.transaction():
            schemas.lock(self._connection, self._schema)
            newest = max((other for other in self.all() if other.day == partition.day), default=None)
            if newest is None or newest < partition:
                while self._exists(partition):  # an operator has detached it, and may want to keep it
                    partition = partition._replace(slice=partition.slice + 1)
                self._attach(partition, parent)
                newest = partition
        self._current[partition.day] = newest
        return newest

    def _attach(self, partition: Partition, parent: sql.Identifier) -> None:
        table = self._name(partition.table)
        try:
            with self._connection.transaction():
                self._connection.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(table, parent))
                self._connection.execute(
                    sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}, {}) TO ({}, {})").format(
                        parent,
                        table,
                        sql.Literal(_date(partition.day)),
                        sql.Literal(partition.slice),
                        sql.Literal(_date(partition.day)),
                        sql.Literal(partition.slice + 1),
                    )
                )
        except psycopg.errors.InvalidObjectDefinition:
            # A partition with overlapping bounds exists: it gets the rows through the parent table.
            self._shared.add(partition)
        self._tables[partition] = self._schema, partition.table

    def _exists(self, partition: Partition) -> bool:
        name = self._name(partition.table).as_string()
        return bool(_first_int(self._connection, "SELECT to_regclass(%s)::oid::bigint", name))

    def next_drop(self) -> tuple[str, list[sql.Composable]] | None:
        """Return the next table to drop, and the statements that drop it; None if there is none, or the day is unsure.

        Tables that a crash left half detached, or detached and not dropped, come first.
        """
        if self.retain_days is None or not self._is_day_certain():
            return None
        parent = self._name("records")
        for table, pending in self._left_over():
            partition = parse(table)
            if partition is None or partition.day >= self.oldest_day:
                continue
            finish = [sql.SQL("ALTER TABLE {} DETACH PARTITION {} FINALIZE").format(parent, self._name(table))]
            return table, [*(finish if pending else []), sql.SQL("DROP TABLE IF EXISTS {}").format(self._name(table))]
        for partition in self.all():
            if partition.day >= self.oldest_day:
                break
            name = self.table(partition)
            self._current.pop(partition.day, None)
            return self._tables[partition][1], [
                sql.SQL("COMMENT ON TABLE {} IS {}").format(name, sql.Literal(_DOOMED)),
                # CONCURRENTLY does not block readers of other partitions; the drop then locks this table only.
                sql.SQL("ALTER TABLE {} DETACH PARTITION {} CONCURRENTLY").format(parent, name),
                sql.SQL("DROP TABLE IF EXISTS {}").format(name),
            ]
        return None

    def _left_over(self) -> list[tuple[Any, ...]]:
        return self._connection.execute(
            "SELECT c.relname, coalesce(i.inhdetachpending, false) FROM pg_class c"
            " JOIN pg_namespace n ON n.oid = relnamespace LEFT JOIN pg_inherits i ON inhrelid = c.oid"
            " WHERE nspname = %s AND relkind = 'r' AND (i.inhrelid IS NULL OR i.inhdetachpending)"
            " AND obj_description(c.oid, 'pg_class') = %s",
            (self._schema, _DOOMED),
        ).fetchall()

    def _is_day_certain(self) -> bool:
        """Return whether the server's day is certain enough to drop old ones: a clock may have been set ahead."""
        ours = int(time.time() // 86_400)
        if abs(self.today - ours) > 1:
            self.warning = (
                f"the server's date is {_date(self.today)}, and ours {_date(ours)}: no partition is dropped until "
                "they agree"
            )
            return False
        self.warning = ""
        newest = max((partition.day for partition in self.all()), default=self.today)
        if self.today - newest <= 1:
            self._gap_since_s = 0.0
            return True
        # Both clocks may be wrong, or no record came for days: records of today decide that after a while.
        now_s = time.monotonic()
        self._gap_since_s = self._gap_since_s or now_s
        return now_s - self._gap_since_s > GAP_S

    def unindexed(self, kinds: Sequence[str]) -> tuple[Partition, list[str]] | None:
        """Return the newest closed partition that lacks any of these kinds of index, and the missing kinds."""
        closed = [
            partition for partition in self.all()
            if partition.day < self.today or self._current.get(partition.day, partition) != partition
        ]  # fmt: skip
        indexed = {
            index
            for (index,) in self._connection.execute(
                "SELECT i.relname FROM pg_index JOIN pg_class i ON i.oid = indexrelid"
                " JOIN pg_class t ON t.oid = indrelid JOIN pg_namespace n ON n.oid = t.relnamespace WHERE nspname = %s"
                " AND indisvalid",
                (self._schema,),
            )
        }
        for partition in reversed(closed):
            missing = [kind for kind in kinds if f"{partition.table}_{kind}" not in indexed]
            if missing:
                return partition, missing
        return None

    def _name(self, table: str) -> sql.Identifier:
        return sql.Identifier(self._schema, table)


def _first_int(connection: Connection, query: LiteralString, *parameters: object) -> int:
    row = connection.execute(query, parameters).fetchone()
    return int(row[0]) if row and row[0] is not None else 0
