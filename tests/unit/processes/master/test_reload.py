"""A reload goes on in order: every output is reopened, the writer takes the configuration, then the workers do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from prefork_logd.errors import ConfigError, Problem
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.messages import Configure, Reopen
from prefork_logd.ipc.scoreboard import WRITER_SLOT, Scoreboard
from prefork_logd.processes.master import reload
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.configurations import Configurations
from prefork_logd.processes.master.lifecycle import State
from prefork_logd.processes.master.reload import Reloader
from prefork_logd.system.log import LOGGER
from tests.support.children import make_child, make_settings, messages, no_service_manager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.config.load import ConfigSource
    from prefork_logd.config.settings import Settings

BOARD = Scoreboard()


class Family:
    """A writer and two workers that take a configuration, and a reloader for them."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.toml = ""
        self.problem: Exception | None = None
        self.writer = make_child(Kind.WRITER, WRITER_SLOT)
        self.workers = {slot: make_child(Kind.WORKER, slot) for slot in (1, 2)}
        self.worker_target = 2
        self.adjusted: list[str] = []
        self.page_problems: list[str] = []
        self.answers: list[dict[str, Any]] = []
        self.configurations = Configurations(BOARD)
        self.configurations.add(make_settings(state_dir), ())
        source = cast("ConfigSource", self._load)
        self.reloader = Reloader(source, self.configurations, self, no_service_manager())

    def _load(self) -> Settings:
        if self.problem is not None:
            raise self.problem
        return make_settings(self._state_dir, self.toml)

    def children(self) -> list[Child]:
        return [self.writer, *self.workers.values()]

    def store_ids(self) -> set[int]:
        return set()

    def adjust_workers(self) -> None:
        self.adjusted.append("workers")

    def adjust_shippers(self) -> None:
        self.adjusted.append("shippers")

    def adjust_page(self) -> list[str]:
        self.adjusted.append("page")
        return self.page_problems

    def adjust_alerts(self) -> None:
        self.adjusted.append("alerts")

    def request(self, *, wait: bool = False) -> None:
        self.reloader.request(self.answers.append, wait=wait)

    def sent(self) -> list[list[type]]:
        """Return what kinds of messages each child was sent since the last call."""
        return [[type(message) for message in messages(child)] for child in self.children()]

    def confirm(self, *children: Child) -> None:
        for child in children:
            self.reloader.confirm(child.spawn_id)


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Family]:
    """Return children, and a reloader for them, that leave this process's own log alone."""
    monkeypatch.setattr(reload, "reopen_own", lambda: None)
    yield Family(tmp_path)
    LOGGER.handlers.clear()


def test_the_writer_has_the_configuration_before_the_workers(family: Family) -> None:
    """No worker may send lines for an output that the writer does not know."""
    family.toml = '[[output]]\npath = "new.jsonl"\n'
    family.request()
    assert family.sent() == [[Reopen, Configure], [Reopen], [Reopen]]
    family.confirm(*family.workers.values())
    assert family.sent() == [[], [], []], "only the writer's confirmation counts"
    family.confirm(family.writer)
    assert family.sent() == [[], [Configure], [Configure]]
    family.confirm(family.workers[1])
    assert family.reloader.is_busy
    assert not family.answers
    assert not family.adjusted
    family.confirm(family.workers[2])
    assert family.adjusted == ["workers", "shippers", "page", "alerts"]
    assert not family.reloader.is_busy
    (outcome,) = family.answers
    assert (outcome["taken"], outcome["reopened"], outcome["generation"]) == (True, True, 2)
    assert outcome["changed"] == ["output"]


def test_a_child_that_dies_or_is_not_there_is_not_waited_for(family: Family) -> None:
    """The one after it begins with the new configuration."""
    family.workers[1].state = State.WAITING
    family.workers[2].channel = None
    family.request()
    assert [type(message) for message in messages(family.writer)] == [Reopen, Configure]
    family.confirm(family.writer)  # as for a writer that has died
    assert len(family.answers) == 1


