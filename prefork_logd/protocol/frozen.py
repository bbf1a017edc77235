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


class FrozenClient(msgspec.Struct, frozen=True):
    """What is known of an acknowledged client beside its ServerSession."""

    name: str = ""
    """What the log calls it; empty before it was let in."""
    to_tell: int = 0
    """Committed, and still to be acknowledged; 0 for nothing."""
    asked_first: int = 0
    """Lowest number the client holds, if its epoch was asked for and not given yet; else 0."""
    hello: tuple[bytes, int, str] | None = None
    """Its HELLO (session, first, client), while it is challenged."""
    capabilities: int = 0
    """Of that HELLO."""
    nonce: bytes = b""
    """Of the challenge."""
    proof: bytes = b""
    """For the WELCOME to come."""


class FrozenConnection(msgspec.Struct, frozen=True):
    """A connection whose descriptor travels beside this."""

    peer: str
    accept: str
    receiver: FrozenReceiver | None = None
    """None: the client has sent nothing yet."""
    session: bytes = b""
    epoch: int = 0
    floor: int = 0
    """From which number on its client sends in this epoch."""
    unsent: bytes = b""
    """What the client has not taken yet of what it was sent."""
    failures: int = 0
    warned: bool = False
    left_s: float | None = None
    """What is left of the deadline of a half-received record; None where none runs."""
    client: FrozenClient | None = None


class Bundle(msgspec.Struct, frozen=True):
    """Connections that travel together."""

    connections: list[FrozenConnection]
    format: int = FORMAT


class _Packed(msgspec.Struct, frozen=True):
    """A Bundle on the way out: each connection was packed by itself, so that one that cannot be costs no other."""

    connections: list[msgspec.Raw]
    format: int = FORMAT


def pack_one(connection: FrozenConnection) -> msgspec.Raw:
    """Return one connection as bytes, for `pack`. Raises what msgspec does for a value that has no form."""
    return msgspec.Raw(msgspec.msgpack.encode(connection))


def pack(connections: list[msgspec.Raw]) -> bytes:
    """Return connections as bytes."""
    return msgspec.msgpack.encode(_Packed(connections))


def unpack(data: bytes) -> list[FrozenConnection]:
    """Return the connections that `pack` was given. Raises ValueError for what this version does not understand."""
    try:
        bundle = msgspec.msgpack.decode(data, type=Bundle)
    except msgspec.MsgspecError as error:
        raise ValueError(f"no connections: {error}") from error
    if bundle.format != FORMAT:
        raise ValueError(f"connections in the format {bundle.format}; this version knows {FORMAT}")
    return bundle.connections
