"""A worker's turn is short, whatever its clients send, and memory is bounded within it, too."""

from __future__ import annotations

import contextlib
import json
import logging
import os
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
from prefork_logd.ipc.messages import Configure, Drain, Forget, HandOver, Ping
from prefork_logd.ipc.scoreboard import Field, Scoreboard
from prefork_logd.net import loop as loops
from prefork_logd.processes.worker import shares
from prefork_logd.processes.worker.handover import make_pair
from prefork_logd.processes.worker.worker import Worker
from tests.parity import dearest
from tests.support import wire
from tests.support.assemble import text
from tests.support.inprocess import Pair, configuration, frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.ipc.messages import AnyMessage
    from prefork_logd.processes.worker.connection import Connection

RECORD = pickle.dumps({"name": "n", "msg": "honest", "args": None, "created": 1.5, "levelno": 20}, 2)
SLOW = dearest.record(dearest.again(text("\udcff" * 300), 2_000), slow=True)
LARGE = dearest.record(dearest.again(text("\x01" * 300), 2_000))
QUEUE_BYTES = 1 << 20
RECORD_FRAME = frame()
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
    monkeypatch.setattr(shares, "SLICE_S", 0.0)
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


def test_who_sends_little_is_read_and_sent_on_before_those_who_wait(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records go to the writer before the next slice of a client that sends without end, not after it."""
    monkeypatch.setattr(shares, "SLICE_S", 0.0)
    with whole.connect(framed(SLOW, 200_000 // len(SLOW))), whole.connect(b"") as modest:
        whole.turn()
        whole.take()
        modest.sendall(framed(RECORD))
        sent: list[int] = []
        monkeypatch.setattr(whole.worker.link, "send", lambda batch, _: sent.append(batch.nbytes))
        whole.turn()
    assert len(sent) == 2


@pytest.mark.slow
def test_a_turn_is_short_whatever_is_sent(
    whole: Whole, monkeypatch: pytest.MonkeyPatch, in_service: tuple[float, float]
) -> None:
    """Twenty clients whose every frame is left to Python."""
    monkeypatch.setattr(loops, "TURN_S", in_service[0])
    monkeypatch.setattr(shares, "SLICE_S", in_service[1])
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
    monkeypatch.setattr(shares, "SLICE_S", 0.0)
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


def test_after_a_pause_those_who_have_used_least_come_first(whole: Whole) -> None:
    """Not those who were the first to be ready in it."""
    with whole.connect(framed(LARGE)), whole.connect(framed(LARGE)):
        whole.turn()
        greedy, modest = whole.worker.connections.values()
        greedy.paid_s, modest.paid_s = 2.0, 1.0
        whole.worker.paused = True
        for connection in (greedy, modest):
            whole.worker.postpone(connection)
        whole.worker.batches_committed([])
        assert list(whole.worker.loop._again) == [modest, greedy]


@pytest.mark.parametrize("frame", [SLOW, LARGE], ids=["slow", "large"])
def test_a_session_goes_on_with_the_next_number(whole: Whole, monkeypatch: pytest.MonkeyPatch, frame: bytes) -> None:
    """Events read and not taken are taken later, each number once and in order, and then the session's end."""
    monkeypatch.setattr(shares, "SLICE_S", 0.0)
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
    assert lines(groups) == many + 4  # the records, and the entry about the gap
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
        assert lines(whole.take()) == 3  # the record, the gap, and why it was closed


def test_a_session_that_breaks_the_rules_is_closed_after_what_came_before(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records before the violation are taken, in turns of their own; the reply and the end come then."""
    monkeypatch.setattr(shares, "SLICE_S", 0.0)
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


def test_what_waits_with_connections_is_bounded(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    """When many connections have more than there is time for, each is read in small pieces."""
    monkeypatch.setattr(shares, "SLICE_S", 0.0)
    monkeypatch.setattr("prefork_logd.processes.worker.connection.REST_BYTES", 300_000)
    clients = [whole.connect(framed(SLOW, 200_000 // len(SLOW))) for _ in range(10)]
    for _ in range(30):
        whole.turn()
        assert whole.worker.rest_bytes <= 300_000 + 262_144 + 10 * len(SLOW) + 4096
    assert whole.worker.rest_bytes == sum(map(held, whole.worker.connections.values()))
    for client in clients:
        client.close()


# Messages of the master


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def tell(pair: Pair, message: AnyMessage, *fds: int) -> None:
    """Send a message as the master does, and let it be read."""
    socket.send_fds(pair._theirs, [msgspec.json.encode(message)], list(fds))
    for fd in fds:
        os.close(fd)
    pair.turn()


def heard(pair: Pair) -> list[dict[str, object]]:
    """Return what the master was told since the last call."""
    pair._theirs.setblocking(False)
    found = []
    with contextlib.suppress(BlockingIOError):
        while data := pair._theirs.recv(65_536):
            found.append(json.loads(data))
    return found


def test_a_configuration_is_settled_when_all_lines_before_it_are_committed(pair: Pair, tmp_path: Path) -> None:
    """It is confirmed at once; the outputs of the last one are needed until then."""
    client = pair.connect()
    client.sendall(RECORD_FRAME)
    pair.worker.loop.turn(0)
    new = configuration(tmp_path / "c.toml", "", generation=2)
    socket.send_fds(pair._theirs, [msgspec.json.encode(Configure())], [fd := new.to_file()])
    os.close(fd)
    pair.worker.loop.turn(0)
    assert heard(pair) == [{"type": "configured", "generation": 2, "problems": []}]
    pair.turn(2)
    assert heard(pair) == [{"type": "settled", "generation": 2}]
    tell(pair, Configure(), configuration(tmp_path / "c.toml", "", generation=3).to_file())
    assert [message["type"] for message in heard(pair)] == ["configured", "settled"]


def test_a_new_limit_holds_for_clients_that_are_connected(pair: Pair, tmp_path: Path) -> None:
    """Of a half-received record, too: the next ones are read with it."""
    client = pair.connect()
    client.sendall(frame("a" * 3000) + frame("b" * 3000)[:4])
    pair.turn()
    tell(pair, Configure(), configuration(tmp_path / "c.toml", "[limits]\nmax_record_bytes = 1024\n", 2).to_file())
    client.sendall(frame("b" * 3000)[4:] + frame("c" * 3000) + frame("d"))
    pair.turn(3)
    found = {message[0]: len(message) for message in (json.loads(line)["message"] for line in pair.writer.lines)}
    assert found["a"] == 3000
    assert found["c"] < 1024
    assert found["d"] == 1
    assert len(pair.worker.connections) == 1


def test_a_worker_that_ends_hands_nothing_over(pair: Pair) -> None:
    """The master hears so at once, and the takers find their sockets closed."""
    tell(pair, Drain(fast=False))
    given, taken = make_pair()
    tell(pair, HandOver((0,), -1), given.detach())
    assert {"type": "handed-over", "left": 0, "problem": ""} in heard(pair)
    assert taken.recv(10) == b""
    taken.close()


def test_a_message_for_another_child_is_logged(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And changes nothing."""
    monkeypatch.setattr(logging.getLogger("prefork_logd"), "propagate", True)
    client = pair.connect()
    tell(pair, Forget(1))
    assert "a message of the master cannot be used and is ignored (Forget)" in caplog.text
    client.sendall(RECORD_FRAME)
    pair.turn(2)
    assert len(pair.writer.lines) == 1


def test_secrets_that_cannot_be_read_let_nobody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that has gone since the configuration was checked costs its clients, and not the worker."""
    monkeypatch.setattr(logging.getLogger("prefork_logd"), "propagate", True)
    keys = tmp_path / "keys"
    keys.write_text("id 0123456789abcdef\n")
    keys.chmod(0o600)
    toml = f'[server]\nbind = []\nkeys_file = "{keys}"\n[[listener]]\naccept = "authenticated"\n'
    settings = configuration(tmp_path / "c.toml", toml)
    keys.unlink()
    pair = Pair(settings)
    assert "no client can authenticate" in caplog.text
    client = pair.connect()
    client.sendall(RECORD_FRAME)
    pair.turn(2)
    assert len(pair.writer.lines) == 1
    pair.close()


def test_counters_follow_the_connections(pair: Pair) -> None:
    """Open ones, and all that were ever accepted."""
    clients = [pair.connect() for _ in range(3)]
    clients[0].close()
    pair.turn(2)
    assert pair.worker.counters[Field.CONNECTIONS] == len(pair.worker.connections) == 2
    assert pair.worker.counters[Field.ACCEPTED] == 3
