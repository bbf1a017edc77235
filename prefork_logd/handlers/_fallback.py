"""Decides when a receiver that does not speak the session gets plain frames, and says why records stay here.

Knows nothing of sockets.
"""
from __future__ import absolute_import, division

from ._clock import monotonic

_LEAST_S, _MOST_S = 5.0, 300.0
"""After how long a plain receiver is asked again whether it knows sessions: twice as long each time."""
_CLOSES_OF_PLAIN = 3


class Fallback(object):
    """What one handler knows of the receiver at its address."""

    def __init__(self, options, notices):
        self._options = options
        self._notices = notices
        self.has_collector = False
        """Whether a collector of ours has ever answered: it may be slow, but it is not a plain receiver."""
        self.reset()

    def reset(self):
        """Forget what was found out about a receiver that is not a collector."""
        self.is_plain = False
        self._plain_until = 0.0
        self._plain_for = 0.0
        self._silent_closes = 0

    def is_due(self):
        """Return whether plain frames are spoken just now; if not, a session is tried."""
        return self.is_plain and monotonic() < self._plain_until

    def speak_plain(self, why):
        """Turn to plain frames for a while, if that is allowed; return whether it is."""
        if not self._options.fallback or self.has_collector:
            return False
        self.is_plain = True
        self._plain_for = min(max(_LEAST_S, self._plain_for * 2), _MOST_S)
        self._plain_until = monotonic() + self._plain_for
        text = u"%s; records go there as plain SocketHandler frames, unacknowledged" % why
        self._notices.say_once("plain", text)
        return True

    def note_no_answer(self, what):
        """Say why the records stay here: the receiver does not speak as a collector does."""
        self._notices.trouble = what
        text = u"%s: a collector that hangs, a proxy without one, or a receiver of plain frames; records are kept"
        text %= what
        if self._options.tls is not None:
            text += u" (it may want another certificate: tls_cert)"
        if not self._options.key:
            text += u" (fallback=True would send plain frames)"
        self._notices.say_once("silent", text)

    def note_silent_close(self):
        """Count a receiver that closed instead of answering; return whether to connect again at once."""
        if self.has_collector:
            return False
        # A collector that is being stopped closes once and is away then; a plain receiver closes every time.
        self._silent_closes += 1
        is_often = self._silent_closes >= _CLOSES_OF_PLAIN
        if (is_often or self.is_plain) and self.speak_plain(u"closes the connection on HELLO"):
            return True
        if is_often:
            self.note_no_answer(u"closes the connection without an answer")
        return not is_often

    def note_unreachable(self):
        """Begin to count silent closes anew: nothing is there."""
        self._silent_closes = 0

    def note_session(self):
        """Take note of a welcome."""
        self._silent_closes = 0
        self._plain_for = 0.0
        if self.is_plain:
            self.is_plain = False
            self._notices.say_once("session", u"knows sessions now; records are acknowledged again")
