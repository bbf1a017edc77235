"""Runs the verb `query`: prints stored records, or an answer about them."""

from __future__ import annotations

import contextlib
import functools
import shlex
import signal
import sys
import threading
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import click

from prefork_logd.cli.app import Flags, WholeNumber, add_options, complain, verb
from prefork_logd.cli.collector import lenient_settings, warn_of_other_configuration
from prefork_logd.cli.filter_flags import filter_flags, take_written
from prefork_logd.cli.remote import check_server_flags, connect, server_flags
from prefork_logd.errors import ExitStatus, StoreError
from prefork_logd.query.search import problems_of
from prefork_logd.query.written import Written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prefork_logd.cli.print_analysis import Sheet
    from prefork_logd.query.filters import Filters
    from prefork_logd.query.search import Coverage, Found, Search
    from prefork_logd.web.client.connection import ApiConnection
    from prefork_logd.web.client.search import RemoteSearch

_SAME = ("process", "thread", "task", "trace", "logger", "service")
_PAGE = 500
_TOP = 10
_BESIDE = 10
_HINTS_S = 10.0
"""Time for hints about a query that has found nothing."""
_HINTED_RECORDS = 20_000

answer_flags = add_options(
    click.option("--count", is_flag=True, help="Print the number of records."),
    click.option("--histogram", is_flag=True, help="Print bars over time by level."),
    click.option("--facet", "facets", multiple=True, metavar="FIELD", help="Print its commonest values; repeatable."),
    click.option("--stats", metavar="TEXT", help='Print aggregates: "count, p95(extra.duration_ms) by name".'),
    click.option("--fields", is_flag=True, help="Print the fields that the records have."),
    click.option("--patterns", is_flag=True, help="Print forms of messages: numbers, ids and so on left out."),
    click.option("--top", type=WholeNumber(min=1, max=1000), default=_TOP, show_default=True,
                 help="Number of values or patterns."),
    click.option("--ids", is_flag=True, help="Print the id of each record in front of it."),
    click.option("--around", metavar="ID", help="Print a record and its neighbours, with ids."),
    click.option("--same", type=click.Choice(_SAME), help="Of --around: only neighbours of the same."),
    click.option("--before", type=WholeNumber(min=0, max=10_000), default=_BESIDE, show_default=True,
                 help="Of --around: number of earlier records."),
    click.option("--after", type=WholeNumber(min=0, max=10_000), default=_BESIDE, show_default=True,
                 help="Of --around: number of later records."),
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What to print; the names are the flags'."""

    count: bool
    histogram: bool
    facets: tuple[str, ...]
    stats: str | None
    fields: bool
    patterns: bool
    top: int
    ids: bool
    around: str | None
    same: str | None
    before: int
    after: int


@verb
@filter_flags
@click.option("--limit", type=WholeNumber(min=0), help="At most this many records, the first ones of --order.")
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
    help="Format of the records, or of the answer.",
)
@answer_flags
@click.option("--store", "name", metavar="NAME", help="Which store; else the first one configured.")
@server_flags
def query(flags: Flags, form: str, name: str | None, server: str | None, token_file: str | None, **given: Any) -> int:
    """Find stored records.

    The collector need not run, except with --server.

    TEXT is a query: words, fields (level>=WARNING, status:500), NOT, AND, OR and parentheses; docs/query.md has all of
    it. Each flag is one more condition. If TEXT begins with a minus sign, write -- before it.
    """
    from prefork_logd.query.parse import make_filters

    asked = Asked(**{field.name: given.pop(field.name) for field in fields(Asked)})
    check_server_flags(server, token_file)
    try:
        _check(asked, form, given)
        written = take_written(given)
        api = connect(server, token_file) if server else None
        remote = _remote(api, name, written) if api else None
        levels = remote.levels if remote else lambda: carried_levels(flags, name)
        filters = make_filters(written, carried=levels, **given)
        answer = _answer(asked, form)
        if api and remote:
            _print(answer, remote, filters, written.text, _remote(api, name, Written()))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if not remote:
        from prefork_logd.stores.registry import open_chosen

        settings = flags.load()
        warn_of_other_configuration(flags, settings)
        with _ending_at_once(), contextlib.closing(open_chosen(settings, name)) as search:
            _print(answer, search, filters, written.text, search)
    return ExitStatus.OK


