"""Runs the verb `tail`: prints the latest records, then new ones."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click

from prefork_logd.cli.app import Flags, WholeNumber, complain, form_flag, verb
from prefork_logd.cli.collector import lenient_settings, warn_of_other_configuration
from prefork_logd.cli.filter_flags import filter_flags, take_written
from prefork_logd.cli.remote import check_server_flags, connect, follow_remote, server_flags
from prefork_logd.errors import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.web.client.connection import ApiConnection


@verb
@filter_flags
@click.option("-n", "count", type=WholeNumber(min=0), default=10, show_default=True, help="Number of latest records.")
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Then print new records as they come, until Ctrl-C.")
@form_flag("the records")
@server_flags
def tail(
    flags: Flags,
    count: int,
    is_followed: bool,
    form: str,
    server: str | None,
    token_file: str | None,
    **conditions: Any,
) -> int:
    """Show the latest records, and follow new ones.

    TEXT is a query as of the verb `query`, such as 'timeout level>=WARNING'.
    """
    check_server_flags(server, token_file)
    if server is not None:
        try:
            _tail_remote(connect(server, token_file), count, is_followed, form, conditions)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    else:
        _tail_local(flags, count, is_followed, form, conditions)
    return ExitStatus.OK


def _tail_local(flags: Flags, count: int, is_followed: bool, form: str, conditions: dict[str, Any]) -> None:
    """Print the latest records of this host, then new ones. Raises ProcessError, click.UsageError."""
    from prefork_logd.cli.print_records import format_for_stdout
    from prefork_logd.query.parse import make_filters
    from prefork_logd.query.tail import Matcher, follow, last_lines, levels, open_tail

    try:
        written = take_written(conditions)
        matches = Matcher(make_filters(written, carried=lambda: levels(lenient_settings(flags)), **conditions))
    except ValueError as error:
        raise click.UsageError(str(error)) from error

    def show(lines: Iterator[bytes]) -> None:
        for line in format_for_stdout(form, lines):
            sys.stdout.buffer.write(line)
        sys.stdout.flush()
        matches.report(complain)

    settings = flags.load()
    warn_of_other_configuration(flags, settings)
    with contextlib.closing(open_tail(settings, complain)) as latest:
        show(last_lines(latest, count, matches))
        if is_followed:
            for lines in follow(latest, matches, sys.stdout.fileno()):
                show(lines)


def _tail_remote(api: ApiConnection, count: int, is_followed: bool, form: str, given: dict[str, Any]) -> None:
    """Print the latest records of another host, then new ones. Raises ValueError, StoreError, ProcessError."""
    from prefork_logd.cli.print_records import format_for_stdout
    from prefork_logd.query.as_text import query_text
    from prefork_logd.query.parse import make_filters
    from prefork_logd.web.client.search import RemoteSearch

    written = take_written(given)
    search = RemoteSearch(api, query_text(written))
    filters = make_filters(written, carried=search.levels, **given)

    def show(lines: Iterator[bytes]) -> None:
        for line in format_for_stdout(form, lines):
            sys.stdout.buffer.write(line)
            sys.stdout.flush()

    # Without a matching record the tail begins now.
    latest = search.latest(filters, max(count, 1) if is_followed else count)
    show(iter([found.line for found in latest[len(latest) - min(count, len(latest)) :]]))
    if is_followed:
        show(follow_remote(search, filters, latest[-1].id if latest else None))
