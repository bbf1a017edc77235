"""Runs the first step of newly installed code: the trial, and the start in the place of the running program.

Does not know when an upgrade begins (upgrader.py), or how the old children give way (replacement.py).
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from pathlib import Path

import prefork_logd
from prefork_logd.config.changes import with_live_changes
from prefork_logd.config.load import ConfigSource
from prefork_logd.config.paths import PID_FILE
from prefork_logd.errors import ConfigError, ProcessError
from prefork_logd.ingest import core
from prefork_logd.ingest.dispatcher import warm_up
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.net import certificates, listener
from prefork_logd.processes.master.child import Kind
from prefork_logd.processes.master.master import Master
from prefork_logd.processes.master.page_sockets import PageSockets
from prefork_logd.processes.master.upgrade.state import UpgradeState
from prefork_logd.system import log, own_records
from prefork_logd.system.log import LOGGER
from prefork_logd.system.pid_lock import PidLock


def try_to_take_over(fd: int) -> dict[str, str]:
    """Check that `take_over` could continue from the state in `fd`; return the version that would.

    Raises the exception that `take_over` would meet. The running collector is not touched: its descriptors are not in
    this process.
    """
    core.require()
    state = _read(fd)
    source = _source(state)
    settings = source()
    for module in pkgutil.walk_packages(prefork_logd.__path__, "prefork_logd."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                # A store's driver is installed only where the store is used.
                if not module.name.startswith("prefork_logd.stores.") or (error.name or "").startswith("prefork_logd"):
                    raise
    for child in state.children:
        Kind(child.kind)
    state.taken_configurations()
    for tls_listener in settings.tls_listeners.values():
        certificates.read(tls_listener)
    warm_up(Configuration(1, settings, tuple(range(1, len(settings.output) + 1))))
    return {"version": prefork_logd.__version__}


def take_over(fd: int) -> int:
    """Collect as the new program of this process, from the state in `fd`; return the exit status."""
    log.set_up("master")
    state = _read(fd)
    source = _source(state)
    before = state.taken_configurations()
    try:
        settings = source()
    except ConfigError as error:
        # The file was valid in the trial. An exit here would end the collector, so the last settings stay.
        if not before:
            raise
        LOGGER.error("upgrade: %s; the old configuration stays", "; ".join(map(str, error.problems)))
        settings = before[-1].settings
    if before:
        settings = with_live_changes(before[-1].settings, settings)
    os.chdir(state.home)
    sockets = [
        listener.ListeningSocket(listener.adopt(sock.fd, is_own=sock.is_own), sock.accept, sock.tls_listener)
        for sock in state.sockets
    ]
    for inherited_fd in state.descriptors():
        os.set_inheritable(inherited_fd, False)
    if settings.server.own_log == "records":
        own_records.open_wire()
    with PidLock.adopt(Path(settings.server.state_dir) / PID_FILE, state.lock_fd) as lock:
        page_sockets = PageSockets(inherited=state.page_sockets)
        return Master(settings, source, sockets, page_sockets, lock, _ignore, _ignore, state).run()


def _read(fd: int) -> UpgradeState:
    try:
        return UpgradeState.from_file(fd)
    except ValueError as error:
        raise ProcessError(str(error)) from error


def _source(state: UpgradeState) -> ConfigSource:
    """Return the source of the configuration; paths relative to the state directory stay there."""
    source = ConfigSource(Path(state.config) if state.config else None, state.overrides, state.directory)
    if before := state.taken_configurations():
        source.pin(before[-1].settings.server.state_dir)
    return source


def _ignore(*_: object) -> None:
    """Report nothing: the command that started this collector has long ended."""
