"""Runs the verb `tail`: prints the latest records, then new ones."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click

from prefork_logd.cli.app import Flags, complain, verb
from prefork_logd.cli.collector import lenient_settings
from prefork_logd.cli.filter_flags import filter_flags
from prefork_logd.errors import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterator


@verb
@filter_flags
@click.option(
    "-n", "count", type=click.IntRange(min=0), default=10, show_default=True, help="Number of latest records."
)
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Then print new records as they come, until Ctrl-C.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def tail(flags: Flags, count: int, is_followed: bool, form: str, **conditions: Any) -> int:
    """Show the latest records, and follow new ones.

    TEXT is a query as of the verb `query`, such as 'timeout level>=WARNING'.
    """
    from prefork_logd.cli.print_records import format_for_stdout
    from prefork_logd.query.parse import make_filters
    from prefork_logd.query.tail import Matcher, follow, last_lines, levels, open_tail

    try:
        matches = Matcher(make_filters(carried=lambda: levels(lenient_settings(flags)), **conditions))
    except ValueError as error:
        raise click.UsageError(str(error)) from error

    def show(lines: Iterator[bytes]) -> None:
        for line in format_for_stdout(form, lines):
            sys.stdout.buffer.write(line)
        sys.stdout.flush()
        matches.report(complain)

    with contextlib.closing(open_tail(flags.load(), complain)) as latest:
        show(last_lines(latest, count, matches))
        if is_followed:
            for lines in follow(latest, matches, sys.stdout.fileno()):
                show(lines)
    return ExitStatus.OK
