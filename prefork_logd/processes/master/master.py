"""Wires the master's parts together: one loop that turns signals, questions and messages into calls.

Does not know records, outputs, or bytes of clients, so that no client can harm it. The parts are supervisor.py,
configurations.py, reload.py, shutdown.py and upgrader.py. Longer than other modules: every part meets the others here.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from setproctitle import setproctitle

from prefork_logd import __version__
from prefork_logd.config.values import MOST_WORKERS
from prefork_logd.errors import ExitStatus
from prefork_logd.ipc import messages
from prefork_logd.ipc.command_socket import END_VERB, CommandServer, Request
from prefork_logd.ipc.messages import AnyMessage, Configured, HandedOver, Pong, Ready, Reopened, Settled, StatusReport
from prefork_logd.ipc.scoreboard import LAYOUT, WRITER_SLOT, Field, Scoreboard
from prefork_logd.net.certificates import encode
from prefork_logd.net.listener import close_all, describe, is_own
from prefork_logd.net.loop import READ, Loop
from prefork_logd.processes.master import status
from prefork_logd.processes.master.certificate_files import CertificateFiles
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.configurations import Configurations
from prefork_logd.processes.master.lifecycle import ALIVE, Event, State
from prefork_logd.processes.master.named_counters import named_cells
from prefork_logd.processes.master.place import PlaceCheck
from prefork_logd.processes.master.probing import Probes
from prefork_logd.processes.master.reload import Reloader
from prefork_logd.processes.master.service_manager import ServiceManager
from prefork_logd.processes.master.shutdown import Shutdown
from prefork_logd.processes.master.supervisor import Supervisor
from prefork_logd.processes.master.upgrade.state import FORMAT, InheritedSocket, UpgradeState
from prefork_logd.processes.master.upgrade.upgrader import Upgrader, inheritance, receive_signals
from prefork_logd.processes.orphans import Lifeline
from prefork_logd.system import shield, signals
from prefork_logd.system.log import LOGGER, log_unexpected
from prefork_logd.system.systemd import Notifier

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.config.load import ConfigSource
    from prefork_logd.config.settings import Settings
    from prefork_logd.net.listener import ListeningSocket
    from prefork_logd.processes.master.page_sockets import PageSockets
    from prefork_logd.system.pid_lock import PidLock

    Answer = Callable[[dict[str, Any]], None]

_NEEDED = frozenset({Kind.WRITER, Kind.WORKER, Kind.SOURCE})
"""The kinds of children without which a collector does not start. A store or the page may come later."""
_BUSY = "the collector is just starting or stopping"


class Master:
    """One run of the collector. Longer than other classes: every part reports to it, and each call is short."""

    def __init__(
        self,
        settings: Settings,
        source: ConfigSource,
        sockets: list[ListeningSocket],
        page_sockets: PageSockets,
        lock: PidLock,
        ready: Callable[[list[str], str], None],
        failed: Callable[[str], None],
        state: UpgradeState | None = None,
    ) -> None:
        """Serve on `sockets`, and the page on `page_sockets`.

        The settings are read again from `source`. `run` closes the sockets.

        `ready` gets the addresses once every child is at work, and the reason if clients wait; or else `failed` gets
        its reason. With a `state`, this process goes on with the children of the program before, and calls neither.
        """
        self.loop = Loop()
        self._source = source
        self._sockets = sockets
        self._page_sockets = page_sockets
        self._bind = [describe(one.sock) for one in sockets]
        self._lock = lock
        self._ready: Callable[[list[str], str], None] | None = ready if state is None else None
        self._failed = failed
        self._started_s = time.monotonic()
        self._lifeline = Lifeline.adopt(state.lifeline_fd if state is not None else -1)
        self._board = Scoreboard()
        self._signals = signals.SignalReceiver()
        self._probes = Probes(self.loop)
        state_dir, command_fd = Path(settings.server.state_dir), state.command_fd if state is not None else -1
        self._command_server = CommandServer(self.loop, state_dir, self._handle_request, command_fd)
        self.loop.add(self._signals.fd, self, READ)
        self._certificates = CertificateFiles(self.loop, settings, self._send_certificates)
        self._make_parts(state)
        self._configurations.add(settings, busy_store_ids=())
        self._supervisor.worker_target = settings.server.worker_count
        if state is not None:
            self._inherit(state)

    def _make_parts(self, state: UpgradeState | None) -> None:
        self._obstacle = ""
        """Why clients wait although the collector has started; empty if they do not."""
        PlaceCheck(self.loop, self._lock)
        if state is None:
            self._configurations = Configurations(self._board)
        else:
            kept = state.taken_configurations()
            self._configurations = Configurations(self._board, kept, state.output_ids, state.last_output_id)
        self._upgrader = Upgrader(self)
        self._supervisor = Supervisor(
            self,
            self.loop,
            self._board,
            self._configurations,
            self._upgrader,
            self._lifeline,
            self._sockets,
            self._page_sockets,
            self._certificates,
        )
        self._service_manager = ServiceManager(self.loop, Notifier(), lambda: self._supervisor.writer, self._counts)
        self._reloader = Reloader(
            *(self._source, self._configurations, self._supervisor, self._service_manager, self._certificates.refresh)
        )
        self._shutdown = Shutdown(
            self.loop, self._supervisor, self._configurations, self._upgrader, self._service_manager
        )

    def run(self) -> int:
        """Serve until stopped; return the exit status."""
        setproctitle("prefork-logd: master")
        if self._upgrader.replacement is None:
            self.apply_event(self._supervisor.writer, Event.DUE)
        else:
            receive_signals()
            self._supervisor.reap()
            self._supervisor.adjust_workers()
            self._service_manager.report_ready(is_new=False)
        shield.run(self.loop.run, lambda: self._shutdown.is_done)
        self._upgrader.close()
        self._shutdown.tell_status()
        self._command_server.close()
        close_all(one.sock for one in self._sockets)
        self._page_sockets.close()
        self._signals.close()
        self._lifeline.close()
        return self._shutdown.exit_status

    # Signals and questions

    def put_signals_back(self) -> None:
        """Send this process again the signals that were received and not yet handled."""
        self._signals.put_back()

    def ready(self, _events: int, /) -> None:
        """Act on the signals that have come (signals.TABLE)."""
        taken = self._signals.take()
        actions: dict[int, Callable[[], None]] = {
            signal.SIGCHLD: self._supervisor.reap,
            signal.SIGHUP: lambda: self._reload(_log_refusal),
            signal.SIGTERM: self._shutdown.request,
            signal.SIGINT: self._shutdown.request,
            signal.SIGQUIT: lambda: self._shutdown.begin(fast=True),
            signal.SIGUSR1: self._reloader.reopen_files,
            signal.SIGUSR2: lambda: self._upgrader.upgrade(_ignore),
            signal.SIGTTIN: lambda: self._add_workers(taken[signal.SIGTTIN]),
            signal.SIGTTOU: lambda: self._add_workers(-taken[signal.SIGTTOU]),
        }
        for number in sorted(taken):
            if number in actions:
                shield.attempt(signal.Signals(number).name, actions[number])

    def _handle_request(self, request: Request, answer: Answer) -> None:
        """Answer the command line."""
        verb = request.verb
        if verb == "status":
            self._probes.probe_all(self._supervisor.children(), lambda: answer(self._status()))
        elif verb == "reload":
            self._reload(answer)
        elif verb == "upgrade":
            self._upgrader.upgrade(answer)
        elif verb == END_VERB:
            self._shutdown.promise_status(answer)
        elif verb == "workers":
            answer(self._set_workers(request.count))
        else:
            answer({"error": f"{verb!r} is not known to this collector"})

    def _status(self) -> dict[str, Any]:
        children, carried = self._supervisor.children(), self._upgrader.carried
        configuration = self._configurations.current
        document = status.document(configuration, self._bind, children, self._board, carried, self._started_s)
        return {
            **document,
            "page": status.page(self._page_sockets, configuration.settings.web),
            "metrics": {"bind": self._page_sockets.metrics_addresses},
            "certificates": self._certificates.status(),
            "managed": self._service_manager.is_managed,
        }

    def _counts(self) -> tuple[int, int]:
        """Return the number of records so far and of connections now."""
        totals = status.totals(self._board, self._upgrader.carried, self._supervisor.children())
        return totals["records"], totals["connections"]

    @property
    def _is_busy(self) -> bool:
        """Whether the collector is just starting or stopping."""
        return self._supervisor.is_stopping or self._ready is not None

    def _reload(self, answer: Answer) -> None:
        if self._is_busy:
            answer({"error": f"{_BUSY}; ask again later"})
            return
        self._reloader.request(answer, wait=self._upgrader.replacement is not None)

    def _set_workers(self, count: int) -> dict[str, Any]:
        """Change the number of workers, and return the answer to the request for that."""
        if not 1 <= count <= MOST_WORKERS:
            return {"error": f"the number of workers is {count:,}; write one from 1 to {MOST_WORKERS}"}
        if self._is_busy:
            return {"error": f"{_BUSY}; ask again later"}
        before = self._supervisor.worker_target
        self._change_workers(count)
        return {"workers": count, "before": before}

    def _add_workers(self, count: int) -> None:
        self._change_workers(self._supervisor.worker_target + count)

    def _change_workers(self, count: int) -> None:
        if self._is_busy:
            return
        target = self._supervisor.worker_target = min(MOST_WORKERS, max(1, count))
        LOGGER.info("workers: %d", target)
        self._supervisor.adjust_workers()
        self._supervisor.advance_upgrade()

    def _send_certificates(self) -> None:
        """Let the workers take the certificates that have changed. Raises OSError (memfd_create(2))."""
        for worker in self._supervisor.real_workers():
            if worker.state in ALIVE and worker.channel is not None:
                worker.channel.send(messages.Certificates(), [encode(self._certificates.listeners)])

    # Children

    def apply_event(self, child: Child, event: Event) -> None:
        """Change a child's state, and take the actions that follow."""
        self._supervisor.apply_event(child, event)

    def hand_over_all(self, child: Child) -> None:
        """Let a retiring worker hand its connections over."""
        self._supervisor.rebalancer.hand_over_all(child)

    def handle_failure(self, child: Child, error: Exception) -> None:
        """End a child whose message failed."""
        self._supervisor.handle_failure(child, error)

    def handle_message(self, child: Child, message: AnyMessage, fds: list[int]) -> None:
        """Act on a child's message."""
        # No message to the master has descriptors.
        for fd in fds:
            os.close(fd)
        match message:
            case Ready():
                self._handle_ready(child, message)
            case Configured(generation, problems):
                child.generation = generation
                self._reloader.confirm(child.spawn_id, problems)
            case HandedOver():
                self._supervisor.rebalancer.record_handover(child, message)
            case Pong():
                self._supervisor.rebalancer.record_pong(child)
            case Settled(generation):
                child.settled = generation
                self._supervisor.forget_configurations()
            case StatusReport():
                child.report = message
            case Reopened(_, problems):
                for problem in problems:
                    LOGGER.error("cannot reopen %s; the open file stays in use", problem)
                self._reloader.add_problems(problems)
            case _:
                log_unexpected(message, child.name)

    def _handle_ready(self, child: Child, message: Ready) -> None:
        """Go on with a start, a stop or an upgrade, now that a child is at work.

        A full disk does not prevent a start: services wait for room with their records, as on a disk that fills later.
        """
        supervisor = self._supervisor
        if message.problem and self._ready is not None and not message.lacks_room:
            self._fail(message.problem)
            return
        if message.problem:
            self._obstacle = f"{message.problem}; clients wait until it works again"
            LOGGER.error("%s", self._obstacle)
        if child.state is State.WAITING:
            return
        self.apply_event(child, Event.READY)
        if child.restarts and not child.is_inherited and not supervisor.is_stopping:
            LOGGER.info("%s (pid %d) is at work again", child.name, child.pid)
        supervisor.advance_upgrade()
        if child.kind is Kind.WORKER and not child.is_inherited:
            supervisor.rebalancer.level()
        if child is supervisor.writer:
            self._shutdown.announce()
            supervisor.adjust_shippers()
            for page_problem in supervisor.adjust_page():
                LOGGER.error("%s", page_problem)
            supervisor.adjust_alerts()
        if self._ready is None or supervisor.is_stopping:
            return
        if child is supervisor.writer:
            supervisor.start_sources()
            supervisor.adjust_workers()
        elif supervisor.workers and all(worker.state is State.RUNNING for worker in supervisor.workers.values()):
            ready, self._ready = self._ready, None
            ready(self._bind, self._obstacle)
            self._service_manager.report_ready()

    def _fail(self, why: str) -> None:
        """Give up a start that cannot succeed."""
        self._failed(why)
        self._ready = None
        self._shutdown.exit_status = ExitStatus.FAILURE
        self._shutdown.begin(fast=True)

    def handle_end(self, child: Child, how: str, *, has_failed: bool) -> None:
        """Note that a child has ended; a start that needs it fails."""
        if has_failed:
            self._shutdown.record_failure(child)
        if self._ready is not None and not self._supervisor.is_stopping and child.kind in _NEEDED:
            self._fail(f"{child.name} {how} before it was ready")

    def handle_gone(self, child: Child) -> None:
        """Let a reload go on without a child that has ended."""
        self._reloader.confirm(child.spawn_id)

    def advance_stop(self) -> None:
        """Take the next step of a stop."""
        self._shutdown.advance()

    def close_in_child(self) -> None:
        """Close, in a child, the descriptors of the master alone."""
        self._lock.close()
        self.loop.close()
        self._signals.close()
        self._command_server.close_in_child()
        self._upgrader.close_in_child()

    # Upgrades: becoming another program, and having become one

    def _inherit(self, state: UpgradeState) -> None:
        """Continue from the state that the last program left."""
        self._started_s = state.started_s
        self._reloader.count = state.reloads
        self._supervisor.inherit(state)
        self._upgrader.inherit(state, [self._command_server.adopt(fd, waits=True) for fd in state.answer_fds])
        for fd in state.client_fds:
            self._command_server.adopt(fd, waits=False)

    def upgrade_state(self) -> UpgradeState:
        """Return the state that the next program continues from."""
        command_fd, answer_fds, client_fds = self._command_server.descriptors()
        supervisor, configurations = self._supervisor, self._configurations
        return UpgradeState(
            format=FORMAT,
            version=__version__,
            config=str(self._source.path or ""),
            overrides=self._source.overrides,
            directory=self._source.directory,
            home=str(Path.cwd()),
            started_s=self._started_s,
            next_spawn_id=supervisor.next_spawn_id,
            reloads=self._reloader.count,
            worker_target=supervisor.worker_target,
            sockets=[
                InheritedSocket(one.sock.fileno(), one.accept, is_own(one.sock), one.tls_listener)
                for one in self._sockets
            ],
            page_sockets=self._page_sockets.state(),
            lock_fd=self._lock.fd,
            command_fd=command_fd,
            answer_fds=answer_fds,
            board_fd=self._board.fd,
            lifeline_fd=self._lifeline.fd,
            layout=LAYOUT,
            output_ids=configurations.output_ids,
            last_output_id=configurations.last_output_id,
            configurations=[msgspec.Raw(msgspec.json.encode(kept)) for kept in configurations.kept],
            children=inheritance(supervisor.children()),
            counters=self._upgrader.carried.counters,
            client_fds=client_fds,
            restarts={child.slot: child.restarts for child in supervisor.children()},
            restarts_by_name={child.name: child.restarts for child in supervisor.named()},
            named=named_cells(self._board, self._bind, configurations.store_ids, configurations.limit_ids),
        )

    def may_upgrade(self) -> str:
        """Return why an upgrade cannot begin now; empty if it can."""
        if self._is_busy:
            return _BUSY
        if self._supervisor.writer.state is not State.RUNNING:
            return "the writer is just starting"
        if self._board.slot(WRITER_SLOT)[Field.PAUSED]:
            return "an output cannot be written (the log says which and why), and clients wait"
        return ""

    def is_quiet(self) -> bool:
        """Return whether the state is complete: no reload, probe, start or unsent message is under way."""
        supervisor = self._supervisor
        return (
            all(child.channel is None or child.channel.idle for child in supervisor.children())
            and not self._reloader.is_busy
            and not self._probes.pending
            and all(worker.state is not State.STARTING for worker in supervisor.workers.values())
        )

    def finish_upgrade(self) -> None:
        """Go on, now that no child of the last program lives."""
        self._upgrader.forget_last_program()
        if not self._supervisor.is_stopping:
            # Not earlier: the old sources read from the same streams.
            self._supervisor.start_sources()
        self._supervisor.forget_configurations()
        self._reloader.start_next()
        self._shutdown.end_upgrade()


def _ignore(_outcome: dict[str, Any]) -> None:
    """Take the outcome of an upgrade by signal; the log has it."""


def _log_refusal(outcome: dict[str, Any]) -> None:
    """Take the outcome of a reload by signal; the log has it, unless the reload was refused."""
    if "error" in outcome:
        LOGGER.warning("reload: %s", outcome["error"])
