"""Words the events in the life of an output's files, each with the level at which it is logged.

Does not log: files/ returns events, and the writer logs them under the output's name.
"""

from __future__ import annotations

import logging
import os
from typing import NamedTuple

from prefork_logd.errors import OutputError, file_reason


class Event(NamedTuple):
    """A sentence for the log."""

    level: int
    """A level of `logging`."""
    text: str


def done(text: str) -> Event:
    """Return the event of a step that was taken."""
    return Event(logging.INFO, text)


def trouble(text: str) -> Event:
    """Return the event of a step that failed, or of the end of such failures."""
    return Event(logging.WARNING, text)


def reason_of(error: OSError | OutputError) -> str:
    """Return reason and remedy without names of files, which differ from one attempt to the next."""
    if isinstance(error, OutputError):
        return error.reason
    number, words = error.errno or 0, error.strerror or str(error)
    # An OSError of our own has words of its own.
    return file_reason(number) if words == os.strerror(number) else words
