"""Encodes a client's messages, written from docs/protocol.md alone."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable

SESSION = b"0123456789abcdef"


def kept_of(body: bytes, largest: int) -> tuple[bytes, int]:
    """Return what is kept of a record above the limit, and where its end begins: a quarter, at most 64 KiB."""
    tail = max(1, min(1 << 16, largest // 4))
    return body[: largest - tail] + body[-tail:], largest - tail


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack(">BBBBI", 0xF7, 0x50, kind, flags, len(body)) + body


def hello(
    first: int = 1,
    client: bytes = b"test",
    versions: tuple[int, int] = (1, 1),
    more: bytes = b"",
    capabilities: int = 0,
) -> bytes:
    return message(1, struct.pack(">BBI16sQH", *versions, capabilities, SESSION, first, len(client)) + client + more)


def auth(key_id: bytes, nonce: bytes, mac: bytes) -> bytes:
    return message(2, bytes([len(key_id)]) + key_id + nonce + mac)


def batch(first: int, *bodies: bytes, count: int | None = None, flags: int = 0, more: bytes = b"") -> bytes:
    records = b"".join(struct.pack(">I", len(body)) + body for body in bodies)
    return message(3, struct.pack(">QI", first, len(bodies) if count is None else count) + records + more, flags)


def gap(first: int, count: int, oldest: float = 1.0, newest: float = 2.0, reason: bytes = b"full") -> bytes:
    return message(4, struct.pack(">QQddB", first, count, oldest, newest, len(reason)) + reason)


def bye() -> bytes:
    return message(5, b"")


def messages(data: bytes) -> list[tuple[int, bytes]]:
    """Return the type and body of each message from the collector."""
    found = []
    while data:
        magic, kind, flags, length = struct.unpack_from(">HBBI", data)
        assert (magic, flags) == (0xF750, 0)
        assert len(data) >= 8 + length
        found.append((kind, data[8 : 8 + length]))
        data = data[8 + length :]
    return found


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return `data` in pieces, cut at these places."""
    edges = [0, *sorted({min(place, len(data)) for place in places}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if end > start]
