"""Opens connections to the collector without waiting: addresses, tries, and the steps that have to block elsewhere.

Knows nothing of sessions and records.
"""
from __future__ import absolute_import, division

import os
import socket
import threading

from ._clock import monotonic
from ._compat import text_of
from ._sockets import PENDING, begin_connect, close_socket, end_connect, resolve

_RESOLVE, _MAKE_SOCKET, _READ_FILES = "resolve", "make socket", "read files"


class Connector(object):
    """Tries one address of the collector after another. Not safe for threads, except `take_step`."""

    def __init__(self, options, notices, make_socket=None):
        """Take the function that makes the sockets of a subclass (given a timeout in s), or None for plain ones."""
        self._options = options
        self._notices = notices
        self._make_socket = make_socket
        self._addresses = options.literal
        self._next_address = 0
        self._deadline = 0.0
        self.has_connected = False
        """Whether an address of the present round has taken a connection: its trouble says more than the next one's."""
        self.retry_at = 0.0
        """When the next try may begin (s, monotonic)."""
        self.step = None
        """What has to block, and waits for a thread that calls `take_step`; None if nothing does."""
        self.step_done = threading.Event()
        self._made_socket = None

    def take_made_socket(self):
        """Return the socket that `take_step` has made, once; None if there is none."""
        sock, self._made_socket = self._made_socket, None
        return sock

    def is_due(self, now):
        """Return whether a try may begin."""
        return self.step is None and now >= self.retry_at

    def open(self, now, pause):
        """Begin a try, the next one in `pause` (s); return (socket, whether it is connected already).

        Return None if a step has to be taken first, and (None, False) if every address has refused.
        """
        self.retry_at = now + pause
        if self._options.tls is not None and self._options.tls.has_changed():
            self._ask_for(_READ_FILES)
            return None
        if self._make_socket is not None:
            self._ask_for(_MAKE_SOCKET)
            return None
        if self._options.port is None:
            addresses = [(socket.AF_UNIX, self._options.host)]
        elif self._addresses is None:
            self._ask_for(_RESOLVE)
            return None
        else:
            addresses = self._addresses
        if not self._next_address:
            self.has_connected = False
        while self._next_address < len(addresses):
            family, address = addresses[self._next_address]
            self._next_address += 1
            sock, failure = begin_connect(family, address)
            if failure is None or failure is PENDING:
                self._deadline = now + self._options.connect_timeout
                return sock, failure is None
            if sock is not None:
                close_socket(sock)
                self._note(failure)
        self._next_address = 0
        if self._options.literal is None and self._options.port is not None:
            self._ask_for(_RESOLVE)
        return None, False

    def is_connected(self, sock):
        """Return whether a try has succeeded, None if that is not known yet. The caller closes a socket that failed."""
        failure = end_connect(sock)
        if failure is None:
            return True
        if failure is PENDING:
            if monotonic() < self._deadline:
                return None
            failure = 0
        self._note(failure)
        # The other addresses of the same name are tried at once.
        if self._next_address and self._addresses and self._next_address < len(self._addresses):
            self.retry_at = 0.0
        return False

    def begin_anew(self):
        """Start with the first address next time: a connection has been made."""
        self._next_address = 0

    def _note(self, failure):
        if self.has_connected:
            return
        why = text_of(os.strerror(failure)) if failure else u"no answer"
        self._notices.trouble = u"cannot be reached: %s" % why

    # What may block: name services, files, and sockets of subclasses. No lock is held

    def _ask_for(self, step):
        self.step_done.clear()
        self.step = step

    def take_step(self):
        """Resolve the name, read the files of TLS, or make the subclass's socket, for the next try. Raises nothing."""
        step = self.step
        try:
            if step == _RESOLVE:
                found = resolve(self._options.host, self._options.port)
                if found:
                    self._addresses = found
                    self._next_address = 0
                    self.retry_at = 0.0
            elif step == _READ_FILES:
                self.retry_at = 0.0
                complaint = self._options.tls.renew()
                if complaint is not None:
                    self._notices.say_once("certificates", complaint)
            elif step == _MAKE_SOCKET:
                sock = self._make_socket(self._options.connect_timeout)
                sock.setblocking(False)
                self._made_socket = sock
        except Exception:  # noqa: BLE001 - a subclass may raise anything; the next try comes after the pause
            pass
        finally:
            self.step = None
            self.step_done.set()
