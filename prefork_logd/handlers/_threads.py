"""Runs a handler's helper thread, and stops and starts threads around fork and at the end of a process.

Knows nothing of sockets and queues: what the helper does stands in `Client`.
"""
from __future__ import absolute_import, division

import atexit
import os
import sys
import threading
import time
import weakref

from ._clock import TICK_S, monotonic, pause
from ._compat import HAS_FORK_HOOKS, PY2
from ._eventlet import may_wait_here
from ._notices import report_failure
from ._sockets import wait_for

_STEADY_TICK_S = 0.1 if PY2 else 0.25
_STEADY_RECORDS = 5
"""While `emit` has sent this many since the last tick, it looks after the connection itself, and ticks are longer."""
_BUSY_TICK_S = 0.005
_WRITE_AGAIN_S = 0.001
_AFTER_FAILURE_S = 1.0
_LINGER_TICKS = 20
# At the end of the interpreter Python 2 sets the names of modules to None while daemon threads still look them up:
# _interpreter is "ending" from atexit on, and then None.
_interpreter = "running"


class Helper(object):
    """A thread while something is held: it reads acknowledgements, finishes what could not be sent, and reconnects.

    It ends when nothing has been held for _LINGER_TICKS ticks.
    """

    def __init__(self):
        self.thread = None
        """The thread; None while there is none."""
        self._stop = None
        self._ticked_at = 1  # the next number, at the last tick

    def start(self, client):
        """Start the thread, if one can be had."""
        stop = threading.Event()
        thread = make_thread("prefork-logd handler", stop, self._help, client, stop)
        self.thread, self._stop = thread, stop  # before it starts: it looks at them
        if not try_start(thread):
            self.thread = None

    def ask_to_stop(self):
        """Tell the thread to end; return it, or None."""
        thread, self.thread = self.thread, None
        if self._stop is not None:
            self._stop.set()
        return thread

    def _help(self, client, stop):
        idle_ticks = 0
        while not stop.is_set():
            try:
                if client.connector.step is not None:
                    client.connector.take_step()
                if client.section.deferred:
                    client.take_deferred()
                if client.notices.warnings:
                    client.notices.warn()
                tick, is_idle = client.section.run(self.tick, client, stop)
            except Exception:  # noqa: BLE001 - a thread of ours ends only when it is asked to
                if stop.is_set() or _interpreter != "running":
                    return
                report_failure()
                tick, is_idle = _AFTER_FAILURE_S, False
            idle_ticks = idle_ticks + 1 if is_idle else 0
            if idle_ticks > _LINGER_TICKS and client.section.run(self.leave, client, stop):
                return
            link = client.link
            sock = link.sock
            if link.out and sock is not None and not link.is_connecting():
                wait_for(sock, True, tick)
            else:
                pause(stop, tick)

    def tick(self, client, stop):
        """Do what is due, with the lock held; return (seconds until the next tick, whether nothing is held)."""
        if stop.is_set() or self._stop is not stop:
            return 0.0, False
        link = client.link
        link.pump()
        client.look_after_files()
        next_number = client.queue.next
        emitted, self._ticked_at = next_number - self._ticked_at, next_number
        link.say_away()
        if link.has_more:
            return _WRITE_AGAIN_S, False
        if link.is_direct and emitted >= _STEADY_RECORDS:
            return _STEADY_TICK_S, False
        if client.is_done():
            return TICK_S, True
        is_busy = link.wants_to_write() or link.is_opening() or client.connector.step is not None
        return (_BUSY_TICK_S if is_busy else TICK_S), False

    def leave(self, client, stop):
        """End the thread's work, with the lock held, if there is still nothing to do; return whether it ended."""
        if not client.is_done():
            return False
        if self._stop is stop:
            self.thread = None
            client.end_idle()
        return True


def is_interpreter_ending():
    """Return whether the functions of atexit are running, or have run: threads no longer start."""
    return _interpreter != "running"


def _note_end():
    global _interpreter  # noqa: PLW0603
    _interpreter = "ending"


