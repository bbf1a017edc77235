"""Starts the command line: imports every verb, and turns exceptions into exit statuses.

No other module picks the status of an exception. A verb imports the modules that it needs, so that --help and the
quick verbs stay quick.
"""

from __future__ import annotations

import contextlib
import os

import click

from prefork_logd.cli import (  # noqa: F401 - each module adds its verbs to the group
    alert,
    check,
    errors,
    import_files,
    lifecycle,
    query,
    replay,
    send,
    sql,
    standard_streams,
    status,
    tail,
    web,
)
from prefork_logd.cli.app import PROGRAM, cli, complain
from prefork_logd.cli.error_messages import explain
from prefork_logd.errors import ExitStatus

UMASK = 0o027
"""The umask for files of the collector: no access for others, no writing for its group."""


def main() -> int:
    """Run the command line; return its exit status, after a sentence on standard error for an exception."""
    standard_streams.prepare()
    # The modes of our files do not depend on the caller's umask(2).
    os.umask(UMASK)
    try:
        # In this mode click returns the status that a verb gave to Context.exit().
        exit_status = int(cli.main(prog_name=PROGRAM, standalone_mode=False) or ExitStatus.OK)
        standard_streams.flush()
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        exit_status = ExitStatus.USAGE
    except SystemExit:
        # Click ends shell completion with it.
        raise
    except BaseException as error:  # noqa: BLE001 - no traceback ever reaches a user
        sentences, exit_status = explain(error)
        for sentence in sentences:
            with contextlib.suppress(OSError):
                # Standard error cannot be written: only the status is left.
                complain(sentence)
    standard_streams.abandon()
    return exit_status
