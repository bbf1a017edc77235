"""Ready-made records: what a real service's SocketHandler sends, numbered, as whole buffers to send.

Owns what the records look like, on the stdlib's wire and as syslog lines of JSON, and how they are numbered. Knows no
sockets, servers or clocks of a run.

Every frame comes from a real `LogRecord` and the stdlib's own `SocketHandler.makePickle`, once per template; after that
only its number and its `created` are replaced, both of fixed width. The number stands in the message behind a backtick
that occurs nowhere else, so that it survives every server's formatting and is found again at the speed of memchr.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import itertools
import json
import logging
import logging.handlers
import re
import socket
import struct
import sys
import time
from array import array
from dataclasses import dataclass, field
from typing import Any, Literal

import _fleet_mix

Wire = Literal["stdlib", "syslog"]
Mix = Literal["uniform", "fleet"]
_BATCH_RECORDS = 32
"""In each BATCH of a session, as our handler makes them under load."""
_HELLO = struct.Struct(">HBxIBBI16sQH")
_BATCH = struct.Struct(">HBxIQI")
_MAGIC = 0xF750

NUMBER_WIDTH = 9
MARK = b"`"
NUMBER = re.compile(rb"`(\d{9})")
WARM_UP_NUMBER = 900_000_000
"""Records from this number on are sent before the clock starts and are not counted."""

_WARM_UP_CONNECTIONS = 16
_PLACEHOLDER = "`" + "0" * NUMBER_WIDTH
_CYCLE = 64
"""Templates before the mix repeats: 62 plain records and two with a traceback."""

_CALLS: tuple[tuple[str, int, str, tuple[object, ...], dict[str, object]], ...] = (
    (
        "shop.orders.checkout",
        logging.INFO,
        "order %s accepted for customer %d, %d items, total %.2f EUR, paid by %s",
        ("A-2207-118834", 884_213, 4, 129.95, "card"),
        {"request_id": "5f0c9a8e2b7d4c11", "tenant": "north-europe", "elapsed_ms": 48.25},
    ),
    (
        "shop.web.access",
        logging.INFO,
        '%s "%s %s HTTP/1.1" %d %d',
        ("10.20.4.117", "GET", "/api/v2/catalogue/items?category=garden&page=3", 200, 18_442),
        {"request_id": "b81d77c0e95f4a02", "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:131.0)"},
    ),
    (
        "shop.db.pool",
        logging.DEBUG,
        "connection %d checked out after %.3f s, %d of %d in use",
        (17, 0.004, 12, 40),
        {"pool": "primary", "waiters": 0},
    ),
    (
        "shop.cache",
        logging.DEBUG,
        "miss for key %s, loading from the database took %.1f ms",
        ("catalogue:item:55120:v7", 7.4),
        {"request_id": "0c44d2fa90b14be7", "shard": 3},
    ),
    (
        "shop.payments.gateway",
        logging.WARNING,
        "gateway %s answered %d after %.2f s, retry %d of %d for payment %s",
        ("acquirer-2", 503, 2.51, 1, 3, "p_7781203"),
        {"request_id": "77aa10bc3df24d5e", "tenant": "north-europe", "idempotent": True},
    ),
    (
        "shop.mail.worker",
        logging.INFO,
        "sent %s to %s in %d ms: Grüße aus München, Ihre Bestellung ist unterwegs",
        ("shipping-note", "customer-884213", 212),
        {"task": "mail.tasks.send_shipping_note", "attempt": 1, "queue": "default"},
    ),
    (
        "shop.auth",
        logging.WARNING,
        "rejected login for %s from %s: %s",
        ("user-19022", "198.51.100.23", "second factor expired"),
        {"request_id": "e6d0175ba2c94f38", "failures": 3},
    ),
    (
        "shop.search.indexer",
        logging.INFO,
        "indexed batch %d: %d documents, %d unchanged, %.1f MB, lag %.1f s",
        (90_214, 500, 471, 3.2, 0.8),
        {"index": "items-2026", "worker": "indexer-4"},
    ),
)
_ERROR = (
    "shop.orders.invoice",
    logging.ERROR,
    "invoice for order %s could not be written",
    ("A-2207-118901",),
    {"request_id": "19bb4f02c6e7415d", "tenant": "north-europe"},
)


@dataclass(frozen=True)
class Template:
    """One record of the mix: the pieces between which its number and its `created` go, and its fields."""

    pieces: dict[Wire, tuple[bytes, bytes, bytes]]
    fields: dict[str, Any]


def _failing(depth: int) -> None:
    if depth:
        _failing(depth - 1)
    raise OSError(28, "No space left on device", "/srv/shop/invoices/A-2207-118901.pdf")


def _record(index: int) -> logging.LogRecord:
    name, levelno, message, args, extra = _ERROR if index % 32 == 31 else _CALLS[index % len(_CALLS)]
    exc_info = None
    if index % 32 == 31:
        try:
            _failing(3)
        except OSError:
            exc_info = sys.exc_info()
    path = f"/srv/shop/releases/current/{name.replace('.', '/')}.py"
    record = logging.getLogger(name).makeRecord(
        name, levelno, path, 40 + index, f"{message} {_PLACEHOLDER}", args, exc_info, "handle", extra
    )
    record.created = 1_790_000_000.0 + index + 0.123456
    return record


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a JSON formatter of the service's own would write: the same facts that the pickle carries."""
    plain = logging.makeLogRecord({}).__dict__
    fields = {
        key: value
        for key, value in record.__dict__.items()
        if value not in (None, "") and key in plain and key not in {"msg", "args", "exc_info", "message"}
    }
    fields["message"] = record.getMessage()
    fields["extra"] = {key: value for key, value in record.__dict__.items() if key not in plain}
    for key in ("message", "taskName"):  # of LogRecord itself, the second since Python 3.12
        fields["extra"].pop(key, None)
    return fields


