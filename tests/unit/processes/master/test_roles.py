"""Each kind of child runs its code with its part of what the master knows."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.load import loads
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.scoreboard import MAX_WORKERS, Scoreboard
from prefork_logd.processes.master import roles
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.page_sockets import PageSockets
from prefork_logd.processes.master.roles import RUN, Spawn
from prefork_logd.processes.writer.recovery import RUN_BITS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOML = """
[[source]]
stream = "ONE"
[[source]]
stream = "TWO"
[[store]]
type = "custom"
factory = "a:b"
"""


class Recorder:
    """Stands for the class of a child: keeps its arguments, and ends with a status."""

    def __init__(self, *arguments: Any) -> None:
        Recorder.arguments = arguments

    arguments: tuple[Any, ...] = ()

    def run(self) -> int:
        return 17


@pytest.fixture
def channel() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


@pytest.fixture
def _no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Writer", "Worker", "NatsSource", "Shipper", "WebProcess", "AlertsProcess"):
        monkeypatch.setattr(roles, name, Recorder)


@pytest.fixture
def configurations(tmp_path: Path) -> list[Configuration]:
    settings = loads(TOML, "", {"state_dir": str(tmp_path)})
    return [Configuration(generation, settings, (1,), (0,)) for generation in (1, 2)]


def spawn(child: Child, channel: socket.socket, configurations: list[Configuration]) -> Spawn:
    return Spawn(child, channel, Scoreboard(), configurations, [], 9, PageSockets(), [])


def test_every_kind_has_its_code() -> None:
    """A kind without would be forked and end at once."""
    assert set(RUN) == set(Kind)


@pytest.mark.usefixtures("_no_work")
@pytest.mark.parametrize("kind", Kind)
def test_a_child_ends_with_the_status_of_its_work(
    kind: Kind, channel: socket.socket, configurations: list[Configuration]
) -> None:
    """And talks to the master by its own end of the channel."""
    child = Child(kind, MAX_WORKERS, store=configurations[0].settings.store[0])
    assert RUN[kind](spawn(child, channel, configurations)) == 17
    assert channel in Recorder.arguments


@pytest.mark.usefixtures("_no_work")
def test_the_writer_knows_earlier_configurations_and_its_run(
    channel: socket.socket, configurations: list[Configuration]
) -> None:
    """Workers may have lines of them; the run is the higher part of the number of its spawn."""
    child = Child(Kind.WRITER, 0, spawn_id=(5 << RUN_BITS) + 3)
    RUN[Kind.WRITER](spawn(child, channel, configurations))
    assert configurations in Recorder.arguments
    assert Recorder.arguments[-1] == 5


@pytest.mark.usefixtures("_no_work")
def test_a_worker_begins_with_the_current_configuration(
    channel: socket.socket, configurations: list[Configuration]
) -> None:
    """The last one."""
    RUN[Kind.WORKER](spawn(Child(Kind.WORKER, 3, arena_fd=8), channel, configurations))
    assert configurations[1] in Recorder.arguments
    assert configurations not in Recorder.arguments
    assert (Recorder.arguments[0], *Recorder.arguments[-2:]) == (3, 8, [])


@pytest.mark.usefixtures("_no_work")
@pytest.mark.parametrize(("index", "stream"), [(1, "ONE"), (2, "TWO")])
def test_a_consumer_reads_its_own_source(
    index: int, stream: str, channel: socket.socket, configurations: list[Configuration]
) -> None:
    """They are counted from 1."""
    RUN[Kind.SOURCE](spawn(Child(Kind.SOURCE, MAX_WORKERS + 1 - index), channel, configurations))
    assert Recorder.arguments[-1].stream == stream


def test_a_shipper_without_a_store_is_an_error(channel: socket.socket, configurations: list[Configuration]) -> None:
    """It is not started with another one's."""
    with pytest.raises(ValueError, match="has no store"):
        RUN[Kind.SHIPPER](spawn(Child(Kind.SHIPPER, 0), channel, configurations))
