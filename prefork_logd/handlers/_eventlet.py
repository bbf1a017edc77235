"""Makes a lock that holds under eventlet's patches, where threads of its tpool log beside green threads.

A lock of eventlet wakes a green thread by switching to it. That fails in another thread than the one whose hub runs it,
and then the lock is never taken again. Imports no eventlet. Knows nothing of what the lock is for.
"""
from __future__ import absolute_import, division

import os
import sys
import threading
import time

from ._compat import PY2, get_ident

_TRY_AGAIN_S = 0.001


def make_lock():
    """Return a lock: of the standard library where eventlet has not replaced that; in Python 3 a reentrant one."""
    patcher = _patcher()
    if patcher is not None:
        return PollingLock(patcher.original("threading").Lock())
    return threading.RLock() if not PY2 else threading.Lock()


def may_wait_here():
    """Return whether this thread may have green threads, and wait for them: of eventlet only the main thread."""
    return _patcher() is None or getattr(threading, "get_native_id", os.getpid)() == os.getpid()


def _patcher():
    """Return the module eventlet.patcher if it has replaced locks and threads, else None."""
    patcher = sys.modules.get("eventlet.patcher")
    return patcher if patcher is not None and patcher.is_monkey_patched("thread") else None


class PollingLock(object):
    """A real lock, for which a green thread waits in short naps: its hub runs others meanwhile."""

    def __init__(self, lock):
        self._lock = lock
        self._owner = None

    def acquire(self, blocking=True):
        """Take the lock, or return False if another has it and `blocking` is not set."""
        while not self._lock.acquire(False):
            if not blocking:
                return False
            time.sleep(_TRY_AGAIN_S)
        self._owner = get_ident()
        return True

    def release(self):
        """Give the lock back."""
        self._owner = None
        self._lock.release()

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()

    def _is_owned(self):
        """Return whether this green thread has it, as threading.RLock does."""
        return self._owner == get_ident()
