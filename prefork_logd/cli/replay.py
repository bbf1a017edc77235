"""Runs the verb `replay`: sends dead letters to their store again."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

import click

from prefork_logd.cli.app import Flags, verb
from prefork_logd.cli.collector import become_user, warn_of_other_configuration
from prefork_logd.config.values import format_count
from prefork_logd.errors import ExitStatus, ProcessError, describe_refusal


@verb
@click.argument("name", required=False, metavar="[STORE]")
def replay(flags: Flags, name: str | None) -> int:
    """Send refused records to their store again.

    Without STORE, those of every store.
    """
    from prefork_logd.cli.progress import make_progress
    from prefork_logd.stores.registry import choose_store, make_store
    from prefork_logd.stores.replay import Replay

    settings = flags.load()
    warn_of_other_configuration(flags, settings)
    stores = settings.store if name is None else (choose_store(settings, name),)
    become_user(settings)
    refused = 0
    for store in stores:
        try:
            letters = Replay(Path(settings.server.state_dir), store.name)
            with contextlib.closing(make_store(store)) as opened, make_progress() as bar:
                task = bar.add_task(store.name, total=letters.total)
                taken, again = letters.run(opened, functools.partial(bar.advance, task))
        except OSError as error:
            raise ProcessError(f"{error.filename}: {describe_refusal(error)}") from error
        click.echo(f"{store.name}: {format_count(taken, 'record')} taken, {again:,} refused again")
        refused += again
    return ExitStatus.FAILURE if refused else ExitStatus.OK
