"""One port, told apart by the first byte."""

from __future__ import annotations

import struct

import pytest

from prefork_logd.protocol import detect
from prefork_logd.protocol.framing import LARGEST_HONEST_FRAME, FrameReader


def test_stdlib_frames_are_the_default() -> None:
    """Whatever begins no other protocol is read as frames, which then judge it."""
    assert isinstance(detect.choose(b"\x00\x00\x01", 1000), FrameReader)
    assert isinstance(detect.choose(b"GET ", 1000), FrameReader)


def test_a_protocol_is_chosen_by_its_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol in the table gets the connection that begins with its byte, and the limit."""
    limits = []

    class Other(FrameReader):
        def __init__(self, max_bytes: int) -> None:
            super().__init__(max_bytes)
            limits.append(max_bytes)

    monkeypatch.setattr(detect, "PROTOCOLS", {0xF0: Other})
    assert isinstance(detect.choose(b"\xf0...", 77), Other)
    assert limits == [77]


def test_no_honest_frame_begins_with_the_byte_of_another_protocol() -> None:
    """The bytes left for other protocols begin no frame that a SocketHandler may send."""
    assert struct.pack(">I", LARGEST_HONEST_FRAME)[0] == 0x0F
    assert all(first > 0x0F for first in detect.PROTOCOLS)
