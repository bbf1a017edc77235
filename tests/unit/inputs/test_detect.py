"""One port, told apart by the first byte; what a listener does not take is refused."""

from __future__ import annotations

import struct

import pytest

from prefork_logd.inputs import detect
from prefork_logd.inputs.base import InputError, Terms
from prefork_logd.inputs.frames import LARGEST_HONEST_FRAME, FrameInput
from prefork_logd.inputs.session.messages import FIRST_BYTE
from prefork_logd.inputs.session.session_input import SessionInput
from prefork_logd.inputs.state import InputState

TERMS = Terms(1000)


@pytest.mark.parametrize("admits", ["any", "frames"])
@pytest.mark.parametrize("data", [b"\x00\x00\x01", b"GET "])
def test_stdlib_frames_are_the_default(admits: str, data: bytes) -> None:
    """Whatever begins no other protocol is read as frames, which then judge it."""
    assert isinstance(detect.choose(data, admits, TERMS), FrameInput)


@pytest.mark.parametrize("admits", ["any", "session", "authenticated"])
@pytest.mark.parametrize("data", [b"\xf7", b"\xf7garbage"])
def test_a_session_is_known_by_its_first_byte(admits: str, data: bytes) -> None:
    """Whoever begins with the magic speaks of sessions, whatever comes next."""
    assert isinstance(detect.choose(data, admits, TERMS), SessionInput)


@pytest.mark.parametrize("admits", ["session", "authenticated"])
@pytest.mark.parametrize("data", [b"\x00\x00\x01", b"GET "])
def test_a_listener_for_sessions_takes_nothing_else(admits: str, data: bytes) -> None:
    """The error names what came, and what is wanted."""
    with pytest.raises(InputError, match="plain frames are not accepted on this listener, only sessions"):
        detect.choose(data, admits, TERMS)


def test_no_honest_frame_begins_with_the_byte_of_another_protocol() -> None:
    """No first byte of the list begins a frame that a SocketHandler may send."""
    assert FIRST_BYTE in [row.first_byte for row in detect.INPUTS]
    for row in detect.INPUTS:
        assert row.first_byte is None or struct.pack(">I", LARGEST_HONEST_FRAME)[0] < row.first_byte


def test_each_row_has_a_name_and_a_byte_of_its_own() -> None:
    """The last one has what is left."""
    assert len({row.name for row in detect.INPUTS}) == len(detect.INPUTS)
    assert len({row.first_byte for row in detect.INPUTS}) == len(detect.INPUTS)
    assert [row.first_byte is None for row in detect.INPUTS] == [False] * (len(detect.INPUTS) - 1) + [True]


@pytest.mark.parametrize(
    ("first", "admits", "answered"),
    [
        (b"\xf7", "any", True),
        (b"\0", "any", False),
        (b"", "any", False),
        (b"\0", "session", True),
        (b"\0", "authenticated", True),
        (b"\0", "frames", False),
    ],
)
def test_clients_of_sessions_are_answered_at_once(first: bytes, admits: str, answered: bool) -> None:
    """They need no place for it; others wait until there is one."""
    assert detect.is_answered(first, admits) is answered


@pytest.mark.parametrize("row", detect.INPUTS, ids=lambda row: row.name)
def test_a_state_is_carried_under_its_tag(row: detect.Row) -> None:
    """The tag chooses the input; a state that is none of its own is an error."""
    state = detect.dump_input(row.make(TERMS))
    assert state.tag == row.name
    assert type(detect.load_input(state, TERMS)) is row.make
    for broken in (b"", b"\xc1", state.state[:-1], b"\x80"):
        with pytest.raises(ValueError, match=f"'{row.name}'"):
            detect.load_input(InputState(row.name, broken), TERMS)


def test_a_state_of_an_unknown_input_is_refused() -> None:
    """Another version may know more inputs."""
    with pytest.raises(ValueError, match="morse"):
        detect.load_input(InputState("morse", b""), TERMS)
