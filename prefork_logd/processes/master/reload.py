"""Reloads the configuration: first the writer takes it, then the workers, so that the writer knows every output.

Does not know how settings are read (load.py), or how children are forked (supervisor.py).

All requests that arrive during a reload lead to one further reload, which begins after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from prefork_logd.config.changes import changes, with_live_changes
from prefork_logd.errors import ConfigError
from prefork_logd.ipc.messages import Configure, Reopen
from prefork_logd.processes.master.certificate_files import tls_problem
from prefork_logd.processes.master.lifecycle import ALIVE
from prefork_logd.system.log import LOGGER, describe_bug, reopen_own

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from prefork_logd.config.load import ConfigSource
    from prefork_logd.processes.master.child import Child
    from prefork_logd.processes.master.configurations import Configurations
    from prefork_logd.processes.master.service_manager import ServiceManager

    Answer = Callable[[dict[str, Any]], None]


class Reload:
    """One reload: the children that it waits for, and its outcome."""

    def __init__(self, number: int, answer: Answer, restart_by: str) -> None:
        """`restart_by` says how to apply what the reload cannot."""
        self.number = number
        self.outcome: dict[str, Any] = {
            "reopened": False,
            "taken": False,
            "generation": 0,
            "changed": [],
            "needs_restart": [],
            "restart_by": restart_by,
            "problems": [],
        }
        self._answers = [answer]
        self._waiting_for: set[int] = set()
        """Spawn ids of the children that have not confirmed the step."""
        self._next_step: Callable[[], None] | None = None

    def add_caller(self, answer: Answer) -> None:
        """Pass the outcome to one more caller."""
        self._answers.append(answer)

    def begin_step(self, children: Iterable[Child], next_step: Callable[[], None]) -> None:
        """Wait for these children, then call `next_step`."""
        self._waiting_for = {child.spawn_id for child in children}
        self._next_step = next_step
        self._end_step()

    def confirm(self, spawn_id: int, problems: tuple[str, ...] = ()) -> None:
        """Record that a child has done its part, or has died: its successor starts with the new configuration."""
        self.outcome["problems"] += problems
        if spawn_id in self._waiting_for:
            self._waiting_for.discard(spawn_id)
            self._end_step()

    def _end_step(self) -> None:
        if not self._waiting_for and self._next_step is not None:
            next_step, self._next_step = self._next_step, None
            next_step()

    def finish(self) -> None:
        """Answer every caller."""
        for answer in self._answers:
            answer(self.outcome)


class ReloadTarget(Protocol):
    """The children that take the configuration (supervisor.py)."""

    writer: Child
    workers: dict[int, Child]
    worker_target: int

    def children(self) -> Iterable[Child]:
        """Return every child."""

    def store_ids(self) -> Collection[int]:
        """Return the slots of the stores whose shippers have not ended."""

    def adjust_workers(self) -> None:
        """Fork or retire workers until their number is the target."""

    def adjust_shippers(self) -> None:
        """Fork and end shippers until each store has its own."""

    def adjust_page(self) -> list[str]:
        """Give the page its addresses and its process; return the problems."""

    def adjust_alerts(self) -> None:
        """Give the alerts their process."""


class Reloader:
    """The reload that is under way, and the one that follows."""

    def __init__(
        self,
        source: ConfigSource,
        configurations: Configurations,
        target: ReloadTarget,
        service_manager: ServiceManager,
        refresh_certificates: Callable[[], list[str]] = list,
    ) -> None:
        """Read settings from `source`; `refresh_certificates` reads those of listeners and returns the problems."""
        self.count = 0
        """The number of reloads so far."""
        self._source = source
        self._configurations = configurations
        self._target = target
        self._service_manager = service_manager
        self._refresh_certificates = refresh_certificates
        self._current: Reload | None = None
        self._next: Reload | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a reload is under way."""
        return self._current is not None

    def request(self, answer: Answer, *, wait: bool) -> None:
        """Reload, and pass the outcome to `answer`. With `wait`, only outputs are reopened before `start_next`."""
        if self._current is None and not wait:
            self._current = self._make(answer)
            self._run(self._current)
        elif self._next is None:
            if self._current is None:
                # The caller may be log rotation, which has renamed a file and needs nothing but the reopening.
                self.reopen_files()
            self._next = self._make(answer)
        else:
            self._next.add_caller(answer)

    def _make(self, answer: Answer) -> Reload:
        self.count += 1
        return Reload(self.count, answer, self._service_manager.restart_by)

    def start_next(self) -> None:
        """Begin the reload that waits, if there is one."""
        self._current, self._next = self._next, None
        if self._current is not None:
            self._run(self._current)

    def confirm(self, spawn_id: int, problems: tuple[str, ...] = ()) -> None:
        """Record that a child has taken the configuration, or has died."""
        if self._current is not None:
            self._current.confirm(spawn_id, problems)

    def add_problems(self, problems: Iterable[str]) -> None:
        """Add problems to the outcome of the reload that is under way."""
        if self._current is not None:
            self._current.outcome["problems"] += problems

    def reopen_files(self) -> None:
        """Reopen the collector's own log, and let the children reopen it and the outputs."""
        reopen_own()
        for child in self._target.children():
            if child.channel is not None:
                child.channel.send(Reopen(self.count))

    def _run(self, reload: Reload) -> None:
        self._service_manager.report_reload()
        self.reopen_files()
        old = self._configurations.current.settings
        try:
            loaded = self._source()
            self._configurations.add(with_live_changes(old, loaded), self._target.store_ids())
        except ConfigError as error:
            reload.outcome["problems"] += [str(problem) for problem in error.problems]
        except Exception as error:  # noqa: BLE001 - a file that cannot be read must not end the collector
            reload.outcome["problems"].append(describe_bug(error))
        else:
            changed, waiting = changes(old, loaded)
            reload.outcome |= {"changed": changed, "needs_restart": waiting, "taken": True}
            if "server.workers" in changed:
                self._target.worker_target = loaded.server.worker_count
            if loaded.listener != old.listener and (problem := tls_problem(loaded)):
                # Now: a restart ends the collector before it finds that it cannot start.
                reload.outcome["problems"].append(f"a restart would fail: {problem}")
        reload.outcome["problems"] += self._refresh_certificates()
        reload.outcome["generation"] = self._configurations.current.generation
        self._configure(reload, [self._target.writer], lambda: self._configure_workers(reload))

    def _configure_workers(self, reload: Reload) -> None:
        reload.outcome["reopened"] = True
        self._configure(reload, self._target.workers.values(), lambda: self._finish(reload))

    def _configure(self, reload: Reload, children: Iterable[Child], next_step: Callable[[], None]) -> None:
        """Send the configuration to the children that are alive; call `next_step` when all have confirmed it."""
        reached: list[Child] = []
        problems: list[str] = []
        for child in children:
            if child.state in ALIVE and child.channel is not None:
                try:
                    child.channel.send(Configure(), [self._configurations.current.to_file()])
                except OSError as error:  # memfd_create(2): no descriptors or memory
                    problems.append(f"{child.name} keeps the old configuration: {error.strerror}")
                else:
                    reached.append(child)
        reload.outcome["problems"] += problems
        reload.begin_step(reached, next_step)

    def _finish(self, reload: Reload) -> None:
        self._target.adjust_workers()
        self._target.adjust_shippers()
        reload.outcome["problems"] += self._target.adjust_page()
        self._target.adjust_alerts()
        self._current, self._next = self._next, None
        _log_outcome(reload.outcome)
        reload.finish()
        if self._current is not None:
            self._run(self._current)
        else:
            self._service_manager.report_reloaded()


def _log_outcome(outcome: dict[str, Any]) -> None:
    for problem in outcome["problems"]:
        LOGGER.error("reload: %s", problem)
    if not outcome["taken"]:
        LOGGER.error("reload: outputs were reopened; the new configuration was not taken, the old one stays")
        return
    LOGGER.info("reload: outputs were reopened; changed: %s", ", ".join(outcome["changed"]) or "nothing")
    for key in outcome["needs_restart"]:
        LOGGER.warning("reload: not applied, because it needs a restart (%s): %s", outcome["restart_by"], key)
