"""Supervises the children: forks them, reaps them, backs off, and adjusts their number.

Does not know which code a child runs (roles.py), in which order a stop or an upgrade goes on (shutdown.py,
upgrader.py), or what a message leads to (master.py). lifecycle.py has the transitions; this module carries them out.
Longer than other modules: every kind of child has its short steps here.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Protocol

from prefork_logd.config.values import MOST_WORKERS
from prefork_logd.ingest import core
from prefork_logd.ipc import shared_memory
from prefork_logd.ipc.channel import Channel
from prefork_logd.ipc.messages import AnyMessage, Drain, Forget, Retire
from prefork_logd.ipc.scoreboard import MAX_WORKERS, WRITER_SLOT, Field, Scoreboard
from prefork_logd.net.loop import READ
from prefork_logd.processes.fork import describe_end, fork
from prefork_logd.processes.master.alerts import Alerts
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import (
    ALIVE,
    Action,
    Event,
    State,
    after,
)
from prefork_logd.processes.master.page import Page
from prefork_logd.processes.master.pipes import Pipes
from prefork_logd.processes.master.rebalance import Rebalancer
from prefork_logd.processes.master.roles import RUN, Spawn
from prefork_logd.processes.master.shippers import Shippers
from prefork_logd.processes.writer.recovery import RUN_BITS
from prefork_logd.system import shield
from prefork_logd.system.log import LOGGER, describe_bug

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.net.listener import ListeningSocket
    from prefork_logd.net.loop import Loop
    from prefork_logd.processes.master.certificate_files import CertificateFiles
    from prefork_logd.processes.master.configurations import Configurations
    from prefork_logd.processes.master.page_sockets import PageSockets
    from prefork_logd.processes.master.upgrade.state import UpgradeState
    from prefork_logd.processes.master.upgrade.upgrader import Upgrader
    from prefork_logd.processes.orphans import Lifeline

_ENDING = frozenset({State.RETIRING, State.STOPPING})
_LIVE_FIELDS = (Field.CONNECTIONS, Field.PLACED, Field.ACCEPTING, Field.PID, Field.PAUSED, Field.LIMITED)
"""Counters of the process in a slot, which are 0 while there is none."""


class SupervisorHost(Protocol):
    """The master."""

    def handle_message(self, child: Child, message: AnyMessage, fds: list[int]) -> None:
        """Act on a child's message."""

    def handle_end(self, child: Child, how: str, *, has_failed: bool) -> None:
        """Act on the end of a child, before its slot is used again; `has_failed`: it failed while it was ending."""

    def handle_gone(self, child: Child) -> None:
        """Go on, now that everything about a child's end is done."""

    def advance_stop(self) -> None:
        """Take the next step of a stop that is under way."""

    def close_in_child(self) -> None:
        """Close, in a child, the descriptors of the master alone."""


