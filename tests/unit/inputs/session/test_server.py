"""A client's numbers come out once and in order, whatever pieces its bytes arrive in."""

from __future__ import annotations

import itertools
import pickle
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from prefork_logd.errors import LocalProtocolError
from prefork_logd.inputs.base import HEAD_KEPT, Bye, Gap, Records, TooLarge
from prefork_logd.inputs.session import auth
from prefork_logd.inputs.session import server as sessions
from prefork_logd.inputs.session.messages import MAX_NUMBER, Authenticate, ErrorCode, Event, Hello, Message, State
from prefork_logd.inputs.session.server import ServerSession, ViolationError
from tests.support import wire
from tests.support.server_sessions import MAX_BATCH, MAX_RECORD, NONCE, opened_session, outcome


def violation(server: ServerSession, data: bytes) -> ViolationError:
    with pytest.raises(ViolationError) as caught:
        server.receive(data)
    assert server.state is State.ENDED
    assert not server.pending
    assert server.held_bytes == 0
    return caught.value


def error_code(reply: bytes) -> int:
    ((kind, body),) = wire.messages(reply)
    assert kind == Message.ERROR
    return int.from_bytes(body[:2], "big")


# The beginning


def test_a_client_is_welcomed() -> None:
    """HELLO says who it is and what it holds; WELCOME says the limits and how far it is committed."""
    server = ServerSession(MAX_RECORD, MAX_BATCH)
    assert server.receive(wire.hello(12, b"web1 pid 4711")) == [Hello(wire.SESSION, 12, "web1 pid 4711")]
    assert server.state is State.AWAITING_WELCOME
    assert wire.messages(server.welcome(20)) == [(0x81, struct.pack(">BIIIQB", 1, 0, MAX_RECORD, MAX_BATCH, 20, 0))]
    assert server.state is State.OPEN


@pytest.mark.parametrize(("committed", "first", "expected"), [(0, 1, 1), (20, 12, 21), (20, 21, 21), (20, 500, 500)])
def test_numbers_begin_after_what_is_committed_and_held(committed: int, first: int, expected: int) -> None:
    """Neither what is committed nor what the client no longer holds comes again."""
    server = opened_session(committed, first)
    assert server.expected == expected
    assert server.receive(wire.batch(expected, b"x")) == [Records.of(expected, [b"x"])]


def test_a_client_proves_itself_and_so_do_we() -> None:
    """HELLO, CHALLENGE, AUTH, WELCOME with a proof."""
    keys = {b"id": b"k" * 32}
    server = ServerSession(MAX_RECORD, MAX_BATCH)
    server.receive(wire.hello())
    assert wire.messages(server.challenge(NONCE)) == [(0x82, NONCE)]
    mac = auth.client_mac(keys[b"id"], NONCE, b"c" * 32, wire.SESSION, b"id")
    (event,) = server.receive(wire.auth(b"id", b"c" * 32, mac))
    assert event == Authenticate(b"id", b"c" * 32, mac)
    assert auth.verify(keys, event.key_id, NONCE, event.client_nonce, wire.SESSION, event.mac)
    proof = auth.server_proof(keys[b"id"], event.client_nonce, NONCE, wire.SESSION)
    assert wire.messages(server.welcome(0, proof))[0][1].endswith(b"\x20" + proof)
    assert server.state is State.OPEN


def test_a_client_is_told_to_wait_before_its_welcome_and_at_no_other_time() -> None:
    """WAIT changes nothing: WELCOME follows as if it had not been said."""
    server = ServerSession(MAX_RECORD, MAX_BATCH)
    with pytest.raises(LocalProtocolError):
        server.wait()
    (event,) = server.receive(wire.hello(capabilities=0x80000001))
    assert isinstance(event, Hello)
    assert event.capabilities == 0x80000001
    assert wire.messages(server.wait() + server.wait()) == [(0x85, b"")] * 2
    assert server.state is State.AWAITING_WELCOME
    server.welcome(7)
    assert server.expected == 8
    with pytest.raises(LocalProtocolError):
        server.wait()
    server.receive(wire.bye())
    assert server.wait() == b""


def test_nobody_is_welcomed_past_a_challenge() -> None:
    """Without AUTH, or without a proof, there is no WELCOME; a second challenge there is not either."""
    server = ServerSession(MAX_RECORD, MAX_BATCH)
    server.receive(wire.hello())
    server.challenge(NONCE)
    with pytest.raises(LocalProtocolError):
        server.welcome(0, bytes(32))
    server.receive(wire.auth(b"id", bytes(32), bytes(32)))
    for wrong in (lambda: server.welcome(0), lambda: server.challenge(NONCE)):
        with pytest.raises(LocalProtocolError):
            wrong()
    assert error_code(server.error(ErrorCode.REFUSED, "")) == ErrorCode.REFUSED


