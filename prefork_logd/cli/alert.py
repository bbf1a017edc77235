"""Runs the verb `alert`: lists rules with their states and incidents, silences a rule, and tests its receivers."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefork_logd.cli.app import Flags, WholeNumber, form_flag, refuse_flags, verb
from prefork_logd.cli.collector import become_user, user_name, warn_of_other_configuration
from prefork_logd.errors import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prefork_logd.alerts.book import AlertBook, IncidentRow, RuleRow, TestResult
    from prefork_logd.config.settings import Settings

_ACTIONS = {
    "incidents": (0, 1, "[NAME]"),
    "test": (1, 1, "NAME"),
    "silence": (2, 2, "NAME DURATION"),
    "unsilence": (1, 1, "NAME"),
}
"""Each action: the least and the greatest number of words behind it, and what they are."""


@verb
@click.argument("words", nargs=-1, metavar="[ACTION [NAME] [DURATION]]")
@click.option("--limit", type=WholeNumber(min=1, max=10_000), default=20, show_default=True, help="Most incidents.")
@form_flag("rules, incidents and results")
def alert(flags: Flags, words: tuple[str, ...], limit: int, form: str) -> int:
    """List the rules of alerts, or act on one.

    The actions show incidents, send a test notice, and silence a rule.

    \b
    prefork-logd alert                            the rules
    prefork-logd alert incidents "shop errors"    the incidents and their notices
    prefork-logd alert test "shop errors"         send a test notice through each receiver
    prefork-logd alert silence "shop errors" 2h   send no notices for two hours
    prefork-logd alert unsilence "shop errors"
    """  # noqa: D301 - click looks for the character itself
    import prefork_logd.alerts.receivers.send
    import prefork_logd.records.render  # noqa: F401 - become_user: the other user may not be able to read it
    from prefork_logd.alerts.book import AlertBook, NoSuchRuleError
    from prefork_logd.config.values import parse_duration

    action, rest = _action(words)
    if action != "incidents":
        refuse_flags(("limit",), "belongs to incidents; write: alert incidents --limit COUNT")
    settings = flags.load()
    warn_of_other_configuration(flags, settings)
    who = user_name()
    become_user(settings)
    try:
        with contextlib.closing(AlertBook(settings, Path(settings.server.state_dir))) as book:
            if action == "test":
                return _test(form, book, settings, rest[0])
            if action == "incidents":
                _print(form, _incidents(book, rest[0] if rest else "", limit), _described_incident, "no incidents")
            elif action == "silence":
                _print(form, [book.silence(rest[0], parse_duration(rest[1]), who)], _described_rule, "")
            elif action == "unsilence":
                _print(form, [book.silence(rest[0], 0.0, who)], _described_rule, "")
            else:
                _print(form, book.rules(), _described_rule, "no rules; write [[alert]] (docs/alerts.md)")
    except (ValueError, NoSuchRuleError) as error:
        raise click.UsageError(f"{error}") from None
    return ExitStatus.OK


def _incidents(book: AlertBook, name: str, limit: int) -> list[IncidentRow]:
    """Return the incidents of a rule, or of all; those of a rule that was removed, too. Raises NoSuchRuleError."""
    found = book.incidents(name, limit=limit)
    if name and not found:
        book.rule(name)
    return found


def _action(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the action, and the words behind it. Raises UsageError."""
    if not words:
        return "", ()
    action, *rest = words
    if action not in _ACTIONS:
        names = ", ".join(_ACTIONS)
        raise click.UsageError(f"{action!r} is not an action; write {names}, or nothing for the list")
    least, most, what = _ACTIONS[action]
    if not least <= len(rest) <= most:
        raise click.UsageError(f"write: alert {action} {what}; put a name with spaces into quotes")
    return action, tuple(rest)


def _test(form: str, book: AlertBook, settings: Settings, name: str) -> int:
    """Send a test notice through each receiver of a rule; return the exit status."""
    from prefork_logd.alerts.book import TestResult
    from prefork_logd.alerts.receivers.failures import SendError
    from prefork_logd.alerts.receivers.send import send

    rule, notice = book.test_notice(name)
    receivers = {receiver.name: receiver for receiver in settings.receiver}
    results = []
    for receiver in rule.send:
        began_s, ok = time.monotonic(), True
        try:
            if receiver not in receivers:
                raise SendError("there is no such receiver in the configuration")  # noqa: TRY301 - a result, too
            answer = send(receivers[receiver], notice)
        except SendError as error:
            ok, answer = False, str(error)
        results.append(TestResult(receiver, ok, answer, round(time.monotonic() - began_s, 3)))
    _print(form, results, _described_result, "")
    return ExitStatus.OK if all(result.ok for result in results) else ExitStatus.FAILURE


def _print(form: str, rows: Sequence[Any], described: Callable[[Any], Iterator[str]], nothing: str) -> None:
    """Print rows as JSON, or each by the lines that `described` yields; `nothing` if there are none."""
    from prefork_logd.cli.print_json import json_line

    if form == "json":
        for row in rows:
            sys.stdout.write(json_line(row) + "\n")
        return
    if not rows:
        click.echo(nothing)
    for row in rows:
        for line in described(row):
            click.echo(line)


def _described_rule(row: RuleRow) -> Iterator[str]:
    """Yield the lines about a rule."""
    from prefork_logd.alerts.book import is_stale
    from prefork_logd.records.render import asctime, escape_text

    value = "-" if row.value is None else f"{row.value:,}"
    yield f"{row.state:<8} {value:>9}  {row.name}  ({_about(row)} -> {', '.join(row.send)})"
    if row.silenced_until:
        yield f"    silenced until {asctime(row.silenced_until)[:19]} by {escape_text(row.silenced_by)}"
    if is_stale(row, time.time()):
        yield f"    not evaluated since {asctime(row.evaluated_at)[:19]}"
    if row.problem:
        yield f"    problem: {escape_text(row.problem)}"


def _about(row: RuleRow) -> str:
    from prefork_logd.records.render import escape_text

    query = escape_text(row.query) or "all records"
    by = f" by {escape_text(row.by)}" if row.by else ""
    if row.on == "count":
        return f"more than {row.above:,} in {row.window}{by}: {query}"
    if row.on == "absence":
        return f"none in {row.window}{by}: {query}"
    return " ".join(filter(None, [row.on, escape_text(row.service), escape_text(row.text)]))


def _described_incident(row: IncidentRow) -> Iterator[str]:
    """Yield the lines about an incident."""
    from prefork_logd.records.render import asctime, escape_text

    ended = f" until {asctime(row.ended)[:19]}" if row.ended else ""
    yield f"{row.id}  {row.state:<8}  {asctime(row.started)[:19]}{ended}  {row.rule}"
    yield f"    {escape_text(row.title)}"
    for notice in row.notices:
        yield f"    {notice.kind} to {notice.receiver}: {notice.state} {escape_text(notice.answer)}".rstrip()
    if row.silenced:
        yield "    no notice: the rule was silenced"


def _described_result(result: TestResult) -> Iterator[str]:
    """Yield the line about a test of a receiver."""
    from prefork_logd.records.render import escape_text

    answer = escape_text(result.answer)
    yield f"{'ok' if result.ok else 'failed':<7} {result.receiver}: {answer} ({result.seconds:.2f} s)"