@contextlib.contextmanager
def _ending_at_once() -> Iterator[None]:
    """Let SIGINT end the process in this block: Python would raise KeyboardInterrupt only once DuckDB or RE2 return."""
    # A job in the background of a shell ignores the signal. Only the main thread may change its handling.
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_ours or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _print(answer: Any, search: Search, filters: Filters, text: str, everything: Search) -> None:
    """Print an answer; with hints to a person whose query has found no record. `everything` has no conditions."""
    if answer(search, filters) == 0 and text and filters.limit != 0 and _is_seen():
        _print_hints(text, everything, filters)
    for problem in problems_of(search):
        click.echo(f"prefork-logd: {problem}", err=True)


def _is_seen() -> bool:
    """Return whether a person sees the complaints: hints take a second, for which no script should wait."""
    return sys.stderr.isatty()


def _print_hints(text: str, search: Search, filters: Filters) -> None:
    from prefork_logd.query.hints import hints_of
    from prefork_logd.query.search import Limits
    from prefork_logd.query.tree import EVERYTHING
    from prefork_logd.records.render import escape_text

    search.limits = Limits(_HINTS_S, _HINTED_RECORDS)
    with contextlib.suppress(StoreError):
        for hint in hints_of(text, search, replace(filters, tree=EVERYTHING, limit=None)):
            meant = f"; perhaps {shlex.quote(hint.query)}" if hint.query else ""
            complain(escape_text(f"column {hint.column} of the query: {hint.sentence}{meant}"))


def _remote(api: ApiConnection, name: str | None, written: Written) -> RemoteSearch:
    """Return the search of another host for the records that meet the conditions. Raises ValueError."""
    from prefork_logd.query.as_text import query_text
    from prefork_logd.web.client.search import RemoteSearch

    return RemoteSearch(api, query_text(written), name)


def carried_levels(flags: Flags, name: str | None) -> dict[str, int]:
    """Return the levels that the records of a store carry; none if it cannot be read."""
    from prefork_logd.stores.registry import open_chosen

    try:
        with contextlib.closing(open_chosen(lenient_settings(flags), name)) as search:
            return search.levels()
    except StoreError:
        return {}


def _check(asked: Asked, form: str, given: dict[str, Any]) -> None:
    """Refuse flags that do not go together. Raises ValueError."""
    answers = ("count", "histogram", "facets", "stats", "fields", "patterns", "around")
    chosen = [f"--{name.removesuffix('s') if name == 'facets' else name}" for name in answers if getattr(asked, name)]
    if len(chosen) > 1:
        raise ValueError(f"{' and '.join(chosen)} do not go together; write one of them")
    if chosen and not asked.around and given["limit"] is not None:
        raise ValueError(f"--limit is for records; {chosen[0]} is about all that match, so leave it out")
    if (asked.count or asked.histogram) and form != "text":
        raise ValueError(f"{chosen[0]} prints text; leave --format out")
    if asked.top != _TOP and not (asked.facets or asked.patterns):
        raise ValueError("--top belongs to --facet and --patterns; write one of them")
    if not asked.around and (asked.before, asked.after) != (_BESIDE, _BESIDE):
        raise ValueError("--before and --after belong to --around; write --around ID")
    if asked.ids and (chosen or form in {"csv", "table"}):
        raise ValueError("--ids is for records as text or JSON; leave it out")
    if asked.around and form in {"csv", "table"}:
        raise ValueError("--around prints text or JSON; write --format json, or leave --format out")
    if asked.around and any(value for key, value in given.items() if key != "order"):
        raise ValueError("--around shows what is beside a record, whatever it is; leave the conditions out")
    if asked.same and not asked.around:
        raise ValueError("--same belongs to --around; write --around ID")


def _answer(asked: Asked, form: str) -> Any:
    """Return the function of (search, filters) that prints the answer. Raises ValueError for a text of a flag."""
    if asked.count:
        return lambda search, filters: click.echo(search.count(filters))
    if asked.histogram:
        return _print_histogram
    if asked.around:
        return functools.partial(_print_around, asked, form)
    if asked.ids:
        return functools.partial(_print_with_ids, form)
    if asked.facets or asked.stats or asked.fields or asked.patterns:
        return _analysis(asked, form)
    return functools.partial(_print_records, form)


