"""Runs the verb `check`: prints the effective configuration, and warnings about it."""

from __future__ import annotations

import click

from prefork_logd.cli.app import Flags, complain, verb
from prefork_logd.errors import ExitStatus, ProcessError


@verb
@click.option("--connect", is_flag=True, help="Also query the NATS servers for their streams and groups.")
def check(flags: Flags, connect: bool) -> int:
    """Validate the configuration and print the effective one."""
    from prefork_logd.alerts.receivers.send import unusable_parts
    from prefork_logd.config.checks import warnings
    from prefork_logd.config.show import printable
    from prefork_logd.ingest import core
    from prefork_logd.processes.master.certificate_files import tls_problem
    from prefork_logd.system.privileges import find_account

    core.require()
    settings = flags.load()
    if problem := tls_problem(settings):
        complain(problem)
        return ExitStatus.USAGE
    click.echo(f"# {settings.path or 'no configuration file: these are the defaults'}")
    click.echo(printable(settings), nl=False)
    found = [] if connect else warnings(settings)
    if connect:
        from prefork_logd.stores.probe import probe_servers

        for line, more in probe_servers(settings):
            click.echo(f"# {line}")
            found += more
    if settings.server.user:
        try:
            find_account(settings.server.user)
        except ProcessError as error:
            found.append(f"{error} (it is looked up on this host)")
    found += [sentence for receiver in settings.receiver for sentence in unusable_parts(receiver)]
    for warning in found:
        click.echo(f"warning: {warning}", err=True)
    return ExitStatus.OK
