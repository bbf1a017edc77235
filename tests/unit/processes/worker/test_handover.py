"""Descriptors change hands once, whoever dies in between, and are never closed."""

from __future__ import annotations

import errno
import gc
import os
import socket
from typing import TYPE_CHECKING

import pytest

from prefork_logd.inputs.state import ConnectionState, pack_one
from prefork_logd.net.loop import Loop
from prefork_logd.processes.worker.handover import GROUP, Giver, Taker, make_pair
from tests.support import procfs

if TYPE_CHECKING:
    from collections.abc import Iterator


class Ends:
    """Both ends in one process, and what they were told."""

    def __init__(self) -> None:
        self.loop = Loop()
        given, taken = make_pair()
        self.giver = Giver(self.loop, given, self)
        self.taker = Taker(self.loop, taken, self)
        self.wants = True
        self.said: list[str] = []
        self.states: list[ConnectionState] = []
        self.fds: list[int] = []

    def accepted(self, giver: Giver) -> None:
        self.said.append("taken")

    def refused(self, giver: Giver) -> None:
        self.said.append("not taken")

    def prepare(self, states: list[ConnectionState], fds: list[int]) -> bool:
        if self.wants:
            self.states, self.fds = states, fds
        return self.wants

    def begin(self) -> None:
        self.said.append("begin")

    def discard(self) -> None:
        self.said.append("discard")
        self._close_fds()

    def ended(self, taker: Taker) -> None:
        self.said.append("ended")

    def turn(self) -> None:
        for _ in range(3):
            self.loop.turn(0)

    def _close_fds(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def close(self) -> None:
        self.giver.close()
        self.turn()
        self._close_fds()
        self.loop.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.close()


@pytest.fixture
def client() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def offer(ends: Ends, sock: socket.socket, count: int = 1) -> bool:
    states = [pack_one(ConnectionState(f"peer {number}", "any")) for number in range(count)]
    return ends.giver.offer(states, [sock.fileno()] * count)


def test_a_connection_changes_hands(ends: Ends, client: tuple[socket.socket, socket.socket]) -> None:
    """What the taker gets is the same connection, and its state; it begins when the giver says so."""
    ours, theirs = client
    assert offer(ends, theirs)
    ends.turn()
    assert ends.said == ["taken"]
    assert [state.peer for state in ends.states] == ["peer 0"]
    assert ends.giver.go()
    theirs.close()
    ends.turn()
    assert ends.said == ["taken", "begin"]
    ours.sendall(b"to whoever has it")
    assert os.read(ends.fds[0], 100) == b"to whoever has it"
    assert not os.get_inheritable(ends.fds[0])


def test_a_whole_group_fits_into_a_message(ends: Ends, client: tuple[socket.socket, socket.socket]) -> None:
    """As many as are offered at once do arrive."""
    assert offer(ends, client[1], GROUP)
    ends.turn()
    assert (ends.said, len(ends.fds)) == (["taken"], GROUP)


def test_the_giver_can_change_its_mind(ends: Ends, client: tuple[socket.socket, socket.socket]) -> None:
    """What is taken back is not begun, although the end of the giver's words follows."""
    assert offer(ends, client[1])
    ends.turn()
    ends.giver.close()
    ends.turn()
    assert ends.said == ["taken", "discard", "ended"]


def test_a_giver_that_offers_nothing_is_waited_for_no_longer(
    ends: Ends, client: tuple[socket.socket, socket.socket]
) -> None:
    """It may be stopped; when it goes on it finds out, and keeps its connections."""
    ends.taker.give_up()
    assert ends.said == ["ended"]
    assert not offer(ends, client[1])
    ends.taker.give_up()
    assert ends.said == ["ended"]


def test_an_offer_is_waited_for(ends: Ends, client: tuple[socket.socket, socket.socket]) -> None:
    """Once something was offered, only the giver can end it, also where it had not been read yet."""
    assert offer(ends, client[1])
    ends.taker.give_up()
    ends.turn()
    assert ends.said == ["taken"]
    ends.taker.give_up()
    assert ends.giver.go()
    ends.turn()
    assert ends.said == ["taken", "begin"]


def test_what_a_dead_giver_has_offered_is_the_takers(ends: Ends, client: tuple[socket.socket, socket.socket]) -> None:
    """A giver that was killed has said neither GO nor CANCEL: nobody else has the connection."""
    assert offer(ends, client[1])
    ends.turn()
    _die(ends.giver, ends.loop)
    ends.turn()
    assert ends.said == ["taken", "begin", "ended"]


def test_an_offer_that_nobody_has_read_outlives_its_giver(
    ends: Ends, client: tuple[socket.socket, socket.socket]
) -> None:
    """The kernel keeps the message, and the descriptors in it."""
    ours, theirs = client
    assert offer(ends, theirs)
    _die(ends.giver, ends.loop)
    theirs.close()
    ends.turn()
    assert ends.said == ["begin", "ended"]
    ours.sendall(b"x")
    assert os.read(ends.fds[0], 1) == b"x"


def test_a_dead_taker_leaves_the_connection_where_it_was(
    ends: Ends, client: tuple[socket.socket, socket.socket]
) -> None:
    """Before its answer and after it: as long as it was not told to go, nothing has changed hands."""
    assert offer(ends, client[1])
    ends.turn()
    _die(ends.taker, ends.loop)
    assert not ends.giver.go()
    assert not offer(ends, client[1])
    ends.turn()
    assert ends.said[:2] == ["taken", "not taken"]


def test_a_taker_may_refuse(ends: Ends, client: tuple[socket.socket, socket.socket]) -> None:
    """What is not wanted stays with the giver, and nothing of it is left open at the taker."""
    before = _descriptors()
    ends.wants = False
    assert offer(ends, client[1])
    ends.turn()
    assert ends.said == ["not taken"]
    assert _descriptors() == before


def test_an_offer_without_a_descriptor_left_is_not_made(
    ends: Ends, client: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The giver keeps its connections: the states go in a file, and the process may have none left to open."""

    def memfd_create(name: str, flags: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), (name, flags))

    monkeypatch.setattr(os, "memfd_create", memfd_create)
    assert not offer(ends, client[1])
    ends.turn()
    assert ends.said == []


def test_a_part_of_an_offer_is_none(ends: Ends, client: tuple[socket.socket, socket.socket]) -> None:
    """Where the taker has no descriptors left, the kernel drops some (MSG_CTRUNC): then it takes none of them."""
    before = _descriptors()
    assert ends.giver.offer([pack_one(ConnectionState("peer", "any"))] * 3, [client[1].fileno()] * 2)
    ends.turn()
    assert ends.said == ["not taken"]
    assert _descriptors() == before


def test_states_that_are_not_understood_are_refused(
    ends: Ends, client: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A giver of another version may say what this one does not know."""
    for data in (b"no msgpack at all", b"\x82\xabconnections\x90\xa6format\x63"):
        monkeypatch.setattr("prefork_logd.processes.worker.handover.pack", lambda _, data=data: data)
        assert offer(ends, client[1])
        ends.turn()
    assert ends.said == ["not taken"] * 2


def _descriptors() -> int:
    gc.collect()  # those that objects of tests before hold
    return procfs.descriptors(os.getpid())


def _die(end: Giver | Taker, loop: Loop) -> None:
    """Close an end as the kernel does for a process that is killed: without a word."""
    loop.remove(end._sock.fileno())
    end._sock.close()
    if isinstance(end, Giver):
        end._offered = False
