"""A connection's state as plain values, so that another process can go on exactly where this one stopped.

Owns their form and its version. Knows no sockets, no input, and not where the values travel. Each input dumps its own
state, which is carried here under the input's tag.

The two processes may run different versions of this program. Fields may be added, with a default; a change that an
older version would misread makes a new FORMAT.
"""

from __future__ import annotations

import msgspec

FORMAT = 2


class InputState(msgspec.Struct, frozen=True):
    """An input in any state."""

    tag: str
    """Which input it is (detect.INPUTS)."""
    state: bytes
    """What its dump_state returned."""


class ClientState(msgspec.Struct, frozen=True):
    """The state of an acknowledged client beside its input."""

    name: str = ""
    """What the log calls it; empty before it was let in."""
    to_tell: int = 0
    """Committed, and still to be acknowledged; 0 for nothing."""
    asked_first: int = 0
    """Lowest number the client holds, if its epoch was asked for and not given yet; else 0."""


class ConnectionState(msgspec.Struct, frozen=True):
    """A connection whose descriptor travels beside this."""

    peer: str
    accept: str
    input: InputState | None = None
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
    client: ClientState | None = None


class Bundle(msgspec.Struct, frozen=True):
    """Connections that travel together."""

    connections: list[ConnectionState]
    format: int = FORMAT


class _Packed(msgspec.Struct, frozen=True):
    """A Bundle on the way out: each connection was packed by itself, so that one that cannot be costs no other."""

    connections: list[msgspec.Raw]
    format: int = FORMAT


def pack_one(connection: ConnectionState) -> msgspec.Raw:
    """Return one connection as bytes, for `pack`. Raises what msgspec does for a value that has no form."""
    return msgspec.Raw(msgspec.msgpack.encode(connection))


def pack(connections: list[msgspec.Raw]) -> bytes:
    """Return connections as bytes."""
    return msgspec.msgpack.encode(_Packed(connections))


def unpack(data: bytes) -> list[ConnectionState]:
    """Return the connections that `pack` was given. Raises ValueError for what this version does not understand."""
    try:
        bundle = msgspec.msgpack.decode(data, type=Bundle)
    except msgspec.MsgspecError as error:
        raise ValueError(f"no connections: {error}") from error
    if bundle.format != FORMAT:
        raise ValueError(f"connections in the format {bundle.format}; this version knows {FORMAT}")
    return bundle.connections
