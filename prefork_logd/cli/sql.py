"""Runs the verb `sql`: answers a statement of SQL over the stored records."""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefork_logd.cli.app import Flags, verb
from prefork_logd.cli.collector import warn_of_other_configuration
from prefork_logd.errors import ExitStatus, StoreError
from prefork_logd.query.search import AnswersSql, problems_of

if TYPE_CHECKING:
    import duckdb

_TABLE_ROWS = 1_000


@verb
@click.argument("statement")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
    help="Format of the answer; parquet needs a file or a pipe as standard output.",
)
@click.option("--store", "name", metavar="NAME", help="Which store; else the first one configured.")
def sql(flags: Flags, statement: str, form: str, name: str | None) -> int:
    """Answer a statement of SQL that only reads.

    The collector need not run.

    The view `records` has every stored record, also those that are in no file yet; DESCRIBE records prints its columns.
    """
    from prefork_logd.stores.registry import choose_store, open_chosen

    if form == "parquet" and sys.stdout.isatty():
        raise click.UsageError("--format parquet is not for a terminal; write > FILE")
    settings = flags.load()
    warn_of_other_configuration(flags, settings)
    with contextlib.closing(open_chosen(settings, name)) as search:
        if not isinstance(search, AnswersSql):
            store = choose_store(settings, name).name
            raise StoreError(f"store {store}: SQL is for stores of type parquet; use the database's own shell")
        if form == "parquet":
            with tempfile.NamedTemporaryFile() as file, search.database(file.name) as database:
                _print_parquet(database, statement, Path(file.name))
        else:
            with search.database() as database:
                _print(database, statement, form)
        for problem in problems_of(search):
            click.echo(f"prefork-logd: {problem}", err=True)
    return ExitStatus.OK


def _print(database: duckdb.DuckDBPyConnection, statement: str, form: str) -> None:
    from prefork_logd.cli.print_analysis import Sheet, format_sheet
    from prefork_logd.stores.parquet.sql import answer

    columns, rows = answer(database, statement)
    is_first = True
    while True:
        some = [[_plain(value) for value in row] for row in itertools.islice(rows, _TABLE_ROWS)]
        if not some and not is_first:
            return
        lines = format_sheet(Sheet(columns, some), form)
        for line in lines:
            # Each part of CSV has the names of the columns.
            click.echo(line if is_first or form != "csv" else line.partition("\r\n")[2])
        is_first = False
        if form == "table" and len(some) == _TABLE_ROWS:
            if next(rows, None) is not None:
                click.echo(f"prefork-logd: only the first {_TABLE_ROWS:,} rows; --format csv prints all", err=True)
            return


def _print_parquet(database: duckdb.DuckDBPyConnection, statement: str, path: Path) -> None:
    from prefork_logd.stores.parquet.sql import write_parquet

    write_parquet(database, statement, str(path))
    with path.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.flush()


def _plain(value: object) -> object:
    """Return a value of DuckDB as one of JSON, which has no infinite numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return value.isoformat(" ") if hasattr(value, "isoformat") else str(value)
