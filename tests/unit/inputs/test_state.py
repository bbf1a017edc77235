"""An input whose state was dumped and loaded behaves as one that never stopped, wherever it was stopped."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.inputs.base import Terms, TooLarge
from prefork_logd.inputs.detect import dump_input, load_input
from prefork_logd.inputs.frames import FrameInput, NoFrameError
from prefork_logd.inputs.session.server import ServerSession, SessionState
from prefork_logd.inputs.state import InputState
from tests.support import corpus, wire
from tests.support.frame_inputs import MAX_FRAME, feed, framed, frames_and_skipped, frames_of
from tests.support.server_sessions import MAX_BATCH, MAX_RECORD, NONCE, opened_session, outcome

STREAMS = [payload.data for payload in corpus.load() if payload.category == "stream"]


def travelled(reader: FrameInput) -> FrameInput:
    """Return the input as another process gets it."""
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(dump_input(reader)), type=InputState)
    loaded = load_input(state, Terms(1))
    assert isinstance(loaded, FrameInput)
    for name in FrameInput.__slots__:
        assert getattr(loaded, name) == getattr(reader, name), name
    return loaded


def moved(session: ServerSession) -> ServerSession:
    """Return the session as another process gets it."""
    data = msgspec.msgpack.encode(session.dump_state())
    loaded = ServerSession.load_state(msgspec.msgpack.decode(data, type=SessionState))
    for name in ServerSession.__slots__:
        assert getattr(loaded, name) == getattr(session, name), name
    return loaded


@pytest.mark.slow
@given(
    st.lists(st.one_of(st.binary(max_size=60), st.integers(1001, 2000).map(bytes)), max_size=8),
    st.lists(st.tuples(st.integers(0, 4000), st.booleans()), max_size=20),
)
def test_frames_go_on_at_every_split(bodies: list[bytes], stops: list[tuple[int, bool]]) -> None:
    """Wherever the network cuts, and at whichever cuts the reader moves, the same frames come out."""
    data = framed(*bodies)
    expected = feed(frames_of(MAX_FRAME), [data])
    reader = frames_of(MAX_FRAME)
    frames: list[bytes] = []
    skipped: list[TooLarge] = []
    begin = 0
    for place, moves in [*sorted(stops), (len(data), False)]:
        if piece := data[begin:place]:
            new_frames, new_skipped = frames_and_skipped(reader.receive(piece))
            frames += new_frames
            skipped += new_skipped
        begin = max(begin, min(place, len(data)))
        if moves:
            reader = travelled(reader)
    assert (frames, skipped) == expected


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 3000])
def test_a_frame_moves_after_each_of_its_bytes(size: int) -> None:
    """Every single byte of a frame can be the last that the old process has read."""
    data = framed(b"y" * size, b"z")
    expected = feed(frames_of(MAX_FRAME), [data])
    for place in range(len(data) + 1):
        reader = frames_of(MAX_FRAME)
        first = feed(reader, [data[:place]])
        second = feed(travelled(reader), [data[place:]])
        assert (first[0] + second[0], first[1] + second[1]) == expected


message = st.one_of(
    st.lists(st.integers(0, MAX_RECORD + 100).map(lambda size: b"r" * size), min_size=1, max_size=5).map(
        lambda bodies: ("batch", bodies)
    ),
    st.just(("gap", [])),
    st.just(("again", [b"seen", b"before"])),
)


@pytest.mark.slow
@given(
    st.lists(message, max_size=6),
    st.lists(st.integers(0, 6000), max_size=12),
    st.lists(st.integers(0, 12), max_size=12),
    st.booleans(),
)
def test_sessions_go_on_at_every_split(
    said: list[tuple[str, list[bytes]]], places: list[int], stops: list[int], ends_badly: bool
) -> None:
    """What a client says means the same if the session moves between any two reads: the violation at its end, too."""
    data, number = b"", 1
    for what, bodies in said:
        if what == "gap":
            data += wire.gap(number, 3)
            number += 3
        elif what == "again":
            data += wire.batch(max(1, number - 1), *bodies)
            number = max(number, max(1, number - 1) + len(bodies))
        else:
            data += wire.batch(number, *bodies)
            number += len(bodies)
    if ends_badly:
        data += wire.batch(number + 7, b"beyond")
    pieces = wire.cut(data, places)
    expected = outcome(opened_session(), pieces)
    session, events, reason, reply = opened_session(), [], "", b""
    for index, piece in enumerate(pieces):
        if reason:
            break
        new, reason, reply = outcome(session, [piece])
        events += new
        if index in stops and not reason:
            session = moved(session)
    assert _joined(events) == _joined(expected[0])
    assert (reason, reply) == expected[1:]


def _joined(events: list[object]) -> list[object]:
    """Return events with each record on its own, for how many come at once is up to the reads."""
    found: list[object] = []
    for event in events:
        bodies = getattr(event, "bodies", None)
        found += [event] if bodies is None else [(event.first + index, body) for index, body in enumerate(bodies)]
    return found


def test_a_session_moves_in_each_of_its_states() -> None:
    """Before and after HELLO, CHALLENGE, AUTH, WELCOME and each ACK."""
    session = ServerSession(MAX_RECORD, MAX_BATCH)
    hello = wire.hello(5)
    for index in range(len(hello)):
        session = moved(session)
        assert session.receive(hello[index : index + 1]) == [] or index == len(hello) - 1
    assert wire.messages(moved(session).challenge(NONCE))
    session.challenge(NONCE)
    session = moved(session)
    assert session.receive(wire.auth(b"id", b"c" * 32, b"m" * 32))
    session = moved(session)
    assert wire.messages(session.welcome(9, b"p" * 32))
    session = moved(session)
    assert session.expected == 10
    session.receive(wire.batch(10, b"x", b"y"))
    session = moved(session)
    assert wire.messages(session.ack(10)) == [(0x83, struct.pack(">Q", 10))]
    session = moved(session)
    assert session.ack(10) == b""
    session.receive(wire.bye())
    assert moved(session).receive(b"more") == []


def test_a_smaller_limit_holds_after_the_move() -> None:
    """Whoever takes over may have another limit: it holds from the next record on."""
    reader = travelled(frames_of(MAX_FRAME))
    reader.limit(10)
    assert frames_and_skipped(reader.receive(framed(b"x" * 11, b"short")))[0] == [b"short"]
    session = moved(opened_session())
    session.limit(10)
    assert len(session.receive(wire.batch(1, b"x" * 11, b"short"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("data", STREAMS)
def test_streams_of_the_corpus_survive_a_move_after_every_byte(data: bytes) -> None:
    """Whatever a stranger sends, it is no other thing after a move."""
    reader, frames = frames_of(1 << 20), []
    for index in range(min(len(data), 2000)):
        try:
            frames += frames_and_skipped(reader.receive(data[index : index + 1]))[0]
        except NoFrameError as error:
            with pytest.raises(type(error)):
                frames_of(1 << 20).receive(data)
            return
        reader = travelled(reader)
    if len(data) <= 2000:
        assert frames == frames_and_skipped(frames_of(1 << 20).receive(data))[0]


def test_what_is_no_state_is_refused() -> None:
    """A state of a version that this one does not know is an error, not a guess."""
    state = msgspec.structs.replace(opened_session().dump_state(), state="SINGING")
    with pytest.raises(ValueError, match="SINGING"):
        ServerSession.load_state(state)