def _as_text(value: object) -> str:
    """Return what the collector stores of a value that JSON does not have."""
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)


def _split(wire: bytes, created: bytes) -> tuple[bytes, bytes, bytes]:
    before, _, rest = wire.partition(_PLACEHOLDER.encode())
    middle, found, after = rest.partition(created)
    if not found or any(map(NUMBER.search, (before, middle, after))):
        raise AssertionError("a template has no place of its own for its number or its time")
    return before + MARK, middle, after


def _template(record: logging.LogRecord) -> Template:
    frame = logging.handlers.SocketHandler("localhost", 0).makePickle(record)
    # makePickle has filled in exc_text, so the fields are taken after it.
    fields = _fields(record)
    fields = json.loads(json.dumps(fields, default=_as_text))
    body = json.dumps({"message": fields.pop("message"), "created": record.created} | fields, separators=(",", ":"))
    syslog = f"<14>1 2026-09-21T14:13:20.123456Z shop-7 {record.name} {record.process} - - {body}\n".encode()
    return Template(
        pieces={
            "stdlib": _split(frame, struct.pack(">d", record.created)),
            "syslog": _split(syslog, repr(record.created).encode()),
        },
        fields=fields | {"message": record.getMessage()},
    )


@functools.cache
def templates(mix: Mix = "uniform") -> tuple[Template, ...]:
    """Return a mix, in the order in which the record numbers go through it."""
    if mix == "fleet":
        return tuple(map(_template, _fleet_mix.records(_PLACEHOLDER)))
    return tuple(_template(_record(index)) for index in range(_CYCLE))


def frame(number: int, wire: Wire = "stdlib", created: float = 0.0) -> bytes:
    """Return one numbered record ready to send."""
    before, middle, after = templates()[number % _CYCLE].pieces[wire]
    return b"".join((before, b"%09d" % number, middle, _created(wire, created or time.time()), after))


def _created(wire: Wire, created: float) -> bytes:
    return struct.pack(">d", created) if wire == "stdlib" else b"%.6f" % created


@dataclass
class Buffer:
    """Numbered records 0, 1, 2 ... of one wire format, end to end in memory, and where each starts."""

    wire: Wire
    data: bytes = b""
    starts: array[int] = field(default_factory=lambda: array("Q", [0]))
    mix: Mix = "uniform"

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def mean_bytes(self) -> float:
        """Mean size of a record on the wire."""
        return len(self.data) / max(1, len(self))

    def grow(self, records: int) -> None:
        """Make at least this many records ready; costs about a microsecond each, before any clock runs."""
        if records <= len(self):
            return
        now, end, parts = time.time(), self.starts[-1], [self.data]
        cycle = [template.pieces[self.wire] for template in templates(self.mix)]
        for number in range(len(self), records):
            before, middle, after = cycle[number % len(cycle)]
            one = b"".join((before, b"%09d" % number, middle, _created(self.wire, now + number * 1e-5), after))
            end += len(one)
            parts.append(one)
            self.starts.append(end)
        self.data = b"".join(parts)

    def shares(self, records: int, connections: int) -> list[memoryview]:
        """Return the first `records` records cut into one contiguous share per connection, whole records each."""
        self.grow(records)
        view = memoryview(self.data)
        cuts = [self.starts[records * index // connections] for index in range(connections + 1)]
        return [view[start:stop] for start, stop in itertools.pairwise(cuts)]


def hello(connection: int) -> bytes:
    """Return what the client of a session says first (docs/protocol.md)."""
    return _HELLO.pack(_MAGIC, 1, 32, 1, 1, 0, b"bench".ljust(8) + struct.pack(">Q", connection), 1, 0)


def as_sessions(buffer: Buffer, records: int, connections: int) -> list[memoryview]:
    """Return the shares of `buffer.shares` as the batches of one session each: a frame is a batch's record as it is."""
    buffer.grow(records)
    view, shares = memoryview(buffer.data), []
    for index in range(connections):
        first, stop = records * index // connections, records * (index + 1) // connections
        parts: list[bytes | memoryview] = []
        for start in range(first, stop, _BATCH_RECORDS):
            end = min(start + _BATCH_RECORDS, stop)
            body = view[buffer.starts[start] : buffer.starts[end]]
            parts += [_BATCH.pack(_MAGIC, 3, 12 + len(body), start - first + 1, end - start), body]
        shares.append(memoryview(b"".join(parts)))
    return shares


def warm_up(address: tuple[str, int], wire: Wire, records: int) -> None:
    """Send records that are not counted, on connections of their own, enough that every worker has some."""
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(_WARM_UP_CONNECTIONS)
        ]
        for number in range(WARM_UP_NUMBER, WARM_UP_NUMBER + records):
            connections[number % len(connections)].sendall(frame(number, wire))
        for connection in connections:
            connection.shutdown(socket.SHUT_WR)
