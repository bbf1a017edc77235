"""Runs the verbs below `web`: users, API tokens and share links of the page.

Does not know how the page uses them.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import getpass
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefork_logd.cli.app import PROGRAM, Flags, cli, common_flags, complain, refuse_flags, verb_in
from prefork_logd.cli.collector import lenient_settings
from prefork_logd.errors import ExitStatus, ProcessError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.config.settings import Settings
    from prefork_logd.query.lasting import Lasting
    from prefork_logd.query.tree import Node
    from prefork_logd.web.page_files import PageFiles

LEAST_PASSWORD = 8

role_flag = click.option("--role", type=click.Choice(["viewer", "admin"]), help="Rights; a viewer, unless given.")


@cli.group()
@common_flags(listens=False)
@click.pass_context
def web(
    context: click.Context, config: str | None, state_dir: str | None, bind: tuple[str, ...], workers: str | None
) -> None:
    """Manage users, API tokens and share links of the page."""
    context.obj.update(config, state_dir, bind, workers)


def _checked_name(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    from prefork_logd.config.web import NAME_FORM, USER_NAME

    if name is not None and not USER_NAME.fullmatch(name):
        raise click.BadParameter(f"use {NAME_FORM}")
    return name


@verb_in(web)
@click.argument("name", callback=_checked_name)
@role_flag
@click.option("--password-stdin", "from_stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--print", "only_print", is_flag=True, help="Print the table, and change no file.")
def user_(flags: Flags, name: str, role: str | None, from_stdin: bool, only_print: bool) -> int:
    """Add a user of the page, or give NAME a new password.

    Changes the configuration file; `reload` applies it.
    """
    from prefork_logd.cli.web_user import change_file, closing_commands, user_table
    from prefork_logd.config.load import SYSTEM_FILE, find_file
    from prefork_logd.web.users import hash_password

    hashed = hash_password(_read_password(from_stdin))
    path = None if only_print else find_file(flags.config)
    if path is None:
        click.echo(user_table(name, hashed, role or "viewer"), nl=False)
        if not only_print:
            complain(f"there is no configuration file; write this into {SYSTEM_FILE}, then do: {PROGRAM} restart")
        return ExitStatus.OK
    click.echo(f"{path}: {change_file(path, name, hashed, role)}; `{PROGRAM} reload` applies it")
    if path.stat().st_mode & 0o004:
        do = closing_commands(path, lenient_settings(flags))
        complain(f"{path} can be read by every user of this host, who could guess weak passwords; do: {do}")
    return ExitStatus.OK


def _read_password(from_stdin: bool) -> str:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", getpass.GetPassWarning)
                password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        except getpass.GetPassWarning:
            raise click.UsageError("no terminal can ask for the password; give --password-stdin") from None
    if len(password) < LEAST_PASSWORD:
        raise click.UsageError(f"the password has fewer than {LEAST_PASSWORD} characters; choose a longer one")
    return str(password)


def _checked_duration(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    from prefork_logd.config.values import parse_duration

    try:
        seconds = parse_duration(text) if text is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if seconds is not None and seconds <= 0:
        raise click.BadParameter('must be longer than 0, such as "30d"')
    return seconds


expires_flag = click.option(
    "--expires", "lifetime_s", metavar="TIME", callback=_checked_duration, help='How long it is valid, such as "30d".'
)


@verb_in(web)
@click.argument("name", required=False, callback=_checked_name)
@role_flag
@expires_flag
@click.option("--list", "is_list", is_flag=True, help="Print all tokens: name, role, made, valid until.")
@click.option("--remove", is_flag=True, help="Remove the token of NAME.")
def token(
    flags: Flags, name: str | None, role: str | None, lifetime_s: float | None, is_list: bool, remove: bool
) -> int:
    """Make a token for an API client, and print it.

    The client sends it as `Authorization: Bearer TOKEN`. The token is not shown again.
    """
    from prefork_logd.web.tokens import Tokens

    if name in ("list", "remove"):
        raise click.UsageError(f"{name!r} would be the name of a token; write --{name}")
    if is_list == (name is not None):
        raise click.UsageError("give the NAME of a token, or --list")
    if is_list or remove:
        refuse_flags(("role", "lifetime_s"), "is for a new token; leave it out")
    if is_list:
        refuse_flags(("remove",), "needs the NAME of a token; write it in place of --list")
    with _page_files(lenient_settings(flags)) as files:
        tokens = Tokens(files)
        if is_list:
            for one in tokens.all():
                until = _day(one.expires) if one.expires is not None else "for ever"
                click.echo(f"{one.name}\t{one.role}\t{_day(one.created)}\t{until}")
        elif remove:
            if not tokens.remove(name or ""):
                complain(f"there is no token {name!r}; `{PROGRAM} web token --list` prints all")
                return ExitStatus.FAILURE
        else:
            try:
                click.echo(tokens.add(name or "", role or "viewer", lifetime_s))
            except ValueError as error:
                raise click.UsageError(str(error)) from error
    return ExitStatus.OK


@verb_in(web)
@click.argument("text", required=False, default="")
@click.option("--since", metavar="TIME", help="Records from then on, as of `query`.")
@click.option("--until", metavar="TIME", help="Records before then; now, unless given.")
@click.option("--store", metavar="NAME", help="Which store; else the first one that can be searched.")
@expires_flag
@click.option("--url", metavar="URL", help="Address of the page for the reader; else where it listens.")
@click.option("--withdraw-all", is_flag=True, help="Make every share link invalid.")
def share(
    flags: Flags,
    text: str,
    since: str | None,
    until: str | None,
    store: str | None,
    lifetime_s: float | None,
    url: str | None,
    withdraw_all: bool,
) -> int:
    """Print a link that shows the records of the query TEXT.

    The link needs no log-in, is read-only, and expires.
    """
    from prefork_logd.cli.query import carried_levels
    from prefork_logd.query.language import parse
    from prefork_logd.query.times import parse_time
    from prefork_logd.web.shares import PATH, Shares, store_of_link

    settings = lenient_settings(flags)
    now = time.time()
    with _page_files(settings) as files:
        shares = Shares(files, settings.web.share_lifetime_s)
        if withdraw_all:
            refuse_flags(("text", "since", "until", "store", "lifetime_s", "url"), "is for a new link; leave it out")
            shares.withdraw_all()
            click.echo("every share link is invalid")
            return ExitStatus.OK
        try:
            tree = parse(text, now=now, carried=lambda: carried_levels(flags, store))
            start, stop = parse_time(since, now) if since else None, parse_time(until, now) if until else None
            if stop is None:
                text, stop = _until_now(settings, store, text, (start, tree), now)
            signed, expires = shares.sign(text, start, stop, lifetime_s, store_of_link(settings, store))
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    click.echo(f"{(url or _page_url(settings)).rstrip('/')}{PATH}{signed}")
    complain(f"valid until {_day(expires)}")
    return ExitStatus.OK


def _until_now(
    settings: Settings, store: str | None, text: str, read: tuple[float | None, Node], now: float
) -> Lasting:
    """Return the query and the end of a link to the records that there are now; without a store those until now.

    `read` are the beginning and the tree of the query `text`.
    """
    from prefork_logd.query.filters import Filters
    from prefork_logd.query.lasting import Lasting, make_lasting
    from prefork_logd.stores.registry import open_chosen

    try:
        with contextlib.closing(open_chosen(settings, store)) as search:
            filters = Filters(since=read[0], tree=read[1]).with_range()
            return make_lasting(search, text, filters, now)
    except StoreError:
        return Lasting(text, now)


def _page_url(settings: Settings) -> str:
    """Return the address of the running page, else that of the configuration. Raises ProcessError for none."""
    from prefork_logd.cli.collector import STATUS_S, ask, find_running
    from prefork_logd.web.addresses import page_urls

    running = find_running(settings)
    bind = ask(settings, running, "status", STATUS_S)["page"]["bind"] if running else settings.web.bind
    found = [url for url in page_urls(bind, settings.web.scheme) if not url.startswith("unix:")]
    if not found:
        raise ProcessError("the page has no address with a port; give its address with --url")
    return found[0]


def _day(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


@contextlib.contextmanager
def _page_files(settings: Settings) -> Iterator[PageFiles]:
    """Give the page's files, with the rights of the collector's user; an error names the file and the remedy."""
    from prefork_logd.system.privileges import acting_as
    from prefork_logd.web.page_files import PageFiles

    state_dir = Path(settings.server.state_dir)
    if not state_dir.is_dir():
        raise ProcessError(f"{state_dir} does not exist; start the collector first, or name it with --state-dir")
    with acting_as(settings.server.user):
        yield PageFiles(state_dir)
