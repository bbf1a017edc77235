"""A child that does not answer is noticed, and waited for once and not for long."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from prefork_logd.ipc.channel import Channel
from prefork_logd.net.loop import Loop
from prefork_logd.processes.master import probing
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import State
from prefork_logd.system import hanging

if TYPE_CHECKING:
    from collections.abc import Iterator


class World:
    """A loop, and children with both ends of their channels in it; messages must reach no owner of one."""

    def __init__(self) -> None:
        self.loop = Loop()
        self._channels: list[Channel] = []

    def child(self) -> Child:
        """Return a child as the master has it."""
        ours, theirs = Channel.pair()
        for sock in (ours, theirs):
            self._channels.append(Channel(self.loop, sock, self._received, lambda: None))
        child = Child(Kind.WORKER, 1, State.RUNNING, os.getpid())
        child.channel = self._channels[-2]
        return child

    def hang(self) -> None:
        """Let the last child read nothing more."""
        self.loop.change(self._channels[-1].fd, 0)

    def _received(self, *_: object) -> None:
        pytest.fail("a probe was passed on")

    def close(self) -> None:
        """Close everything."""
        for channel in self._channels:
            channel.close()
        self.loop.close()


@pytest.fixture
def world() -> Iterator[World]:
    """Return a loop and its children, closed afterwards."""
    world = World()
    yield world
    world.close()


def ask(loop: Loop, probes: probing.Probes, *children: Child) -> None:
    """Ask, and turn the loop until the question is done with."""
    done: list[bool] = []
    probes.probe_all(children, lambda: done.append(True))
    for _ in range(1000):
        if done:
            break
        loop.turn(0.01)
    assert done
    assert not probes.pending


def test_a_child_that_turns_has_answered(world: World) -> None:
    """Its channel answers by itself, as often as it is asked."""
    child, probes = world.child(), probing.Probes(world.loop)
    for _ in range(2):
        ask(world.loop, probes, child)
        assert child.channel is not None
        assert child.channel.silent_since_s is None
        assert probing.silence(child) == {"silent_s": 0.0, "doing": ""}


def test_a_child_that_hangs_is_waited_for_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next question finds it silent for longer, without waiting again."""
    monkeypatch.setattr(probing, "PATIENCE_S", 0.02)
    child, probes = world.child(), probing.Probes(world.loop)
    world.hang()
    ask(world.loop, probes, child)
    silence = probing.silence(child)
    assert silence["silent_s"] >= 0.02
    assert silence["doing"] == "busy"
    done: list[bool] = []
    probes.probe_all([child], lambda: done.append(True))
    assert done, "it was not waited for"


@pytest.mark.parametrize("change", [{"channel": None}, {"state": State.GONE}, {"is_inherited": True}])
def test_a_child_that_cannot_be_asked_is_not_silent(world: World, change: dict[str, object]) -> None:
    """It has ended, or is of the program before."""
    child = world.child()
    for name, value in change.items():
        setattr(child, name, value)
    ask(world.loop, probing.Probes(world.loop), child)
    assert probing.silence(child)["silent_s"] == 0


@pytest.mark.slow
def test_what_a_process_does_is_said() -> None:
    """A stopped one, one that waits, this one, and one that is none."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        assert hanging.describe(pid) == f"stopped by a signal; kill -CONT {pid} continues it"
        assert hanging.describe(os.getpid()) == "busy"
        assert hanging.describe_family(os.getpid()).startswith(f"master (pid {os.getpid()}): busy")
        assert f"(pid {pid}): stopped" in hanging.describe_family(os.getpid())
        assert hanging.describe_family(0) == "its processes cannot be seen from here"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert hanging.describe(pid) == ""
