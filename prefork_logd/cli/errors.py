"""Runs the verb `errors`: lists groups of errors, shows one, and changes what people say about it."""

from __future__ import annotations

import contextlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefork_logd.cli.app import Flags, WholeNumber, form_flag, refuse_flags, verb
from prefork_logd.cli.collector import become_user, lenient_settings, user_name, warn_of_other_configuration
from prefork_logd.config.values import format_count
from prefork_logd.errors import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_logd.stores.errors.book import Book, Row


@dataclass(frozen=True)
class Given:
    """The values of the flags that change a group."""

    version: str
    for_s: float
    more: int
    text: str
    """The last word, where the action takes one."""


_CHANGES: dict[str, tuple[int, Callable[[Book, str, str, Given], Row]]] = {
    "resolve": (0, lambda book, key, who, given: book.resolve(key, who, given.version)),
    "reopen": (0, lambda book, key, who, _: book.reopen(key, who)),
    "mute": (0, lambda book, key, who, given: book.mute(key, who, for_s=given.for_s, more=given.more)),
    "assign": (1, lambda book, key, who, given: book.assign(key, who, given.text)),
    "note": (1, lambda book, key, who, given: book.annotate(key, who, given.text)),
    "split": (1, lambda book, key, who, given: book.split(key, who, given.text)),
    "join": (0, lambda book, key, who, _: book.join(key, who)),
}
"""Each action: how many words follow the group's id, and what it does."""


@verb
@click.argument("words", nargs=-1, metavar="[ACTION ID [TEXT]]")
@click.option(
    "--state", "states", multiple=True, metavar="STATE", help="open, regressed, muted or resolved; repeatable."
)
@click.option("--service", default="", metavar="NAME", help="Groups with errors of this service.")
@click.option("--text", default="", metavar="TEXT", help="Groups with this in the title, the place or the logger.")
@click.option(
    "--order",
    type=click.Choice(["last", "first", "count"]),
    default="last",
    show_default=True,
    help="By the latest or the first error, or by the count.",
)
@click.option("--limit", type=WholeNumber(min=1, max=1_000_000), default=50, show_default=True, help="Most groups.")
@form_flag("the groups")
@click.option("--in", "version", default="", metavar="VERSION", help="Of resolve: the version that has the repair.")
@click.option("--for", "duration", default="", metavar="DURATION", help='Of mute: how long, such as "8h".')
@click.option("--count", "more", type=WholeNumber(min=1, max=1 << 60), help="Of mute: until so many more errors.")
def errors(flags: Flags, words: tuple[str, ...], form: str, version: str, duration: str, more: int | None,
           **wanted: Any) -> int:  # fmt: skip
    """List groups of errors, or act on one.

    The actions are show, resolve, reopen, mute, assign, note, split and join.

    \b
    prefork-logd errors                         the groups, the latest first
    prefork-logd errors show g1:5f0c8a1b        a group with its records and places
    prefork-logd errors resolve 5f0c --in 2.4   mark it as repaired; later errors make it regress
    prefork-logd errors mute 5f0c --count 100   mute it for 100 more errors
    prefork-logd errors split 5f0c billing:17   errors of this place are a group of their own; join undoes it
    """  # noqa: D301 - click looks for the character itself
    import prefork_logd.cli.print_records  # noqa: F401 - become_user: the other user may not be able to read it
    from prefork_logd.config.values import parse_duration
    from prefork_logd.stores.errors.book import Book, Wanted

    settings = lenient_settings(flags)
    warn_of_other_configuration(flags, settings)
    who = user_name()
    become_user(settings)
    try:
        action, key, text = _action(words)
        _refuse_flags(action)
        given = Given(version, parse_duration(duration) if duration else 0.0, more or 0, text)
        with contextlib.closing(Book(Path(settings.errors.path))) as book:
            if not action:
                _print_rows(form, book.groups(Wanted(**wanted)))
            elif action == "show":
                _print_details(form, book, key)
            else:
                _print_rows(form, [_CHANGES[action][1](book, key, who, given)])
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return ExitStatus.OK


