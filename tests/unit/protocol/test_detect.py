"""One port, told apart by the first byte."""

from __future__ import annotations

import struct

from prefork_logd.protocol import detect
from prefork_logd.protocol.framing import LARGEST_HONEST_FRAME, FrameReader
from prefork_logd.protocol.messages import FIRST_BYTE
from prefork_logd.protocol.session import ServerSession


def test_stdlib_frames_are_the_default() -> None:
    """Whatever begins no other protocol is read as frames, which then judge it."""
    assert isinstance(detect.choose(b"\x00\x00\x01", 1000), FrameReader)
    assert isinstance(detect.choose(b"GET ", 1000), FrameReader)


def test_a_session_is_known_by_its_first_byte() -> None:
    """Whoever begins with the magic speaks of sessions, whatever comes next."""
    assert isinstance(detect.choose(b"\xf7", 1000), ServerSession)
    assert isinstance(detect.choose(b"\xf7garbage", 1000), ServerSession)


def test_no_honest_frame_begins_with_the_byte_of_another_protocol() -> None:
    """The magic begins no frame that a SocketHandler may send."""
    assert struct.pack(">I", LARGEST_HONEST_FRAME)[0] < FIRST_BYTE
