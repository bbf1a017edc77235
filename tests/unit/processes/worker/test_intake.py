"""Events become lines in their order; what there is no time for waits, and what ends a connection ends it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from prefork_logd.errors import RecordRejected
from prefork_logd.ingest.dispatcher import Dispatcher
from prefork_logd.ingest.rejections import MOST_FAILURES
from prefork_logd.inputs.base import Bye, Event, InputError, Records, Refusal, Reply, Texts, TooLarge
from prefork_logd.ipc.scoreboard import Field
from prefork_logd.processes.worker.intake import TEXT_COST, Intake
from prefork_logd.records.record import Record, make_record
from prefork_logd.records.sender import NOBODY
from prefork_logd.system.log import RateLimitedLog
from tests.support import wire
from tests.support.inprocess import DEFAULT, NoLimits, Pair, frame


class Worker:
    """What a worker is to its intake."""

    def __init__(self) -> None:
        self.counters = dict.fromkeys(Field, 0)
        self.warnings = RateLimitedLog()
        self.max_record_bytes = 1000
        self.dispatcher = Dispatcher(DEFAULT)
        self.slice_over = False
        self.limits = NoLimits()
        self.ranges: list[tuple[int, int]] = []
        self.sessions = SimpleNamespace(
            begin_range=lambda _, first, last: self.ranges.append((first, last)),
            end_range=lambda _, count: self.ranges.append((self.ranges.pop()[0], count)),
        )

    def send_if_large(self) -> None:
        pass

    def close(self, connection: Connection) -> None:
        connection.fd = -1

    @property
    def messages(self) -> list[str]:
        lines = bytes(self.dispatcher.batch._gathered(1).joined()).splitlines()
        return [json.loads(line)["message"] for line in lines]

    @property
    def reasons(self) -> list[str]:
        lines = bytes(self.dispatcher.batch._gathered(0).joined()).splitlines()
        return [json.loads(line)["reason"] for line in lines]


class Connection:
    """What a connection is to the intake."""

    def __init__(self, rest: Sequence[Event] = ()) -> None:
        self.fd, self.peer, self.failures, self.warned = 7, "10.0.0.1:5", 0, False
        self.clients, self.is_leaving = (), False
        self.tally = [0] * 4
        self.unhandled_events: list[Event] = []
        self.pending_error: InputError | None = None
        self.find_sender = lambda: NOBODY
        self.said: list[bytes] = []
        self.send = self.said.append
        self.input = SimpleNamespace(
            noun="line",
            pending=False,
            finish=lambda: rest,
            dismiss=lambda why, may_return: b"dismissed",
            note_rejected=lambda number, count: self.rejected.append((number, count)),
        )
        self.rejected: list[tuple[int, int]] = []

    def keep_events(self, events: list[Event], nbytes: int) -> None:
        self.unhandled_events, self.nbytes = events, nbytes


def decode(body: bytes, peer: str, received_s: float) -> Record:
    if body == b"bad":
        raise RecordRejected("bad", "it is")
    return make_record({"msg": body.decode(), "created": 1.0}, peer, received_s)


def records(*names: str, first: int = 0) -> Records:
    return Records.of(first, [frame(name)[4:] for name in names])


@pytest.fixture
def worker() -> Worker:
    return Worker()


def intake(worker: Worker) -> Any:
    return Intake(worker)  # type: ignore[arg-type] # as much of one as is needed


def test_records_of_any_form_become_lines_in_their_order(worker: Worker) -> None:
    """Pickles, and what an input decodes by itself."""
    one = Connection()
    intake(worker).handle_events(one, [records("a", "b"), Texts([b"c", b"bad", b"d"], decode), records("e")])
    assert worker.messages == ["a", "b", "c", "d", "e"]
    assert worker.reasons == ["bad"]
    assert (worker.counters[Field.RECORDS], worker.counters[Field.REJECTED]) == (5, 1)
    assert worker.counters[Field.RECEIVED_BYTES] == 3 * len(frame("a")[4:]) + 5
    assert worker.ranges == []


def test_numbered_records_are_in_a_range_of_their_session(worker: Worker) -> None:
    """Others are in none."""
    one = Connection()
    intake(worker).handle_events(one, [records("a", "b", first=5), TooLarge(7, 2000, b"x")])
    assert worker.ranges == [(5, 2), (7, 0)]
    assert worker.reasons == ["too-large"]
    assert one.failures == 1
    assert one.rejected == [(7, 1)]


def test_what_there_is_no_time_for_is_kept(worker: Worker) -> None:
    """The first event is taken in any case, and of it at least one record; the bytes are copied."""
    worker.slice_over = True
    one = Connection()
    intake(worker).handle_events(one, [Texts([b"a", b"b"], decode), records("c"), Bye()])
    assert worker.messages == ["a", "b"]
    kept = one.unhandled_events
    assert one.fd == 7
    worker.slice_over = False
    one.unhandled_events = []
    intake(worker).handle_events(one, kept)
    assert worker.messages == ["a", "b", "c"]
    assert one.fd == -1


def test_texts_end_with_the_time_of_their_connection(worker: Worker) -> None:
    """As a run of frames does."""
    worker.dispatcher.stop_at_s = 0.0
    worker.slice_over = True
    one = Connection()
    intake(worker).handle_events(one, [Texts([b"a", b"b", b"c"], decode)])
    assert worker.messages == ["a"]
    (kept,) = one.unhandled_events
    assert isinstance(kept, Texts)
    assert (kept.bodies, one.nbytes) == ([b"b", b"c"], 2 + 2 * TEXT_COST)


def test_a_client_without_records_is_dismissed(worker: Worker) -> None:
    """After so many in a row."""
    one = Connection()
    intake(worker).handle_events(one, [Texts([b"bad"] * (MOST_FAILURES + 5), decode), Texts([b"never"], decode)])
    assert one.said == [b"dismissed"]
    assert one.fd == -1
    assert worker.counters[Field.REJECTED] == MOST_FAILURES
    assert worker.messages == []


def test_a_good_record_begins_the_count_anew(worker: Worker) -> None:
    """Only a row of bad ones tells of a client that has no records."""
    one = Connection()
    bodies = [b"bad"] * (MOST_FAILURES - 1)
    intake(worker).handle_events(one, [Texts([*bodies, b"good", *bodies], decode)])
    assert one.fd == 7
    assert one.failures == MOST_FAILURES - 1


def test_what_is_too_large_is_noted_once_in_the_log(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """With the name that its input has for it."""
    caplog.set_level("WARNING", "prefork_logd")
    one = Connection()
    intake(worker).handle_events(one, [TooLarge(0, 2000, b"head"), TooLarge(0, 3000, b"head")])
    assert worker.reasons == ["too-large", "too-large"]
    assert (one.failures, one.warned) == (0, True)


def test_a_record_that_is_too_large_is_stored_as_far_as_it_was_kept(worker: Worker) -> None:
    """It counts as a record, and is logged once for its connection."""
    body = frame("y" * 9_000)[4:]
    kept = TooLarge(0, len(body), body[:256], body[:2_000] + body[-500:], 2_000)
    one = Connection()
    intake(worker).handle_events(one, [kept, kept])
    assert [message[:50] for message in worker.messages] == ["y" * 50] * 2
    assert "bytes cut) ..." in worker.messages[0]
    assert worker.reasons == []
    assert (worker.counters[Field.RECORDS], worker.counters[Field.REJECTED], one.warned) == (2, 0, True)
    intake(worker).handle_events(one, [kept._replace(body=b"x" * 2_500)])
    assert worker.reasons == ["too-large"]
    assert worker.counters[Field.REJECTED] == 1


def test_a_record_of_a_session_that_is_too_large_is_in_its_range(worker: Worker) -> None:
    """It uses up its number as a record of the range; if it is none, the entry about it does."""
    body = frame("y" * 9_000)[4:]
    kept = TooLarge(6, len(body), body[:256], body[:2_000] + body[-500:], 2_000)
    one = Connection()
    intake(worker).handle_events(one, [records("a", first=5), kept, records("b", first=7)])
    assert worker.ranges == [(5, 1), (6, 1), (7, 1)]
    assert [message[:1] for message in worker.messages] == ["a", "y", "b"]
    assert (worker.counters[Field.RECORDS], worker.counters[Field.REJECTED], one.rejected) == (3, 0, [])
    worker.ranges.clear()
    intake(worker).handle_events(one, [kept._replace(number=8, body=b"x" * 2_500)])
    assert worker.ranges[-1] == (8, 0)
    assert (worker.reasons, one.rejected, one.failures) == (["too-large"], [(8, 1)], 1)


def test_an_error_in_a_large_record_of_a_session_leaves_no_line(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client sends it again."""
    body = frame("y" * 9_000)[4:]

    def fail(*_: Any) -> int:
        worker.dispatcher.batch.add(1, b'{"message":"half"}\n')
        raise MemoryError

    monkeypatch.setattr(worker.dispatcher, "add_cut", fail)
    discarded = []
    monkeypatch.setattr(worker.dispatcher.batch, "discard", discarded.append)
    with pytest.raises(MemoryError):
        intake(worker).handle_events(Connection(), [TooLarge(6, len(body), b"", body[:2_500], 2_000)])
    assert discarded == [{}]


