"""Runs the code of each kind of child: one row a kind.

Does not know when a child is forked, or what its end leads to (supervisor.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.processes.alerts.alerts import AlertsProcess
from prefork_logd.processes.consumer.consumer import NatsSource
from prefork_logd.processes.master.child import Kind
from prefork_logd.processes.shipper.shipper import Shipper
from prefork_logd.processes.web.web import WebProcess
from prefork_logd.processes.worker.worker import Worker
from prefork_logd.processes.writer.recovery import RUN_BITS
from prefork_logd.processes.writer.writer import Writer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from prefork_logd.ipc.configuration import Configuration
    from prefork_logd.ipc.scoreboard import Scoreboard
    from prefork_logd.net.certificates import ListenerTls
    from prefork_logd.net.listener import ListeningSocket
    from prefork_logd.processes.master.child import Child
    from prefork_logd.processes.master.page_sockets import PageSockets


@dataclass(frozen=True)
class Spawn:
    """Everything that a newly forked child gets from the master."""

    child: Child
    channel: socket.socket
    """The child's end of the control channel."""
    board: Scoreboard
    configurations: list[Configuration]
    """The current one last."""
    sockets: list[ListeningSocket]
    wakeup_fd: int
    """The eventfd(2) by which the writer wakes a shipper; -1 for other children."""
    page_sockets: PageSockets
    certificates: list[ListenerTls]
    """Those of TLS listeners."""


def _run_writer(spawn: Spawn) -> int:
    return Writer(spawn.board, spawn.channel, spawn.configurations, spawn.child.spawn_id >> RUN_BITS).run()


def _run_worker(spawn: Spawn) -> int:
    child, configuration = spawn.child, spawn.configurations[-1]
    return Worker(
        *(child.slot, spawn.board, spawn.sockets, spawn.channel, configuration, child.arena_fd, spawn.certificates)
    ).run()


def _run_source(spawn: Spawn) -> int:
    child, configuration = spawn.child, spawn.configurations[-1]
    source = configuration.settings.sources[child.index - 1]
    return NatsSource(child.slot, spawn.board, spawn.channel, configuration, source).run()


def _run_shipper(spawn: Spawn) -> int:
    child = spawn.child
    if child.store is None:
        raise ValueError(f"{child.name} has no store")
    state_dir = Path(spawn.configurations[-1].settings.server.state_dir)
    return Shipper(spawn.board, spawn.channel, state_dir, child.index, child.store, spawn.wakeup_fd).run()


def _run_web(spawn: Spawn) -> int:
    settings, sockets = spawn.configurations[-1].settings, spawn.page_sockets
    return WebProcess(
        spawn.child.slot, spawn.board, spawn.channel, settings, sockets.of_page(), sockets.of_metrics()
    ).run()


def _run_alerts(spawn: Spawn) -> int:
    configuration = spawn.configurations[-1]
    names = (store.name for store in configuration.settings.shipped)
    store_ids = dict(zip(names, configuration.store_ids, strict=True))
    return AlertsProcess(spawn.child.slot, spawn.board, spawn.channel, configuration.settings, store_ids).run()


RUN: dict[Kind, Callable[[Spawn], int]] = {
    Kind.WRITER: _run_writer,
    Kind.WORKER: _run_worker,
    Kind.SOURCE: _run_source,
    Kind.SHIPPER: _run_shipper,
    Kind.WEB: _run_web,
    Kind.ALERTS: _run_alerts,
}
"""Each function runs in the child until its work ends, and returns the exit status."""
