"""A link with its other end in the same thread: greeting, records, acknowledgements, ends, plain frames."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.handlers import _fallback, _link, _notices
from prefork_logd.inputs.base import Bye, Gap, Records
from prefork_logd.inputs.session.messages import ErrorCode, Hello
from tests.support.handler_receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def make() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def new(**arguments: Any) -> Receiver:
        made.append(Receiver(**arguments))
        return made[-1]

    yield new
    for receiver in made:
        receiver.close()


@pytest.fixture
def peer(make: Callable[..., Receiver]) -> Receiver:
    return make()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    time = [100.0]
    for module in (_link, _fallback):
        monkeypatch.setattr(module, "monotonic", lambda: time[0])
    return time


def test_nothing_connects_before_there_is_a_record(peer: Receiver) -> None:
    peer.connect()
    assert peer.sock is None
    assert peer.link.state == _link.IDLE


def test_records_go_after_the_welcome_and_are_forgotten_when_acknowledged(peer: Receiver) -> None:
    peer.add(b"one", b"two")
    peer.connect()
    (hello,) = peer.read()
    assert isinstance(hello, Hello)
    assert (hello.session, hello.first) == (peer.queue.session, 1)
    assert peer.link.state == _link.GREETING
    peer.answer(peer.server.welcome(0))
    (records,) = peer.read()
    assert isinstance(records, Records)
    assert [bytes(body) for body in records.bodies] == [b"one", b"two"]
    assert peer.link.is_ready()
    assert not peer.queue.is_empty()
    peer.answer(peer.server.ack(2))
    assert peer.queue.is_empty()
    assert peer.counts["acknowledged"] == 2


def test_after_a_reconnect_only_the_rest_is_sent(peer: Receiver) -> None:
    peer.add(b"one", b"two", b"three")
    peer.welcome()
    peer.read()
    peer.sock.close()
    peer.link.pump()
    assert peer.link.sock is None
    peer.welcome(committed=2)
    (records,) = peer.read()
    assert (records.first, [bytes(body) for body in records.bodies]) == (3, [b"three"])
    assert peer.counts["acknowledged"] == 2


def test_gaps_are_told(peer: Receiver) -> None:
    peer.add(b"one", b"two")
    peer.queue.drop_oldest(with_sent=True)
    peer.welcome()
    gap, records = peer.read()
    assert isinstance(gap, Gap)
    assert (gap.first, gap.last, records.first) == (1, 1, 2)


def test_a_session_that_is_not_ours_goes_on_under_another_name(peer: Receiver) -> None:
    peer.add(b"one")
    before = peer.queue.session
    peer.welcome(committed=7)
    assert peer.link.sock is None
    assert peer.queue.session != before
    peer.welcome()
    (records,) = peer.read()
    assert records.first == 1


def test_acknowledgements_that_came_before_the_end_count(peer: Receiver) -> None:
    peer.add(b"one", b"two")
    peer.welcome()
    peer.read()
    peer.sock.sendall(peer.server.ack(1))
    peer.sock.close()
    peer.link.pump()
    assert (peer.counts["acknowledged"], peer.queue.lowest()) == (1, 2)


@pytest.mark.parametrize(
    ("code", "pause"),
    [(ErrorCode.REFUSED, 5.0), (ErrorCode.TLS_REQUIRED, 5.0), (4711, 15.0), (ErrorCode.GOING_AWAY, 0.05)],
    ids=str,
)
def test_an_error_ends_the_session_and_says_when_to_come_back(
    code: int, pause: float, peer: Receiver, now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    peer.add(b"one")
    peer.connect()
    text = b"no \x1b"
    peer.answer(struct.pack(">HBBIHH", 0xF750, 0x84, 0, 4 + len(text), code, len(text)) + text)
    assert peer.link.sock is None
    assert peer.notices.trouble == f"no \\x1b (error {int(code)})"
    assert peer.connector.retry_at == pytest.approx(now[0] + pause)
    assert ("records are kept" in capsys.readouterr().err) == (code != ErrorCode.GOING_AWAY)
    assert not peer.queue.is_empty()


def test_a_busy_collector_is_counted(peer: Receiver, now: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    peer.add(b"one")
    peer.connect()
    peer.answer(peer.server.error(ErrorCode.BUSY, "full"))
    assert peer.counts["busy"] == 1
    assert now[0] + 0.5 <= peer.connector.retry_at <= now[0] + 1.5
    assert "is busy: full" in capsys.readouterr().err


def test_records_that_the_collector_cannot_read_are_counted(peer: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    peer.add(b"one", b"two")
    peer.welcome()
    peer.read()
    peer.answer(peer.server.rejected(2, 2) + peer.server.ack(2))
    assert (peer.counts["rejected"], peer.counts["acknowledged"]) == (2, 2)
    assert "does not store 2 records; its rejected.jsonl" in capsys.readouterr().err


def test_bytes_that_break_the_protocol_end_the_connection(
    peer: Receiver, now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    peer.add(b"one")
    peer.welcome()
    peer.answer(b"HTTP/1.1 400 Bad Request\r\n")
    assert peer.link.sock is None
    assert peer.connector.retry_at == now[0] + 5.0
    assert "breaks the protocol" in capsys.readouterr().err


@pytest.mark.parametrize("fallback", [True, False])
def test_a_hello_that_is_not_answered_in_time(
    fallback: bool, make: Callable[..., Receiver], now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    peer = make(fallback=fallback)
    peer.add(b"one")
    peer.connect()
    now[0] += 2.1
    peer.link.pump()
    assert peer.fallback.is_plain == fallback
    err = capsys.readouterr().err
    assert ("as plain SocketHandler frames" in err) == fallback
    assert ("does not answer within 2 s" in err) != fallback


def test_plain_frames_count_as_handed_over_and_a_session_is_tried_again(
    make: Callable[..., Receiver], now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    peer = make(fallback=True)
    peer.add(b"one", b"two")
    peer.connect()
    now[0] += 2.1
    peer.link.pump()
    peer.connect()
    assert peer.read_bytes() == b"\0\0\0\x03one\0\0\0\x03two"
    assert (peer.counts["handed_over"], peer.queue.is_empty(), peer.link.is_in_use()) == (2, True, True)
    now[0] += 6
    peer.link.pump()
    assert peer.link.sock is None
    peer.add(b"three")
    peer.welcome()
    assert peer.link.is_ready()
    assert "knows sessions now" in capsys.readouterr().err


def test_a_collector_that_says_wait_is_waited_for(peer: Receiver, now: list[float]) -> None:
    peer.add(b"one")
    peer.connect()
    peer.read()
    peer.answer(peer.server.wait())
    now[0] += 200
    peer.link.pump()
    assert peer.link.state == _link.GREETING
    peer.answer(peer.server.welcome(0))
    assert peer.link.is_ready()


def test_many_connections_without_an_acknowledgement_are_made_less_often(peer: Receiver, now: list[float]) -> None:
    peer.add(b"one")
    pauses = []
    for _ in range(23):
        peer.welcome()
        peer.sock.close()
        peer.link.pump()
        pauses.append(round(peer.connector.retry_at - now[0], 2))
    assert pauses == [0.05] * 21 + [1.0] * 2


def test_a_receiver_that_is_long_away_is_said_once(
    peer: Receiver, now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    peer.add(b"one")
    peer.link.pump()
    for _ in range(3):
        peer.link.say_away()
        now[0] += 4
    said = capsys.readouterr().err
    assert said.count("no connection for 5 s") == 1
    assert "; kept: 1 record (163 bytes)" in said


def test_an_absence_is_said_although_something_was_said_before_it(
    peer: Receiver, now: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_notices, "monotonic", lambda: now[0])
    peer.notices.say_once("busy", "is busy")
    now[0] += 1
    peer.add(b"one")
    peer.link.pump()
    now[0] += 6
    peer.link.say_away()
    assert "no connection for 5 s" in capsys.readouterr().err


def test_a_goodbye_is_said_in_a_session_only(peer: Receiver) -> None:
    peer.link.say_bye()
    peer.add(b"one")
    peer.welcome()
    peer.read()
    peer.answer(peer.server.ack(1))
    peer.link.say_bye()
    assert isinstance(peer.read()[-1], Bye)


def test_one_call_sends_a_bounded_piece(peer: Receiver) -> None:
    peer.add(*[bytes(60_000)] * 100)
    peer.welcome()
    assert peer.link.wants_to_write()
    assert peer.queue.unsent
