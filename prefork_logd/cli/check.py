"""The verb `check`: the effective configuration, and warnings about it."""

from __future__ import annotations

import click

from prefork_logd.cli.app import Flags, verb
from prefork_logd.errors import ExitStatus


@verb
@click.option("--connect", is_flag=True, help="Also query the NATS servers for their streams and groups.")
def check(flags: Flags, connect: bool) -> int:
    """Validate the configuration and print the effective one."""
    from prefork_logd import config, native

    native.require()
    settings = flags.load()
    click.echo(f"# {settings.source or 'no configuration file: these are the defaults'}")
    click.echo(config.printable(settings), nl=False)
    warnings = [] if connect else config.warnings(settings)
    if connect:
        from prefork_logd.looking import look

        for line, found in look(settings):
            click.echo(f"# {line}")
            warnings += found
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    return ExitStatus.OK
