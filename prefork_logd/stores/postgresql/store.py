"""Writes records to PostgreSQL, each exactly once.

Owns the transaction: it locks the journal's position, copies the rows after it, and commits both together. If two
shippers of one journal race, the second therefore sees the position of the first; and after a lost answer to a commit,
the position shows whether it was done. Does not know journal files.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
from functools import partial
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql

from prefork_logd.config.values import format_count
from prefork_logd.errors import StoreError, describe_unexpected
from prefork_logd.stores import rows
from prefork_logd.stores.postgresql import schema as schemas
from prefork_logd.stores.postgresql.background import Background
from prefork_logd.stores.postgresql.connection import (
    LOCK_LIMIT_S,
    STATEMENT_LIMIT_S,
    Connection,
    check_encoding,
    connect,
    is_servers_trouble,
    store_error,
)
from prefork_logd.stores.postgresql.copy_rows import HEADER, NAMES, TRAILER, Encoder
from prefork_logd.stores.postgresql.culprits import Culprits, Packed
from prefork_logd.stores.postgresql.indexer import NAMES as BY_NAME
from prefork_logd.stores.postgresql.indexer import VALUES, WORDS, Indexer
from prefork_logd.stores.postgresql.partitions import SLICE_BYTES, Partition, Partitions
from prefork_logd.stores.postgresql.row_packer import NoPartitionError, RowPacker
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from prefork_logd.config.stores.postgresql import PostgresqlStoreSettings
    from prefork_logd.stores.base import Block

    Refuse = Callable[[int, bytes, str], None]

DAY_S = 86_400
_LOOK_EVERY_BYTES = 32 << 20
"""Bytes that are written between two checks of the partition's size."""
_POSITION = "SELECT next, (now() AT TIME ZONE 'UTC')::date - date '1970-01-01' FROM {}.positions WHERE journal = %s"
_POSITION_LOCKED = (
    "SELECT next, (now() AT TIME ZONE 'UTC')::date - date '1970-01-01',"
    " set_config('prefork_logd.journal', id::text, true) FROM {}.positions WHERE journal = %s FOR UPDATE"
)
"""It also names the journal for the rows of the transaction (schema.JOURNAL)."""
MOST_ATTEMPTS = 400
"""Attempts at one batch: each day in it may need a new partition first."""
MOST_LOOKS = 2
"""How often partitions are read again when a table is missing, before single rows are suspected."""
_PLAIN = (
    b'{"created":1700000000.0,"time":"2023-11-14T22:13:20.000000Z","name":"prefork_logd","levelno":20,'
    b'"levelname":"INFO","message":"a row to try","pathname":"/x.py","filename":"x.py","module":"x","lineno":1,'
    b'"funcName":"f","process":1,"processName":"MainProcess","thread":1,"threadName":"MainThread",'
    b'"peer":"127.0.0.1:1","received":1700000000.0}'
)
_IDLE_S = 60.0
_BUSY_S = 5.0
_DROPPING_S = 0.5


class _DetachedError(Exception):
    """Rows went into a table that was detached meanwhile."""


def make_store(settings: PostgresqlStoreSettings) -> PostgresqlStore:
    """Return the store of these settings, not opened yet."""
    return PostgresqlStore(
        settings.dsn,
        schema=settings.schema,
        retain_s=settings.retain_s,
        full_text=settings.full_text,
        extra_index=settings.extra_index,
    )


