"""Connections move between two workers: each is read by one of them at any time, and none of its records is lost."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from prefork_logd.ingest import _core_py, core
from prefork_logd.ipc.messages import TakeOver
from prefork_logd.ipc.scoreboard import Field, Scoreboard
from prefork_logd.net.loop import Timer
from prefork_logd.processes.worker import deadlines, shares
from prefork_logd.processes.worker.handover import make_pair
from prefork_logd.processes.worker.migration import ANSWER_S, ARRIVAL_S, COMMIT_S, LEAVE_S
from tests.support import wire
from tests.support.inprocess import Pair, configuration, frame, is_closed, said

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Mover:
    """A worker whose long timers fire when a test says so, and what it has reported about its moves."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.worker = pair.worker
        self.moving = pair.worker.migration
        self.done: list[tuple[int, str]] = []
        self.moving._done = lambda left, problem: self.done.append((left, problem))
        self._timers: list[tuple[float, Timer]] = []
        self.worker.loop.later = self._later  # type: ignore[method-assign]

    def _later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        timer = Timer(0.0, call)
        self._timers.append((delay_s, timer))
        return timer

    def pass_s(self, delay_s: float) -> None:
        """Let the pending timers of this delay fire."""
        due = [timer for delay, timer in self._timers if delay == delay_s and timer.pending]
        assert due, f"no timer of {delay_s} s"
        for timer in due:
            timer.fire()

    def socket_to(self, other: Mover) -> socket.socket:
        """Return the giver's end of a pair; the other worker has the taker's."""
        given, taken = make_pair()
        other.worker._handle_message(TakeOver(), [taken.detach()])
        return given

    def turn(self, *others: Mover, count: int = 4) -> None:
        for _ in range(count):
            for one in (self, *others):
                one.pair.turn()

    @property
    def messages(self) -> list[str]:
        """The messages of the lines that were committed."""
        return [json.loads(line)["message"] for line in self.pair.writer.lines]

    @property
    def held(self) -> int:
        return int(self.worker.counters[Field.CONNECTIONS])


@pytest.fixture
def movers() -> Iterator[tuple[Mover, Mover, Mover]]:
    """Return three workers on one scoreboard."""
    board = Scoreboard()
    pairs = [Pair(slot=slot, board=board) for slot in (1, 2, 3)]
    one, two, three = map(Mover, pairs)
    yield one, two, three
    for pair in pairs:
        pair.close()


Movers = tuple[Mover, Mover, Mover]


def test_all_connections_go_to_the_other_worker(movers: Movers) -> None:
    """Plain ones, sessions, JSON lines, an idle one: each goes on where it was, within a record."""
    one, two, _ = movers
    plain, json_lines, idle = one.pair.connect(), one.pair.connect(), one.pair.connect()
    plain.sendall(frame("first") + frame("half")[:-3])
    json_lines.sendall(b'{"message":"line"}\n{"message":"ha')
    one.turn()
    one.moving.hand_over((0,), -1, [one.socket_to(two)])
    one.turn(two)
    assert (one.held, two.held, one.done) == (0, 3, [(0, "")])
    assert not one.moving.busy
    assert not two.moving.gives
    plain.sendall(frame("half")[-3:])
    json_lines.sendall(b'lf line"}\n')
    idle.sendall(frame("idle"))
    two.turn()
    assert sorted(one.messages) == ["first", "line"]
    assert sorted(two.messages) == ["half", "half line", "idle"]
    assert not any(map(is_closed, (plain, json_lines, idle)))


def test_a_session_goes_on_with_its_next_number(movers: Movers) -> None:
    """Its acknowledgements come from the new worker."""
    one, two, _ = movers
    client = one.pair.welcome()
    client.sendall(wire.batch(1, frame("a")[4:]))
    one.turn()
    assert said(client)[-1] == (0x83, (1).to_bytes(8, "big"))
    two.pair.writer.sessions = one.pair.writer.sessions
    one.moving.hand_over((0,), -1, [one.socket_to(two)])
    one.turn(two)
    client.sendall(wire.batch(2, frame("b")[4:]))
    two.turn()
    assert two.messages == ["b"]
    assert said(client)[-1] == (0x83, (2).to_bytes(8, "big"))


