"""Runs the verb `query`: prints stored records, their number, or bars over time."""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import TYPE_CHECKING, Any

import click

from prefork_logd.cli.app import Flags, verb
from prefork_logd.cli.collector import lenient_settings
from prefork_logd.cli.filter_flags import filter_flags
from prefork_logd.errors import ExitStatus, StoreError

if TYPE_CHECKING:
    from prefork_logd.query.filters import Filters
    from prefork_logd.query.search import Search


@verb
@filter_flags
@click.option("--limit", type=click.IntRange(min=0), help="At most this many records, the first ones of --order.")
@click.option(
    "--order",
    type=click.Choice(["oldest", "newest"]),
    default="oldest",
    show_default=True,
    help="Records that come first.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv", "table"]),
    default="text",
    show_default=True,
    help="Format of the records.",
)
@click.option("--count", is_flag=True, help="Print the number of records.")
@click.option("--histogram", is_flag=True, help="Print bars over time by level.")
@click.option("--store", "name", metavar="NAME", help="Which store; else the first one configured.")
def query(flags: Flags, form: str, count: bool, histogram: bool, name: str | None, **conditions: Any) -> int:
    """Find stored records; the collector need not run.

    TEXT is a query: words, fields (level>=WARNING, status:500), NOT, AND, OR and parentheses; docs/query.md has all of
    it. Each flag is one more condition. If TEXT begins with a minus sign, write -- before it.
    """
    from prefork_logd.query.parse import make_filters
    from prefork_logd.stores.registry import choose_store, open_search

    def carried() -> dict[str, int]:
        try:
            with contextlib.closing(open_search(choose_store(lenient_settings(flags), name))) as search:
                return search.levels()
        except StoreError:
            return {}

    try:
        filters = make_filters(carried=carried, **conditions)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with contextlib.closing(open_search(choose_store(flags.load(), name))) as search:
        if count:
            click.echo(search.count(filters))
        elif histogram:
            _print_histogram(search, filters)
        else:
            _print_records(search, filters, form)
    return ExitStatus.OK


def _print_histogram(search: Search, filters: Filters) -> None:
    from prefork_logd.cli.print_histogram import print_histogram
    from prefork_logd.query.histogram import zoom_in

    span = search.span() or (0.0, 0.0)
    start = span[0] if filters.since is None else max(filters.since, 0.0)
    stop = span[1] + 1e-6 if filters.until is None else filters.until
    print_histogram(*zoom_in(functools.partial(search.histogram, filters), start, max(start, stop)))


def _print_records(search: Search, filters: Filters, form: str) -> None:
    from prefork_logd.cli.print_records import format_for_stdout

    is_terminal = sys.stdout.isatty()
    for line in format_for_stdout(form, search.lines(filters)):
        sys.stdout.buffer.write(line)
        if is_terminal:
            sys.stdout.flush()
    sys.stdout.flush()
