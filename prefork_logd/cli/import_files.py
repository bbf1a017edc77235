"""Runs the verb `import`: brings existing files of JSON lines into a store."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefork_logd.cli.app import PROGRAM, Flags, complain, verb
from prefork_logd.cli.collector import become_user, warn_of_other_configuration
from prefork_logd.errors import ExitStatus

if TYPE_CHECKING:
    from rich.progress import Progress

    from prefork_logd.records.redaction import Redactor
    from prefork_logd.stores.base import Store


@verb
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--store", "name", metavar="NAME", help="Which store; else the first one configured.")
def import_(flags: Flags, files: tuple[str, ...], name: str | None) -> int:
    """Bring files of JSON lines into a store, each line once.

    A file is plain, .gz or .zst.
    """
    from prefork_logd.cli.progress import make_progress
    from prefork_logd.stores.registry import choose_store, make_store

    settings = flags.load()
    warn_of_other_configuration(flags, settings)
    become_user(settings)
    paths = [Path(file) for file in files]
    for path in paths:
        if not path.is_file():
            raise click.UsageError(f"{path}: is not a file")
    with contextlib.closing(make_store(choose_store(settings, name))) as store, make_progress() as bar:
        are_whole = [_import_file(path, store, bar, settings.redact.redactor()) for path in paths]
    return ExitStatus.OK if all(are_whole) else ExitStatus.FAILURE


def _import_file(path: Path, store: Store, bar: Progress, redactor: Redactor) -> bool:
    """Import one file and print its counts; return whether every line is stored."""
    from prefork_logd.config.values import format_count
    from prefork_logd.stores.import_lines import import_file, summary

    task = bar.add_task(path.name, total=path.stat().st_size)

    def refuse(number: int, reason: str) -> None:
        bar.console.print(f"{PROGRAM}: {path}:{number}: not stored: {reason}", markup=False, soft_wrap=True)

    done = import_file(store, path, lambda size: bar.advance(task, size), refuse, redactor=redactor)
    before = f", {done.before:,} were there already" if done.before else ""
    click.echo(
        f"{path}: {format_count(done.stored, 'record')} stored{before}, {format_count(done.refused, 'line')} refused"
    )
    for line in summary(done):
        click.echo(f"{path}: {line}")
    if done.trouble:
        complain(f"{path}: {done.trouble}")
    return not (done.refused or done.trouble)