@pytest.mark.parametrize(
    ("loads", "count", "expected"),
    [
        ((0, 0), 4, (2, 2)),
        ((10, 0), 4, (0, 4)),
        ((3, 0), 5, (1, 4)),
        ((0, 0), -1, (5, 5)),
        ((0, 0), 0, (0, 0)),
        ((0, 0), 99, (5, 5)),
    ],
)
def test_connections_are_shared_out_by_load(
    movers: Movers, loads: tuple[int, int], count: int, expected: tuple[int, int]
) -> None:
    """The emptier worker gets more; what is not given stays, and is served here."""
    one, two, three = movers
    clients = [one.pair.connect() for _ in range(10)]
    one.turn()
    one.moving.hand_over(loads, count, [one.socket_to(two), one.socket_to(three)])
    one.turn(two, three)
    assert (two.held, three.held) == expected
    assert one.held == 10 - sum(expected)
    assert one.done == [(one.held, "")]
    for client in clients:
        client.sendall(frame())
    one.turn(two, three)
    assert len(one.messages + two.messages + three.messages) == 10


def test_nothing_moves_before_its_lines_are_committed(movers: Movers) -> None:
    """If that takes too long, the connection stays, and is read here again."""
    one, two, _ = movers
    client = one.pair.connect()
    client.sendall(frame("waits"))
    one.worker.loop.turn(0)
    one.moving.hand_over((0,), -1, [one.socket_to(two)])
    client.sendall(frame("later"))
    for _ in range(3):
        one.worker.loop.turn(0)
        two.pair.turn()
    assert (one.held, two.held, one.moving.busy) == (1, 0, True)
    one.pass_s(COMMIT_S)
    assert one.done == [(1, "their last lines were not written in 2 s")]
    assert not one.moving.busy
    one.turn(two)
    assert one.messages == ["waits", "later"]
    assert two.held == 0


def test_a_worker_that_does_not_answer_gets_nothing(movers: Movers) -> None:
    """A stopped one never does; when it goes on, it finds the offer cancelled, and has closed no connection."""
    one, two, _ = movers
    client = one.pair.connect()
    one.turn()
    one.moving.hand_over((0,), -1, [one.socket_to(two)])
    one.turn()
    assert one.moving.gives
    one.pass_s(ANSWER_S)
    assert one.done == [(1, "another worker did not answer in 2 s")]
    two.turn()
    assert (one.held, two.held, two.moving.busy) == (1, 0, False)
    client.sendall(frame("here"))
    one.turn(two)
    assert (one.messages, two.messages) == (["here"], [])


def test_a_worker_that_has_died_gets_nothing(movers: Movers) -> None:
    """Its end of the pair is closed, before the offer or after it."""
    one, *_ = movers
    client = one.pair.connect()
    one.turn()
    for dies_first in (True, False):
        given, taken = make_pair()
        if dies_first:
            taken.close()
        one.moving.hand_over((0,), -1, [given])
        one.turn()
        taken.close()
        one.turn()
        assert not one.moving.busy
        assert one.done.pop()[0] == 1
    client.sendall(frame("here"))
    one.turn()
    assert one.messages == ["here"]


