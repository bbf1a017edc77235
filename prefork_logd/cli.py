"""The command line: verbs, what is printed, and exit statuses. The only module that owns these.

Answers go to stdout, complaints to stderr. Every verb parses, calls, prints; what it calls knows nothing of printing.
Modules that a verb needs are imported by it, so that --help and the quick verbs stay quick.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from prefork_logd import __version__, streams
from prefork_logd.complaints import explain
from prefork_logd.errors import ConfigError, ExitStatus, LogdError, ProcessError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_logd.config import Source
    from prefork_logd.daemon import Readiness
    from prefork_logd.running import Running
    from prefork_logd.settings import Settings

PROGRAM = "prefork-logd"
FORMATS = ("text", "json", "csv", "table")
ANSWER_S = 20.0
"""How long the master may take to answer a question."""
STATUS_S = 1.5
"""Time that `status` waits for an answer: it has to end soon when the collector hangs."""
UPGRADE_S = 60.0
"""How long an upgrade may take; the master answers earlier than this (processes/takeover.py)."""

UMASK = 0o027
"""Nothing that the collector makes is for everybody, and nothing for its group to change."""

_Command = TypeVar("_Command", bound="Callable[..., Any]")


class Flags:
    """The common flags, wherever on the command line they stood."""

    def __init__(self) -> None:
        self.config: str | None = None
        self.overrides: dict[str, object] = {}

    def update(self, config: str | None, state_dir: str | None, bind: tuple[str, ...], workers: str | None) -> None:
        """Take the flags that were given; one after the verb counts more. Paths are seen from the working directory.

        Raises ConfigError if that is gone and a path is relative.
        """
        from prefork_logd.config import absolute, absolute_address

        self.config = config or self.config
        if state_dir:
            self.overrides["state_dir"] = absolute(state_dir)
        if bind:
            self.overrides["bind"] = tuple(map(absolute_address, bind))
        if workers:
            # So short a number cannot be too long for int().
            is_number = workers.isascii() and workers.isdigit() and len(workers) < 10
            self.overrides["workers"] = int(workers) if is_number else workers

    def load(self) -> Settings:
        """Read the configuration that the flags lead to. Raises ConfigError."""
        from prefork_logd import config

        return config.load(config.find_file(self.config), self.overrides)


def common_flags(command: _Command) -> _Command:
    """Add the flags that every verb has."""
    for option in reversed(
        (
            click.option("--config", metavar="FILE", help="Configuration file (docs/configuration.md)."),
            click.option("--state-dir", metavar="DIR", help="Directory of the pid file and everything kept."),
            click.option("--bind", metavar="ADDR", multiple=True, help="Address to listen on; may be repeated."),
            click.option("--workers", metavar="N", help='Number of workers, or "auto".'),
        )
    ):
        command = option(command)
    return command


def verb(function: _Command) -> click.Command:
    """Make a verb of a function of (flags, ...): it gets the common flags merged."""
    import functools

    @functools.wraps(function)
    @click.pass_context
    def call(
        context: click.Context,
        /,
        config: str | None,
        state_dir: str | None,
        bind: tuple[str, ...],
        workers: str | None,
        **rest: Any,
    ) -> None:
        flags = context.obj
        flags.update(config, state_dir, bind, workers)
        context.exit(int(function(flags, **rest)))

    return cli.command()(common_flags(call))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name=PROGRAM)
@common_flags
@click.pass_context
def cli(
    context: click.Context, config: str | None, state_dir: str | None, bind: tuple[str, ...], workers: str | None
) -> None:
    """Collect the log records of Python services: the other end of logging.handlers.SocketHandler."""
    context.obj = Flags()
    context.obj.update(config, state_dir, bind, workers)


@verb
def run(flags: Flags) -> int:
    """Collect in the foreground, until SIGTERM or Ctrl-C."""
    from prefork_logd.serve import serve

    return serve(flags.load(), _source(flags))


@verb
def start(flags: Flags) -> int:
    """Start the daemon; return when it accepts connections."""
    return _start(flags)


@verb
def stop(flags: Flags) -> int:
    """Stop the daemon; return when it has written everything and gone."""
    settings = _lenient(flags)
    return ExitStatus.OK if _stop(settings) else _not_running(settings)


@verb
def restart(flags: Flags) -> int:
    """Stop the daemon if it runs, then start it."""
    _stop(flags.load())
    return _start(flags)


@verb
def reload(flags: Flags) -> int:
    """Reopen every output, then apply the new configuration."""
    settings = _lenient(flags)
    running = _find(settings)
    if running is None:
        return _not_running(settings)
    outcome = _ask(settings, running, "reload", ANSWER_S)
    for problem in outcome["problems"]:
        _complain(problem)
    if not outcome["taken"]:
        _complain("outputs were reopened; the new configuration was not taken, the old one stays")
        return ExitStatus.USAGE
    click.echo(f"reloaded; changed: {', '.join(outcome['changed']) or 'nothing'}")
    for key in outcome["needs_restart"]:
        click.echo(f"{key} cannot change while the collector runs; `{PROGRAM} restart` applies it")
    return ExitStatus.FAILURE if outcome["problems"] else ExitStatus.OK


@verb
def upgrade(flags: Flags) -> int:
    """Run the newly installed code; no connection is closed."""
    settings = _lenient(flags)
    running = _find(settings)
    if running is None:
        return _not_running(settings)
    outcome = _ask(settings, running, "upgrade", UPGRADE_S)
    pid = f" (pid {running.pid})" if running.pid else ""
    click.echo(f"runs version {outcome['version']}, before {outcome['before']}{pid}; no connection was closed")
    return ExitStatus.OK


@click.argument("count", type=click.IntRange(min=1))
def workers(flags: Flags, count: int) -> int:
    """Change the number of workers to COUNT, until the next restart; no connection is closed."""
    settings = _lenient(flags)
    running = _find(settings)
    if running is None:
        return _not_running(settings)
    outcome = _ask(settings, running, "workers", ANSWER_S, count=count)
    click.echo(f"workers: {outcome['workers']}, before {outcome['before']}; a restart goes by the configuration")
    return ExitStatus.OK


workers = verb(workers)


@cli.command("take-over", hidden=True)
@click.option("--state", "fd", type=int, required=True)
@click.option("--trial", is_flag=True)
@click.pass_context
def take_over(context: click.Context, fd: int, trial: bool) -> None:
    """Go on as the master that has left its state in a descriptor: what SIGUSR2 starts (processes/upgrade.py)."""
    from prefork_logd import serve

    if trial:
        click.echo(json.dumps(serve.try_to_take_over(fd)))
        context.exit(ExitStatus.OK)
    context.exit(serve.take_over(fd))


@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def status(flags: Flags, as_json: bool) -> int:
    """Show each process, connections, records and outputs; status 3 when not running."""
    settings = _lenient(flags)
    running = _find(settings)
    if running is None:
        return _not_running(settings)
    document = _ask(settings, running, "status", STATUS_S)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        from prefork_logd.display import show_status

        show_status(document)
    return ExitStatus.OK


status = verb(status)


@click.option("--connect", is_flag=True, help="Ask the servers of NATS, too, what their streams and groups are like.")
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


check = verb(check)


@click.argument("message", nargs=-1)
@click.option("--level", default="INFO", show_default=True, help="Level: a name (NOTICE) or a number (25).")
@click.option("--logger", default=PROGRAM, show_default=True, help="Logger name.")
@click.option("--extra", "extras", metavar="KEY=VALUE", multiple=True, help="An attribute of `extra`; repeatable.")
@click.option("--to", metavar="ADDR", help="Address to send to; else where the collector of --state-dir listens.")
def send(
    flags: Flags, message: tuple[str, ...], level: str, logger: str, extras: tuple[str, ...], to: str | None
) -> int:
    """Send a record by hand: MESSAGE, or one record for each line of standard input."""
    from prefork_logd.sending import make_frames, send_frames
    from prefork_logd.values import level_number

    try:
        levelno = level_number(level)
        pairs = dict(_pair(extra) for extra in extras)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    address = to or _address(flags)
    messages = [" ".join(message)] if message else (line.rstrip("\n") for line in sys.stdin)
    send_frames(address, make_frames(messages, logger, levelno, pairs))
    return ExitStatus.OK


send = verb(send)


def _options(*options: Callable[[Any], Any]) -> Callable[[_Command], _Command]:
    """Add several options to a verb, in this order."""

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


filter_flags = _options(
    click.option("--since", metavar="TIME", help='Records from then on: "2h" ago, "2026-11-23 14:05", RFC 3339.'),
    click.option("--until", metavar="TIME", help="Records before then."),
    click.option("--level", help="Lowest level: a name (also one that stored records have) or a number."),
    click.option("--logger", "loggers", multiple=True, metavar="NAME", help="A logger and its children; repeatable."),
    click.option("--grep", multiple=True, metavar="WORDS", help="Words of the message or the traceback; repeatable."),
    click.option(
        "--where",
        "conditions",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Such as extra.trace_id=5f0c; also != < <= > >= and ~ (contains); repeatable.",
    ),
)
"""What `query` and `tail` look for."""


def _is_coloured(terminal: bool) -> bool:
    return terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@filter_flags
@click.option("--limit", type=click.IntRange(min=0), help="The first so many, in the order of --order.")
@click.option(
    "--order", type=click.Choice(["oldest", "newest"]), default="oldest", show_default=True, help="Which come first."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv", "table"]),
    default="text",
    show_default=True,
    help="How records are printed.",
)
@click.option("--count", is_flag=True, help="Print how many there are.")
@click.option("--histogram", is_flag=True, help="Print bars over time by level.")
@click.option("--store", "name", metavar="NAME", help="Which store; else the first one configured.")
def query(flags: Flags, form: str, count: bool, histogram: bool, name: str | None, **conditions: Any) -> int:
    """Find stored records; the collector need not run."""
    import functools
    import shutil

    from prefork_logd import answers
    from prefork_logd.querying import choose_store, make_filters
    from prefork_logd.stores.making import open_search

    def carried() -> dict[str, int]:
        try:
            with contextlib.closing(open_search(choose_store(_lenient(flags), name))) as search:
                return search.levels()
        except StoreError:
            return {}

    try:
        filters = make_filters(carried=carried, **conditions)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with contextlib.closing(open_search(choose_store(flags.load(), name))) as search:
        if count:
            click.echo(search.count(filters))
        elif histogram:
            span = search.span() or (0.0, 0.0)
            start = span[0] if filters.since is None else max(filters.since, 0.0)
            stop = span[1] + 1e-6 if filters.until is None else filters.until
            bars_of = functools.partial(search.histogram, filters)
            answers.show_histogram(*answers.look_closer(bars_of, start, max(start, stop)))
        else:
            terminal = sys.stdout.isatty()
            width = shutil.get_terminal_size((160, 24)).columns
            lines = answers.lines_as(form, search.lines(filters), width, _is_coloured(terminal))
            for line in lines:
                sys.stdout.buffer.write(line)
                if terminal:
                    sys.stdout.flush()
            sys.stdout.flush()
    return ExitStatus.OK


query = verb(query)


@filter_flags
@click.option("-n", "count", type=click.IntRange(min=0), default=10, show_default=True, help="How many at first.")
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def tail(flags: Flags, count: int, is_followed: bool, form: str, **conditions: Any) -> int:
    """Show the records that came last, and follow those that come."""
    import shutil

    from prefork_logd import answers, tailing
    from prefork_logd.querying import make_filters

    try:
        matches = tailing.Matcher(make_filters(carried=lambda: tailing.levels(_lenient(flags)), **conditions))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size((160, 24)).columns

    def show(lines: Iterator[bytes]) -> None:
        for line in answers.lines_as(form, lines, width, _is_coloured(terminal)):
            sys.stdout.buffer.write(line)
        sys.stdout.flush()
        matches.tell(_complain)

    source = tailing.open_tail(flags.load(), _complain)
    show(source.last(count, matches))
    if is_followed:
        for lines in tailing.follow(source, matches, sys.stdout.fileno()):
            show(lines)
    return ExitStatus.OK


tail = verb(tail)


@click.argument("name", required=False, metavar="[STORE]")
def replay(flags: Flags, name: str | None) -> int:
    """Send the records again that a store has refused; without STORE, those of every store."""
    import functools

    from prefork_logd.display import progress
    from prefork_logd.querying import choose_store
    from prefork_logd.replaying import Replay
    from prefork_logd.stores.making import make_store

    settings = flags.load()
    stores = settings.store if name is None else (choose_store(settings, name),)
    _become_user(settings)
    refused = 0
    for store in stores:
        try:
            letters = Replay(Path(settings.server.state_dir), store.name)
            with contextlib.closing(make_store(store)) as opened, progress() as bar:
                task = bar.add_task(store.name, total=letters.total)
                taken, again = letters.run(opened, functools.partial(bar.advance, task))
        except OSError as error:
            raise ProcessError(f"{error.filename}: {error.strerror}") from error
        click.echo(f"{store.name}: {taken} records taken, {again} refused again")
        refused += again
    return ExitStatus.FAILURE if refused else ExitStatus.OK


replay = verb(replay)


@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--store", "name", metavar="NAME", help="Which store; else the first one configured.")
def import_(flags: Flags, files: tuple[str, ...], name: str | None) -> int:
    """Bring existing files of JSON lines (plain, .gz, .zst) into a store, each line once."""
    from prefork_logd.display import progress
    from prefork_logd.importing import import_file, summary
    from prefork_logd.querying import choose_store
    from prefork_logd.stores.making import make_store

    settings = flags.load()
    _become_user(settings)
    paths = [Path(file) for file in files]
    for path in paths:
        if not path.is_file():
            raise click.UsageError(f"{path}: is no file")
    refused = broken = 0
    with contextlib.closing(make_store(choose_store(settings, name))) as store, progress() as bar:
        for path in paths:
            task = bar.add_task(path.name, total=path.stat().st_size)

            def complain(number: int, reason: str, path: Path = path) -> None:
                bar.console.print(f"{PROGRAM}: {path}:{number}: not stored: {reason}", markup=False, soft_wrap=True)

            done = import_file(store, path, lambda size, task=task: bar.advance(task, size), complain)  # type: ignore[misc]
            refused += done.refused
            before = f", {done.before:,} were there already" if done.before else ""
            click.echo(f"{path}: {done.stored:,} records stored{before}, {done.refused:,} lines refused")
            for line in summary(done):
                click.echo(f"{path}: {line}")
            if done.trouble:
                broken += 1
                _complain(f"{path}: {done.trouble}")
        task = bar.add_task("indexing", total=None, counted=False)
        while store.maintain() <= 0:
            bar.refresh()
        bar.update(task, total=1, completed=1)
    return ExitStatus.FAILURE if refused or broken else ExitStatus.OK


import_.__name__ = "import"
import_ = verb(import_)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"--extra {text!r}: write KEY=VALUE")
    return key, value


def _address(flags: Flags) -> str:
    """Return the address to send to: one that a flag or the file names, else where the running collector listens.

    Raises ProcessError if there is none: another program may listen on the default address.
    """
    from prefork_logd import config
    from prefork_logd.sending import choose_address

    settings = flags.load()
    is_named = "bind" in flags.overrides or config.names_addresses(config.find_file(flags.config))
    if is_named and (address := choose_address(settings.listeners)):
        return address
    running = _find(settings)
    if running is None:
        where = f"state directory {settings.server.state_dir}"
        raise ProcessError(f"not running ({where}); name an address with --to", ExitStatus.NOT_RUNNING)
    listening = _ask(settings, running, "status", STATUS_S)["bind"]
    accept = settings.listeners[0][1]
    if address := choose_address([(address, accept) for address in listening]):
        return address
    raise ProcessError('no listener takes plain records; give one accept = "any", or send with our handler')


def _source(flags: Flags) -> Source:
    """Return where the configuration is to be read again."""
    from prefork_logd import config

    found = config.find_file(flags.config)
    # Symlinks are kept, for they may be changed.
    return config.Source(Path(config.absolute(found)) if found else None, flags.overrides)


def _lenient(flags: Flags) -> Settings:
    """Return settings that lead to the running collector, even if the file has become invalid meanwhile.

    Raises ConfigError if the file no longer names its state directory: a default may lead to another collector.
    """
    from prefork_logd import config

    try:
        return flags.load()
    except ConfigError:
        path = config.find_file(flags.config)
        if "state_dir" not in flags.overrides and not config.is_readable(path):
            raise
        return config.loads("", "", {"state_dir": config.state_dir_of(path) or "", **flags.overrides})


def _become_user(settings: Settings) -> None:
    """Go on as server.user if root runs this: new files belong to the collector, and no link misleads root."""
    from prefork_logd.privileges import drop_privileges
    from prefork_logd.stores.making import import_early

    if os.geteuid() == 0 and settings.server.user:
        import_early(settings.store)
        drop_privileges(settings.server.user)


def _find(settings: Settings) -> Running | None:
    """Return the collector of the state directory, proven to be it. Raises ProcessError if that cannot be."""
    from prefork_logd.running import find

    return find(Path(settings.server.state_dir))


def _ask(settings: Settings, running: Running, question: str, longest_s: float, **details: int) -> dict[str, Any]:
    """Return what the collector answers. Raises ProcessError, also for what it says went wrong."""
    from prefork_logd.hanging import describe_family
    from prefork_logd.processes.console import NoAnswerError, send_command

    try:
        answer = send_command(Path(settings.server.state_dir), question, longest_s, **details)
    except NoAnswerError as error:
        raise ProcessError(f"{error}; {describe_family(running.pid)}") from error
    if "error" in answer:
        raise ProcessError(answer["error"])
    return answer


def _not_running(settings: Settings) -> int:
    _complain(f"not running (state directory {settings.server.state_dir})")
    return ExitStatus.NOT_RUNNING


def _start(flags: Flags) -> int:
    from prefork_logd.daemon import detach
    from prefork_logd.serve import prepare, serve
    from prefork_logd.settings import LOG_FILE

    settings = flags.load()
    load = _source(flags)
    if (running := _find(settings)) is not None:
        who = f"with pid {running.pid}" if running.pid else "in another pid namespace"
        raise ProcessError(f"already running {who}; `{PROGRAM} restart` or `{PROGRAM} stop` ends it")
    state_dir = Path(settings.server.state_dir)
    prepare(settings)

    def daemon(ready: Readiness) -> int:
        try:
            return serve(settings, load, ready)
        except LogdError as error:
            ready.tell(error=str(error), status=int(error.exit_status))
            return error.exit_status

    facts = detach(daemon, state_dir / LOG_FILE, settings.server.user)
    if "error" in facts:
        raise ProcessError(facts["error"], ExitStatus(facts["status"]))
    click.echo(f"listening on {', '.join(facts['bind'])} (pid {facts['pid']})")
    return ExitStatus.OK


def _stop(settings: Settings) -> bool:
    """Stop the collector, and wait until it has gone; return whether one ran."""
    from prefork_logd.hanging import describe_family
    from prefork_logd.processes.master import LONGEST_STOP_S

    running = _find(settings)
    if running is None:
        return False
    running.send_signal(signal.SIGTERM)
    limit_s = settings.limits.drain_timeout_s + LONGEST_STOP_S
    if not running.wait(limit_s):
        family = describe_family(running.pid)
        raise ProcessError(f"pid {running.pid} has not ended after {limit_s:g} s; its log says why; {family}")
    running.close()
    click.echo(f"stopped (pid {running.pid})")
    return True


def _complain(message: str) -> None:
    click.echo(f"{PROGRAM}: {message}", err=True)


def main() -> int:
    """Run the command line; whatever happens, end with a status and, if need be, a sentence."""
    streams.prepare()
    # The modes of our files are ours to decide, whatever the caller's mask is.
    os.umask(UMASK)
    try:
        # Click hands back the status that a verb has ended its context with.
        status = int(cli.main(prog_name=PROGRAM, standalone_mode=False) or ExitStatus.OK)
        streams.flush()
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        status = ExitStatus.USAGE
    except SystemExit:
        # Click ends shell completion so.
        raise
    except BaseException as error:  # noqa: BLE001 - no traceback ever reaches a user
        sentences, status = explain(error)
        for sentence in sentences:
            with contextlib.suppress(OSError):
                # Where standard error cannot be written either, the status has to do.
                _complain(sentence)
    streams.abandon()
    return status
