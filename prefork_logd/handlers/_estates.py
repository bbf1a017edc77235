"""Keeps the clients of handlers that are gone, until their records are acknowledged or a successor takes them.

`logging.config.dictConfig` closes every handler before it makes new ones. Owns the clients that are left meanwhile, and
what becomes of them at a fork and at the end. Does not know how records are sent.
"""
from __future__ import absolute_import, division

import atexit
import logging
import sys
import weakref

from ._compat import getpid
from ._threads import watch_forks

_SHUTDOWN = logging.shutdown.__code__
_RECONFIGURES = "_clearExistingHandlers"  # of logging.config, since 3.6; 2.7 forgets its handlers, and closes none
_SAME = ("host", "port", "key_id", "key", "spool_dir", "client_name", "sender", "tls")
_estates = []
_wills = set()


class Estate(object):
    """What a handler leaves: its client, whose thread goes on sending."""

    def __init__(self, handler, client):
        self.client = client
        self._handler = weakref.ref(handler) if handler is not None else None
        watch_forks(self)

    def is_settled(self):
        """Return whether nothing is held, and no forgotten reference to the handler can bring more."""
        return self.client.is_done() and (self._handler is None or self._handler() is None)

    def _before_fork(self, timeout):
        self.client.stop_threads(timeout)

    def _needs_threads(self):
        return self.client.needs_threads()

    def _after_fork_in_parent(self):
        self.client.resume_threads()

    def _after_fork_in_child(self):
        """Leave everything to the parent."""
        if self.client.pid != getpid():
            self.client.begin_in_child()
        if self in _estates:
            _estates.remove(self)


def bequeath(handler, client):
    """Keep a client until `inherit` returns it, or all that it holds is acknowledged. A handler that died is None."""
    _estates[:] = [estate for estate in _estates if not estate.is_settled()]
    if not any(estate.client is client for estate in _estates):
        client.is_bequeathed = True
        _estates.append(Estate(handler, client))


def inherit(options):
    """Return the client that the last handler for the same address and key has left, now with these options, or None.

    Only between handlers that both have a spool in the same place, or none.
    """
    for estate in reversed(_estates):
        left = estate.client.options
        same = all(getattr(left, name) == getattr(options, name) for name in _SAME)
        if same and (left.overflow == "spool") == (options.overflow == "spool") and estate.client.has_plain_sockets():
            _estates.remove(estate)
            estate.client.is_bequeathed = False
            left.__dict__.update(options.__dict__)
            return estate.client
    return None


def make_will(handler, client):
    """Have the client kept when the handler is forgotten without being closed, as dictConfig of Python 2.7 does."""
    def read(reference):
        try:
            _wills.discard(reference)
            if not client.is_closed and not client.is_done():
                bequeath(None, client)
        except:  # noqa: E722 - at the very end of Python 2 the names are None
            pass

    _wills.add(weakref.ref(handler, read))


def is_shutdown(depth=0):
    """Return whether `logging.shutdown` is so many calls above the caller's caller: a close follows its flush."""
    try:
        return sys._getframe(depth + 2).f_code is _SHUTDOWN
    except ValueError:
        return False


def is_reconfiguration(depth=0):
    """As `is_shutdown`, and whether `logging.config` has called it, to make other handlers next."""
    try:
        frame = sys._getframe(depth + 2)
    except ValueError:
        return False
    above = frame.f_back
    return frame.f_code is _SHUTDOWN and above is not None and above.f_code.co_name == _RECONFIGURES


def _finish():
    """Send what is left, at the end of the interpreter: `logging.shutdown` closes the handlers that it knows."""
    known = [reference() for reference in logging._handlerList]
    forgotten = [handler for handler in [reference() for reference in _wills] if handler is not None]
    for handler in forgotten:
        if all(handler is not other for other in known):
            handler.close()
    while _estates:
        _estates.pop().client.close()


atexit.register(_finish)