def test_a_worker_without_descriptors_refuses(movers: Movers, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the group stay where they were, and the problem is told."""
    one, two, _ = movers
    clients = [one.pair.connect() for _ in range(3)]
    one.turn()
    added: list[int] = []
    real = two.worker.loop.add

    def add(fd: int, handler: object, events: int) -> None:
        added.append(fd)
        if len(added) == 3:
            raise OSError(28, os.strerror(28))
        real(fd, handler, events)  # type: ignore[arg-type]

    sock = one.socket_to(two)
    monkeypatch.setattr(two.worker.loop, "add", add)
    one.moving.hand_over((0,), -1, [sock])
    one.turn(two)
    assert one.done == [(3, "another worker could not take them")]
    assert (one.held, two.held) == (3, 0)
    for client in clients:
        client.sendall(frame())
    one.turn(two)
    assert len(one.messages) == 3


def test_a_client_that_leaves_while_it_moves_is_left_out(movers: Movers) -> None:
    """The others arrive."""
    one, two, _ = movers
    leaving, staying = one.pair.connect(), one.pair.connect()
    one.turn()
    sock = one.socket_to(two)
    connection = one.pair.connection(0)
    staying.sendall(frame("x"))
    one.worker.loop.turn(0)
    one.moving.hand_over((0,), -1, [sock])
    one.worker.close(connection)
    one.turn(two)
    assert (one.held, two.held, one.done) == (0, 1, [(0, "")])
    assert is_closed(leaving)
    assert not is_closed(staying)


def test_a_half_received_record_keeps_its_time(movers: Movers) -> None:
    """It gets none by moving."""
    one, two, _ = movers
    client = one.pair.connect()
    client.sendall(frame()[:-1])
    one.turn()
    before = one.worker.deadlines.left_s(one.pair.connection())
    one.moving.hand_over((0,), -1, [one.socket_to(two)])
    one.turn(two)
    after = two.worker.deadlines.left_s(two.pair.connection())
    assert before is not None
    assert after is not None
    assert after <= before


def test_a_half_received_record_counts_in_its_new_worker(movers: Movers, tmp_path: Path) -> None:
    """Its client has nothing to send for that; above the memory of the limit the connection with the most is closed."""
    one, two, _ = movers
    toml = "[limits]\nmax_record_bytes = 20000\n[[limit]]\nmemory = 40000\n"
    clients = []
    for mover, sizes in ((one, (9000, 15_000)), (two, (8000, 12_000))):
        mover.worker._configure(configuration(tmp_path / "limits.toml", toml))
        for nbytes in sizes:
            clients.append(mover.pair.connect("10.0.0.1:1"))
            clients[-1].sendall((20_000).to_bytes(4, "big") + bytes(nbytes))
    one.turn(two)
    one.moving.hand_over((0,), -1, [one.socket_to(two)])
    one.turn(two)
    assert (one.held, two.held) == (0, 4)
    two.pass_s(0.0)
    assert [is_closed(client) for client in clients] == [False, True, False, False]
    (known,) = two.worker.limits._clients.values()
    assert known.held_bytes == 29_000 + 3 * 4


def test_half_received_records_from_other_workers_are_bounded_together(
    movers: Movers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where workers become fewer, one gets those of all."""
    one, two, _ = movers
    monkeypatch.setattr(deadlines, "HELD_BYTES", 40_000)
    clients = []
    for mover, sizes in ((one, (9000, 15_000)), (two, (8000, 12_000))):
        for nbytes in sizes:
            clients.append(mover.pair.connect("10.0.0.1:1"))
            clients[-1].sendall((20_000).to_bytes(4, "big") + bytes(nbytes))
    one.turn(two)
    one.moving.hand_over((0,), -1, [one.socket_to(two)])
    one.turn(two)
    two.pass_s(0.0)
    assert [is_closed(client) for client in clients] == [False, True, False, False]


def test_a_giver_that_offers_nothing_keeps_no_worker_from_ending(movers: Movers) -> None:
    """It may hang: after a while it is waited for no longer."""
    one, two, _ = movers
    given = one.socket_to(two)
    two.turn()
    assert two.moving.busy
    two.pass_s(ARRIVAL_S)
    assert not two.moving.busy
    given.close()


def test_without_connections_a_move_is_done_at_once(movers: Movers) -> None:
    """And its sockets are closed."""
    one, two, _ = movers
    one.moving.hand_over((0,), -1, [one.socket_to(two)])
    assert one.done == [(0, "")]
    two.turn()
    assert not two.moving.busy


@pytest.fixture
def python_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take frames one by one: the compiled core takes ten of them before it looks at the time."""
    monkeypatch.setattr(core, "Core", _core_py.Core)


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_client_that_sends_without_end_lets_its_worker_end(
    python_core: None,
    movers: Movers,
    monkeypatch: pytest.MonkeyPatch,
    is_taken: bool,
) -> None:
    """What was read of it is taken, and no more, so that the next move can have it; without one it is read again."""
    monkeypatch.setattr(shares, "SLICE_S", 0.0)
    one, two, _ = movers
    client = one.pair.connect()
    client.sendall(frame() * 10)
    one.pair.turn()
    connection = one.pair.connection()
    assert connection.unfinished
    one.moving.hand_over((0,), -1, [one.socket_to(two)])
    assert one.done == [(1, "")]
    for _ in range(15):
        client.sendall(frame())
        one.turn(two, count=1)
    assert not connection.unfinished
    assert len(one.messages) == 10
    if is_taken:
        one.moving.hand_over((0,), -1, [one.socket_to(two)])
        one.turn(two, count=30)
        assert (one.held, two.held) == (0, 1)
    else:
        one.pass_s(LEAVE_S)
        one.turn(two, count=30)
        assert (one.held, two.held) == (1, 0)
    assert len(one.messages + two.messages) == 25
