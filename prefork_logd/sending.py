"""Sending records by hand, as logger(1) does for syslog.

Owns making frames of messages and bringing them to a collector. Speaks plain SocketHandler frames, to any receiver.
"""

from __future__ import annotations

import logging
import logging.handlers
import socket
from typing import TYPE_CHECKING

from prefork_logd.errors import ProcessError
from prefork_logd.values import split_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

TIMEOUT_S = 10.0


def make_frames(messages: Iterable[str], logger: str, levelno: int, extra: Mapping[str, str]) -> Iterator[bytes]:
    """Yield the frame of each message. Raises ProcessError for a key in `extra` that a LogRecord has itself."""
    maker = logging.getLogger(logger)
    handler = logging.handlers.SocketHandler("", None)
    for message in messages:
        try:
            record = maker.makeRecord(logger, levelno, "", 0, message, (), None, extra=dict(extra))
        except KeyError as error:
            raise ProcessError(f"--extra: {error.args[0]}; choose another key") from error
        yield handler.makePickle(record)


def choose_address(listeners: Iterable[tuple[str, str]]) -> str:
    """Return the first of (address, accept) that takes plain frames and has a port; empty for none."""
    for address, accept in listeners:
        place = split_address(address)
        if accept == "any" and (isinstance(place, str) or place[1]):
            return address
    return ""


def send_frames(address: str, frames: Iterable[bytes]) -> None:
    """Send frames, and wait until the collector has read them: it closes once it has read to the end.

    Raises ProcessError if that does not happen.
    """
    try:
        place = split_address(address)
    except ValueError as error:
        raise ProcessError(str(error)) from error
    try:
        with _connect(place) as sock:
            for frame in frames:
                sock.sendall(frame)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)
    except TimeoutError as error:
        raise ProcessError(f"{address}: the collector does not read; `prefork-logd status` shows why") from error
    except UnicodeError as error:
        raise ProcessError(f"{address}: it has no host name before its port; write another address") from error
    except OSError as error:
        raise ProcessError(f"{address}: cannot send: {error.strerror or error}; is the collector running?") from error


def _connect(place: tuple[str, int] | str) -> socket.socket:
    if not isinstance(place, str):
        return socket.create_connection(place, TIMEOUT_S)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(TIMEOUT_S)
    sock.connect(place)
    return sock
