"""Prepares the standard streams of the command line: open, in any encoding, with errors that name the stream.

Does not know any verb.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

OUTPUT_NAME = "standard output"


class ReaderGoneError(Exception):
    """The process that read standard output has closed it. Not an OSError, which click would end with a 1."""


class _Output(io.FileIO):
    """Descriptor 1; its errors carry a name, as those of a file do."""

    def write(self, data: bytes | bytearray | memoryview) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except BrokenPipeError as error:
            raise ReaderGoneError from error
        except OSError as error:
            error.filename = OUTPUT_NAME
            raise


def prepare() -> None:
    """Make sys.stdin, sys.stdout and sys.stderr usable, whichever the caller has closed and in any locale.

    A character that the terminal's encoding lacks is printed as a backslash escape; invalid bytes on standard input are
    read as such escapes. The interpreter has no streams for descriptors that were closed when it started (__main__.py
    has opened them since).
    """
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - lives as long as the process
    elif isinstance(sys.stdin, io.TextIOWrapper):
        is_ascii = codecs.lookup(sys.stdin.encoding).name == "ascii"
        sys.stdin.reconfigure(encoding="utf-8" if is_ascii else None, errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115 - as above
    if sys.stdout is None or _descriptor(sys.stdout) == 1:
        encoding = sys.stdout.encoding if sys.stdout is not None else "utf-8"
        raw = _Output(1, "w", closefd=False)
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=raw.isatty())


def _descriptor(stream: TextIO) -> int:
    try:
        return stream.fileno()
    except (OSError, ValueError):
        # A stream in memory, as tests have it.
        return -1


def flush() -> None:
    """Write what standard output has buffered. Raises OSError and ReaderGoneError."""
    sys.stdout.flush()


def abandon() -> None:
    """Drop buffered output that cannot be written.

    The interpreter would try again at its exit, and end with the status 120 instead of the command's own status.
    """
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ReaderGoneError):
            with open(os.devnull, "wb") as null:  # noqa: PTH123 - a device
                os.dup2(null.fileno(), descriptor)
