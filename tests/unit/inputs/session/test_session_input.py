"""A client of sessions is greeted as its listener demands; everything else of it passes through."""

from __future__ import annotations

import pytest

from prefork_logd.inputs.base import Bye, Gap, Opening, Records, Refusal, Reply, Terms
from prefork_logd.inputs.session import auth
from prefork_logd.inputs.session.messages import ErrorCode, Message
from prefork_logd.inputs.session.server import ViolationError
from prefork_logd.inputs.session.session_input import SessionInput
from tests.support import wire

MAX = 1000
NONCE = b"n" * 32
KEYS = {b"id": b"k" * 32}
MOST = (1 << 64) - 2


def session(**terms: object) -> SessionInput:
    return SessionInput(Terms(MAX, keys=lambda: KEYS, nonce=lambda: NONCE, **terms))  # type: ignore[arg-type]


def opened() -> SessionInput:
    one = session()
    assert len(one.receive(wire.hello())) == 1
    assert wire.messages(one.welcome(0))
    return one


def kinds(data: bytes) -> list[int]:
    return [kind for kind, _ in wire.messages(data)]


def code(data: bytes) -> int:
    ((kind, body),) = wire.messages(data)
    assert kind == Message.ERROR
    return int.from_bytes(body[:2], "big")


@pytest.mark.parametrize(("capabilities", "reply"), [(0, []), (1, [Message.WAIT])])
def test_hello_opens_a_session(capabilities: int, reply: list[int]) -> None:
    """A client that knows WAIT gets one at once."""
    one = session()
    assert one.is_greeting
    (event,) = one.receive(wire.hello(7, client=b"svc", capabilities=capabilities))
    assert isinstance(event, Opening)
    assert event[:3] == (wire.SESSION, 7, "svc")
    assert kinds(event.reply) == reply
    assert not one.is_greeting
    assert kinds(one.welcome(3)) == [Message.WELCOME]
    assert one.next_number == 7


def test_a_busy_collector_says_so_and_ends() -> None:
    """The client comes again."""
    one = session(is_busy=True)
    (event,) = one.receive(wire.hello())
    assert isinstance(event, Reply)
    assert event.ends
    assert code(event.data) == ErrorCode.BUSY
    assert one.is_over


def test_a_client_proves_what_it_knows() -> None:
    """CHALLENGE, AUTH, and a WELCOME that proves the collector, too; also where it moves in between."""
    one = session(must_authenticate=True)
    (challenge,) = one.receive(wire.hello(5, capabilities=1))
    assert challenge == Reply(challenge.data)  # type: ignore[union-attr]
    assert wire.messages(challenge.data) == [(Message.CHALLENGE, NONCE)]  # type: ignore[union-attr]
    assert one.is_greeting
    one = SessionInput.load_state(one.dump_state(), Terms(MAX, True, keys=lambda: KEYS))
    mac = auth.client_mac(KEYS[b"id"], NONCE, b"c" * 32, wire.SESSION, b"id")
    (event,) = one.receive(wire.auth(b"id", b"c" * 32, mac))
    assert isinstance(event, Opening)
    assert kinds(event.reply) == [Message.WAIT]
    one = SessionInput.load_state(one.dump_state(), Terms(MAX, True, keys=lambda: KEYS))
    ((kind, body),) = wire.messages(one.welcome(0))
    assert kind == Message.WELCOME
    assert body.endswith(auth.server_proof(KEYS[b"id"], b"c" * 32, NONCE, wire.SESSION))


@pytest.mark.parametrize("key_id", [b"id", b"other"])
def test_who_does_not_know_a_secret_is_refused(key_id: bytes) -> None:
    """Whether the key is unknown or the secret wrong is not told."""
    one = session(must_authenticate=True)
    one.receive(wire.hello(client=b"svc"))
    (event,) = one.receive(wire.auth(key_id, b"c" * 32, b"m" * 32))
    assert isinstance(event, Refusal)
    assert event[:2] == ("svc", "unknown key or wrong secret")
    assert code(event.reply) == ErrorCode.REFUSED
    assert one.is_over


def test_records_gaps_and_the_end_pass_through() -> None:
    """In their order."""
    events = opened().receive(wire.batch(1, b"a", b"b") + wire.gap(3, 2) + wire.bye())
    assert events[0] == Records.of(1, [b"a", b"b"])
    assert isinstance(events[1], Gap)
    assert events[1][:2] == (3, 4)
    assert events[2:] == [Bye()]


def test_a_violation_holds_the_events_before_it() -> None:
    """And the reply."""
    with pytest.raises(ViolationError) as caught:
        opened().receive(wire.batch(1, b"a") + wire.batch(5, b"b"))
    assert caught.value.events == [Records.of(1, [b"a"])]
    assert code(caught.value.reply) == ErrorCode.OUT_OF_ORDER


def test_what_is_committed_is_acknowledged_once() -> None:
    """And to nobody who has ended."""
    one = opened()
    one.receive(wire.batch(1, b"a", b"b"))
    assert kinds(one.acknowledge(2)) == [Message.ACK]
    assert one.acknowledge(2) == b""
    one.receive(wire.batch(3, b"c") + wire.bye())
    assert one.acknowledge(3) == b""


@pytest.mark.parametrize(("capabilities", "takes"), [(0, False), (1, False), (2, True), (3, True)])
def test_rejected_records_are_reported_with_their_acknowledgement(capabilities: int, takes: bool) -> None:
    """To a client that takes it, once, and only of what is committed; also after a move to another process."""
    one = session()
    one.receive(wire.hello(capabilities=capabilities))
    one.welcome(0)
    one.receive(wire.batch(1, b"a", b"b", b"c"))
    one.note_rejected(1, 1)
    one.note_rejected(3, 2)
    assert kinds(one.acknowledge(2)) == [Message.ACK]
    one = SessionInput.load_state(one.dump_state(), Terms(MAX))
    said = wire.messages(one.acknowledge(3))
    assert [kind for kind, _ in said] == [Message.REJECTED] * takes + [Message.ACK]
    if takes:
        assert said[0][1] == (3).to_bytes(8, "big") + (3).to_bytes(4, "big")
    one.receive(wire.batch(4, b"d"))
    assert kinds(one.acknowledge(4)) == [Message.ACK]


def test_a_session_without_numbers_left_is_ended() -> None:
    """The client is to begin another."""
    one = session()
    one.receive(wire.hello())
    assert code(one.welcome(MOST)) == ErrorCode.REFUSED
    assert one.is_over


def test_who_has_ended_is_not_welcomed() -> None:
    """The answer of the writer came too late."""
    one = session()
    one.receive(wire.hello() + wire.bye())
    assert one.welcome(0) == b""


@pytest.mark.parametrize(("may_return", "said"), [(True, ErrorCode.GOING_AWAY), (False, ErrorCode.MALFORMED)])
def test_a_client_is_dismissed_with_a_reason(may_return: bool, said: ErrorCode) -> None:
    """Which tells whether to connect again."""
    one = opened()
    assert code(one.dismiss("why", may_return=may_return)) == said
    assert one.is_over


def test_what_is_left_is_that_of_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bounded number of steps the rest waits for another turn."""
    monkeypatch.setattr("prefork_logd.inputs.session.server.MOST_STEPS", 2)
    one = opened()
    data = wire.gap(1, 1) + wire.gap(2, 1) + wire.gap(3, 1)
    assert len(one.receive(data)) == 2
    assert one.left == len(wire.gap(3, 1))
    assert len(one.receive(data[-one.left :])) == 1
    assert one.left == 0