def test_a_client_without_a_key_is_told() -> None:
    """BYE is the answer of one that cannot answer a CHALLENGE."""
    server = ServerSession(MAX_RECORD, MAX_BATCH)
    server.receive(wire.hello())
    server.challenge(NONCE)
    error = violation(server, wire.bye())
    assert error.reason == "no-key"
    assert error_code(error.reply) == ErrorCode.NO_KEY


@pytest.mark.parametrize("versions", [(2, 3), (0, 0), (3, 1), (255, 255)])
def test_without_a_common_version_there_is_no_session(versions: tuple[int, int]) -> None:
    """And the client is told by a code of its own."""
    error = violation(ServerSession(MAX_RECORD, MAX_BATCH), wire.hello(versions=versions))
    assert error.reason == "version"
    assert error_code(error.reply) == ErrorCode.NO_COMMON_VERSION


@pytest.mark.parametrize("versions", [(1, 1), (0, 1), (1, 9)])
def test_a_hello_of_a_later_version_may_say_more(versions: tuple[int, int]) -> None:
    """HELLO comes before a version is agreed on, so what follows its fields is passed over."""
    server = ServerSession(MAX_RECORD, MAX_BATCH)
    assert server.receive(wire.hello(versions=versions, more=b"new field")) == [Hello(wire.SESSION, 1, "test")]


def test_a_batch_must_have_room_for_a_record() -> None:
    """Limits that no record of the largest size could pass are refused."""
    ServerSession(100, 116)
    with pytest.raises(ValueError, match="no room"):
        ServerSession(100, 115)


# Records


def test_records_of_one_read_are_one_event() -> None:
    """However many messages they came in; a gap stands between those before and after it."""
    data = wire.batch(1, b"a") + wire.batch(2, b"b", b"", b"d") + wire.batch(5, b"e", flags=255)
    data += wire.gap(6, 10) + wire.batch(16, b"p")
    assert opened_session().receive(data) == [
        Records.of(1, [b"a", b"b", b"", b"d", b"e"]),
        Gap(6, 15, 1.0, 2.0, "full"),
        Records.of(16, [b"p"]),
    ]


