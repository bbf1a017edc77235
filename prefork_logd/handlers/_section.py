"""Admits one thread at a time, and keeps records that a thread logs while it is inside.

Knows nothing of queues and connections.
"""
from __future__ import absolute_import, division

import collections
import time

from ._clock import monotonic
from ._compat import PY2, get_ident
from ._eventlet import make_lock

_MOST_DEFERRED = 10000
_UNSTICK_S = 2.0


class Section(object):
    """A lock that a signal handler, a __del__ or a __str__ can meet in its own thread without harm."""

    def __init__(self, options):
        """Take the handler's options: no thread holds the lock for longer than their block_timeout."""
        self._options = options
        # Not the handler's own lock: in Python 2 that one is written in Python, and may be interrupted half way.
        self.mutex = make_lock()
        self.inside = set()
        """Idents of the threads that are inside, or about to be."""
        self.deferred = collections.deque()
        """(pickle, created) of records that were logged by a thread while it was inside."""

    def run(self, function, *args):
        """Call with the lock held, or at once if this thread has it already. Raises what the function raises."""
        me = get_ident()
        inside = self.inside
        if me in inside:
            return function(*args)
        try:
            try:
                inside.add(me)
                with self.mutex:
                    return function(*args)
            finally:
                inside.discard(me)
        except BaseException:
            self.unstick(me)
            raise

    def run_outside(self, function, *args):
        """Call without the lock, which this thread holds: others may come in meanwhile."""
        mutex = self.mutex  # of the parent, in a child that the function has forked
        mutex.release()
        try:
            return function(*args)
        finally:
            mutex.acquire()

    def is_mine(self):
        """Return whether this thread is inside."""
        return get_ident() in self.inside

    def defer(self, data, created):
        """Keep a record for later. Changes nothing but one deque, so it may interrupt any line."""
        if len(self.deferred) < _MOST_DEFERRED:
            self.deferred.append((data, created))

    def unstick(self, me):
        """Finish leaving: an exception out of a signal handler may have come in the middle of just that."""
        self.inside.discard(me)
        mutex = self.mutex
        if not PY2:
            if mutex._is_owned():
                mutex.release()
            return
        # Python 2's plain lock does not know its owner: if no other thread gives it back in time, it was ours.
        deadline = monotonic() + self._options.block_timeout + _UNSTICK_S
        while not mutex.acquire(False):
            if monotonic() >= deadline:
                break
            time.sleep(0.001)
        mutex.release()