def _analysis(asked: Asked, form: str) -> Any:
    from prefork_logd.cli import print_analysis
    from prefork_logd.query import statistics
    from prefork_logd.query.language import parse_field

    facets = [parse_field(text) for text in asked.facets]
    question = statistics.parse(asked.stats) if asked.stats else None

    def named(sheet: Sheet, search: Search) -> Sheet:
        return sheet.with_level_names(search.levels) if form in {"text", "table"} else sheet

    def answer(search: Search, filters: Filters) -> None:
        if question:
            table = search.stats(filters, question)
            _print_sheet(named(print_analysis.stats_sheet(table), search), table.coverage, form)
            if table.left_out:
                complain(f"groups that are not shown: {table.left_out:,}")
        elif facets:
            found = search.facets(filters, facets, asked.top)
            _print_sheet(named(print_analysis.facets_sheet(found), search), found.coverage, form)
        elif asked.fields:
            listed = search.fields(filters)
            _print_sheet(print_analysis.fields_sheet(listed), listed.coverage, form)
        else:
            patterns = search.patterns(filters, asked.top)
            _print_sheet(print_analysis.patterns_sheet(patterns), patterns.coverage, form)
            if patterns.others:
                complain(f"records with other patterns: {patterns.others:,}")

    return answer


def _print_sheet(sheet: Sheet, coverage: Coverage, form: str) -> None:
    from prefork_logd.cli.print_analysis import coverage_sentence, format_sheet

    _write(f"{line}\n".encode("utf-8", "backslashreplace") for line in format_sheet(sheet, form))
    if form in {"text", "table"}:
        click.echo(f"\n{coverage_sentence(coverage)}")
    elif not coverage.is_complete:
        complain(coverage_sentence(coverage))


def _print_histogram(search: Search, filters: Filters) -> None:
    from prefork_logd.cli.print_histogram import print_histogram
    from prefork_logd.query.histogram import zoom_in

    span = search.span() or (0.0, 0.0)
    start = span[0] if filters.since is None else max(filters.since, 0.0)
    stop = span[1] + 1e-6 if filters.until is None else filters.until
    print_histogram(*zoom_in(functools.partial(search.histogram, filters), start, max(start, stop)))


def _print_around(asked: Asked, form: str, search: Search, _: Filters) -> None:
    from prefork_logd.cli.print_records import format_with_ids
    from prefork_logd.query.context import around
    from prefork_logd.query.search import FindsNeighbours, RecordId

    try:
        record = RecordId.parse(asked.around or "")
        if isinstance(search, FindsNeighbours):
            records = search.around(record, asked.same, asked.before, asked.after)
        else:
            records = around(search, record, asked.same, asked.before, asked.after).records  # type: ignore[arg-type]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    _write(format_with_ids(form, records))


def _print_with_ids(form: str, search: Search, filters: Filters) -> int:
    from prefork_logd.cli.print_records import format_with_ids

    return _write(format_with_ids(form, _paged(search, filters)))


def _paged(search: Search, filters: Filters) -> Iterator[Found]:
    """Yield matching records, a page at a time."""
    left, cursor = filters.limit, None
    while left is None or left > 0:
        page = search.page(replace(filters, limit=_PAGE if left is None else min(left, _PAGE)), cursor)
        yield from page.records
        cursor, left = page.cursor, left and left - len(page.records)
        if cursor is None:
            return


def _print_records(form: str, search: Search, filters: Filters) -> int:
    from prefork_logd.cli.print_records import format_for_stdout

    # Tables and CSV have a head, whatever is found.
    found = _Counted(search.lines(filters))
    _write(format_for_stdout(form, found))
    return found.count


class _Counted:
    """Lines, and how many there were."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = lines
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        for line in self._lines:
            self.count += 1
            yield line


def _write(lines: Iterable[bytes]) -> int:
    """Write lines to standard output; return their number."""
    is_terminal = sys.stdout.isatty()
    count = 0
    for line in lines:
        count += 1
        sys.stdout.buffer.write(line)
        if is_terminal:
            sys.stdout.flush()
    sys.stdout.flush()
    return count