class PostgresqlStore:
    """Records in a partitioned table of a PostgreSQL database (`stores.base.Store`)."""

    def __init__(
        self,
        dsn: str = "",
        *,
        schema: str = "prefork_logd",
        retain_s: float = 0.0,
        full_text: bool = True,
        extra_index: bool = True,
        statement_limit_s: float = STATEMENT_LIMIT_S,
        lock_limit_s: float = LOCK_LIMIT_S,
        slice_bytes: int = SLICE_BYTES,
    ) -> None:
        """Use the database that libpq finds by `dsn`; records are kept for `retain_s`, 0 for ever."""
        self._dsn = dsn
        self._schema = schema
        self._retain_days = -int(-retain_s // DAY_S) if retain_s else None
        self._indexes = (BY_NAME, *([WORDS] if full_text else []), *([VALUES] if extra_index else []))
        self._limits = (statement_limit_s, lock_limit_s)
        self._slice_bytes = slice_bytes
        self._connection: Connection | None = None
        self._partitions: Partitions | None = None
        self._indexer = Indexer(dsn, schema)
        self._dropper = Background(dsn, schema, "drops")
        self._dropping = ""
        """The table that is being dropped."""
        self._drop_problem = self._told_warning = ""
        self._encoder = Encoder()
        self._packer: RowPacker
        self._journal = ""
        self._unlooked = 0

    def open(self, journal: str) -> int:
        """Connect, make or migrate the tables, and return the number of the first record that is needed."""
        self.close()
        self._journal = journal
        statement_limit_s, lock_limit_s = self._limits
        self._connection = connect(self._dsn, statement_limit_s=statement_limit_s, lock_limit_s=lock_limit_s)
        with _server_trouble():
            check_encoding(self._connection)
            schemas.prepare(self._connection, self._schema)
            schemas.check_columns(self._connection, self._schema)
            self._partitions = Partitions(self._connection, self._schema, self._retain_days, self._slice_bytes)
            self._packer = RowPacker(self._partitions, self._encoder)
            self._execute(
                "INSERT INTO {}.positions (journal, next, retain_days) VALUES (%s, 0, %s)"
                " ON CONFLICT (journal) DO UPDATE SET retain_days = excluded.retain_days",
                journal,
                -1 if self._retain_days is None else self._retain_days,
            )
            self._partitions.refresh()
            return self._position()

    def write(self, blocks: Sequence[Block], refuse: Refuse) -> None:
        """Store every record of `blocks`, and the position after them, in one transaction."""
        if not blocks:
            return
        connection, partitions = self._opened()
        attempt = self._copy_all
        looks = 0
        with _server_trouble():
            for _ in range(MOST_ATTEMPTS):
                try:
                    attempt(blocks, refuse)
                    break
                except NoPartitionError as missing:
                    connection.execute("ROLLBACK")
                    partitions.make(missing.day)
                except (_DetachedError, psycopg.errors.UndefinedTable) as error:
                    # A partition was detached, renamed or dropped. A trigger may lack a table, too.
                    looks += 1
                    if isinstance(error, psycopg.Error) and looks > MOST_LOOKS:
                        attempt = self._sort_out
                    connection.execute("ROLLBACK")
                    partitions.refresh()
                except StoreError:
                    # Its locks would keep the owner from mending the table.
                    connection.execute("ROLLBACK")
                    raise
                except (psycopg.Error, ValueError, RecursionError) as error:
                    if attempt == self._sort_out or (isinstance(error, psycopg.Error) and is_servers_trouble(error)):
                        raise
                    connection.execute("ROLLBACK")
                    attempt = self._sort_out
            else:
                raise StoreError("PostgreSQL: the partitions of records change faster than rows can be written")
            if self._unlooked >= min(_LOOK_EVERY_BYTES, self._slice_bytes):
                self._unlooked = 0
                partitions.roll()
                self._tend_indexes()

    def maintain(self) -> float:
        """Drop partitions older than `retain`, make partitions and indexes; return the seconds until the next call."""
        _, partitions = self._opened()
        with _server_trouble():
            partitions.refresh()
            is_dropping = self._tend_drops(partitions)
            partitions.roll()
            is_indexing = self._tend_indexes()
        return _DROPPING_S if is_dropping else _BUSY_S if is_indexing else _IDLE_S

    def status(self) -> dict[str, Any]:
        """Return why old records cannot be dropped, as warnings."""
        warnings = [] if self._partitions is None else [self._partitions.warning, self._drop_problem]
        return {"warnings": [warning for warning in warnings if warning]}

    def _tend_drops(self, partitions: Partitions) -> bool:
        """Drop partitions older than `retain`; on a separate connection, because that may wait for all transactions."""
        if self._dropper.is_busy():
            return True
        if self._dropping:
            table, self._dropping = self._dropping, ""
            problem = self._dropper.failure
            if problem:
                self._drop_problem = f"partition {self._schema}.{table} cannot be dropped: {problem}"
                LOGGER.warning("PostgreSQL: %s; tried again", self._drop_problem)
                return False
            self._drop_problem = ""
            LOGGER.info(
                "PostgreSQL: dropped partition %s.%s: its records are older than %s (retain)",
                self._schema, table, format_count(partitions.retain_days or 0, "day"),
            )  # fmt: skip
        found = partitions.next_drop()
        if partitions.warning != self._told_warning:
            self._told_warning = partitions.warning
            if partitions.warning:
                LOGGER.warning("PostgreSQL: %s", partitions.warning)
        if found is None:
            return False
        table, statements = found
        if self._dropper.start(statements):
            self._dropping = table
        return bool(self._dropping)

    def close(self) -> None:
        """Close every connection; never raises."""
        self._indexer.close()
        self._dropper.close()
        self._dropping = ""
        self._partitions = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> tuple[Connection, Partitions]:
        if self._connection is None or self._partitions is None:
            raise StoreError("PostgreSQL: not connected")
        return self._connection, self._partitions

    def _execute(self, statement: LiteralString, *parameters: object) -> psycopg.Cursor[tuple[Any, ...]]:
        connection, _ = self._opened()
        return connection.execute(sql.SQL(statement).format(sql.Identifier(self._schema)), parameters)

    def _position(self, *, locked: bool = False) -> int:
        """Return the number of the first record that is needed, and read the server's day."""
        found = self._execute(_POSITION_LOCKED if locked else _POSITION, self._journal).fetchone()
        if found is None:
            raise StoreError(f"PostgreSQL: {self._schema}.positions no longer has a row for journal {self._journal}")
        _, partitions = self._opened()
        partitions.today = found[1]
        return int(found[0])

    def _begin(self, blocks: Sequence[Block]) -> int:
        """Begin the transaction; return the first number of `blocks` that is not stored yet."""
        connection, _ = self._opened()
        connection.execute("BEGIN")
        return max(self._position(locked=True), blocks[0].first)

    def _commit(self, blocks: Sequence[Block], used: Collection[Partition]) -> None:
        connection, partitions = self._opened()
        if not partitions.are_attached(used):
            raise _DetachedError
        end = blocks[-1].first + blocks[-1].count
        self._execute(
            "UPDATE {}.positions SET next = %s, moved = now() WHERE journal = %s AND next < %s", end, self._journal, end
        )
        connection.execute("COMMIT")

    def _copy_all(self, blocks: Sequence[Block], refuse: Refuse) -> None:  # noqa: ARG002 - no row is refused here
        """Copy the rows of all blocks while they are packed, so that the server and this process work at the same time.

        Raises ValueError for a line that is not a record, and psycopg.Error for a row that the server refuses.
        """
        wanted = self._begin(blocks)
        used: set[Partition] = set()
        for partition, pieces in itertools.groupby(self._packer.pack(blocks, wanted), operator.itemgetter(0)):
            used.add(partition)
            self._copy(partition, (packed for _, packed in pieces))
        self._commit(blocks, used)

    def _copy(self, partition: Partition, pieces: Iterable[bytes]) -> None:
        """Copy packed rows directly into a partition, so that the server need not find it for each row."""
        connection, partitions = self._opened()
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(partitions.table(partition), NAMES)
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(HEADER)
            for piece in pieces:
                copy.write(piece)
                self._unlooked += len(piece)
            copy.write(TRAILER)

    # Bad rows

    def _sort_out(self, blocks: Sequence[Block], refuse: Refuse) -> None:
        """Copy like `_copy_all`, and find the rows that can never be stored, by halves.

        Raises StoreError if the rows are not at fault: the table was changed, or accepts no row at all.
        """
        connection, _ = self._opened()
        schemas.check_columns(connection, self._schema)
        wanted = self._begin(blocks)
        packed: dict[Partition, list[Packed]] = {}
        refused: list[tuple[int, bytes, str]] = []
        for block in blocks:
            for number, line in enumerate(block.lines.split(b"\n")[:-1], block.first):
                if number < wanted:
                    continue
                try:
                    row = rows.decode(line)
                    partition = self._packer.place(row)
                    row_bytes = self._encoder.encode([row], [line], number, *partition)
                except NoPartitionError:
                    raise
                except Exception as error:  # noqa: BLE001 - whatever a line does, it does to itself
                    what = str(error) if isinstance(error, ValueError) else describe_unexpected(error)
                    refused.append((number, line, f"not a stored record: {what}"))
                    continue
                packed.setdefault(partition, []).append(Packed(number, line, row_bytes))
        for partition, group in packed.items():
            # Without a row, but its lock stays until the end of the transaction, unlike that of a copy that is rolled
            # back: nobody changes the table between a row that is refused and another one that is accepted.
            self._copy(partition, ())
            culprits = Culprits(connection, partial(self._copy_packed, partition), partial(self._probe, partition))
            refused += culprits.sort_out(group)
        for number, line, reason in sorted(refused):
            refuse(number, line, reason)
        self._commit(blocks, packed.keys())

    def _copy_packed(self, partition: Partition, group: Sequence[Packed]) -> None:
        self._copy(partition, (packed.row for packed in group))

    def _probe(self, partition: Partition) -> None:
        """Copy a plain row that no client has sent; the caller rolls it back."""
        plain = rows.decode(_PLAIN)
        self._copy(partition, [self._encoder.encode([plain], [_PLAIN], 0, *partition)])

    def _tend_indexes(self) -> bool:
        """Build the indexes of closed partitions; return whether one is being built."""
        _, partitions = self._opened()
        if not self._indexer.is_busy() and (found := partitions.unindexed(self._indexes)) is not None:
            partition, missing = found
            self._indexer.begin(partition, partitions.table(partition), missing)
        return self._indexer.is_busy()


@contextlib.contextmanager
def _server_trouble() -> Iterator[None]:
    """Turn the driver's errors into StoreError."""
    try:
        yield
    except psycopg.Error as error:
        raise store_error(error) from error
