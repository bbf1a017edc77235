"""Writes the collector's own log to stderr, or to the log file of a daemon.

Owns its form and its limits. Does not know the collected records.

Every line goes to descriptor 2 with one write, so that the lines of several processes do not mix. No process waits for
the reader of its log (own_stderr.py): a line that cannot be written is left out, and the next one that can is preceded
by the number of those.
"""

from __future__ import annotations

import logging
import os
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.system.own_files import open_log
from prefork_logd.system.own_records import FIELDS, RecordHandler
from prefork_logd.system.own_stderr import LineWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

LOGGER = logging.getLogger("prefork_logd")
FILE_VARIABLE = "PREFORK_LOGD_LOG"
"""Environment variable of a daemon and its children: the path of the file that is descriptor 2."""


class _DescriptorHandler(logging.Handler):
    """Writes to descriptor 2 directly: without a buffer that a fork could double, and without raising errors."""

    def __init__(self) -> None:
        super().__init__()
        self._writer = LineWriter()

    def emit(self, record: logging.LogRecord) -> None:
        if count := self._writer.left_out:
            notice = f"left out {format_count(count, 'line')} of this log, which could not be written"
            self._writer.write(self._line(_derived(record, logging.WARNING, notice)))
            if self._writer.left_out:
                # The failed notice is counted in place of this line.
                return
        self._writer.write(self._line(record))

    def _line(self, record: logging.LogRecord) -> bytes:
        return (self.format(record).replace("\n", " ") + "\n").encode("utf-8", "backslashreplace")


def _derived(record: logging.LogRecord, level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord(record.name, level, record.pathname, record.lineno, message, (), None)


def set_up(process: str) -> None:
    """Let this process log under its name, such as "worker 1"; as records, too, once `own_records` has a wire."""
    handler = _DescriptorHandler()
    formatter = logging.Formatter(f"%(asctime)s.%(msecs)03dZ %(levelname)s {process}: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    LOGGER.handlers[:] = [handler, RecordHandler(process)]
    LOGGER.propagate = False
    LOGGER.setLevel(logging.INFO)


def reopen_own() -> None:
    """Reopen the log file of a daemon, and create it if it was renamed; on an error keep the open file."""
    path = os.environ.get(FILE_VARIABLE)
    if not path:
        return
    try:
        fd = open_log(Path(path))
    except OSError as error:
        LOGGER.warning("%s: cannot reopen the collector's own log: %s", path, error.strerror)
        return
    os.dup2(fd, 2)
    os.close(fd)


def describe_bug(error: BaseException) -> str:
    """Return one line for an unexpected error: the error and its place, for a bug report."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return f"{type(error).__name__}: {error}{place}; this is a bug, please report it"


def log_unexpected(message: object, sender: str) -> None:
    """Log a message between processes that has no meaning where it came to."""
    LOGGER.error(
        "a message of %s cannot be used and is ignored (%s); this is a bug, please report it",
        *(sender, type(message).__name__),
    )


class RateLimitedLog:
    """Warnings that any client can cause: a few at once, then one at intervals, with a count of those left out."""

    BURST = 20
    PER_SECOND = 0.2
    """Limits these warnings to about 10 MB a day for each process."""

    def __init__(self, burst: int = BURST, per_second: float = PER_SECOND) -> None:
        self._burst, self._per_second = burst, per_second
        self._tokens = float(burst)
        self._last_s = time.monotonic()
        self._left_out = 0

    def warning(self, message: str, *args: object, fields: Mapping[str, object] | None = None) -> None:
        """Log a warning, unless there were too many lately; `fields` go into `extra` of a record."""
        now_s = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now_s - self._last_s) * self._per_second)
        self._last_s = now_s
        if self._tokens < 1:
            self._left_out += 1
            return
        self._tokens -= 1
        if self._left_out:
            LOGGER.warning("left out %s of this kind", format_count(self._left_out, "warning"))
            self._left_out = 0
        LOGGER.warning(message, *args, extra={FIELDS: fields} if fields else None)
