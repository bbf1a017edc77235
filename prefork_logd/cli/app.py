"""Defines the click group, the flags that every verb has, and the decorator that makes a function a verb.

Owns the common flags. Does not know any verb. Answers go to standard output, complaints to standard error.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from prefork_logd import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from prefork_logd.config.settings import Settings

PROGRAM = "prefork-logd"

Command = TypeVar("Command", bound="Callable[..., Any]")


class Flags:
    """The common flags, before or after the verb."""

    def __init__(self) -> None:
        self.config: str | None = None
        self.overrides: dict[str, object] = {}

    def update(self, config: str | None, state_dir: str | None, bind: tuple[str, ...], workers: str | None) -> None:
        """Take the flags that were given; a flag after the verb replaces the one before it.

        Relative paths start at the working directory. Raises ConfigError if that was removed.
        """
        from prefork_logd.config.load import absolute, absolute_address

        for name, value in (("--config", config), ("--state-dir", state_dir), ("--workers", workers)):
            # An unset variable of a shell would choose the defaults without a word.
            if value == "":
                raise click.UsageError(f"{name} is empty; give a value, or leave it out")
        self.config = config or self.config
        if state_dir:
            self.overrides["state_dir"] = absolute(state_dir)
        if bind:
            self.overrides["bind"] = tuple(map(absolute_address, bind))
        if workers:
            # int() refuses a text of more than 4,300 digits; fewer than 10 are safe.
            is_number = workers.isascii() and workers.isdigit() and len(workers) < 10
            self.overrides["workers"] = int(workers) if is_number else workers

    def load(self) -> Settings:
        """Read the configuration that the flags name. Raises ConfigError."""
        from prefork_logd.config.load import find_file, load

        return load(find_file(self.config), self.overrides)


class WholeNumber(click.IntRange):
    """The type of a flag that takes a whole number: N in the help, and in errors."""

    name = "whole number"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002 - click's signature
        """Return the word that stands for the number."""
        return "N" if isinstance(param, click.Option) else param.human_readable_name


def add_options(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Return a decorator that adds several options to a verb, in this order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def form_flag(what: str) -> Callable[[Any], Any]:
    """Return the option --format of a verb that prints text or JSON; `what` is what it prints."""
    choice = click.Choice(["text", "json"])
    return click.option("--format", "form", type=choice, default="text", show_default=True, help=f"Format of {what}.")


_STATE_DIR_HELP = (
    "Directory of everything kept; else /var/lib/prefork-logd for root, and one in ~/.local/state for others."
)
_LISTENING = frozenset({"run", "start", "restart", "check"})
"""The verbs for which an address to listen on, or a number of workers, means something. `send` has --to instead."""


def common_flags(*, listens: bool) -> Callable[[Command], Command]:
    """Return the decorator that adds the flags that every verb has; those of listening are hidden in other verbs.

    They are taken all the same: one alias of a shell may serve every verb.
    """
    hidden = not listens
    return add_options(
        click.option(
            "--config", metavar="FILE", help="Configuration file; else the first found (docs/configuration.md)."
        ),
        click.option("--state-dir", metavar="DIR", help=_STATE_DIR_HELP),
        click.option(
            "--bind", metavar="ADDR", multiple=True, hidden=hidden, help="Address to listen on; may be repeated."
        ),
        click.option("--workers", metavar="N", hidden=hidden, help='Number of workers, or "auto".'),
    )


def verb(function: Callable[..., int]) -> click.Command:
    """Make a verb of a function of (flags, ...) that returns the exit status.

    It has the function's name, without a trailing underscore, and the common flags.
    """
    return verb_in(cli)(function)


def verb_in(group: click.Group) -> Callable[[Callable[..., int]], click.Command]:
    """Return the decorator that makes a function a verb of a group, as `verb` does."""

    def make(function: Callable[..., int]) -> click.Command:
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

        name = function.__name__.rstrip("_")
        return group.command(name)(common_flags(listens=name in _LISTENING)(call))

    return make


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name=PROGRAM)
@common_flags(listens=True)
@click.pass_context
def cli(
    context: click.Context, config: str | None, state_dir: str | None, bind: tuple[str, ...], workers: str | None
) -> None:
    """Collect the log records of Python services: the other end of logging.handlers.SocketHandler."""
    context.obj = Flags()
    context.obj.update(config, state_dir, bind, workers)


def refuse_flags(names: Collection[str], place: str) -> None:
    """Raise UsageError for the first of these parameters that the command line has: it has no effect here.

    `place` is the rest of the sentence, such as "belongs to `mute`".
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            written = parameter.opts[0] if isinstance(parameter, click.Option) else parameter.make_metavar(context)
            raise click.UsageError(f"{written} {place}")


def complain(message: str) -> None:
    """Print a sentence to standard error, after the name of the program."""
    click.echo(f"{PROGRAM}: {message}", err=True)
