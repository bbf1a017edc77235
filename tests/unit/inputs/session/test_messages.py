"""The tables of messages are whole, and reading one raises nothing but what is meant for it."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.inputs.frames import LARGEST_HONEST_FRAME
from prefork_logd.inputs.session import messages
from prefork_logd.inputs.session.messages import LARGEST, RECEIVED, SENT, Message, State


def test_no_stdlib_frame_begins_as_a_message_does() -> None:
    """So both can share a port."""
    assert messages.FIRST_BYTE > LARGEST_HONEST_FRAME >> 24
    assert messages.encode(Message.BYE, b"")[0] == messages.FIRST_BYTE


def test_every_state_says_what_may_come() -> None:
    """From each one the end can be reached; from the end nothing else can."""
    assert set(RECEIVED) == set(SENT) == set(State)
    assert not RECEIVED[State.ENDED]
    assert not SENT[State.ENDED]
    for state in set(State) - {State.ENDED}:
        assert SENT[state][Message.ERROR] is State.ENDED


def test_every_message_has_a_direction_and_a_largest_body() -> None:
    """A client's are below 0x80, ours above."""
    received = {kind for row in RECEIVED.values() for kind in row}
    sent = {kind for row in SENT.values() for kind in row}
    assert received | sent == set(Message)
    assert all(kind < 0x80 for kind in received)
    assert all(kind > 0x80 for kind in sent)
    assert set(LARGEST) | {Message.BATCH} == received


@given(st.binary(max_size=200))
def test_reading_raises_nothing_else(body: bytes) -> None:
    """Whatever the bytes are."""
    for read in (messages.read_hello, messages.read_auth, messages.read_gap):
        with contextlib.suppress(messages.Broken):
            read(body)


@pytest.mark.parametrize(
    ("more", "sender"),
    [
        (b"", b""),
        (b"\0\0", b""),
        (b"\0\x02{}", b"{}"),
        (b"\0\x02{}and of later versions", b"{}"),
        (b"\0\x03{}", b""),
        (b"\0", b""),
    ],
)
def test_a_hello_may_describe_the_sender(more: bytes, sender: bytes) -> None:
    """What is not whole is ignored, as earlier versions ignore all of it."""
    body = struct.pack(">BBI16sQH", 1, 1, 0, bytes(16), 5, 3) + b"web" + more
    assert messages.read_hello(body) == messages.Hello(bytes(16), 5, "web", 0, sender)


@pytest.mark.parametrize(
    ("body", "length", "good"),
    [
        ((1, 1), 16, True),
        ((1, 1), 15, False),
        ((1, 2), 19, False),
        ((1, 2), 20, True),
        ((0, 1), 16, False),
        ((1, 0), 16, False),
        ((messages.MAX_NUMBER, 1), 16, True),
        ((messages.MAX_NUMBER, 2), 20, False),
    ],
)
def test_a_batch_is_judged_by_its_beginning(body: tuple[int, int], length: int, good: bool) -> None:
    """Numbers that exist, and room for the length of each record."""
    packed = messages.BATCH.pack(*body)
    if good:
        assert messages.read_batch(packed, length) == body
    else:
        with pytest.raises(messages.Broken):
            messages.read_batch(packed, length)
