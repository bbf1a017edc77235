"""Passes lines of the collector's own log to its workers, which store them as records (server.own_log).

Owns the socket between the processes, and the bounds. Does not know how a record is stored (worker/own_log.py).

A line is passed without waiting, or not at all: a collector that cannot store records must still log. No process passes
more than a few lines a second, and none while it stores such lines, so a failure of that makes no more of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

BURST, PER_S = 100.0, 10.0
"""Lines that one process passes at once, and then a second. The others are counted, and are in the log file."""
MOST_CHARS = 2000
"""Characters of a message that are passed."""
MOST_BYTES = 65_536
"""Of one line as JSON: each character takes at most six bytes, and fields are few."""
FIELDS = "prefork_logd_fields"
"""Attribute of a LogRecord: a dict of fields for `extra`."""


class _Wire:
    """The socket, which a process inherits from the master."""

    def __init__(self) -> None:
        self.sending: socket.socket | None = None
        self.receiving: socket.socket | None = None
        self.is_muted = False
        self.tokens, self.last_s, self.left_out = BURST, time.monotonic(), 0


_wire = _Wire()


def open_wire() -> None:
    """Make the socket; call it in the master, before the first fork."""
    # SOCK_SEQPACKET keeps lines apart, as SOCK_DGRAM does, and holds more than ten of them (unix(7)).
    _wire.sending, _wire.receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    _wire.sending.setblocking(False)
    _wire.receiving.setblocking(False)


def close_wire() -> None:
    """Close the socket in this process."""
    for sock in (_wire.sending, _wire.receiving):
        if sock is not None:
            sock.close()
    _wire.sending = _wire.receiving = None


def receiver() -> socket.socket | None:
    """Return the end at which lines arrive; None if they are not passed."""
    return _wire.receiving


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Pass no line that is logged in this context."""
    _wire.is_muted = True
    try:
        yield
    finally:
        _wire.is_muted = False


class RecordHandler(logging.Handler):
    """Passes log records of this process."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record, unless there were too many. Never raises."""
        wire = _wire
        if wire.sending is None or wire.is_muted:
            return
        now_s = time.monotonic()
        wire.tokens = min(BURST, wire.tokens + (now_s - wire.last_s) * PER_S)
        wire.last_s = now_s
        if wire.tokens < 1:
            wire.left_out += 1
            return
        try:
            wire.sending.send(self._encode(record, wire.left_out))
        except (OSError, ValueError, TypeError):
            # The socket is full, or closed: the line is in the log file.
            wire.left_out += 1
        else:
            wire.tokens -= 1
            wire.left_out = 0

    def _encode(self, record: logging.LogRecord, left_out: int) -> bytes:
        message = record.getMessage().encode("utf-8", "backslashreplace").decode()
        attributes: dict[str, Any] = {
            **{key: _plain(value) for key, value in getattr(record, FIELDS, {}).items()},
            **({"left_out": left_out} if left_out else {}),
            "name": record.name,
            "levelno": record.levelno,
            "levelname": record.levelname,
            "msg": message[:MOST_CHARS],
            "created": record.created,
            "process": os.getpid(),
            "processName": self._process,
        }
        return msgspec.json.encode(attributes)


def _plain(value: object) -> object:
    """Return a value of a field, a text bounded and without lone surrogates."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()[:MOST_CHARS]
    return value
