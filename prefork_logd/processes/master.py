"""The master: binds the sockets, forks the children, restarts what dies, relays signals. Touches no record.

Owns which processes there are and which configuration they have. It waits for a signal, a child or a question, acts,
and waits again; it opens no output and reads no client, so that nothing a client sends can harm it.

The writer is forked first and ends last: it ends on end-of-file, so whatever is in the pipes is written.
"""

from __future__ import annotations

import functools
import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from setproctitle import setproctitle

from prefork_logd import __version__, signals
from prefork_logd.config.changes import changes, with_live_changes
from prefork_logd.errors import ConfigError, ExitStatus, Problem
from prefork_logd.log import LOGGER, describe_bug, reopen_own
from prefork_logd.net.listener import close_all, describe, is_own
from prefork_logd.net.loop import READ, Loop, Timer
from prefork_logd.processes import arena, children, control, shield, status
from prefork_logd.processes.children import Child, Kind
from prefork_logd.processes.console import CommandServer, Request
from prefork_logd.processes.drain import FAST_WRITES_S, LAST_WRITES_S
from prefork_logd.processes.legacy import FORMAT, InheritedSocket, UpgradeState
from prefork_logd.processes.link import make_pipes
from prefork_logd.processes.moves import Rebalancer
from prefork_logd.processes.nats_source import NatsSource
from prefork_logd.processes.orphans import Lifeline
from prefork_logd.processes.probing import Probes
from prefork_logd.processes.recovery import RUN_BITS
from prefork_logd.processes.reload import Reload
from prefork_logd.processes.shipper import DRAIN_S, Shipper
from prefork_logd.processes.shippers import Shippers
from prefork_logd.processes.states import ALIVE, HEALTHY_AFTER_S, Action, Event, State, after, back_off_s
from prefork_logd.processes.succession import Upgrader, inheritance, receive_signals
from prefork_logd.processes.worker import Worker
from prefork_logd.processes.writer import Writer
from prefork_logd.scoreboard import LAYOUT, MAX_WORKERS, PLACES, WRITER_SLOT, Field, Scoreboard
from prefork_logd.settings import MAX_SOURCES

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from prefork_logd.config.load import ConfigSource
    from prefork_logd.daemon import PidLock
    from prefork_logd.settings import Settings

KILL_AFTER_S = 3.0
"""What a child gets on top of its own limits before a stop ends it by force."""
LONGEST_STOP_S = LAST_WRITES_S + DRAIN_S + 4 * KILL_AFTER_S
"""What a stop may take on top of limits.drain_timeout."""
CONNECT_AGAIN_S = 0.5
UPGRADE_S = 3.0
"""How long a stop waits for an upgrade to end."""