def test_the_first_rejected_record_of_a_connection_is_logged(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """At once, and with its reason."""
    caplog.set_level("WARNING", "prefork_logd")
    one = Connection()
    intake(worker).handle_events(one, [Records.of(0, [b"\xff", b"\xff"]), Records.of(0, [b"N."])])
    logged = [record.getMessage() for record in caplog.records if "rejected" in record.getMessage()]
    assert len(logged) == 1
    assert "malformed" in logged[0] or "truncated" in logged[0]
    assert worker.counters[Field.REJECTED] == 3


def test_answers_are_sent(worker: Worker) -> None:
    """And close the connection where they say so."""
    one, two = Connection(), Connection()
    intake(worker).handle_events(one, [Reply(b"challenge"), Reply(b"busy", ends=True), records("never")])
    assert (one.said, one.fd) == ([b"challenge", b"busy"], -1)
    intake(worker).handle_events(two, [Refusal("client", "wrong", b"refused")])
    assert (two.said, two.fd) == ([b"refused"], -1)
    assert worker.counters[Field.REFUSED] == 1
    assert worker.messages == []


def test_a_violation_ends_the_connection_after_what_came_before(worker: Worker) -> None:
    """Its records count, and those for which there is no time are waited for."""
    one = Connection()
    error = InputError("no-lines", "these are none", b"GET", [Texts([b"a"], decode)], b"reply")
    intake(worker).end_violated(one, error)
    assert (worker.messages, worker.reasons, one.said, one.fd) == (["a"], ["no-lines"], [b"reply"], -1)
    two = Connection()
    worker.slice_over = True
    error = InputError("no-lines", "these are none", b"GET", [records("b"), records("c")], b"reply")
    intake(worker).end_violated(two, error)
    assert (two.pending_error, two.fd, two.said) == (error, 7, [])
    assert worker.messages == ["a", "b"]


def test_an_end_takes_what_needs_no_more_bytes(worker: Worker) -> None:
    """A record that was cut short is counted as dropped."""
    one = Connection([Texts([b"last"], decode)])
    intake(worker).end_finished(one)
    assert (worker.messages, one.fd, worker.counters[Field.DROPPED]) == (["last"], -1, 0)
    two = Connection()
    two.input.pending = True
    intake(worker).end_finished(two)
    assert (two.fd, worker.counters[Field.DROPPED]) == (-1, 1)


def test_an_end_that_breaks_the_protocol_is_a_violation(worker: Worker) -> None:
    """Such as a last line that is the first, and no record."""

    def finish() -> list[Event]:
        raise InputError("no-lines", "these are none", b"x", [])

    one = Connection()
    one.input.finish = finish
    intake(worker).end_finished(one)
    assert (worker.reasons, one.fd) == (["no-lines"], -1)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


@pytest.mark.parametrize(
    "value",
    [b'{"password":"hunter2","ids":[' + b"1," * 30_000 + b"1]}", b"[" * 230 + b'{"password":"hunter2"}' + b"]" * 230],
    ids=["wide", "deep"],
)
def test_json_that_is_not_read_has_no_secret_in_its_line(pair: Pair, value: bytes) -> None:
    """Neither as the message nor in `extra`; the record counts once."""
    client = pair.connect()
    for name in (b"message", b"x"):
        client.sendall(b'{"time":1,"message":"m","token":"hunter2","' + name + b'":' + value + b"}\n")
        pair.turn(3)
    assert len(pair.writer.lines) == 2
    assert not [line for line in pair.writer.lines if b"hunter2" in line]
    assert pair.worker.counters[Field.REDACTED] == 2


FRAME = frame("frame")
LINE = b'{"message":"line"}\n'
HELLO = wire.hello()


@pytest.mark.parametrize(
    ("first", "later", "lines"),
    [
        (LINE, FRAME, ["line"]),
        (LINE, FRAME + b"\n" + LINE, ["line", "line"]),
        (LINE, HELLO + b"\n" + LINE, ["line", "line"]),
        (LINE, b"GET / HTTP/1.1\r\n\r\n" + LINE, ["line", "line"]),
        (LINE, b"\xff\xfe\x00" * 1000 + b"\n" + LINE, ["line", "line"]),
        (LINE + b'{"message":"', FRAME + b'"}\n' + LINE, None),
        (FRAME, LINE, ["frame"]),
        (FRAME, LINE * 1000, ["frame"]),
        (HELLO, LINE, []),
    ],
)
def test_a_client_that_changes_its_protocol_costs_itself_alone(
    pair: Pair, first: bytes, later: bytes, lines: list[str] | None
) -> None:
    """What is no record of its first protocol is rejected, or ends it; those beside it are served as before."""
    witness, changing = pair.connect(), pair.connect()
    witness.sendall(b'{"message":"before"}\n{"message":"af')
    for data in (first, later):
        changing.sendall(data)
        pair.turn(4)
    witness.sendall(b'ter"}\n')
    pair.turn(2)
    found = [json.loads(line)["message"] for line in pair.writer.lines]
    assert [message for message in found if message in ("before", "after")] == ["before", "after"]
    if lines is not None:
        assert [message for message in found if message not in ("before", "after")] == lines
    assert len(pair.worker.connections) in (1, 2)
    assert pair.worker.rest_bytes == 0
