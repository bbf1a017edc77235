"""Starts a collector from its settings: the lock, the sockets, the privileges, then the master.

Owns the order of these steps. Prints nothing, and does not know whether it runs in the foreground.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.checks import page_warnings
from prefork_logd.config.paths import PID_FILE
from prefork_logd.errors import ExitStatus, ProcessError, describe_unexpected
from prefork_logd.ingest import core
from prefork_logd.net import listener
from prefork_logd.net.listener import ListeningSocket
from prefork_logd.processes.alerts.alerts import import_libraries as import_alerts
from prefork_logd.processes.master.certificate_files import tls_problem
from prefork_logd.processes.master.master import Master
from prefork_logd.processes.master.ownership import require_own_files
from prefork_logd.processes.master.page import certificate_problem
from prefork_logd.processes.master.page_sockets import PageSockets
from prefork_logd.processes.master.status import page as page_status
from prefork_logd.processes.orphans import END_S
from prefork_logd.processes.web.web import import_libraries
from prefork_logd.stores.registry import import_early
from prefork_logd.system import daemonize, log, own_records, own_stderr
from prefork_logd.system.log import LOGGER
from prefork_logd.system.pid_lock import PidLock
from prefork_logd.system.privileges import (
    acting_as,
    drop_privileges,
    prepare_state_dir,
    raise_descriptor_limit,
    user_name,
)
from prefork_logd.system.systemd import inherited
from prefork_logd.web import one_time_token
from prefork_logd.web.addresses import page_urls
from prefork_logd.web.page_files import PageFiles

if TYPE_CHECKING:
    import socket

    from prefork_logd.config.load import ConfigSource
    from prefork_logd.config.settings import Settings


ORPHANS_S = END_S + 2.0
"""How long the addresses stay in use after a master was killed: until its last child has ended."""


def serve(settings: Settings, source: ConfigSource, ready: daemonize.Readiness | None = None) -> int:
    """Collect until stopped; return the exit status.

    Raises ProcessError or ConfigError for a problem before the master runs. Later ones are logged and sent to `ready`.
    """
    core.require()
    own_stderr.open_unshared()
    log.set_up("master")
    source.pin(settings.server.state_dir)
    state_dir = Path(settings.server.state_dir)
    user = settings.server.user
    prepare(settings)
    if os.geteuid() == 0 and not user and (owner := state_dir.stat().st_uid):
        LOGGER.warning(
            "%s belongs to %s, and root runs there; set server.user, or give the directory to root",
            state_dir,
            user_name(owner),
        )
    with PidLock(state_dir / PID_FILE, user) as lock:
        if lock.was_stale:
            LOGGER.warning("the last collector was killed, or its host was; this one goes on from the last commit")
        raise_descriptor_limit()
        sockets = _inherited(settings) or _bind(settings, user, patient=lock.was_stale)
        page_sockets = PageSockets(user)
        with acting_as(user):
            problem = certificate_problem(settings.web) or tls_problem(settings)
        if problems := [problem] if problem else page_sockets.bind(settings).problems:
            page_sockets.close()
            with acting_as(user):
                listener.close_all(one.sock for one in sockets)
            raise ProcessError(problems[0])
        if user:
            import_early(settings.shipped)
            if settings.web.bind or settings.metrics.bind:
                import_libraries()
            if settings.alerts.enabled:
                import_alerts()
            drop_privileges(user)
        return _run(settings, source, sockets, page_sockets, lock, ready)


def prepare(settings: Settings) -> None:
    """Make the state directory ready for the user that will use it. Raises ProcessError."""
    state_dir, user = Path(settings.server.state_dir), settings.server.user
    prepare_state_dir(state_dir, user)
    with acting_as(user):
        require_own_files(settings)


def _inherited(settings: Settings) -> list[ListeningSocket]:
    """Return the sockets of systemd; one at the address of a [[listener]] accepts the clients of that listener."""
    sockets = inherited()
    for sock in sockets:
        listener.listen(sock)
    return [_with_settings(sock, listener.describe(sock), settings) for sock in sockets]


def _with_settings(sock: socket.socket, address: str, settings: Settings) -> ListeningSocket:
    accept = dict(settings.listeners).get(address, "any")
    return ListeningSocket(sock, accept, address if address in settings.tls_listeners else "")


def _bind(settings: Settings, user: str, *, patient: bool) -> list[ListeningSocket]:
    deadline_s = time.monotonic() + (ORPHANS_S if patient else 0)
    while True:
        try:
            return _bind_once(settings, user)
        except ProcessError as error:
            cause = error.__cause__
            in_use = isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE
            if not in_use:
                raise
            if time.monotonic() >= deadline_s:
                raise ProcessError(f"{error} (--bind, server.bind or the address of its [[listener]])") from cause
            time.sleep(0.02)


def _bind_once(settings: Settings, user: str) -> list[ListeningSocket]:
    """Return the sockets of every address, each with its accepted clients. Raises ProcessError; then all are closed."""
    sockets: list[ListeningSocket] = []
    try:
        for address, _ in settings.listeners:
            sockets += [_with_settings(sock, address, settings) for sock in listener.bind_all([address], user)]
    except ProcessError:
        with acting_as(user):
            listener.close_all(one.sock for one in sockets)
        raise
    return sockets


def _log_page(settings: Settings, page_sockets: PageSockets, *, with_token: bool) -> None:
    """Log the page's addresses; in the foreground with the one-time token, unless there are other ways to log in."""
    for warning in page_warnings(settings):
        LOGGER.warning("%s", warning)
    token, web = "", settings.web
    if with_token and not web.user and not web.proxy_header:
        try:
            token = one_time_token.current(PageFiles(Path(settings.server.state_dir)))
        except OSError as error:
            LOGGER.warning("the page has no one-time token: %s", describe_unexpected(error))
    if urls := page_urls(page_sockets.addresses, web.scheme, token):
        LOGGER.info("page at %s", ", ".join(urls))
    if urls := page_urls(page_sockets.metrics_addresses, "http"):
        LOGGER.info("metrics and health at %s", ", ".join(urls))


def _run(
    settings: Settings,
    source: ConfigSource,
    sockets: list[ListeningSocket],
    page_sockets: PageSockets,
    lock: PidLock,
    ready: daemonize.Readiness | None,
) -> int:
    problems: list[str] = []

    def at_work(bind: list[str], obstacle: str) -> None:
        outputs = ", ".join(output.path for output in settings.output)
        LOGGER.info("listening on %s; pid %d; records go to %s", ", ".join(bind), os.getpid(), outputs)
        _log_page(settings, page_sockets, with_token=ready is None)
        if ready is not None:
            ready.tell(pid=os.getpid(), bind=bind, page=page_status(page_sockets, settings.web), obstacle=obstacle)

    def cannot_work(why: str) -> None:
        problems.append(why)
        # Also in the log of a daemon: what its caller was told may be lost.
        LOGGER.error("cannot start: %s", why)

    if settings.server.own_log == "records":
        own_records.open_wire()
    status = Master(settings, source, sockets, page_sockets, lock, at_work, cannot_work).run()
    if problems and ready is not None:
        ready.tell(error=problems[0], status=int(ExitStatus.FAILURE))
    return status