class Supervisor:
    """The children of one master. Longer than other classes: every kind of child has its short steps here."""

    def __init__(
        self,
        host: SupervisorHost,
        loop: Loop,
        board: Scoreboard,
        configurations: Configurations,
        upgrader: Upgrader,
        lifeline: Lifeline,
        sockets: list[ListeningSocket],
        page_sockets: PageSockets,
        certificates: CertificateFiles,
    ) -> None:
        """Let workers listen on `sockets`, the page on `page_sockets`; `lifeline` ends children after this process."""
        self._host = host
        self._loop = loop
        self._board = board
        self._configurations = configurations
        self._upgrader = upgrader
        self._lifeline = lifeline
        self._sockets = sockets
        self._certificates = certificates
        self.writer = Child(Kind.WRITER, WRITER_SLOT)
        self.workers: dict[int, Child] = {}
        """By slot. Sources are among them: they write through the writer, as workers do."""
        self.worker_target = 0
        """The wanted number of workers, without sources."""
        self.shippers = Shippers(loop, board, self.apply_event)
        self.page = Page(loop, page_sockets, self.apply_event)
        self.alerts = Alerts(loop, self.apply_event)
        self._pipes = Pipes(loop, self.writer, self.shippers, self.all_workers)
        self.rebalancer = Rebalancer(loop, board, self.real_workers)
        self.is_stopping = False
        """Set by a stop: no child is forked any more."""
        # The journal knows workers by their spawn ids, so those of two masters must differ.
        self.next_spawn_id = (int.from_bytes(os.urandom(4)) << RUN_BITS) + 1
        self._inherited_restarts: dict[int, int] = {}
        """How often the children of earlier programs were forked again, by slot."""

    def inherit(self, state: UpgradeState) -> None:
        """Continue from the state that the last program left."""
        self.next_spawn_id = state.next_spawn_id
        kept = self._configurations.kept
        if len(kept) > 1 and kept[-2].settings.server.worker_count == self.worker_target:
            # Signals or `workers` may have changed the number that is configured.
            self.worker_target = state.worker_target
        self._inherited_restarts = state.restarts
        self.writer.restarts = state.restarts.get(WRITER_SLOT, 0)
        for part in (self.shippers, self.page, self.alerts):
            part.restarts = dict(state.restarts_by_name)

    # The children

    def children(self) -> Iterator[Child]:
        """Return every child, inherited ones last."""
        yield self.writer
        yield from self.workers.values()
        yield from self.shippers
        yield from self.page
        yield from self.alerts
        yield from self._upgrader.old

    def named(self) -> Iterator[Child]:
        """Return the children that the next program finds by their names: shippers, the page and the alerts."""
        yield from self.shippers
        yield from self.page
        yield from self.alerts

    def real_workers(self) -> list[Child]:
        """Return the workers that have connections: those of this program, without sources."""
        return [worker for worker in self.workers.values() if worker.kind is Kind.WORKER]

    def all_workers(self) -> list[Child]:
        """Return every child that writes through the writer: workers and sources, inherited ones too."""
        return [*self.workers.values(), *self._upgrader.old_workers]

    def store_ids(self) -> set[int]:
        """Return the slots of the stores whose shippers have not ended."""
        return self.shippers.store_ids()

    # Events

    def apply_event(self, child: Child, event: Event) -> None:
        """Change a child's state by lifecycle.TABLE, and carry the action out. Raises LocalProtocolError."""
        child.state, action = after(child.state, event)
        match action:
            case Action.CONNECT:
                self._pipes.connect(child)
            case Action.FORK:
                self._fork(child)
            case Action.BACK_OFF:
                self._back_off(child)
            case Action.SEND_RETIRE:
                self._send_retire(child)
            case Action.SEND_DRAIN:
                if child.channel is not None:
                    child.channel.send(Drain(fast=False))
            case Action.FORGET:
                self._forget(child)
            case Action.NOTHING:
                pass

    def _fork(self, child: Child) -> None:
        spawn_id, self.next_spawn_id = self.next_spawn_id, self.next_spawn_id + 1
        child.started_s = time.monotonic()
        try:
            ours, theirs = Channel.pair()
        except OSError as error:
            self._cannot_fork(child, error)
            return
        # Set before the fork, so that the child closes its copy with the others.
        child.channel = Channel(
            self._loop,
            ours,
            lambda message, fds: self._host.handle_message(child, message, fds),
            lambda: None,  # SIGCHLD reports its end
            lambda error: self.handle_failure(child, error),
        )
        child.spawn_id = spawn_id
        child.generation = child.settled = self._configurations.current.generation
        child.writer = 0
        if child.kind is Kind.WORKER:
            self._expect(child.slot)
            child.report = None
            child.arena_fd = shared_memory.make() if core.share is not None else -1
        self._board.slot(child.slot)[Field.STARTS] += 1
        wakeup_fd = self.shippers.waker(child.index) if child.kind is Kind.SHIPPER else -1
        spawn = Spawn(
            *(child, theirs, self._board, self._configurations.kept, self._sockets, wakeup_fd, self.page.sockets),
            self._certificates.listeners,
        )
        try:
            child.pid = fork(
                child.name, self._lifeline, lambda: self._close_in_child(child), lambda: RUN[child.kind](spawn)
            )
        except OSError as error:
            self._cannot_fork(child, error)
        finally:
            theirs.close()

    def _cannot_fork(self, child: Child, error: OSError) -> None:
        """Try again later, as if the child had died at once: no processes, memory or descriptors are left (fork(2))."""
        child.last_exit = f"cannot be forked: {error.strerror}"
        LOGGER.error("cannot fork %s: %s", child.name, error.strerror)
        if child.channel is not None:
            child.channel.close()
        child.channel, child.pid = None, 0
        self._board.slot(child.slot)[Field.ACCEPTING] = 0
        child.close_arena()
        self.apply_event(child, Event.EXITED)

    def _close_in_child(self, child: Child) -> None:
        """Close, in `child`, the descriptors of other processes: an open copy would hide the end of its owner."""
        self._host.close_in_child()
        for other in self.children():
            if other.channel is not None:
                other.channel.close_in_child()
            if other is not child:
                other.close_arena()
        if child.kind is not Kind.WORKER:
            for listening in self._sockets:
                listening.sock.close()
        if child.kind is not Kind.WEB:
            self.page.sockets.close_in_child()

    def _back_off(self, child: Child) -> None:
        """Fork again later; the delay grows while the child dies young, so that a crash loop costs little."""
        now_s = time.monotonic()
        delay_s = child.record_death(now_s)
        LOGGER.warning("%s starts again in %.1f s", child.name, delay_s)
        child.due_s = now_s + delay_s
        child.timer = self._loop.later(delay_s, lambda: self._restart(child))

    def _restart(self, child: Child) -> None:
        child.restarts += 1
        self.apply_event(child, Event.DUE)

    def _send_retire(self, child: Child) -> None:
        if child.channel is not None:
            child.channel.send(Retire())
        if child.kind is Kind.WORKER:
            self.rebalancer.hand_over_all(child)

    def _forget(self, child: Child) -> None:
        """Free the slot of a child that has gone."""
        if child.timer is not None:
            child.timer.cancel()
        if child.kind is Kind.SHIPPER:
            self.shippers.forget(child)
        elif child.kind is Kind.WEB:
            self.page.forget()
        elif child.kind is Kind.ALERTS:
            self.alerts.forget()
        self.workers.pop(child.slot, None)
        if self.is_stopping:
            self._host.advance_stop()
        elif child.kind is Kind.SHIPPER:
            self.adjust_shippers()
        elif child.kind is Kind.WEB:
            self.adjust_page()
        elif child.kind is Kind.ALERTS:
            self.adjust_alerts()
        else:
            self.adjust_workers()

    # Ends

    def handle_failure(self, child: Child, error: Exception) -> None:
        """End a child whose message was malformed, or led to an error; another one is forked."""
        LOGGER.error("%s (pid %d) is ended after a message that failed: %s", child.name, child.pid, describe_bug(error))
        if child.pid and child.state in ALIVE:
            os.kill(child.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Record the end of every child that has ended."""
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._upgrader.record_exit(pid, wait_status)
            for child in list(self.children()):
                if child.pid == pid and child.state in ALIVE:
                    self._record_end(child, wait_status)

    def _record_end(self, child: Child, wait_status: int) -> None:
        """Record a child's end. Another child takes its place even if that raises an error."""
        if not shield.attempt(f"the end of {child.name}", lambda: self._end(child, wait_status)):
            child.channel = None
            if child.state in ALIVE and not child.is_inherited:
                shield.attempt(child.name, lambda: self.apply_event(child, Event.EXITED))

    def _end(self, child: Child, wait_status: int) -> None:
        pid, child.pid = child.pid, 0
        if child.channel is not None:
            # Its last messages may not have been read yet.
            child.channel.ready(READ)
            child.channel.close()
            child.channel = None
        child.close_arena()
        self._clear_counters(child)
        how = describe_end(wait_status)
        is_killed, child.is_killed = child.is_killed, False
        has_failed = bool(wait_status) and not is_killed and child.state in _ENDING
        if has_failed:
            LOGGER.error("%s (pid %d) %s after it was asked to end", child.name, pid, how)
        elif child.state not in _ENDING:
            child.last_exit = how
            LOGGER.error("%s (pid %d) %s", child.name, pid, how)
        self._host.handle_end(child, how, has_failed=has_failed)
        if child.is_inherited:
            self._upgrader.forget_child(child)
        elif child.state in ALIVE:
            self.apply_event(child, Event.EXITED)
        self.rebalancer.forget_worker(child)
        self.advance_upgrade()
        if child.is_inherited:
            if self.is_stopping:
                self._host.advance_stop()
            elif child.kind is Kind.SHIPPER and self.writer.state is State.RUNNING:
                self.adjust_shippers()
        self.forget_configurations()
        self._host.handle_gone(child)

    def _clear_counters(self, child: Child) -> None:
        for field in _LIVE_FIELDS:
            if child.is_inherited:
                self._upgrader.carried.clear(child.slot, field.name)
            else:
                self._board.slot(child.slot)[field] = 0
        if child.kind is Kind.WORKER and not child.is_inherited:
            self._board.clear_clients(child.slot, self._configurations.limit_ids.values())

    def advance_upgrade(self) -> None:
        """Take the next step of an upgrade, if one is under way and may go on."""
        self._upgrader.advance(self.writer, self.workers.values())

    def forget_configurations(self) -> None:
        """Forget the configurations that no worker has lines of any more, and let the writer forget them."""
        settled = (worker.settled for worker in self.all_workers() if worker.state in ALIVE)
        oldest = self._configurations.forget_settled(settled)
        if oldest is not None and self.writer.channel is not None:
            self.writer.channel.send(Forget(oldest))

    # The number of children

    def adjust_shippers(self) -> None:
        """Fork a shipper for each store, once inherited shippers have ended; end those without a store."""
        if not self.is_stopping and not self._upgrader.ships:
            self.shippers.adjust(self._configurations.current)

    def adjust_page(self) -> list[str]:
        """Give the page its addresses and its process; return the problems."""
        return [] if self.is_stopping else self.page.adjust(self._configurations.current.settings)

    def adjust_alerts(self) -> None:
        """Fork the process of the alerts, or end one with other settings."""
        if not self.is_stopping:
            self.alerts.adjust(self._configurations.current.settings)

    def adjust_workers(self) -> None:
        """Fork or retire workers until their number is the target."""
        if self.is_stopping:
            # A reload that was under way ends during the stop.
            return
        active = [worker for worker in self.real_workers() if worker.state not in _ENDING]
        for worker in sorted(active, key=lambda worker: worker.slot)[self.worker_target :]:
            self.apply_event(worker, Event.RETIRE)
        free = (slot for slot in range(1, MOST_WORKERS + 1) if slot not in self.workers)
        new = [slot for slot, _ in zip(free, range(self.worker_target - len(active)), strict=False)]
        for slot in new:
            # Before the first fork: a worker that is ready leaves their share to those that are not ready yet.
            self._expect(slot)
            self.workers[slot] = Child(Kind.WORKER, slot, restarts=self._inherited_restarts.pop(slot, 0))
        for slot in new:
            if slot in self.workers:
                self.apply_event(self.workers[slot], Event.DUE)

    def _expect(self, slot: int) -> None:
        """Let the other workers count a worker that will be ready soon."""
        self._board.use_slots(slot)
        self._board.slot(slot)[Field.CONNECTIONS] = 0
        self._board.slot(slot)[Field.ACCEPTING] = 1

    def start_sources(self) -> None:
        """Fork the sources, once: changed settings of sources need a restart."""
        for index in range(len(self._configurations.current.settings.sources)):
            source = self.workers[MAX_WORKERS - index] = Child(
                Kind.SOURCE, MAX_WORKERS - index, restarts=self._inherited_restarts.pop(MAX_WORKERS - index, 0)
            )
            self.apply_event(source, Event.DUE)
