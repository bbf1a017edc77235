"""What is to be known of a receiver so that another process can go on exactly where it stopped: plain values.

Owns their form and its version. Knows no sockets, and not where the values travel; each receiver freezes itself, and
`thaw` makes one that behaves as if it had never stopped (framing.py, session.py).

The two processes may run different versions of this program. Fields may be added, with a default; a change that an
older version would misread makes a new FORMAT.
"""

from __future__ import annotations

import msgspec

FORMAT = 1


class FrozenFrames(msgspec.Struct, frozen=True, tag="frames"):
    """A FrameReader, in the middle of a frame or between two."""

    max_bytes: int
    carry: bytes | None
    skip_left: int
    skip_size: int
    head: bytes


class FrozenSession(msgspec.Struct, frozen=True, tag="session"):
    """A ServerSession, in any state; the names are those of its attributes."""

    state: str
    expected: int
    max_bytes: int
    max_batch_bytes: int
    challenged: bool
    first: int
    acked: int
    carry: bytes | None
    need: int
    left: int
    count: int
    repeats: int
    skip_left: int
    skip_size: int
    head: bytes


FrozenReceiver = FrozenFrames | FrozenSession
