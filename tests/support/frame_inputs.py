"""Makes the input of a connection that speaks plain frames, and gives it bytes in pieces."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from prefork_logd.inputs.base import Event, Records, Terms, TooLarge
from prefork_logd.inputs.frames import FrameInput

if TYPE_CHECKING:
    from collections.abc import Sequence


MAX_FRAME = 1000
"""Bytes of the largest frame that the tests allow."""


def framed(*bodies: bytes) -> bytes:
    """Return the frames of these bodies."""
    return b"".join(struct.pack(">I", len(body)) + body for body in bodies)


def frames_of(limit: int) -> FrameInput:
    """Return an input that takes bodies of at most `limit` bytes."""
    return FrameInput(Terms(limit))


def frames_and_skipped(events: Sequence[Event]) -> tuple[list[bytes], list[TooLarge]]:
    """Return the frames of some events, and those that were skipped."""
    frames: list[bytes] = []
    for event in events:
        if isinstance(event, Records):
            assert event.first == 0
            frames += event.bodies
    return frames, [event for event in events if isinstance(event, TooLarge)]


def feed(reader: FrameInput, pieces: list[bytes]) -> tuple[list[bytes], list[TooLarge]]:
    """Return the frames that came of the pieces, and those that were skipped."""
    frames: list[bytes] = []
    skipped: list[TooLarge] = []
    for piece in pieces:
        if piece:
            new_frames, new_skipped = frames_and_skipped(reader.receive(piece))
            frames += new_frames
            skipped += new_skipped
    return frames, skipped
