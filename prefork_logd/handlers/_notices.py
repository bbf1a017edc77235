"""Writes a handler's troubles to stderr, each kind once in a while, and keeps them for `logging`.

Knows nothing of the causes.
"""
from __future__ import absolute_import, division

import collections
import logging
import sys
import traceback

from ._clock import monotonic
from ._compat import PY2, text_of

_SAY_AGAIN_S = 60.0
_MOST_WARNINGS = 16
# The name that people know, whatever this package is called where it runs: it stands in their log filters.
_PROGRAM = u"prefork_logd.handlers"


class Notices(object):
    """The lines of one handler on stderr, unless logging.raiseExceptions is off; and why it has no session just now."""

    def __init__(self, where):
        """Take the collector's address as text."""
        self._where = where
        self._said = {}  # key to time
        self.warnings = collections.deque(maxlen=_MOST_WARNINGS)
        """Lines that `warn` has not passed to `logging` yet."""
        self.trouble = u""
        """Why there is no session."""
        self.is_sending = False
        """Whether a connection takes records: the trouble, if any, is over then."""

    def has_said(self, key=None):
        """Return whether a line of this kind (None: of any kind) has been written and not been forgotten."""
        return bool(self._said) if key is None else key in self._said

    def has_said_since(self, time):
        """Return whether a line of any kind has been written since then (s, monotonic)."""
        return any(at >= time for at in self._said.values())

    def because(self):
        """Return the trouble in brackets for the end of a line; empty while there is none."""
        return u" (%s)" % self.trouble if self.trouble and not self.is_sending else u""

    def say_once(self, key, text):
        """Write a line, unless one of this kind has been written since the last `forget`. Raises nothing."""
        if key in self._said:
            return
        self._said[key] = monotonic()
        self.warnings.append(u"%s %s" % (text_of(self._where), text_of(text)))
        if logging.raiseExceptions and sys.stderr is not None:
            try:
                line = u"%s: %s %s\n" % (_PROGRAM, text_of(self._where), text_of(text))
                sys.stderr.write(line.encode("ascii", "backslashreplace") if PY2 else line)
            except Exception:  # noqa: BLE001 - stderr may be closed, or anything
                pass

    def warn(self):
        """Log the lines that were written since the last call as warnings. No lock may be held. Raises nothing.

        The logger is "prefork_logd.handlers". A line that this causes is of a kind that has been said: no loop begins.
        """
        logger = logging.getLogger(str(_PROGRAM))
        while self.warnings:
            text = self.warnings.popleft()
            if _has_handlers(logger):  # else logging would print it a second time, or complain
                try:
                    logger.warning("%s", text)
                except Exception:  # noqa: BLE001 - a filter may raise anything
                    report_failure()

    def forget(self):
        """Allow each kind of line again, except within _SAY_AGAIN_S of the last one. Called after a welcome."""
        now = monotonic()
        self._said = dict((key, at) for key, at in self._said.items() if key == "session" or now - at < _SAY_AGAIN_S)
        self.trouble = u""


def _has_handlers(logger):
    """Return whether records of a logger go anywhere; Logger.hasHandlers came with Python 3.2."""
    while logger is not None:
        if logger.handlers:
            return True
        logger = logger.parent if logger.propagate else None
    return False


def report_failure():
    """Print the traceback of the exception that is being handled, as logging does. Raises nothing."""
    if logging.raiseExceptions and sys is not None and sys.stderr is not None:
        try:
            traceback.print_exc(file=sys.stderr)
        except Exception:  # noqa: BLE001 - stderr may be closed, or anything
            pass


def printable(text):
    """Return a text from the network for a terminal: printable ASCII, at most 255 characters of it before escaping."""
    return text[:255].encode("unicode_escape").decode("ascii")
