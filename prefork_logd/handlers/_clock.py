"""Measures time and waits for it: a clock that is never set, and pauses that end early.

Knows nothing of sockets and connections.
"""
from __future__ import absolute_import, division

import os
import time

from ._compat import PY2

TICK_S = 0.05


def monotonic():
    """Return the seconds of a clock that is never set."""
    return time.monotonic()


if PY2:

    def monotonic():
        """Return the seconds since the system started: Python 2 has no other clock that is never set."""
        return os.times()[4]


def pause(stop, seconds):
    """Wait so many seconds, or until the event `stop` is set; in Python 2 always the whole time."""
    # In Python 2 waiting for an event with a timeout is a loop of short sleeps.
    if PY2:
        time.sleep(seconds)
    else:
        stop.wait(seconds)


def pause_in_pieces(stop, seconds):
    """Wait so many seconds, or until the event `stop` is set; Python 2 looks at it every TICK_S."""
    deadline = monotonic() + seconds
    while not stop.is_set() and monotonic() < deadline:
        pause(stop, min(TICK_S if PY2 else seconds, max(deadline - monotonic(), 0.0)))


def jittered(seconds):
    """Return 0.5 to 1.5 times as many seconds, so that many services do not come all at once."""
    return seconds * (0.5 + bytearray(os.urandom(1))[0] / 256.0)
