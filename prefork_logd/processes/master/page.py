"""Keeps the page's process while the page has an address: forks, replaces and ends it.

Does not know how a child is forked (supervisor.py), or what the process does. The page is not worth an outage: its
death, its hanging or its absence holds up no other child.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.ipc.scoreboard import PAGE_SLOT
from prefork_logd.processes.master.child import Kind
from prefork_logd.processes.master.single_child import SingleChild
from prefork_logd.processes.web.web import DRAIN_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.config.settings import Settings
    from prefork_logd.config.web import WebSettings
    from prefork_logd.net.loop import Loop
    from prefork_logd.processes.master.child import Child
    from prefork_logd.processes.master.lifecycle import Event
    from prefork_logd.processes.master.page_sockets import PageSockets

KILL_AFTER_S = 1.0
"""Extra time for the page's process before it is killed; nothing is lost with it."""


class Page(SingleChild):
    """The page of one collector: its sockets, and at most one process."""

    def __init__(self, loop: Loop, sockets: PageSockets, apply_event: Callable[[Child, Event], None]) -> None:
        """Change the state of the child through `apply_event`."""
        super().__init__(Kind.WEB, PAGE_SLOT, loop, apply_event, DRAIN_S + KILL_AFTER_S)
        self.sockets = sockets
        self._wanted: tuple[Settings, list[tuple[int, int]]] | None = None
        """The settings with which the process was forked, and the versions of its certificate's files."""

    def adjust(self, settings: Settings) -> list[str]:
        """Give the page the addresses and the process that the settings ask for; return the problems.

        A process with other settings is ended; once it has gone, `adjust` forks the next one. Until then connections
        wait in the listening sockets.
        """
        if problem := certificate_problem(settings.web):
            # The process that runs goes on with the certificate that it has read.
            return [problem]
        binding = self.sockets.bind(settings)
        wanted = (settings, _versions(settings.web))
        if self._child is not None:
            if binding.is_changed or wanted != self._wanted:
                self._end()
        elif any(True for _ in self.sockets):
            self._wanted = wanted
            self._fork()
        return binding.problems


def certificate_problem(web: WebSettings) -> str:
    """Return why the certificate cannot be used, with the remedy; empty if it can, or if there is none."""
    if not web.certificate or not web.bind:
        return ""
    import ssl  # noqa: PLC0415 - most collectors have no certificate

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(web.certificate, web.key, password=_refuse_password)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return f"web.certificate, web.key: {web.certificate} cannot be used: {why}; name a matching pair"
    return ""


def _refuse_password() -> str:
    raise ValueError("the key has a password, which the collector cannot ask for; remove it")


def _versions(web: WebSettings) -> list[tuple[int, int]]:
    """Return numbers that change when a file of the certificate is replaced."""
    found = []
    for path in (web.certificate, web.key):
        if path:
            status = Path(path).stat()
            found.append((status.st_ino, status.st_mtime_ns))
    return found
