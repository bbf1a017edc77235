"""Messages arrive whole and in order, with their descriptors, and none blocks who sends it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.load import loads
from prefork_logd.ipc.channel import _MOST_A_TURN, Channel
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.messages import Attach, Configured, Ready, Reopen, Retire
from prefork_logd.net.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator


class End:
    """One end of a channel that keeps what it is told."""

    def __init__(self, loop: Loop, sock: object) -> None:
        self.messages: list[object] = []
        self.fds: list[int] = []
        self.closed = False
        self.channel = Channel(loop, sock, self._received, self._closed)  # type: ignore[arg-type]

    def _received(self, message: object, fds: list[int]) -> None:
        self.messages.append(message)
        self.fds += fds

    def _closed(self) -> None:
        self.closed = True


@pytest.fixture
def ends() -> Iterator[tuple[End, End, Loop]]:
    loop = Loop()
    first, second = (End(loop, sock) for sock in Channel.pair())
    yield first, second, loop
    first.channel.close()
    second.channel.close()
    loop.close()


def test_an_endless_sender_leaves_the_loop_its_turn(ends: tuple[End, End, Loop]) -> None:
    """A turn reads so many messages at most; the others are read in the next ones."""
    first, second, loop = ends
    first.channel._sock.setblocking(False)
    for _ in range(2000):
        first.channel.send(Retire())
    read: list[int] = []
    while not read or len(second.messages) > sum(read):
        read.append(len(second.messages) - sum(read))
        loop.turn(0)
    assert len(second.messages) == 2000
    assert max(read) <= _MOST_A_TURN


def test_a_message_that_fails_is_reported() -> None:
    """What cannot be read, and what leads to an error, goes to `failed`; nothing is raised into the loop."""
    loop = Loop()
    ours, theirs = Channel.pair()
    failures: list[Exception] = []

    def received(message: object, fds: list[int]) -> None:
        raise LookupError(f"{message} and {fds}")

    channel = Channel(loop, ours, received, list, failures.append)
    for data in (b"[" * 60_000, b'{"type": "NoSuch"}', b"\xff", b'{"type": "retire"}'):
        theirs.send(data)
        loop.turn(1)
    assert len(failures) == 4
    assert isinstance(failures[-1], LookupError)
    channel.close()
    theirs.close()
    loop.close()


def test_messages_arrive_in_order_with_their_descriptors(ends: tuple[End, End, Loop]) -> None:
    """A descriptor that was sent is open at the other side, and closed at this one."""
    first, second, loop = ends
    read_fd, write_fd = os.pipe()
    first.channel.send(Attach(7), [write_fd])
    first.channel.send(Retire())
    loop.turn(0)
    assert second.messages == [Attach(7), Retire()]
    os.write(second.fds[0], b"x")
    assert os.read(read_fd, 1) == b"x"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(write_fd) if write_fd != second.fds[0] else os.fstat(-1)
    os.close(second.fds[0])
    os.close(read_fd)


def test_the_death_of_the_other_side_is_told_once(ends: tuple[End, End, Loop]) -> None:
    """End-of-file ends the channel; what is sent later goes nowhere, and says nothing."""
    first, second, loop = ends
    first.channel.send(Ready("last words"))
    first.channel.close()
    loop.turn(0)
    assert second.messages == [Ready("last words")]
    assert second.closed
    second.channel.send(Retire())
    assert not second.channel.open


@pytest.mark.slow
def test_sending_to_a_stopped_child_never_blocks(ends: tuple[End, End, Loop]) -> None:
    """What it does not take waits, in order; and of reopenings only the last."""
    first, second, loop = ends
    for number in range(3000):
        first.channel.send(Configured(number))
        first.channel.send(Reopen(number))
    while len(second.messages) < 3000 or second.messages[-1] != Reopen(2999):
        loop.turn(0)
    configured = [message for message in second.messages if isinstance(message, Configured)]
    assert configured == [Configured(number) for number in range(3000)]
    assert len(second.messages) < 6000


@pytest.mark.slow
def test_a_configuration_of_any_size_passes_through_a_file() -> None:
    """Settings have no bound, messages have."""
    text = "".join(f'[[output]]\nname = "o{number}"\nlevel = {number}\n' for number in range(1000))
    settings = loads(text, "", {"state_dir": "/state"})
    configuration = Configuration(3, settings, tuple(range(1, 1001)))
    assert Configuration.from_file(configuration.to_file()) == configuration
