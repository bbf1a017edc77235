"""A worker's turn is short, whatever its clients send, and memory is bounded within it, too."""

from __future__ import annotations

import pickle
import socket
import struct
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from prefork_logd.config.load import loads
from prefork_logd.ingest.dispatcher import BATCH_BYTES
from prefork_logd.inputs.base import Records
from prefork_logd.inputs.session import server as sessions
from prefork_logd.ipc.batch import COMMITTED, Answer, Group
from prefork_logd.ipc.batch_reader import BatchReader
from prefork_logd.ipc.channel import Channel
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.messages import Ping
from prefork_logd.ipc.scoreboard import Field, Scoreboard
from prefork_logd.net import loop as loops
from prefork_logd.processes.worker import migration as movings
from prefork_logd.processes.worker import worker as workers
from prefork_logd.processes.worker.handover import make_pair
from prefork_logd.processes.worker.worker import Worker
from tests.parity import dearest
from tests.support import wire
from tests.support.assemble import text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.processes.worker.connection import Connection

RECORD = pickle.dumps({"name": "n", "msg": "honest", "args": None, "created": 1.5, "levelno": 20}, 2)
SLOW = dearest.record(dearest.again(text("\udcff" * 300), 2_000), slow=True)
LARGE = dearest.record(dearest.again(text("\x01" * 300), 2_000))
QUEUE_BYTES = 1 << 20
MOST_TURNS = 10_000


class Whole:
    """A worker without a writer, and the batches it holds."""

    def __init__(self) -> None:
        self.master, channel = Channel.pair()
        self.master.setblocking(False)
        settings = loads(f"store = []\n[limits]\nqueue_bytes = {QUEUE_BYTES}\n", "", {"state_dir": "/nowhere"})
        self.worker = Worker(1, Scoreboard(), [], channel, Configuration(1, settings, (1,)))

    def connect(self, *data: bytes) -> socket.socket:
        """Return a client that has sent something."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.worker._admit("any", ours.detach(), "peer")
        for piece in data:
            theirs.sendall(piece)
        return theirs

    def turn(self) -> None:
        self.worker.loop.turn(0)

    @property
    def records(self) -> int:
        return int(self.worker.counters[Field.RECORDS])

    def take(self) -> list[Group]:
        """Return what was passed on, and let it be committed."""
        link = self.worker.link
        groups: list[Group] = []
        last = 0
        for held in list(link._batches):
            reader, written, batch = BatchReader(), b"".join(map(bytes, held.batch.pieces)), None
            while batch is None:
                room = reader.want()
                room[:], written = written[: len(room)], written[len(room) :]
                batch = reader.filled(len(room))
            groups += batch.groups
            last = held.number
        if last:
            link.handle_answers([Answer(COMMITTED, bytes(16), last, 0, 0)])
        return groups

    def close(self) -> None:
        for connection in list(self.worker.connections.values()):
            self.worker.close(connection)
        self.worker._channel.close()
        self.master.close()
        self.worker.loop.close()


@pytest.fixture
def whole() -> Iterator[Whole]:
    whole = Whole()
    yield whole
    whole.close()


def framed(body: bytes, count: int = 1) -> bytes:
    return (struct.pack(">I", len(body)) + body) * count


def held(connection: Connection) -> int:
    """Return the bytes that were read from a connection and not taken yet."""
    records = [event for event in connection.unhandled_events if isinstance(event, Records)]
    assert connection.input is not None
    nbytes = sum(len(run.data) for event in records for run in event.runs)
    return len(connection.rest) + nbytes + connection.input.held_bytes * connection.unfinished


def lines(groups: list[Group]) -> int:
    return sum(bytes(segment.data).count(b"\n") for group in groups for segment in group.segments)


def test_others_and_the_master_come_between_the_frames_of_one(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose frames take long is left in the middle of what was read of it, and gone on with."""
    monkeypatch.setattr(workers, "SLICE_S", 0.0)
    count = 200_000 // len(SLOW)
    with whole.connect(framed(SLOW, count)) as hostile:
        whole.turn()
        assert whole.records == 1
        with whole.connect(framed(RECORD, 3)):
            whole.master.send(msgspec.json.encode(Ping()))
            whole.turn()
            whole.turn()
            assert whole.master.recv(100)
            assert whole.records <= 6
            for _ in range(MOST_TURNS):
                if whole.records == count + 3:
                    break
                whole.turn()
                whole.take()
            assert whole.records == count + 3
        hostile.close()
        whole.turn()


