"""A source's life: commits lead to acknowledgements, and a reload is settled once older lines are committed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.outputs import OutputSettings
from prefork_logd.config.server import ServerSettings
from prefork_logd.config.settings import Settings
from prefork_logd.config.sources import NatsSourceSettings
from prefork_logd.errors import StoreError
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.messages import Configure, Drain, StatusReport
from prefork_logd.ipc.scoreboard import Scoreboard
from prefork_logd.processes.consumer import consumer
from prefork_logd.processes.consumer.consumer import FAST_WRITES_S, LAST_WRITES_S, ORPHAN_S, NatsSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Rig:
    """A source without a master, a writer and servers."""

    def __init__(self, state_dir: Path) -> None:
        settings = Settings(
            server=ServerSettings(state_dir=str(state_dir)), output=(OutputSettings(name="a", path="a"),)
        )
        self.configuration = Configuration(1, settings, (1,), ())
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.source = NatsSource(1, Scoreboard(), self.theirs, self.configuration, NatsSourceSettings())
        self.said: list[Any] = []
        self.source._channel.send = lambda message, fds=(): self.said.append(message)  # type: ignore[method-assign]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Return a source."""
    rig = Rig(tmp_path)
    with rig.ours, rig.theirs:
        yield rig


def test_a_reload_is_settled_after_the_commit_of_older_lines(rig: Rig) -> None:
    """Not before: an output that is gone may still get some."""
    source = rig.source
    source._messages._dispatcher.reject("nats", 0.0, "x", "y", b"z", 1)

    async def scenario() -> None:
        fd = Configuration(2, rig.configuration.settings, (1,), ()).to_file()
        source._handle_message(Configure(), [fd])
        assert [type(message).__name__ for message in rig.said] == ["Configured"]
        source._link._commits(source._link.next_number - 1)
        assert [type(message).__name__ for message in rig.said] == ["Configured", "Settled"]
        assert rig.said[-1].generation == 2

    asyncio.run(scenario())


def test_committed_messages_are_acknowledged(rig: Rig) -> None:
    """With one acknowledgement for each partition; a closed one is left alone."""
    acks: list[str] = []

    def partition(name: str, *, closed: bool) -> Any:
        async def ack() -> None:
            acks.append(name)

        return SimpleNamespace(closed=closed, to_acknowledge=lambda: SimpleNamespace(ack=ack))

    async def scenario() -> None:
        rig.source._partitions |= {0: partition("open", closed=False), 1: partition("closed", closed=True)}
        rig.source.batches_committed([])
        rig.source._partitions.clear()
        for _ in range(10):
            await asyncio.sleep(0)

    asyncio.run(scenario())
    assert acks == ["open"]
    assert rig.source._changed.is_set()


def test_a_failure_is_told_and_tried_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With one line in the log however often it fails the same way."""
    monkeypatch.setattr(consumer, "FIRST_RETRY_S", 0.001)
    source, tries = rig.source, 0

    async def read() -> None:
        nonlocal tries
        tries += 1
        if tries == 4:
            source._stopping.set()
        raise StoreError("nobody is there")

    source._read = read  # type: ignore[method-assign]
    asyncio.run(source._live())
    assert tries == 4
    assert rig.said == [StatusReport("nobody is there")]
    assert caplog.text.count("nobody is there") == 1
    assert source._exit_status == 0


@pytest.mark.parametrize(("fast", "longest_s"), [(False, LAST_WRITES_S), (True, FAST_WRITES_S)])
def test_a_stop(rig: Rig, fast: bool, longest_s: float) -> None:
    """A fast one leaves the writer less time."""
    rig.source._handle_message(Drain(fast), [])
    assert rig.source._stopping.is_set()
    assert rig.source._longest_s == longest_s
    rig.source._orphaned()
    assert rig.source._longest_s == ORPHAN_S


def test_a_bug_ends_the_source(rig: Rig) -> None:
    """An error of the connection does not: reading begins anew."""
    source = rig.source

    async def scenario() -> None:
        for error, is_bug in ((OSError("reset"), False), (StoreError("lost"), False), (KeyError("x"), True)):
            source._trouble = asyncio.get_running_loop().create_future()
            source._failed(asyncio.get_running_loop(), {"exception": error})
            assert source._stopping.is_set() == is_bug
            with contextlib.suppress(asyncio.InvalidStateError):
                assert source._trouble.result() in {"lost", "a bug"}
        assert isinstance(source._bug, KeyError)

    asyncio.run(scenario())
