"""Packs a connection's state as plain values, so that another process can continue it.

Owns their form and its version. Does not know sockets, inputs, or the way that the values travel. Each input dumps its
own state, which is stored here under the input's tag.

The two processes may run different versions of this program. Fields may be added, with a default; a change that an
older version would misread needs a new FORMAT.
"""

from __future__ import annotations

import msgspec

FORMAT = 2


class InputState(msgspec.Struct, frozen=True):
    """An input in any state."""

    tag: str
    """Name of the input (detect.INPUTS)."""
    state: bytes
    """The result of its dump_state."""


class ClientState(msgspec.Struct, frozen=True):
    """The state of an acknowledged client beside its input."""

    name: str = ""
    """Its name in the log; empty before its welcome."""
    to_tell: int = 0
    """Number up to which records are committed and not acknowledged yet; 0 for none."""
    asked_first: int = 0
    """Lowest number the client holds, while its epoch is requested from the writer; else 0."""


class ConnectionState(msgspec.Struct, frozen=True):
    """A connection whose descriptor travels beside this."""

    peer: str
    accept: str
    input: InputState | None = None
    """None: the client has sent nothing yet."""
    session: bytes = b""
    epoch: int = 0
    floor: int = 0
    """First number that its client sends in this epoch."""
    unsent: bytes = b""
    """Bytes to the client that are not sent yet."""
    failures: int = 0
    warned: bool = False
    left_s: float | None = None
    """Rest of the deadline of a half-received record, in seconds; None if none runs."""
    client: ClientState | None = None
    sender: bytes = b""
    """Who sends the records, as the client wrote it (records/sender.py)."""
    listener: int = 0
    """The index of the listening socket that accepted the connection."""
    tls_listener: str = ""
    """Address of its listener if that speaks TLS, and the client has not sent a byte yet."""


class Bundle(msgspec.Struct, frozen=True):
    """Connections that travel together."""

    connections: list[ConnectionState]
    format: int = FORMAT


class _Packed(msgspec.Struct, frozen=True):
    """A Bundle to send: each connection is packed by itself, so that a failure does not affect others."""

    connections: list[msgspec.Raw]
    format: int = FORMAT


def pack_one(connection: ConnectionState) -> msgspec.Raw:
    """Return one connection as bytes, for `pack`. Raises the errors of msgspec for a value that it cannot encode."""
    return msgspec.Raw(msgspec.msgpack.encode(connection))


def pack(connections: list[msgspec.Raw]) -> bytes:
    """Return connections as bytes."""
    return msgspec.msgpack.encode(_Packed(connections))


def unpack(data: bytes) -> list[ConnectionState]:
    """Return the connections in bytes from `pack`. Raises ValueError for a form that this version does not know."""
    try:
        bundle = msgspec.msgpack.decode(data, type=Bundle)
    except msgspec.MsgspecError as error:
        raise ValueError(f"no connections: {error}") from error
    if bundle.format != FORMAT:
        raise ValueError(f"connections in the format {bundle.format}; this version knows {FORMAT}")
    return bundle.connections