def test_requests_during_a_reload_lead_to_one_more(family: Family) -> None:
    """Its configuration is read when it begins, and each caller is answered once."""
    for _ in range(3):
        family.request()
    assert family.reloader.count == 2
    family.confirm(*family.children())
    assert [outcome["generation"] for outcome in family.answers] == [2]
    assert family.reloader.is_busy
    family.confirm(*family.children())
    assert [outcome["generation"] for outcome in family.answers] == [2, 3, 3]
    assert not family.reloader.is_busy


def test_during_an_upgrade_only_files_are_reopened(family: Family) -> None:
    """The rest waits until the upgrade has ended."""
    family.request(wait=True)
    family.request(wait=True)
    assert family.sent() == [[Reopen], [Reopen], [Reopen]]
    assert not family.reloader.is_busy
    family.reloader.start_next()
    assert family.sent() == [[Reopen, Configure], [Reopen], [Reopen]]
    family.confirm(*family.children())
    assert len(family.answers) == 2
    family.reloader.start_next()
    assert not family.reloader.is_busy, "nothing waits any more"


@pytest.mark.parametrize(
    ("problem", "said"),
    [(ConfigError([Problem("server.workers", "not a number")]), "server.workers"), (LookupError("bug"), "LookupError")],
)
def test_with_a_bad_configuration_the_old_one_stays(family: Family, problem: Exception, said: str) -> None:
    """Files are reopened all the same, and the outcome has the reason."""
    family.problem = problem
    family.request()
    family.confirm(*family.children())
    (outcome,) = family.answers
    assert (outcome["taken"], outcome["reopened"], outcome["generation"]) == (False, True, 1)
    assert said in outcome["problems"][0]


def test_a_child_that_cannot_be_sent_the_configuration_is_named(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on with the old one, and the reload without it."""

    def fail(_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Configuration, "to_file", fail)
    family.request()
    (outcome,) = family.answers
    assert outcome["problems"] == [
        f"{child.name} keeps the old configuration: Too many open files" for child in family.children()
    ]


def test_problems_of_children_are_part_of_the_outcome(family: Family) -> None:
    """Those of a configuration, and of files that could not be reopened; those without a reload are not kept."""
    family.reloader.add_problems(["nobody asked"])
    family.request()
    family.reloader.add_problems(("a.jsonl: no such directory",))
    family.reloader.confirm(family.writer.spawn_id, ("b.jsonl: permission denied",))
    family.confirm(*family.workers.values())
    assert family.answers[0]["problems"] == ["a.jsonl: no such directory", "b.jsonl: permission denied"]


def test_problems_of_the_page_are_part_of_the_outcome(family: Family) -> None:
    """An address may be taken; everything else is in effect."""
    family.page_problems = ["web.bind: taken"]
    family.request()
    for child in (family.writer, *family.workers.values()):
        family.confirm(child)
    (outcome,) = family.answers
    assert outcome["problems"] == ["web.bind: taken"]
    assert outcome["taken"]


def test_a_changed_number_of_workers_is_the_new_target(family: Family) -> None:
    """One that was changed by signals stays while the file says the same as before."""
    family.worker_target = 5
    family.request()
    family.confirm(*family.children())
    assert family.worker_target == 5


def test_certificates_of_a_changed_listener_are_tried_before_the_restart(family: Family, tmp_path: Path) -> None:
    """The change waits for the restart, which would end the collector and not start it again."""
    family.toml = (
        f'[[listener]]\ntls = "require"\ntls_cert = "{tmp_path}/missing.pem"\ntls_key = "{tmp_path}/missing.key"\n'
    )
    family.request()
    family.confirm(family.writer)
    family.confirm(*family.workers.values())
    (outcome,) = family.answers
    assert outcome["taken"]
    assert outcome["needs_restart"] == ["listener 127.0.0.1:9022, which is new"]
    (problem,) = outcome["problems"]
    assert problem.startswith(
        f"a restart would fail: listener 127.0.0.1:9022: tls_cert: {tmp_path}/missing.pem: cannot"
    )
