"""Makes records for the tests of stores: the collector's lines, in blocks of the journal."""

from __future__ import annotations

from typing import Any

from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json
from prefork_logd.stores.base import Block

NOW = 1_795_404_250.5
PEER = "192.0.2.7:40000"
JOURNAL = "0123456789abcdef" * 2
"""The id of the journal that the blocks are of."""


def line(received: float = NOW, **attributes: Any) -> bytes:
    """Return the stored line of a record with these attributes (`msg`, not `message`)."""
    given = {"name": "shop.orders", "msg": "hello", "levelno": 20, "levelname": "INFO", "created": received}
    return render_json(make_record(given | attributes, PEER, received))


def numbered(first: int, count: int, received: float = NOW) -> list[bytes]:
    """Return lines whose messages say their numbers."""
    return [line(received, msg=f"record {number}") for number in range(first, first + count)]


def block(first: int, lines: list[bytes]) -> Block:
    """Return lines as a block of the journal."""
    return Block(first, len(lines), bytes(16), (), b"".join(lines))


def never(number: int, refused: bytes, reason: str) -> None:
    """Fail: no record of the test may be refused."""
    raise AssertionError(f"record {number} was refused: {reason}: {refused!r}")