atexit.register(_note_end)


def make_thread(name, stop, function, *args):
    """Return a daemon thread, not started, that ends silently once `stop` is set or the interpreter ends.

    None where daemons are not allowed, as in an isolated subinterpreter (PEP 684), and in threads of eventlet's tpool.
    """
    if not may_wait_here():
        return None
    thread = threading.Thread(target=_run_until_stopped, args=(stop, function, args), name=name)
    try:
        thread.daemon = True
    except RuntimeError:
        return None
    return thread


def _run_until_stopped(stop, function, args):
    try:
        function(*args)
    except:  # noqa: E722 - at the very end the name of Exception is None, too
        if not stop.is_set() and _interpreter == "running":
            raise


def try_start(thread):
    """Start a thread; return False if none can be had, or the interpreter is ending: `emit` and `flush` do without."""
    try:
        if thread is None:
            return False
        thread.start()
    except RuntimeError:
        return False
    return True


def join_threads(threads, timeout):
    """Wait for threads that were asked to stop, at most `timeout` (s) for each."""
    for thread in threads:
        if thread is not None and thread is not threading.current_thread():
            try:
                thread.join(timeout)
            except Exception:  # noqa: BLE001 - it is just being started, or is a greenlet of another thread's hub
                continue
            if _JOINS_EARLY:
                _wait_until_gone(thread, timeout)


def _wait_until_gone(thread, timeout):
    """Wait until the system counts an ended thread no more: join() of Python 3.12 returns a moment before."""
    path = "/proc/self/task/%s" % thread.native_id
    deadline = monotonic() + timeout
    while os.path.exists(path) and monotonic() < deadline:
        time.sleep(0.0001)


# Fork and exit

_STOP_BEFORE_FORK_S = 0.1
_WARNS_OF_THREADS = sys.version_info >= (3, 12)
_JOINS_EARLY = sys.version_info[:2] == (3, 12) and sys.platform.startswith("linux")
_live = weakref.WeakSet()


def watch_forks(handler):
    """Stop this handler's threads before each fork, and have it begin anew in each child, as long as it lives."""
    _live.add(handler)


def _before_fork():
    """Stop the threads: locks that they hold would be held for ever in the child, and Python 3.12 warns of threads."""
    for handler in list(_live):
        handler._before_fork(_STOP_BEFORE_FORK_S)


def _resume_threads():
    for handler in list(_live):
        handler._after_fork_in_parent()


def _after_fork_in_parent():
    """Start the threads again; where Python warns of threads beside a fork, after it has counted them.

    It counts when the functions of register_at_fork have run, and has no other hook. So a profile function waits for
    the next event after the fork's call, which comes at once, and removes itself.
    """
    if not any(handler._needs_threads() for handler in list(_live)):
        return
    caller = sys._getframe().f_back  # None where C code without a frame of Python forks, as uWSGI does
    if not _WARNS_OF_THREADS or sys.getprofile() is not None or caller is None:
        _resume_threads()
        return
    place = caller.f_lasti

    def look(frame, event, _):  # noqa: ARG001 - the signature of a profile function
        if frame is caller or caller.f_lasti != place:
            sys.setprofile(None)
            _resume_threads()

    sys.setprofile(look)


def _after_fork_in_child():
    for handler in list(_live):
        handler._after_fork_in_child()


if HAS_FORK_HOOKS:
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )


def flush_with_multiprocessing(client):
    """Have a child of multiprocessing wait for acknowledgements: it ends without running atexit's functions.

    It does not matter whether the handler was made in the child or before the fork.
    """
    util, process = sys.modules.get("multiprocessing.util"), sys.modules.get("multiprocessing.process")
    if util is None or process is None:
        return
    reference = weakref.ref(client)

    def flush():
        alive = reference()
        if alive is not None:
            alive.flush()

    try:
        if type(process.current_process()).__name__ != "_MainProcess":
            util.Finalize(None, flush, exitpriority=0)
    except Exception:  # noqa: BLE001 - without it the child's last records may be lost, and no more
        pass