@pytest.mark.slow
def test_a_turn_is_short_whatever_is_sent(whole: Whole) -> None:
    """Twenty clients whose every frame is left to Python."""
    count = 100_000 // len(SLOW)
    clients = [whole.connect(framed(SLOW, count)) for _ in range(20)]
    longest = 0.0
    for _ in range(MOST_TURNS):
        if whole.records == 20 * count:
            break
        start = time.thread_time()
        whole.turn()
        longest = max(longest, time.thread_time() - start)
        whole.take()
    assert whole.records == 20 * count
    assert longest < 0.1  # 20 ms on a machine at rest
    for client in clients:
        client.close()


def test_no_deadline_runs_while_we_have_something_to_take(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client is not at fault for a frame that is half received while its frames before that wait for their turn."""
    monkeypatch.setattr(workers, "SLICE_S", 0.0)
    with whole.connect(framed(SLOW, 3) + framed(SLOW)[:-1]) as client:
        whole.turn()
        (connection,) = whole.worker.connections.values()
        assert connection.unfinished
        assert whole.worker.rest_bytes == held(connection) > 2 * len(SLOW)
        while connection.unfinished:
            assert whole.worker.deadlines.left_s(connection) is None
            whole.turn()
        assert whole.worker.deadlines.left_s(connection) is not None
        client.sendall(framed(SLOW)[-1:])
        whole.turn()
        assert whole.worker.deadlines.left_s(connection) is None
        assert whole.records == 4


def test_the_high_water_mark_holds_within_a_run(whole: Whole) -> None:
    """Frames that become many lines stop where the queue is full; the rest is taken when there is room."""
    count = 250_000 // len(LARGE)
    assert count * 16 * len(LARGE) > 2 * QUEUE_BYTES
    with whole.connect(framed(LARGE, count)):
        taken = 0
        for _ in range(MOST_TURNS):
            whole.turn()
            assert whole.worker.link.held_bytes <= QUEUE_BYTES + BATCH_BYTES + 2 * 17 * len(LARGE)
            if whole.worker.paused:
                taken += lines(whole.take())
            if whole.records == count:
                break
        assert taken + lines(whole.take()) == count


@pytest.mark.parametrize("frame", [SLOW, LARGE], ids=["slow", "large"])
def test_a_session_goes_on_with_the_next_number(whole: Whole, monkeypatch: pytest.MonkeyPatch, frame: bytes) -> None:
    """Events read and not taken are taken later, each number once and in order, and then the session's end."""
    monkeypatch.setattr(workers, "SLICE_S", 0.0)
    many = 60_000 // len(frame)
    with whole.connect(wire.hello()) as client:
        whole.turn()
        whole.worker.session_opened(1, 1, 0)
        messages = [wire.batch(1, *[frame] * many), wire.batch(many + 1, frame, RECORD), wire.gap(many + 3, 2)]
        client.sendall(b"".join(messages) + wire.batch(many + 5, RECORD) + wire.bye())
        groups = whole.take()
        for _ in range(MOST_TURNS):
            if not whole.worker.connections:
                break
            whole.turn()
            groups += whole.take()
        assert not whole.worker.connections
    ranges = [(group.first, group.last) for group in groups if group.last >= group.first]
    assert ranges[0][0] == 1
    assert [first for first, _ in ranges[1:]] == [last + 1 for _, last in ranges[:-1]]
    assert ranges[-1][1] == many + 5
    assert lines(groups) == many + 3
    assert len(ranges) > 3
    assert whole.worker.counters[Field.RECEIVED_BYTES] == (many + 1) * len(frame) + 2 * len(RECORD)
    assert whole.worker.rest_bytes == 0


def test_others_come_between_the_messages_of_one(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the messages of a session are, and whatever they repeat: none of it is lost."""
    monkeypatch.setattr(sessions, "MOST_STEPS", 20)
    with whole.connect(wire.hello()) as client:
        whole.turn()
        whole.worker.session_opened(1, 1, 0)
        client.sendall(wire.batch(1, RECORD) + wire.batch(1, RECORD) * 300 + wire.gap(2, 1) + b"no message")
        (connection,) = whole.worker.connections.values()
        whole.turn()
        turns = 0
        while connection.rest:
            assert whole.worker.rest_bytes == len(connection.rest)
            turns += 1
            whole.turn()
        assert turns >= 300 // 20
        assert not whole.worker.connections
        assert whole.worker.rest_bytes == 0
        assert whole.worker.counters[Field.DROPPED] == 1
        assert lines(whole.take()) == 2  # the record, and why it was closed


def test_a_session_that_breaks_the_rules_is_closed_after_what_came_before(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records before the violation are taken, in turns of their own; the reply and the end come then."""
    monkeypatch.setattr(workers, "SLICE_S", 0.0)
    with whole.connect(wire.hello()) as client:
        whole.turn()
        whole.worker.session_opened(1, 1, 0)
        client.sendall(wire.batch(1, *[SLOW] * 5) + b"no message")
        whole.turn()
        assert whole.worker.connections
        for _ in range(20):
            whole.turn()
        assert not whole.worker.connections
        assert whole.records == 5
        kinds = [kind for kind, _ in wire.messages(client.recv(1 << 16))]
        assert len(kinds) == 2  # WELCOME and ERROR


@pytest.mark.parametrize("is_taken", [True, False])
def test_a_client_that_sends_without_end_lets_its_worker_end(
    whole: Whole, monkeypatch: pytest.MonkeyPatch, is_taken: bool
) -> None:
    """What was read of it is taken, and no more is read, so that the next move can have it; without one it is read."""
    monkeypatch.setattr(workers, "SLICE_S", 0.0)
    monkeypatch.setattr(movings, "LEAVE_S", 0.2)
    with whole.connect(framed(SLOW, 10)) as hostile:
        whole.turn()
        (connection,) = whole.worker.connections.values()
        moving = whole.worker.migration
        assert connection.unfinished
        given, taken = make_pair()
        moving.hand_over((0,), -1, [given])
        assert not moving.busy
        taken.close()
        for _ in range(15):
            hostile.sendall(framed(SLOW))
            whole.turn()
            whole.take()
        assert not connection.unfinished
        assert whole.records == 10
        if is_taken:
            given, taken = make_pair()
            moving.hand_over((0,), -1, [given])
            whole.turn()
            assert connection.held
            assert moving.gives
            moving.cancel()
            taken.close()
        else:
            time.sleep(0.2)
        for _ in range(60):
            whole.turn()
            whole.take()
        assert whole.records == 25


def test_what_waits_with_connections_is_bounded(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    """When many connections have more than there is time for, each is read in small pieces."""
    monkeypatch.setattr(workers, "SLICE_S", 0.0)
    monkeypatch.setattr("prefork_logd.processes.worker.connection.REST_BYTES", 300_000)
    monkeypatch.setattr(loops, "TURN_S", 1.0)
    clients = [whole.connect(framed(SLOW, 200_000 // len(SLOW))) for _ in range(10)]
    for _ in range(30):
        whole.turn()
        assert whole.worker.rest_bytes <= 300_000 + 262_144 + 10 * len(SLOW) + 4096
    assert whole.worker.rest_bytes == sum(map(held, whole.worker.connections.values()))
    for client in clients:
        client.close()


def test_a_turn_leaves_those_who_ask_again_when_it_was_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them is served in any case; the others come first in the next turn."""
    monkeypatch.setattr(loops, "TURN_S", 0.0)
    loop = loops.Loop()
    order: list[str] = []

    class Asking:
        def __init__(self, name: str) -> None:
            self.name = name

        def ready(self, _: int) -> None:
            order.append(self.name)
            loop.again(self)

    for name in "abc":
        loop.again(Asking(name))
    for _ in range(4):
        loop.turn(0)
    assert order == ["a", "b", "c", "a"]
    assert loop.crowded
    loop.close()