def test_records_do_not_wait_for_their_batch() -> None:
    """Each comes out with its last byte, so no connection holds more than one of them."""
    bodies = [bytes([number]) * 200 for number in range(9)]
    server = opened_session()
    data = wire.batch(1, *bodies)
    got = 0
    for index in range(len(data)):
        for event in server.receive(data[index : index + 1]):
            assert event == Records.of(got + 1, [bodies[got]])
            got += 1
        assert got == max(0, (index + 1 - 20) // 204)
        assert server.held_bytes <= 204
        assert server.pending == (index + 1 < len(data))
    assert server.expected == 10


def test_what_was_handed_out_is_not_handed_out_again() -> None:
    """Of a repetition only what is new counts, be it records or a gap."""
    server = opened_session(committed=3)
    assert server.receive(wire.batch(1, b"a", b"bb", b"")) == []
    assert server.receive(wire.batch(2, b"bb", b"", b"d", b"e")) == [Records.of(4, [b"d", b"e"])]
    assert server.receive(wire.gap(1, 5)) == []
    assert server.receive(wire.gap(5, 3)) == [Gap(6, 7, 1.0, 2.0, "full")]
    assert server.receive(wire.batch(7, b"x" * (MAX_RECORD + 1))) == []
    assert server.receive(wire.batch(7, b"x", b"y")) == [Records.of(8, [b"y"])]


@pytest.mark.parametrize("skipping", [wire.batch(4, b"x"), wire.batch(4, b"x", b"y"), wire.gap(4, 1)])
def test_a_number_that_is_left_out_ends_the_session(skipping: bytes) -> None:
    """What came before it counts."""
    error = violation(opened_session(), wire.batch(1, b"a", b"b") + skipping)
    assert error.reason == "out-of-order"
    assert error.events == [Records.of(1, [b"a", b"b"])]
    assert error.head == skipping[:64]
    assert error_code(error.reply) == ErrorCode.OUT_OF_ORDER


def test_a_record_that_is_too_large_uses_up_its_number() -> None:
    """Its beginning and its end are handed out, so that it need not come again."""
    large = bytes(range(256)) * 2
    kept = wire.kept_of(large, MAX_RECORD)
    data = wire.batch(1, b"a", large, b"c") + wire.batch(4, large) + wire.batch(5, b"e")
    assert opened_session().receive(data) == [
        Records.of(1, [b"a"]),
        TooLarge(2, 512, large[:HEAD_KEPT], *kept),
        Records.of(3, [b"c"]),
        TooLarge(4, 512, large[:HEAD_KEPT], *kept),
        Records.of(5, [b"e"]),
    ]


def test_a_record_that_is_too_large_is_held_up_to_the_limit() -> None:
    """However large it is; nothing of a repeated one is."""
    for committed, most_held in ((0, 2 * MAX_RECORD), (1, 0)):
        server = opened_session(committed, max_record=MAX_RECORD, max_batch=1 << 30)
        data = wire.batch(1, bytes(1_000_000))
        for start in range(0, len(data) - 10_000, 10_000):
            assert server.receive(data[start : start + 10_000]) == []
            assert server.held_bytes <= most_held
            assert server.pending
        assert len(server.receive(data[-len(data) % 10_000 - 10_000 :])) == 1 - committed
        assert not server.pending


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"".join(wire.gap(number, 1) for number in range(4, 3004)), 3003),
        (wire.gap(1, 1) * 3000, 3),
        (wire.batch(1, b"") * 3000, 3),
        (wire.batch(1, *[b""] * 3) * 1000, 3),
        (b"".join(wire.batch(max(1, number - 1), b"", b"") for number in range(4, 3004)), 3003),
        (b"".join(wire.gap(number, 1) + wire.batch(number + 1, b"") for number in range(4, 3004, 2)), 3003),
        (b"".join(wire.batch(number, bytes(1001)) for number in range(4, 304)), 303),
    ],
    ids=["gaps", "repeated gaps", "repeated batches", "repeated records", "half repeated", "between", "too large"],
)
def test_a_read_takes_few_steps_and_says_what_is_left(data: bytes, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are served in between, however many messages of whatever kind one read holds."""
    monkeypatch.setattr(sessions, "MOST_STEPS", 50)
    server = opened_session(committed=3, max_record=1000)
    reads = 0
    while data:
        before = server.expected
        server.receive(data)
        reads += 1
        assert server.expected - before <= 2 * 50
        data = data[len(data) - server.left :]
    assert reads >= 5
    assert server.expected == count + 1
    assert not server.pending


def test_a_new_limit_holds_from_the_next_record_on() -> None:
    """What WELCOME said of a batch stays true."""
    server = opened_session()
    data = wire.batch(1, b"x" * 250, b"y" * 250)
    server.receive(data[:100])
    server.limit(1 << 20)
    assert server.receive(data[100:]) == [Records.of(1, [b"x" * 250, b"y" * 250])]
    assert server.receive(wire.batch(3, b"z" * 1900)) == [Records.of(3, [b"z" * 1900])]
    server.limit(100)
    large = TooLarge(4, 101, b"x" * 101, *wire.kept_of(b"x" * 101, 100))
    assert server.receive(wire.batch(4, b"x" * 101, b"y")) == [large, Records.of(5, [b"y"])]


def test_no_welcome_promises_a_record_that_fits_into_no_batch() -> None:
    """A limit that grows before WELCOME stays below what a batch can carry."""
    server = in_state(State.AWAITING_WELCOME)
    server.limit(1 << 20)
    assert wire.messages(server.welcome(0))[0][1] == struct.pack(">BIIIQB", 1, 0, MAX_BATCH - 16, MAX_BATCH, 0, 0)


def test_bye_ends_it() -> None:
    """What comes after is passed over, and an answer is no longer sent."""
    server = opened_session()
    assert server.receive(wire.batch(1, b"a") + wire.bye() + b"rest") == [Records.of(1, [b"a"]), Bye()]
    assert server.state is State.ENDED
    assert server.receive(b"more") == []
    assert not server.pending
    assert server.ack(1) == server.error(ErrorCode.GOING_AWAY, "") == b""


def test_an_answer_to_a_client_that_has_gone_is_empty() -> None:
    """It may leave while we look up how far it is committed."""
    server = ServerSession(MAX_RECORD, MAX_BATCH)
    assert server.receive(wire.hello() + wire.bye()) == [Hello(wire.SESSION, 1, "test"), Bye()]
    assert server.welcome(5) == b""
    assert server.state is State.ENDED


def test_times_that_are_no_numbers_are_unknown() -> None:
    """A GAP that cannot be taken would only come again."""
    events = opened_session().receive(wire.gap(1, 1, float("nan"), float("inf"), b"\xff"))
    assert events == [Gap(1, 1, 0.0, 0.0, "\N{REPLACEMENT CHARACTER}")]


def test_the_last_number_there_is() -> None:
    """Numbers end, and so does the session."""
    server = opened_session(0, MAX_NUMBER - 2)
    assert server.receive(wire.batch(MAX_NUMBER - 2, b"a", b"b")) == [Records.of(MAX_NUMBER - 2, [b"a", b"b"])]
    assert violation(server, wire.batch(MAX_NUMBER, b"c", b"d")).reason == "malformed"
    assert opened_session(0, MAX_NUMBER).receive(wire.gap(MAX_NUMBER, 1)) == [
        Gap(MAX_NUMBER, MAX_NUMBER, 1.0, 2.0, "full")
    ]


# Splits and damage

BODIES = st.one_of(st.binary(max_size=40), st.builds(bytes, st.integers(MAX_RECORD - 2, MAX_RECORD + 40)))


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, bytes | None]]]:
    """Return what an honest client sends after WELCOME, and (number, body; None: dropped) of all of it."""
    data, said = b"", []
    number = 1
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.integers(0, 3)):
            bodies = draw(st.lists(BODIES, min_size=1, max_size=5))
            again = draw(st.integers(0, min(2, len(said)))) if draw(st.booleans()) else 0
            repeated = [body or b"was dropped" for _, body in said[len(said) - again :]] if again else []
            data += wire.batch(number - again, *repeated, *bodies, flags=draw(st.sampled_from([0, 0, 1])))
            said += zip(itertools.count(number), bodies, strict=False)
            number += len(bodies)
        else:
            count = draw(st.integers(1, 3))
            data += wire.gap(number, count)
            said += [(number + index, None) for index in range(count)]
            number += count
    return data, said


def numbered(events: list[Event]) -> list[tuple[int, bytes | None]]:
    """Return what events hand out, in the form of `conversations`."""
    out: list[tuple[int, bytes | None]] = []
    for event in events:
        match event:
            case Records(first, bodies):
                out += zip(itertools.count(first), bodies, strict=False)
            case TooLarge(number, size, head):
                assert size > MAX_RECORD
                out.append((number, head + bytes(size - len(head))))
            case Gap(first, last):
                out += [(number, None) for number in range(first, last + 1)]
    return out


@pytest.mark.slow
@given(conversations(), st.lists(st.integers(0, 3000), max_size=20))
def test_any_split_gives_the_same(conversation: tuple[bytes, list[tuple[int, bytes | None]]], cuts: list[int]) -> None:
    """Every number comes out once, in order, with its record, wherever the network cuts."""
    data, said = conversation
    server = opened_session(max_batch=10_000)
    events, reason, _ = outcome(server, wire.cut(data, cuts))
    assert not reason
    assert numbered(events) == said
    assert server.expected == len(said) + 1
    assert not server.pending
    assert server.held_bytes == 0


STREAM = b"".join(
    (
        wire.batch(1, b"a"),
        wire.batch(2, b"bb", b"", b"d" * 30),
        wire.batch(3, b"", b"d" * 30, b"e"),
        wire.batch(6, b"f" * (MAX_RECORD + 1), b"g"),
        wire.gap(8, 2),
        wire.batch(10, b"j", flags=1),
        wire.bye(),
    )
)
EVENTS = outcome(opened_session(), [STREAM])


def test_the_stream_below_is_what_it_seems() -> None:
    """It has something of everything."""
    assert [type(event) for event in EVENTS[0]] == [Records, TooLarge, Records, Gap, Records, Bye]


def test_every_split_in_two_and_every_chunk_gives_the_same() -> None:
    """At each byte, and in pieces of each size."""
    for place in range(len(STREAM) + 1):
        assert outcome(opened_session(), wire.cut(STREAM, [place])) == EVENTS
    for size in range(1, 80):
        assert outcome(opened_session(), wire.cut(STREAM, range(0, len(STREAM), size))) == EVENTS


def test_a_stream_cut_off_anywhere_gives_what_was_whole() -> None:
    """And says whether something had begun."""
    whole = numbered(EVENTS[0])
    pending = []
    for place in range(len(STREAM)):
        server = opened_session()
        events, reason, _ = outcome(server, [STREAM[:place]])
        assert not reason
        said = numbered(events)
        assert said == whole[: len(said)]
        pending.append(server.pending)
    assert pending.count(False) == 7
    assert not pending[0]


@pytest.mark.slow
@given(st.integers(0, len(STREAM) - 1), st.integers(1, 255), st.lists(st.integers(0, len(STREAM)), max_size=6))
@settings(max_examples=400)
def test_damage_is_judged_alike_whatever_the_split(place: int, change: int, cuts: list[int]) -> None:
    """The loop for whole batches and the one for pieces find the same faults, after the same events."""
    damaged = bytearray(STREAM)
    damaged[place] ^= change
    whole = outcome(opened_session(), [bytes(damaged)])
    assert outcome(opened_session(), wire.cut(bytes(damaged), cuts)) == whole


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xf7", b"\xf7\x50", wire.hello(), wire.hello()[:30]]))
def test_strangers_are_refused_and_nothing_else_happens(data: bytes, before: bytes) -> None:
    """Random bytes raise nothing but what is meant for them."""
    outcome(ServerSession(MAX_RECORD, MAX_BATCH), [before, data])
    outcome(opened_session(), [before, data])


# Limits, from the header on


@pytest.mark.parametrize(
    ("server", "head", "reason"),
    [
        (ServerSession(MAX_RECORD, MAX_BATCH), struct.pack(">HBBI", 0xF750, 1, 0, 1025), "too-large"),
        (ServerSession(MAX_RECORD, MAX_BATCH), struct.pack(">HBBI", 0xF750, 3, 0, 100), "unexpected"),
        (ServerSession(MAX_RECORD, MAX_BATCH), struct.pack(">HBBI", 0xF750, 2, 0, 100), "unexpected"),
        (ServerSession(MAX_RECORD, MAX_BATCH), wire.bye(), "unexpected"),
        (ServerSession(MAX_RECORD, MAX_BATCH), b"\xf7\x51" + bytes(6), "no-session"),
        (opened_session(), struct.pack(">HBBI", 0xF750, 3, 0, MAX_BATCH + 1), "too-large"),
        (opened_session(), struct.pack(">HBBI", 0xF750, 4, 0, 1025), "too-large"),
        (opened_session(), struct.pack(">HBBI", 0xF750, 5, 0, 1), "too-large"),
        (opened_session(), struct.pack(">HBBI", 0xF750, 1, 0, 40), "unexpected"),
        (opened_session(), struct.pack(">HBBI", 0xF750, 6, 0, 0), "unexpected"),
        (opened_session(), struct.pack(">HBBI", 0xF750, 0x83, 0, 8), "unexpected"),
        (opened_session(), b"GET / HT", "no-session"),
    ],
)
def test_a_header_alone_is_judged(server: ServerSession, head: bytes, reason: str) -> None:
    """Nothing is held of a message that may not come, or not in that size; seven bytes are no header yet."""
    assert server.receive(head[:7]) == []
    error = violation(server, head[7:8])
    assert error.reason == reason
    assert error.head == head
    assert error_code(error.reply) == ErrorCode.MALFORMED


@pytest.mark.parametrize(
    "data",
    [
        wire.batch(0, b"x"),
        wire.batch(1),
        wire.batch(1, b"x", count=2),
        wire.batch(1, b"x", b"y", count=1),
        wire.batch(1, b"x", b"yyyyy", count=3) + bytes(9),
        wire.batch(1, b"x", more=b"y"),
        wire.batch(1, b"x", b"y", more=b"z"),
        wire.batch(1, b"", count=0xFFFFFFFF),
        wire.message(3, b""),
        wire.message(3, bytes(11)),
        wire.message(3, struct.pack(">QII", 1, 1, 5) + b"four"),
        wire.message(3, struct.pack(">QII", 1, 1, 0xFFFFFFFF) + b"four"),
        wire.gap(0, 1),
        wire.gap(1, 0),
        wire.gap(2, MAX_NUMBER),
        wire.message(4, b""),
        wire.message(4, bytes(32) + b"\x05four"),
        wire.message(4, struct.pack(">QQddB", 1, 1, 0, 0, 3) + b"four"),
    ],
)
def test_a_message_that_contradicts_itself_ends_the_session(data: bytes) -> None:
    """Whole or byte by byte; the number after the last good record is still expected then."""
    rest = bytes(64)
    whole = outcome(opened_session(), [data + rest])
    assert whole[1] in {"malformed", "no-session"}
    assert error_code(whole[2]) == ErrorCode.MALFORMED
    assert outcome(opened_session(), wire.cut(data + rest, range(len(data) + 64))) == whole


@pytest.mark.parametrize(
    "data",
    [
        wire.message(1, bytes(31)),
        wire.hello(first=0),
        wire.hello(client=b"x" * 256),
        wire.message(1, struct.pack(">BBI16sQH", 1, 1, 0, bytes(16), 1, 5) + b"four"),
    ],
)
def test_a_hello_that_contradicts_itself_is_refused(data: bytes) -> None:
    """Before anything of it is believed."""
    error = violation(ServerSession(MAX_RECORD, MAX_BATCH), data)
    assert (error.reason, error.events) == ("malformed", [])


@pytest.mark.parametrize("body", [b"", bytes(65), b"\x02" + bytes(65), b"\x00" + bytes(64), b"\x41" + bytes(65 + 64)])
def test_an_auth_that_contradicts_itself_is_refused(body: bytes) -> None:
    """Lengths are checked before fields are read."""
    server = ServerSession(MAX_RECORD, MAX_BATCH)
    server.receive(wire.hello())
    server.challenge(NONCE)
    assert violation(server, wire.message(2, body)).reason == "malformed"


def test_a_batch_above_the_limit_is_refused_even_when_it_is_there() -> None:
    """What WELCOME says holds, whatever the split."""
    bodies = [bytes(46)] * 39
    assert opened_session().receive(wire.batch(1, *bodies, bytes(34))) == [Records.of(1, [*bodies, bytes(34)])]
    error = violation(opened_session(), wire.batch(1, *bodies, bytes(35)))
    assert (error.reason, error.events) == ("too-large", [])


def test_records_before_welcome_are_refused_unread() -> None:
    """A client that does not wait costs nothing, and what it said is told."""
    for waiting in (lambda server: None, lambda server: server.challenge(NONCE)):
        server = ServerSession(MAX_RECORD, MAX_BATCH)
        server.receive(wire.hello())
        waiting(server)
        assert violation(server, wire.batch(1, b"x")).reason == "unexpected"
    server = ServerSession(MAX_RECORD, MAX_BATCH)
    error = violation(server, wire.hello() + wire.batch(1, b"x"))
    assert error.events == [Hello(wire.SESSION, 1, "test")]
    assert server.welcome(0) == b""


# Answers


def in_state(state: State) -> ServerSession:
    server = ServerSession(MAX_RECORD, MAX_BATCH)
    if state is not State.AWAITING_HELLO:
        server.receive(wire.hello())
    if state is State.AWAITING_AUTH:
        server.challenge(NONCE)
    if state in {State.OPEN, State.ENDED}:
        server.welcome(0)
        server.receive(wire.batch(1, b"x"))
    if state is State.ENDED:
        server.receive(wire.bye())
    assert server.state is state
    return server


ANSWERS = {
    Message.CHALLENGE: lambda server: server.challenge(NONCE),
    Message.WELCOME: lambda server: server.welcome(0),
    Message.ACK: lambda server: server.ack(1),
    Message.ERROR: lambda server: server.error(ErrorCode.GOING_AWAY, "going away"),
}
IN_TURN = {
    State.AWAITING_HELLO: {Message.ERROR},
    State.AWAITING_AUTH: {Message.ERROR},
    State.AWAITING_WELCOME: {Message.CHALLENGE, Message.WELCOME, Message.ERROR},
    State.OPEN: {Message.ACK, Message.ERROR},
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", ANSWERS)
def test_answers_are_given_in_turn(state: State, kind: Message) -> None:
    """Out of turn is our own fault; to one that has ended nothing is said."""
    server = in_state(state)
    if state is State.ENDED:
        assert ANSWERS[kind](server) == b""
    elif kind in IN_TURN[state]:
        assert wire.messages(ANSWERS[kind](server))[0][0] == kind
    else:
        with pytest.raises(LocalProtocolError):
            ANSWERS[kind](server)
        assert server.state is state


def test_only_what_was_handed_out_is_acknowledged_and_only_once() -> None:
    """The highest number counts; what says nothing new is not sent."""
    server = opened_session(committed=5)
    assert server.ack(5) == b""
    with pytest.raises(LocalProtocolError):
        server.ack(6)
    server.receive(wire.batch(6, b"x", b"y", b"z"))
    assert wire.messages(server.ack(7)) == [(0x83, struct.pack(">Q", 7))]
    assert server.ack(7) == server.ack(6) == b""
    assert wire.messages(server.ack(8)) == [(0x83, struct.pack(">Q", 8))]


@pytest.mark.parametrize(("committed", "proof"), [(-1, b""), (MAX_NUMBER, b""), (0, bytes(32)), (0, b"x")])
def test_a_welcome_that_makes_no_sense_is_our_own_fault(committed: int, proof: bytes) -> None:
    """So is a proof that nobody asked for."""
    server = in_state(State.AWAITING_WELCOME)
    with pytest.raises(LocalProtocolError):
        server.welcome(committed, proof)


def test_a_nonce_of_another_length_is_our_own_fault() -> None:
    """A short one could be guessed."""
    with pytest.raises(LocalProtocolError):
        in_state(State.AWAITING_WELCOME).challenge(b"short")


@pytest.mark.parametrize("text", ["ö" * 200, "x" * 300, "\ud800", ""])
def test_the_text_of_an_error_is_short_and_whole(text: str) -> None:
    """It is cut between characters."""
    ((_, body),) = wire.messages(opened_session().error(ErrorCode.GOING_AWAY, text))
    code, size = struct.unpack_from(">HH", body)
    assert code == ErrorCode.GOING_AWAY
    assert size == len(body) - 4 <= 255
    assert text.startswith(body[4:].decode().replace("?", "\ud800"))


# A client that comes back, again and again


class Client:
    """A client as docs/protocol.md describes it: what it holds, and what it has sent on this connection."""

    def __init__(self) -> None:
        self.held: dict[int, bytes | None] = {}
        self.next_number = 1
        self.unsent = 1

    def first(self) -> int:
        return min(self.held, default=self.next_number)

    def log(self, body: bytes) -> None:
        self.held[self.next_number] = body
        self.next_number += 1

    def forget(self, committed: int) -> None:
        self.held = {number: body for number, body in self.held.items() if number > committed}

    def send(self, start: int, most: int) -> bytes:
        """Return a message with up to `most` numbers from `start` on: all records, or all dropped."""
        run = [start]
        while len(run) < most and run[-1] + 1 in self.held:
            run.append(run[-1] + 1)
        dropped = self.held[start] is None
        run = list(itertools.takewhile(lambda number: (self.held[number] is None) == dropped, run))
        self.unsent = max(self.unsent, run[-1] + 1)
        return (
            wire.gap(start, len(run)) if dropped else wire.batch(start, *(self.held[number] or b"" for number in run))
        )


class Reconnecting(RuleBasedStateMachine):
    """What the collector commits is each number once and in order, whatever breaks in between."""

    def __init__(self) -> None:
        super().__init__()
        self.client = Client()
        self.committed: list[tuple[int, bytes | None]] = []
        self.taken: list[tuple[int, bytes | None]] = []
        self.logged: list[bytes] = []
        self.dropped: set[int] = set()
        self.server: ServerSession | None = None
        self.to_server = b""
        self.to_client = b""

    @rule(body=st.binary(max_size=20), large=st.integers(0, 9))
    def log(self, body: bytes, large: int) -> None:
        self.logged.append(body if large else body + bytes(MAX_RECORD + 1 - len(body)))
        self.client.log(self.logged[-1])

    @rule(count=st.integers(1, 3))
    def drop_the_oldest(self, count: int) -> None:
        for number in sorted(self.client.held)[:count]:
            self.client.held[number] = None
            self.dropped.add(number)

    @precondition(lambda self: self.server is None)
    @rule(hold=st.booleans())
    def connect(self, hold: bool) -> None:
        self.server = ServerSession(MAX_RECORD, MAX_BATCH)
        (event,) = outcome(self.server, wire.cut(wire.hello(self.client.first()), [5, 30]))[0]
        assert isinstance(event, Hello)
        self.to_client = self.server.welcome(len(self.committed))
        self.client.unsent = 0
        if not hold:
            self.read_answers()

    @rule()
    def read_answers(self) -> None:
        for kind, body in wire.messages(self.to_client):
            if kind == Message.WELCOME:
                committed = int.from_bytes(body[13:21], "big")
                self.client.unsent = max(committed + 1, self.client.first())
            else:
                assert kind == Message.ACK
                committed = int.from_bytes(body, "big")
            self.client.forget(committed)
        self.to_client = b""

    @precondition(lambda self: self.server is not None and self.client.unsent)
    @rule(most=st.integers(1, 5), back=st.integers(0, 3))
    def send(self, most: int, back: int) -> None:
        start = max(self.client.unsent - back, self.client.first())
        if start in self.client.held:
            self.to_server += self.client.send(start, most)

    @precondition(lambda self: self.server is not None)
    @rule(most=st.integers(1, 400))
    def deliver(self, most: int) -> None:
        assert self.server is not None
        piece, self.to_server = self.to_server[:most], self.to_server[most:]
        self.taken += numbered(self.server.receive(piece))

    @precondition(lambda self: self.server is not None and self.taken)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        assert self.server is not None
        count = data.draw(st.integers(1, len(self.taken)))
        self.committed += self.taken[:count]
        del self.taken[:count]
        self.to_client += self.server.ack(self.committed[-1][0])
        assert [number for number, _ in self.committed] == list(range(1, len(self.committed) + 1))

    @rule(read=st.booleans())
    def break_connection(self, read: bool) -> None:
        """Reset it: what was on its way is lost, and what the worker had not committed with it."""
        if read:
            self.read_answers()
        self.server = None
        self.taken = []
        self.to_server = self.to_client = b""
        self.client.unsent = 0

    def teardown(self) -> None:
        """Whatever happened, a last connection gets rid of the rest."""
        logged = self.client.next_number - 1
        self.break_connection(read=False)
        self.connect(hold=False)
        assert self.server is not None
        for _ in range(logged):
            if self.client.unsent in self.client.held:
                self.taken += numbered(self.server.receive(self.client.send(self.client.unsent, 4)))
        self.committed += self.taken
        assert [number for number, _ in self.committed] == list(range(1, logged + 1))
        for (number, body), was_logged in zip(self.committed, self.logged, strict=True):
            assert body == was_logged or (body is None and number in self.dropped)


TestReconnecting = pytest.mark.slow(Reconnecting.TestCase)
TestReconnecting.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# The specification's example

KEY = bytes(range(16))
EXAMPLE = """
C HELLO     f750010000000024 01 01 00000000 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf 0000000000000005 0004 77656231
S CHALLENGE f750820000000020 1111111111111111111111111111111111111111111111111111111111111111
C AUTH      f750020000000043 02 6b31 2222222222222222222222222222222222222222222222222222222222222222
            10a63e9303b7071f15edc2e68e4394f806f57c68373f84c948453ece448acab0
S WELCOME   f750810000000036 01 00000000 00100000 00400000 0000000000000006
            20 693c79f8b9d7445434ea20e0130dab24cc44c3a18782350f467d384b8a353518
C BATCH     f750030000000096 0000000000000007 00000002
            00000041 80027d71002858040000006e616d657101580400000073686f70710258070000006c6576656c6e6f71034b1458030000
                     006d73677104580200000075707105752e
            00000041 80027d71002858040000006e616d657101580400000073686f70710258070000006c6576656c6e6f71034b1458030000
                     006d7367710458020000006f6b7105752e
C GAP       f750040000000025 0000000000000009 0000000000000003 41d954fc40000000 41d954fc40200000 04 66756c6c
S ACK       f750830000000008 000000000000000b
C BYE       f750050000000000
"""


def test_the_conversation_in_the_specification_is_a_real_one() -> None:
    """Fed with the client's bytes, we answer with the collector's, and understand what the page says they mean."""
    said: list[tuple[str, bytes]] = []
    for line in EXAMPLE.strip().splitlines():
        if not line.startswith(" "):
            said.append((line[0], b""))
        said[-1] = (said[-1][0], said[-1][1] + bytes.fromhex(line[12:]))
    server = ServerSession(1 << 20, 1 << 22)
    events: list[Event] = []
    nonce = b"\x11" * 32
    for who, data in said:
        if who == "C":
            events += server.receive(data)
            continue
        match events[-1]:
            case Hello():
                assert data == server.challenge(nonce)
            case Authenticate(key_id, client_nonce, mac):
                session = events[0].session
                assert auth.verify({b"k1": KEY}, key_id, nonce, client_nonce, session, mac)
                assert data == server.welcome(6, auth.server_proof(KEY, client_nonce, nonce, session))
            case Gap():
                assert data == server.ack(11)
            case other:
                pytest.fail(f"nothing is to be said to {other}")
    hello, _, records, gap, bye = events
    assert hello == Hello(bytes(range(0xA0, 0xB0)), 5, "web1")
    assert records.first == 7
    assert [pickle.loads(body) for body in records.bodies] == [
        {"name": "shop", "levelno": 20, "msg": "up"},
        {"name": "shop", "levelno": 20, "msg": "ok"},
    ]
    assert gap == Gap(9, 11, 1_700_000_000.0, 1_700_000_000.5, "full")
    assert bye == Bye()


def test_the_page_shows_this_conversation() -> None:
    """What is specified is what was tested."""
    page = Path(__file__).resolve().parents[4] / "docs" / "protocol.md"
    assert EXAMPLE.strip() in page.read_text()