class Master:
    """One run of the collector."""

    def __init__(
        self,
        settings: Settings,
        source: ConfigSource,
        sockets: list[tuple[socket.socket, str]],
        lock: PidLock,
        ready: Callable[[list[str]], None],
        failed: Callable[[str], None],
        state: UpgradeState | None = None,
    ) -> None:
        """Serve on `sockets`, each with whom to let in (closed at the end); reload from `source`.

        Once, `ready` is told the addresses when every child is at work, or `failed` why that cannot be. With a `state`
        this process has served before, as another program: it goes on with its children, and nobody is told.
        """
        self.loop = Loop()
        self.exit_status = ExitStatus.OK
        self._source = source
        self._sockets = sockets
        self._bind = [describe(sock) for sock, _ in sockets]
        self._lock = lock
        self._ready: Callable[[list[str]], None] | None = ready if state is None else None
        self._failed = failed
        self._lifeline = Lifeline.adopt(state.lifeline_fd if state is not None else -1)
        self._board = Scoreboard()
        self._places: dict[str, int] = state.places if state is not None else {}
        self._last_place = state.last_place if state is not None else 0
        self._configurations = state.taken_configurations() if state is not None else []
        """The current one last; before it, those that a worker may still have lines of."""
        self._shippers = Shippers(self.loop, self._board, self.apply_event)
        self._take(settings)
        self._worker_target = settings.server.worker_count
        self._writer = Child(Kind.WRITER, WRITER_SLOT)
        self._workers: dict[int, Child] = {}
        self._rebalancer = Rebalancer(self.loop, self._board, self._real_workers)
        # The journal knows workers by these numbers, and those of an earlier master must not be taken for ours.
        self._last_spawn_id = int.from_bytes(os.urandom(4)) << RUN_BITS
        self._restarts: dict[int, int] = {}
        """How often the children of earlier programs were forked again, by slot."""
        self._stopping = False
        self._stopping_fast = False
        self._ended_all = False
        """Whether the last child has gone, and the loop is to end."""
        self._stop_wanted = False
        """Whether a stop waits for an upgrade to end."""
        self._kill_timer: Timer | None = None
        self._reload: Reload | None = None
        self._reload_again: Reload | None = None
        self._reloads = 0
        self._started_s = time.monotonic()
        self._signals = signals.SignalReceiver()
        command_fd = state.command_fd if state is not None else -1
        self._probes = Probes(self.loop)
        state_dir = Path(settings.server.state_dir)
        self._command_server = CommandServer(self.loop, state_dir, self._handle_request, command_fd)
        self.loop.add(self._signals.fd, self, READ)
        self._upgrader = Upgrader(self, self._rebalancer.hand_over_all)
        if state is not None:
            self._inherit(state)

    def run(self) -> int:
        """Serve until stopped; return the exit status."""
        setproctitle("prefork-logd: master")
        if self._upgrader.replacement is None:
            self.apply_event(self._writer, Event.DUE)
        else:
            receive_signals()
            self._reap()
            self._adjust_workers()
        shield.run(self.loop.run, lambda: self._ended_all)
        self._upgrader.close()
        self._command_server.close()
        close_all(sock for sock, _ in self._sockets)
        self._signals.close()
        self._lifeline.close()
        return self.exit_status

    # Signals and questions

    def put_signals_back(self) -> None:
        """Let signals that have come and were not acted on come again."""
        self._signals.put_back()

    def ready(self, events: int) -> None:  # noqa: ARG002 - the pipe tells which signals have come
        """Act on the signals that have come (signals.TABLE)."""
        taken = self._signals.take()
        actions: dict[int, Callable[[], None]] = {
            signal.SIGCHLD: self._reap,
            signal.SIGHUP: lambda: self._start_reload(_no_answer),
            signal.SIGTERM: self._asked_to_stop,
            signal.SIGINT: self._asked_to_stop,
            signal.SIGQUIT: lambda: self._stop(fast=True),
            signal.SIGUSR1: self._reopen,
            signal.SIGUSR2: lambda: self._upgrader.upgrade(_nobody),
            signal.SIGTTIN: lambda: self._change_workers(self._worker_target + taken[signal.SIGTTIN]),
            signal.SIGTTOU: lambda: self._change_workers(self._worker_target - taken[signal.SIGTTOU]),
        }
        for number in sorted(taken):
            if number in actions:
                shield.attempt(signal.Signals(number).name, actions[number])

    def _handle_request(self, request: Request, answer: Callable[[dict[str, Any]], None]) -> None:
        """Answer the command line."""
        verb = request.verb
        if verb == "status":
            self._probes.ask(self._children(), lambda: answer(self._status()))
        elif verb == "reload":
            self._start_reload(answer)
        elif verb == "upgrade":
            self._upgrader.upgrade(answer)
        elif verb == "workers":
            answer(self._ask_for_workers(request.count))
        else:
            answer({"error": f"{verb!r} is not known to this collector"})

    def _status(self) -> dict[str, Any]:
        carried = self._upgrader.carried
        children = self._children()
        return status.document(self._configuration, self._bind, children, self._board, carried, self._started_s)

    # Children

    @property
    def _configuration(self) -> control.Configuration:
        return self._configurations[-1]

    def _children(self) -> Iterator[Child]:
        yield self._writer
        yield from self._workers.values()
        yield from self._shippers
        yield from self._upgrader.old

    def _real_workers(self) -> list[Child]:
        """Return the workers; sources are among them as far as the writer is concerned, and have no connections."""
        return [worker for worker in self._workers.values() if worker.kind is Kind.WORKER]

    def _every_worker(self) -> list[Child]:
        return [*self._workers.values(), *self._upgrader.old_workers]

    def apply_event(self, child: Child, event: Event) -> None:
        """Let an event happen to a child: look up what follows, and do it."""
        child.state, action = after(child.state, event)
        {
            Action.NOTHING: _nothing,
            Action.CONNECT: self._connect,
            Action.FORK: self._fork,
            Action.BACK_OFF: self._back_off,
            Action.TELL_RETIRE: self._tell_retire,
            Action.TELL_STOP: _tell_stop,
            Action.FORGET: self._forget,
        }[action](child)

    def _fork(self, child: Child) -> None:
        self._last_spawn_id += 1
        child.started_s = time.monotonic()
        try:
            ours, theirs = control.Channel.pair()
        except OSError as error:
            self._cannot_fork(child, error)
            return
        channel = control.Channel(
            self.loop,
            ours,
            lambda message, fds: self.handle_message(child, message, fds),
            lambda: None,  # its end is told by SIGCHLD
            lambda error: self.handle_failure(child, error),
        )
        # Known before the fork, so that the child closes its copy with the others.
        child.channel = channel
        child.spawn_id = self._last_spawn_id
        child.generation = child.settled = self._configuration.generation
        child.writer = 0
        if child.kind is Kind.WORKER:
            self._expect(child.slot)
            child.arena_fd = arena.make()
        counters = self._board.slot(child.slot)
        counters[Field.STARTS] += 1
        try:
            child.pid = children.fork(
                child.name, self._lifeline, lambda: self._close_in_child(child), lambda: self._be(child, theirs)
            )
        except OSError as error:
            self._cannot_fork(child, error)
        finally:
            theirs.close()

    def _cannot_fork(self, child: Child, error: OSError) -> None:
        """Try again later, as if it had died at once: no processes, memory or descriptors are left (fork(2))."""
        child.last_exit = f"cannot be forked: {error.strerror}"
        LOGGER.error("cannot fork %s: %s", child.name, error.strerror)
        if child.channel is not None:
            child.channel.close()
        child.channel, child.pid = None, 0
        self._board.slot(child.slot)[Field.ACCEPTING] = 0
        arena.drop(child)
        self.apply_event(child, Event.EXITED)

    def _be(self, child: Child, channel: socket.socket) -> int:
        """Be a child, and return its exit status."""
        if child.kind is Kind.WRITER:
            return Writer(self._board, channel, self._configurations, self._last_spawn_id >> RUN_BITS).run()
        if child.kind is Kind.SOURCE:
            source = self._configuration.settings.sources[child.index - 1]
            return NatsSource(child.slot, self._board, channel, self._configuration, source).run()
        if child.store is not None:
            state_dir, place = Path(self._configuration.settings.server.state_dir), child.index
            return Shipper(self._board, channel, state_dir, place, child.store, self._shippers.waker(place)).run()
        return Worker(child.slot, self._board, self._sockets, channel, self._configuration, child.arena_fd).run()

    def _close_in_child(self, child: Child) -> None:
        """Close, in a child, what belongs to the master alone: above all what others take for a sign of life."""
        self._lock.close()
        self.loop.close()
        self._signals.close()
        self._command_server.close_in_child()
        self._upgrader.close_in_child()
        for other in self._children():
            if other.channel is not None:
                other.channel.close_in_child()
            if other is not child:
                arena.drop(other)
        if child.kind is not Kind.WORKER:
            for sock, _ in self._sockets:
                sock.close()

    def handle_failure(self, child: Child, error: Exception) -> None:
        """End a child whose message makes no sense, or led to an error: another one begins anew."""
        LOGGER.error("%s (pid %d) is ended after a message that failed: %s", child.name, child.pid, describe_bug(error))
        if child.pid and child.state in ALIVE:
            os.kill(child.pid, signal.SIGKILL)

    def handle_message(self, child: Child, message: control.AnyMessage, fds: list[int]) -> None:
        """Take what a child says. No message to the master has descriptors."""
        for fd in fds:
            os.close(fd)
        match message:
            case control.Ready(problem):
                self._child_ready(child, problem)
            case control.Configured(generation, problems):
                child.generation = generation
                if self._reload is not None:
                    self._reload.confirm(child.spawn_id, problems)
            case control.HandedOver():
                self._rebalancer.record_handover(child, message)
            case control.Pong():
                self._rebalancer.record_pong(child)
            case control.Settled(generation):
                child.settled = generation
                self._forget_configurations()
            case control.StatusReport():
                child.report = message
            case control.Reopened(_, problems):
                for problem in problems:
                    LOGGER.error("cannot reopen %s; the open file stays in use", problem)
                if self._reload is not None:
                    self._reload.outcome["problems"] += problems
            case _:
                LOGGER.error("%s says a %s, which makes no sense", child.name, type(message).__name__)

    def _child_ready(self, child: Child, problem: str) -> None:
        if problem and self._ready is not None:
            self._fail(problem)
            return
        if problem:
            LOGGER.error("%s; clients wait until it works again", problem)
        if child.state is State.WAITING:
            return
        self.apply_event(child, Event.READY)
        self._advance_upgrade()
        if child.kind is Kind.WORKER and not child.is_inherited:
            self._rebalancer.level()
        if child is self._writer and not self._stopping:
            self._adjust_shippers()
        if self._ready is None or self._stopping:
            return
        if child is self._writer:
            self._start_sources()
            self._adjust_workers()
        elif self._workers and all(worker.state is State.RUNNING for worker in self._workers.values()):
            ready, self._ready = self._ready, None
            ready(self._bind)

    def _connect(self, child: Child) -> None:
        """Give a worker and the writer a pair of pipes of their own; the writer, one with each worker.

        The writer is told how to wake each shipper.
        """
        if self._writer.state is not State.RUNNING or self._writer.channel is None:
            return
        if child.kind in (Kind.WRITER, Kind.SHIPPER):
            self._shippers.connect(self._writer.channel, None if child is self._writer else child)
        workers = self._every_worker() if child is self._writer else [] if child.kind is Kind.SHIPPER else [child]
        for worker in workers:
            is_new = worker.writer != self._writer.spawn_id
            if worker.state in ALIVE and worker.state is not State.STARTING and worker.channel is not None and is_new:
                try:
                    workers_ends, writers_ends = make_pipes()
                except OSError as error:
                    LOGGER.error("cannot connect %s to the writer: %s; tried again", worker.name, error.strerror)
                    self.loop.later(CONNECT_AGAIN_S, functools.partial(self._connect_again, worker, worker.spawn_id))
                    continue
                worker.writer = self._writer.spawn_id
                shared = [os.dup(worker.arena_fd)] if worker.arena_fd >= 0 else []
                self._writer.channel.send(control.Attach(worker.spawn_id), [*writers_ends, *shared])
                worker.channel.send(control.Attach(worker.spawn_id), workers_ends)

    def _connect_again(self, worker: Child, spawn_id: int) -> None:
        if worker.spawn_id == spawn_id:
            self._connect(worker)

    def _reap(self) -> None:
        """Take note of every child that has ended."""
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._upgrader.record_exit(pid, wait_status)
            for child in list(self._children()):
                if child.pid == pid and child.state in ALIVE:
                    self._take_end(child, wait_status)

    def _take_end(self, child: Child, wait_status: int) -> None:
        """Take note of a child's end; whatever goes wrong, another one takes its place."""
        if not shield.attempt(f"the end of {child.name}", lambda: self._ended(child, wait_status)):
            child.channel = None
            if child.state in ALIVE and not child.is_inherited:
                shield.attempt(child.name, lambda: self.apply_event(child, Event.EXITED))

    def _ended(self, child: Child, wait_status: int) -> None:
        pid, child.pid = child.pid, 0
        if child.channel is not None:
            # What it said last may not have been read yet.
            child.channel.ready(READ)
            child.channel.close()
            child.channel = None
        arena.drop(child)
        for field in (Field.CONNECTIONS, Field.PLACED, Field.ACCEPTING, Field.PID, Field.PAUSED):
            if child.is_inherited:
                self._upgrader.carried.clear(child.slot, field.name)
            else:
                self._board.slot(child.slot)[field] = 0
        how = children.describe_end(wait_status)
        is_killed, child.is_killed = child.is_killed, False
        if wait_status and not is_killed and child.state in (State.RETIRING, State.STOPPING):
            LOGGER.error("%s (pid %d) %s while it was to end", child.name, pid, how)
            if self._stopping and child.kind is not Kind.SHIPPER:
                self.exit_status = ExitStatus.FAILURE
        elif child.state not in (State.RETIRING, State.STOPPING):
            child.last_exit = how
            LOGGER.error("%s (pid %d) %s", child.name, pid, how)
        if self._ready is not None and not self._stopping and child.kind is not Kind.SHIPPER:
            self._fail(f"{child.name} {how} before it was ready")
        if child.is_inherited:
            self._upgrader.forget_child(child)
        elif child.state in ALIVE:
            self.apply_event(child, Event.EXITED)
        self._rebalancer.forget_worker(child)
        self._advance_upgrade()
        if child.is_inherited:
            if self._stopping:
                self._go_on_stopping()
            elif child.kind is Kind.SHIPPER and self._writer.state is State.RUNNING:
                self._adjust_shippers()
        self._forget_configurations()
        if self._reload is not None:
            self._reload.confirm(child.spawn_id)

    def _back_off(self, child: Child) -> None:
        """Fork again after a while; longer each time the child dies young, so that a crash loop costs little."""
        lived_s = time.monotonic() - child.started_s
        child.deaths = 1 if lived_s >= HEALTHY_AFTER_S else child.deaths + 1
        delay_s = back_off_s(child.deaths) * random.uniform(0.9, 1.1)
        LOGGER.warning("%s starts again in %.1f s", child.name, delay_s)
        child.due_s = time.monotonic() + delay_s
        child.timer = self.loop.later(delay_s, lambda: self._restart(child))

    def _restart(self, child: Child) -> None:
        child.restarts += 1
        self.apply_event(child, Event.DUE)

    def _forget(self, child: Child) -> None:
        """Free a child's place."""
        if child.timer is not None:
            child.timer.cancel()
        if child.kind is Kind.SHIPPER:
            self._shippers.forget(child)
        self._workers.pop(child.slot, None)
        if self._stopping:
            self._go_on_stopping()
        elif child.kind is Kind.SHIPPER:
            self._adjust_shippers()
        else:
            self._adjust_workers()

    def _adjust_shippers(self) -> None:
        """See that each store has its shipper, once that of an earlier program has ended."""
        if not self._upgrader.ships:
            self._shippers.adjust(self._configuration.settings)

    def _adjust_workers(self) -> None:
        """Fork or retire workers until as many are at work as there should be."""
        if self._stopping:
            # A reload that was under way ends all the same.
            return
        active = [worker for worker in self._real_workers() if worker.state not in (State.RETIRING, State.STOPPING)]
        for worker in sorted(active, key=lambda worker: worker.slot)[self._worker_target :]:
            self.apply_event(worker, Event.RETIRE)
        free = (slot for slot in range(1, MAX_WORKERS - MAX_SOURCES + 1) if slot not in self._workers)
        new = [slot for slot, _ in zip(free, range(self._worker_target - len(active)), strict=False)]
        for slot in new:
            # Before the first fork: a worker that is ready leaves their share to those that are not ready yet.
            self._expect(slot)
            self._workers[slot] = Child(Kind.WORKER, slot, restarts=self._restarts.pop(slot, 0))
        for slot in new:
            if slot in self._workers:
                self.apply_event(self._workers[slot], Event.DUE)

    def _expect(self, slot: int) -> None:
        """Let the other workers count one that will be ready in a moment."""
        self._board.use_slots(slot)
        self._board.slot(slot)[Field.CONNECTIONS] = 0
        self._board.slot(slot)[Field.ACCEPTING] = 1

    def _start_sources(self) -> None:
        """Fork the sources, once: their settings wait for a restart."""
        for index in range(len(self._configuration.settings.sources)):
            source = self._workers[MAX_WORKERS - index] = Child(Kind.SOURCE, MAX_WORKERS - index)
            self.apply_event(source, Event.DUE)

    def _ask_for_workers(self, count: int) -> dict[str, Any]:
        """Have so many workers, and return the answer to the request for them."""
        if not 1 <= count <= MAX_WORKERS - MAX_SOURCES:
            return {"error": f"{count} workers: from 1 to {MAX_WORKERS - MAX_SOURCES} are possible"}
        if self._stopping or self._ready is not None:
            return {"error": "the collector is just starting or stopping; ask again later"}
        before = self._worker_target
        self._change_workers(count)
        return {"workers": count, "before": before}

    def _change_workers(self, count: int) -> None:
        if self._stopping or self._ready is not None:
            return
        self._worker_target = min(MAX_WORKERS - MAX_SOURCES, max(1, count))
        LOGGER.info("workers: %d", self._worker_target)
        self._adjust_workers()
        self._advance_upgrade()

    def _tell_retire(self, child: Child) -> None:
        if child.channel is not None:
            child.channel.send(control.Retire())
        if child.kind is Kind.WORKER:
            self._rebalancer.hand_over_all(child)

    # Reloading

    def _take(self, settings: Settings) -> None:
        """Make settings the current configuration; each path keeps its place on the scoreboard.

        Raises ConfigError, and changes nothing, if there are not enough places.
        """
        generation = self._configuration.generation + 1 if self._configurations else 1
        paths = {output.path for output in settings.output}
        used = {place for configuration in self._configurations for place in configuration.places}
        places = {path: place for path, place in self._places.items() if path in paths or place in used}
        new = sorted(paths - places.keys())
        free = [place for place in range(1, PLACES + 1) if place not in places.values()]
        if len(new) > len(free):
            raise ConfigError([Problem("output", f"{len(new)} of them are new, too many at once; reload in two steps")])
        # The next place rather than the first, so that a line that comes late never finds another output at its own.
        free.sort(key=lambda place: place <= self._last_place)
        for path, place in zip(new, free, strict=False):
            places[path] = self._last_place = place
            counters = self._board.output(place)
            counters[:] = memoryview(bytes(counters.nbytes)).cast("Q")
        store_places = self._shippers.places(settings)
        self._places = places
        output_places = tuple(places[output.path] for output in settings.output)
        self._configurations.append(control.Configuration(generation, settings, output_places, store_places))

    def _forget_configurations(self) -> None:
        """Let go of the configurations that no worker has lines of any more."""
        settled = (worker.settled for worker in self._every_worker() if worker.state in ALIVE)
        oldest = min(settled, default=self._configuration.generation)
        if self._configurations[0].generation >= oldest:
            return
        self._configurations = [kept for kept in self._configurations if kept.generation >= oldest]
        if self._writer.channel is not None:
            self._writer.channel.send(control.Forget(oldest))

    def _start_reload(self, answer: Callable[[dict[str, Any]], None]) -> None:
        """Reload, unless one is under way: then once more after it, however often that is asked for meanwhile."""
        if self._stopping or self._ready is not None:
            answer({"error": "the collector is just starting or stopping; ask again later"})
        elif self._reload is None and self._upgrader.replacement is None:
            self._reloads += 1
            self._reload = Reload(self._reloads, answer)
            self._run_reload(self._reload)
        elif self._reload_again is None:
            if self._reload is None:
                # The rest waits until an upgrade is over; who has renamed a file waits for no more than this.
                self._reopen()
            self._reloads += 1
            self._reload_again = Reload(self._reloads, answer)
        else:
            self._reload_again.add_caller(answer)

    def _run_reload(self, reload: Reload) -> None:
        self._reopen()
        old = self._configuration.settings
        try:
            loaded = self._source()
            self._take(with_live_changes(old, loaded))
        except ConfigError as error:
            reload.outcome["problems"] += [str(problem) for problem in error.problems]
        except Exception as error:  # noqa: BLE001 - a file that nothing can read must not end the collector
            reload.outcome["problems"].append(describe_bug(error))
        else:
            changed, waiting = changes(old, loaded)
            reload.outcome |= {"changed": changed, "needs_restart": waiting, "taken": True}
            if "server.workers" in changed:
                self._worker_target = loaded.server.worker_count
        reload.outcome["generation"] = self._configuration.generation
        self._configure([self._writer], lambda: self._reload_workers(reload))

    def _reload_workers(self, reload: Reload) -> None:
        reload.outcome["reopened"] = True
        self._configure(list(self._workers.values()), lambda: self._finish_reload(reload))

    def _configure(self, family: list[Child], next_step: Callable[[], None]) -> None:
        """Send the configuration to those who can take it, and go on when they have."""
        alive = [child for child in family if child.state in ALIVE and child.channel is not None]
        missed: list[Child] = []
        problems: list[str] = []
        for child in alive:
            if child.channel is not None:
                try:
                    child.channel.send(control.Configure(), [self._configuration.to_file()])
                except OSError as error:
                    missed.append(child)
                    problems.append(f"{child.name} keeps the old configuration: {error.strerror}")
        if self._reload is not None:
            self._reload.outcome["problems"] += problems
            self._reload.step([child for child in alive if child not in missed], next_step)

    def _finish_reload(self, reload: Reload) -> None:
        self._adjust_workers()
        if not self._stopping:
            self._adjust_shippers()
        self._reload, self._reload_again = self._reload_again, None
        _log_outcome(reload.outcome)
        reload.finish()
        if self._reload is not None:
            self._run_reload(self._reload)

    def _reopen(self) -> None:
        """Let every output be reopened, and the collector's own log."""
        reopen_own()
        for child in self._children():
            if child.channel is not None:
                child.channel.send(control.Reopen(self._reloads))

    # Becoming another program, and having become one

    def _inherit(self, state: UpgradeState) -> None:
        """Go on where the program stopped that this process was before."""
        self._last_spawn_id, self._reloads, self._started_s = state.last_spawn_id, state.reloads, state.started_s
        before = self._configurations[-2].settings if len(self._configurations) > 1 else None
        if before is not None and before.server.worker_count == self._worker_target:
            # What TTIN and TTOU have made of it.
            self._worker_target = state.worker_target
        self._restarts = state.restarts
        self._writer.restarts = state.restarts.get(WRITER_SLOT, 0)
        self._upgrader.inherit(state, [self._command_server.adopt(fd, waits=True) for fd in state.answer_fds])
        for fd in state.client_fds:
            self._command_server.adopt(fd, waits=False)

    def upgrade_state(self) -> UpgradeState:
        """Return what the next program has to know."""
        command_fd, answer_fds, client_fds = self._command_server.descriptors()
        carried = self._upgrader.carried
        return UpgradeState(
            format=FORMAT,
            version=__version__,
            config=str(self._source.path or ""),
            overrides=self._source.overrides,
            directory=self._source.directory,
            home=str(Path.cwd()),
            started_s=self._started_s,
            last_spawn_id=self._last_spawn_id,
            reloads=self._reloads,
            worker_target=self._worker_target,
            sockets=[InheritedSocket(sock.fileno(), accept, is_own(sock)) for sock, accept in self._sockets],
            lock_fd=self._lock.fd,
            command_fd=command_fd,
            answer_fds=answer_fds,
            board_fd=self._board.fd,
            lifeline_fd=self._lifeline.fd,
            layout=LAYOUT,
            places=self._places,
            last_place=self._last_place,
            configurations=[msgspec.Raw(msgspec.json.encode(kept)) for kept in self._configurations],
            children=inheritance(self._children()),
            counters=carried.counters,
            client_fds=client_fds,
            restarts={child.slot: child.restarts for child in self._children()},
        )

    def may_upgrade(self) -> str:
        """Return why an upgrade cannot begin now; empty if it can."""
        if self._stopping or self._ready is not None:
            return "the collector is just starting or stopping"
        if self._writer.state is not State.RUNNING:
            return "the writer is just starting"
        if self._board.slot(WRITER_SLOT)[Field.PAUSED]:
            return "an output cannot be written (the log says which and why), and clients wait"
        return ""

    def is_quiet(self) -> bool:
        """Tell whether nothing is half done that the next program would not know of."""
        idle = all(child.channel is None or child.channel.idle for child in self._children())
        return (
            idle
            and self._reload is None
            and not self._probes.pending
            and all(worker.state is not State.STARTING for worker in self._workers.values())
        )

    def _advance_upgrade(self) -> None:
        """Take the next step of an upgrade, if one is under way and may."""
        self._upgrader.advance(self._writer, self._workers.values())

    def finish_upgrade(self) -> None:
        """Go on, now that no child of the last program lives."""
        self._upgrader.forget_last_program()
        if not self._stopping:
            # Not before, for the old ones have read from the same places.
            self._start_sources()
        self._forget_configurations()
        self._reload, self._reload_again = self._reload_again, None
        if self._reload is not None:
            self._run_reload(self._reload)
        if self._stop_wanted:
            self._stop(fast=False)

    # Stopping

    def _asked_to_stop(self) -> None:
        """Stop gracefully; a second time, fast."""
        if self._upgrader.replacement is not None and not self._stop_wanted and not self._stopping:
            self._stop_wanted = True
            self.loop.later(UPGRADE_S, lambda: self._stop(fast=False))
            return
        self._stop(fast=self._stopping)

    def _stop(self, *, fast: bool) -> None:
        if not self._stopping:
            self._stopping = True
            LOGGER.info("stopping: reading what clients have sent" if not fast else "stopping fast")
            limit_s = self._configuration.settings.limits.drain_timeout_s + LAST_WRITES_S + KILL_AFTER_S
            self._kill_timer = self.loop.later(limit_s, self._kill)
            for worker in self._every_worker():
                if worker.timer is not None:
                    worker.timer.cancel()
                self.apply_event(worker, Event.STOP)
            # New workers that end have lines for a writer that takes them.
            self._advance_upgrade()
        if fast:
            self._stopping_fast = True
            if self._kill_timer is not None:
                self._kill_timer.cancel()
            self._kill_timer = self.loop.later(FAST_WRITES_S + KILL_AFTER_S, self._kill)
            for worker in self._every_worker():
                if worker.channel is not None:
                    worker.channel.send(control.Drain(fast=True))
        self._go_on_stopping()

    def _go_on_stopping(self) -> None:
        """End the writer after the last worker, the shippers after the writer, and the master after all."""
        if self._workers or self._upgrader.old_workers:
            return
        for child in self._upgrader.old:
            if child.channel is not None:
                child.channel.send(control.Retire() if child.kind is Kind.WRITER else control.Drain(fast=True))
        if self._upgrader.old:
            return
        if self._writer.state is State.GONE:
            if self._kill_timer is not None:
                self._kill_timer.cancel()
            if self._shippers.stop(fast=self._stopping_fast):
                self._ended_all = True
                self.loop.stop()
        elif self._writer.state is not State.STOPPING:
            if self._writer.timer is not None:
                self._writer.timer.cancel()
            self.apply_event(self._writer, Event.STOP)

    def _kill(self) -> None:
        """End by force what has not ended in time."""
        for child in self._children():
            if child.state in ALIVE and child.pid:
                LOGGER.error("%s (pid %d) did not end in time", child.name, child.pid)
                os.kill(child.pid, signal.SIGKILL)
                self.exit_status = ExitStatus.FAILURE
        self._kill_timer = self.loop.later(KILL_AFTER_S, self._kill)

    def _fail(self, why: str) -> None:
        """Give up a start that cannot succeed."""
        self._failed(why)
        self._ready = None
        self.exit_status = ExitStatus.FAILURE
        self._stop(fast=True)


def _nothing(_child: Child) -> None:
    """Do nothing."""


def _tell_stop(child: Child) -> None:
    if child.channel is not None:
        child.channel.send(control.Drain(fast=False))


def _nobody(_outcome: dict[str, Any]) -> None:
    """Take the outcome of an upgrade by signal; the log has it."""


def _no_answer(outcome: dict[str, Any]) -> None:
    """Take the answer of a reload by signal, which nobody waits for; the log has it."""
    if "error" in outcome:
        LOGGER.warning("reload: %s", outcome["error"])


def _log_outcome(outcome: dict[str, Any]) -> None:
    """Log what a reload led to."""
    for problem in outcome["problems"]:
        LOGGER.error("reload: %s", problem)
    if not outcome["taken"]:
        LOGGER.error("reload: outputs were reopened; the new configuration was not taken, the old one stays")
        return
    LOGGER.info("reload: outputs were reopened; changed: %s", ", ".join(outcome["changed"]) or "nothing")
    for key in outcome["needs_restart"]:
        LOGGER.warning("reload: %s cannot change while the collector runs; restart it for that", key)
