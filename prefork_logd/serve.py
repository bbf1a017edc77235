"""From settings to a running collector: the lock, the sockets, the privileges, the master.

Owns the order of these. Prints nothing, and does not know whether it is in the foreground.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd import daemon, log, native
from prefork_logd.errors import ExitStatus, ProcessError
from prefork_logd.log import LOGGER
from prefork_logd.net import listener
from prefork_logd.processes.master import Master
from prefork_logd.settings import PID_FILE, Settings

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

ORPHANS_S = 3.0
"""After a master was killed its workers hold the addresses for a moment, until they have noticed."""


def serve(settings: Settings, load: Callable[[], Settings], ready: daemon.Readiness | None = None) -> int:
    """Collect until stopped; return the exit status.

    Raises ProcessError or ConfigError if it cannot even begin. What goes wrong later is logged, and told to `ready`.
    """
    native.require()
    log.set_up("master")
    state_dir = Path(settings.server.state_dir)
    user = settings.server.user
    daemon.prepare_state_dir(state_dir, user)
    with daemon.PidLock(state_dir / PID_FILE) as lock:
        daemon.raise_descriptor_limit()
        sockets = _inherited() or _bind(settings.listeners, patient=lock.was_stale)
        if user:
            daemon.drop_privileges(user)
            if not os.access(state_dir, os.W_OK | os.X_OK):
                listener.close_all(sock for sock, _ in sockets)
                raise ProcessError(f"{state_dir}: user {user!r} cannot write there; give the directory to that user")
        return _run(settings, load, sockets, lock, ready)


def _inherited() -> list[tuple[socket.socket, str]]:
    return [(sock, "any") for sock in listener.inherited()]


def _bind(listeners: tuple[tuple[str, str], ...], *, patient: bool) -> list[tuple[socket.socket, str]]:
    deadline_s = time.monotonic() + (ORPHANS_S if patient else 0)
    while True:
        try:
            return _bind_once(listeners)
        except ProcessError as error:
            cause = error.__cause__
            in_use = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
            if not in_use or time.monotonic() >= deadline_s:
                raise
            time.sleep(0.02)


def _bind_once(listeners: tuple[tuple[str, str], ...]) -> list[tuple[socket.socket, str]]:
    """Return the sockets of every address, each with whom to let in there. Raises ProcessError; then none is left."""
    sockets: list[tuple[socket.socket, str]] = []
    try:
        for address, accept in listeners:
            sockets += [(sock, accept) for sock in listener.bind_all([address])]
    except ProcessError:
        listener.close_all(sock for sock, _ in sockets)
        raise
    return sockets


def _run(
    settings: Settings,
    load: Callable[[], Settings],
    sockets: list[tuple[socket.socket, str]],
    lock: daemon.PidLock,
    ready: daemon.Readiness | None,
) -> int:
    problems: list[str] = []

    def at_work(bind: list[str]) -> None:
        outputs = ", ".join(output.path for output in settings.output)
        LOGGER.info("listening on %s; pid %d; records go to %s", ", ".join(bind), os.getpid(), outputs)
        if ready is not None:
            ready.tell(pid=os.getpid(), bind=bind)

    def cannot_work(why: str) -> None:
        problems.append(why)
        if ready is None:
            LOGGER.error("cannot start: %s", why)

    status = Master(settings, load, sockets, lock, at_work, cannot_work).run()
    if problems and ready is not None:
        ready.tell(error=problems[0], status=int(ExitStatus.FAILURE))
    return status
