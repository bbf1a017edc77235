"""Runs the verbs that start, stop, reload, resize and replace the collector.

Does not know how the master carries them out.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefork_logd.cli.app import PROGRAM, Flags, WholeNumber, cli, complain, verb
from prefork_logd.cli.collector import (
    ANSWER_S,
    STATUS_S,
    UPGRADE_S,
    ask,
    complain_not_running,
    config_source,
    find_running,
    lenient_settings,
)
from prefork_logd.cli.page_address import page_addresses
from prefork_logd.errors import ExitStatus, LogdError, ProcessError

if TYPE_CHECKING:
    from prefork_logd.config.settings import Settings
    from prefork_logd.system.daemonize import Readiness
    from prefork_logd.system.running import Running


@verb
def run(flags: Flags) -> int:
    """Collect in the foreground, until SIGTERM or Ctrl-C."""
    from prefork_logd.config.load import load
    from prefork_logd.processes.master.start import serve

    source = config_source(flags)
    return serve(load(source.path, source.overrides), source)


@verb
def start(flags: Flags) -> int:
    """Start the daemon; return when it accepts connections."""
    return _start(flags)


@verb
def stop(flags: Flags) -> int:
    """Stop the daemon; return when it has written everything and ended."""
    settings = lenient_settings(flags)
    is_managed = _status_of(settings).get("managed", False)
    ended = _stop(settings)
    if is_managed:
        complain("a service manager ran it, and may start it again; `systemctl stop` with its unit ends it for good")
    return complain_not_running(settings) if ended is None else ended


@verb
def restart(flags: Flags) -> int:
    """Stop the daemon if it runs, then start it.

    A daemon that could not start again is not stopped.
    """
    settings = flags.load()
    _rehearse(settings)
    ended = _stop(settings)
    try:
        return _start(flags) or ended or ExitStatus.OK
    except LogdError as error:
        if ended is None:
            raise
        raise ProcessError(f"{error}; the old collector has ended, and none runs now", error.exit_status) from error


@verb
def reload(flags: Flags) -> int:
    """Reopen every output, then apply the new configuration."""
    settings = lenient_settings(flags)
    running = find_running(settings)
    if running is None:
        return complain_not_running(settings)
    outcome = ask(settings, running, "reload", ANSWER_S)
    _complain_of_another_file(flags, settings, running)
    for problem in outcome["problems"]:
        complain(problem)
    if not outcome["taken"]:
        complain("outputs were reopened; the new configuration is not applied, the old one stays")
        return ExitStatus.USAGE
    click.echo(f"reloaded: outputs were reopened; changed: {', '.join(outcome['changed']) or 'nothing'}")
    restart_by = outcome.get("restart_by", f"`{PROGRAM} restart`")  # a collector of an older version does not say it
    for key in outcome["needs_restart"]:
        click.echo(f"not applied, because it needs a restart ({restart_by}): {key}")
    return ExitStatus.FAILURE if outcome["problems"] else ExitStatus.OK


def _complain_of_another_file(flags: Flags, settings: Settings, running: Running) -> None:
    """Warn if the file found here is not the one that the collector was started with: a reload reads that one."""
    found = config_source(flags).path
    if found is None:
        return
    read = ask(settings, running, "status", STATUS_S)["config"]
    if not read or os.path.realpath(read) != os.path.realpath(found):
        complain(
            f"the collector was started with {read or 'no configuration file'}, and does not read {found}; "
            f"`{PROGRAM} restart` reads it"
        )


@verb
def upgrade(flags: Flags) -> int:
    """Run the newly installed code.

    No connection is closed, except over TLS.
    """
    settings = lenient_settings(flags)
    running = find_running(settings)
    if running is None:
        return complain_not_running(settings)
    outcome = ask(settings, running, "upgrade", UPGRADE_S)
    pid = f" (pid {running.pid})" if running.pid else ""
    closed = "TLS clients connect again, no other" if settings.tls_listeners else "no"
    click.echo(f"runs version {outcome['version']}, before {outcome['before']}{pid}; {closed} connection was closed")
    return ExitStatus.OK


@verb
@click.argument("count", type=WholeNumber(min=1))
def workers(flags: Flags, count: int) -> int:
    """Change the number of workers to COUNT.

    The number holds until the next restart. No connection is closed, except over TLS.
    """
    settings = lenient_settings(flags)
    running = find_running(settings)
    if running is None:
        return complain_not_running(settings)
    outcome = ask(settings, running, "workers", ANSWER_S, count=count)
    click.echo(
        f"workers: {outcome['workers']}, before {outcome['before']}; a restart takes the number of the configuration"
    )
    return ExitStatus.OK


@cli.command("take-over", hidden=True)
@click.option("--state", "fd", type=int, required=True)
@click.option("--trial", is_flag=True)
@click.pass_context
def take_over(context: click.Context, fd: int, trial: bool) -> None:
    """Continue as the master that left its state in a descriptor; SIGUSR2 starts this (master/upgrade/trial.py)."""
    from prefork_logd.processes.master.upgrade import entry

    if trial:
        click.echo(json.dumps(entry.try_to_take_over(fd)))
        context.exit(ExitStatus.OK)
    context.exit(entry.take_over(fd))


def _start(flags: Flags) -> int:
    from prefork_logd.config.load import load
    from prefork_logd.config.paths import LOG_FILE
    from prefork_logd.processes.master.start import prepare, serve
    from prefork_logd.system.daemonize import detach

    source = config_source(flags)
    settings = load(source.path, source.overrides)
    if (running := find_running(settings)) is not None:
        who = f"with pid {running.pid}" if running.pid else "in another pid namespace"
        raise ProcessError(f"already running {who}; `{PROGRAM} restart` or `{PROGRAM} stop` ends it")
    state_dir = Path(settings.server.state_dir)
    prepare(settings)

    def daemon(ready: Readiness) -> int:
        try:
            return serve(settings, source, ready)
        except LogdError as error:
            ready.tell(error=str(error), status=int(error.exit_status))
            return error.exit_status

    facts = detach(daemon, state_dir / LOG_FILE, settings.server.user)
    if "error" in facts:
        raise ProcessError(facts["error"], ExitStatus(facts["status"]))
    click.echo(f"listening on {', '.join(facts['bind'])} (pid {facts['pid']})")
    if page := page_addresses(settings, facts["page"]):
        click.echo(f"page at {', '.join(page)}")
    if facts["obstacle"]:
        complain(facts["obstacle"])
    if facts["page"]["problem"]:
        complain(f"no page: {facts['page']['problem']}")
    return ExitStatus.OK


def _status_of(settings: Settings) -> dict[str, Any]:
    """Return the status document of the running collector; empty if none runs, or if it hangs and does not answer."""
    with contextlib.suppress(ProcessError):
        if running := find_running(settings):
            with contextlib.closing(running):
                return ask(settings, running, "status", STATUS_S)
    return {}


def _rehearse(settings: Settings) -> None:
    """Raise ProcessError if a collector runs, and another one could not start in its place."""
    from prefork_logd.processes.master.rehearsal import require_start

    running = find_running(settings)
    if running is None:
        return
    running.close()
    who = f"pid {running.pid}" if running.pid else "the collector in another pid namespace"
    status, held = _status_of(settings), None
    if status.get("managed"):
        raise ProcessError(
            f"not restarted, and {who} goes on: a service manager runs it, and would start another one besides; "
            "use `systemctl restart` with its unit"
        )
    if status:
        held = status["bind"] + status.get("page", {}).get("bind", []) + status.get("metrics", {}).get("bind", [])
    try:
        require_start(settings, held)
    except LogdError as error:
        raise ProcessError(f"not restarted, and {who} goes on: {error}", error.exit_status) from error


def _stop(settings: Settings) -> int | None:
    """Stop the collector and wait for its end; return FAILURE if it has lost records, None if none ran."""
    from prefork_logd.ipc.command_socket import ASK_AGAIN_S, EndQuestion
    from prefork_logd.processes.master.shutdown import LONGEST_STOP_S
    from prefork_logd.system.hanging import describe_family

    running = find_running(settings)
    if running is None:
        return None
    state_dir = Path(settings.server.state_dir)
    question = EndQuestion(state_dir)
    running.send_signal(signal.SIGTERM)
    limit_s = settings.limits.drain_timeout_s + LONGEST_STOP_S
    deadline_s = time.monotonic() + limit_s
    while not running.wait(min(ASK_AGAIN_S, max(0.0, deadline_s - time.monotonic()))):
        if time.monotonic() < deadline_s:
            question.close()
            question = EndQuestion(state_dir)
            continue
        family = describe_family(running.pid)
        raise ProcessError(f"pid {running.pid} has not ended after {limit_s:g} s; see its log; {family}")
    running.close()
    click.echo(f"stopped (pid {running.pid})")
    if question.exit_status():
        complain("the stop was not clean, and records may be lost; the end of the collector's log has the reason")
        return ExitStatus.FAILURE
    return ExitStatus.OK