def _action(words: tuple[str, ...]) -> tuple[str, str, str]:
    """Return the action, the group's id and the text. Raises ValueError with a sentence for the user."""
    if not words:
        return "", "", ""
    action, *rest = words
    if action != "show" and action not in _CHANGES:
        raise ValueError(f"{action!r} is not an action; write show, {', '.join(_CHANGES)}, or nothing for the list")
    least = 1 + (_CHANGES[action][0] if action in _CHANGES else 0)
    if len(rest) < least:
        raise ValueError(f"{action} needs {'the id of a group' if not rest else 'a text after the id'}")
    if len(rest) > least:
        raise ValueError(f"{action} takes {format_count(least, 'word')}; put a text into quotes")
    return action, rest[0], rest[1] if least > 1 else ""


def _refuse_flags(action: str) -> None:
    """Refuse the flags that an action, or the list ("") does not know. Raises UsageError."""
    if action:
        refuse_flags(("states", "service", "text", "order", "limit"), "is for the list of groups; leave it out")
    if action != "resolve":
        refuse_flags(("version",), "belongs to resolve; write: errors resolve ID --in VERSION")
    if action != "mute":
        refuse_flags(("duration", "more"), "belongs to mute; write: errors mute ID --for DURATION, or --count COUNT")


def _print_rows(form: str, rows: list[Row]) -> None:
    from prefork_logd.cli.print_json import json_line

    if form == "json":
        for row in rows:
            sys.stdout.write(json_line(row) + "\n")
        return
    if not rows:
        click.echo("no groups")
    width = shutil.get_terminal_size((160, 24)).columns
    for row in rows:
        for line in _described(row, width):
            click.echo(line)


def _described(row: Row, width: int) -> Iterator[str]:
    """Yield two lines about a group."""
    from prefork_logd.records.render import asctime, escape_text

    yield f"{row.id}  {row.count:>9,}  {row.state:<9}  {asctime(row.last_seen)[:19]}  {_chart(row.chart)}"
    where = ", ".join(filter(None, [row.culprit or row.logger, *row.services[:3], *row.versions[:1], row.assignee]))
    place = f"  ({where})" if where else ""
    yield f"    {escape_text(f'{row.title}{place}'.partition(chr(10))[0])[: max(40, width - 4)]}"


def _chart(counts: list[int]) -> str:
    """Return a bar for each hour."""
    most = max(counts, default=0) or 1
    return "".join("▁▂▃▄▅▆▇█"[min(7, 8 * count // (most + 1))] if count else " " for count in counts)


def _print_details(form: str, book: Book, key: str) -> None:
    from prefork_logd.cli.print_json import json_line
    from prefork_logd.cli.print_records import format_for_stdout
    from prefork_logd.records.render import asctime, escape_text

    details = book.details(key)
    if form == "json":
        sys.stdout.write(json_line(details) + "\n")
        return
    group = details.group
    _print_rows("text", [group])
    click.echo(f"    first {asctime(group.first_seen)[:19]}, logger {escape_text(group.logger)}")
    if group.note:
        click.echo(f"    note: {escape_text(group.note)}")
    for title, parts in (("from", details.senders), ("at", details.variants), ("as", details.forms)):
        for part in parts:
            click.echo(f"    {title} {escape_text(part.name)}: {part.count:,}, last {asctime(part.last_seen)[:19]}")
    for event in details.events[:10]:
        sentence = " ".join(filter(None, (event.what, event.detail, f"by {event.who}" if event.who else "")))
        click.echo(f"    {asctime(event.at)[:19]} {escape_text(sentence)}")
    lines = [bytes(sample.record) + b"\n" for sample in details.samples if sample.record is not None]
    sys.stdout.flush()
    for line in format_for_stdout("text", lines):
        sys.stdout.buffer.write(line)
    click.echo(f"more: prefork-logd query 'fingerprint={group.id}'")
