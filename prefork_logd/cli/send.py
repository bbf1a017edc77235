"""Runs the verb `send`: sends records typed by hand, as logger(1) does for syslog.

Sends plain SocketHandler frames, to any receiver of them.
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING

import click

from prefork_logd.cli.app import PROGRAM, Flags, verb
from prefork_logd.cli.collector import find_address
from prefork_logd.errors import ExitStatus, ProcessError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator, Mapping

TIMEOUT_S = 10.0
_CLOSED = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)
"""Errors of a connection that was made, and that the other side has closed: of a listener for TLS, for example."""


@verb
@click.argument("message", nargs=-1)
@click.option("--level", default="INFO", show_default=True, help="Level: a name (NOTICE) or a number (25).")
@click.option("--logger", default=PROGRAM, show_default=True, help="Logger name.")
@click.option("--extra", "extras", metavar="KEY=VALUE", multiple=True, help="An attribute of `extra`; repeatable.")
@click.option("--to", metavar="ADDR", help="Address to send to; else where the collector of --state-dir listens.")
def send(
    flags: Flags, message: tuple[str, ...], level: str, logger: str, extras: tuple[str, ...], to: str | None
) -> int:
    """Send a record by hand.

    Its message is MESSAGE. Without one, each line of standard input is the message of a record.

    Records go as plain frames, as SocketHandler sends them. These are not acknowledged: the exit status tells that the
    collector has read them, not that they are stored.
    """
    from prefork_logd.config.values import level_number

    try:
        levelno = level_number(level)
        pairs = dict(_split_pair(extra) for extra in extras)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    address = to or find_address(flags)
    messages = [" ".join(message)] if message else (line.rstrip("\n") for line in sys.stdin)
    send_frames(address, make_frames(messages, logger, levelno, pairs))
    return ExitStatus.OK


def _split_pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"--extra {text!r}: write KEY=VALUE")
    return key, value


def make_frames(messages: Iterable[str], logger: str, levelno: int, extra: Mapping[str, str]) -> Iterator[bytes]:
    """Yield the frame of each message. Raises ProcessError for a key in `extra` that is an attribute of LogRecord."""
    import logging.handlers

    maker = logging.getLogger(logger)
    handler = logging.handlers.SocketHandler("", None)
    for message in messages:
        try:
            record = maker.makeRecord(logger, levelno, "", 0, message, (), None, extra=dict(extra))
        except KeyError as error:
            raise ProcessError(f"--extra: {error.args[0]}; choose another key") from error
        yield handler.makePickle(record)


def send_frames(address: str, frames: Iterable[bytes]) -> None:
    """Send frames, and wait until the collector has read them: it closes the connection after the last one.

    Raises ProcessError if it does not.
    """
    import socket

    from prefork_logd.config.values import split_address

    try:
        place = split_address(address)
    except ValueError as error:
        raise ProcessError(f"--to: {error}", ExitStatus.USAGE) from error
    try:
        with _connect(place) as sock:
            for frame in frames:
                sock.sendall(frame)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)
    except TimeoutError as error:
        raise ProcessError(f"{address}: the collector does not read; `prefork-logd status` shows why") from error
    except UnicodeError as error:
        raise ProcessError(f"{address}: the part before the port is not a host name; write another address") from error
    except OSError as error:
        raise ProcessError(f"{address}: cannot send: {error.strerror or error}; {_remedy(error)}") from error


def _remedy(error: OSError) -> str:
    import socket

    if isinstance(error, socket.gaierror):
        return "write another host"
    return "does this listener take plain records?" if error.errno in _CLOSED else "is the collector running?"


def _connect(place: tuple[str, int] | str) -> socket.socket:
    import socket

    if not isinstance(place, str):
        return socket.create_connection(place, TIMEOUT_S)
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.settimeout(TIMEOUT_S)
        sock.connect(place)
    except OSError:
        sock.close()
        raise
    return sock
