"""Runs the verb `status`: prints the status document of the running collector."""

from __future__ import annotations

import json

import click

from prefork_logd.cli.app import Flags, verb
from prefork_logd.cli.collector import STATUS_S, ask, complain_not_running, find_running, lenient_settings
from prefork_logd.cli.page_address import page_addresses
from prefork_logd.errors import ExitStatus


@verb
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def status(flags: Flags, as_json: bool) -> int:
    """Show processes, connections, records and outputs.

    The exit status is 3 when no collector runs.
    """
    settings = lenient_settings(flags)
    running = find_running(settings)
    if running is None:
        return complain_not_running(settings)
    document = ask(settings, running, "status", STATUS_S)
    # Older collectors have no page.
    page = document.setdefault("page", {"bind": [], "scheme": "http", "problem": ""})
    page["urls"] = page_addresses(settings, page)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        from prefork_logd.cli.print_status import print_status

        print_status(document)
    return ExitStatus.OK
