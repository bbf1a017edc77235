"""The records of a mixed fleet: 30 services, each with its own places in the code, processes, threads and attributes.

Owns what the records say. Knows no wire and no numbers.

There are 3,000 places in the code with Zipf weights, 120 processes of 8 threads, names of tasks, and attributes:
none (45% of records), a few plain ones (35%), a request of nested ones besides (15%), and with a UUID, a datetime and a
Decimal (5%). One record in twenty has a traceback.
"""

from __future__ import annotations

import datetime as dt
import decimal
import logging
import random
import sys
import uuid
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = 20_000
"""Records before the mix repeats."""
_SERVICES, _MODULES, _FUNCTIONS, _PROCESSES, _THREADS = 30, 10, 10, 120, 8
_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
_INFO = (
    "order %s accepted for user %d in %.3f s",
    "GET /api/v1/items/%s -> %d (%.1f ms)",
    "job %s finished with status %d after %.2f s",
    "cache miss for key %s (shard %d, %.4f)",
)
_MESSAGES = {
    logging.DEBUG: "pool state %s: %d idle, %.1f ms",
    logging.WARNING: (
        "slow query on replica %s took %d ms: SELECT o.id, o.created_at, o.total, c.name, c.email FROM orders o JOIN "
        "customers c ON c.id = o.customer_id WHERE o.state IN ('open', 'held') AND o.created_at > now() - interval "
        "'%.1f days' ORDER BY o.created_at DESC LIMIT 500; plan used a sequential scan, consider an index on "
        "orders(state, created_at)"
    ),
    logging.ERROR: "payment gateway call failed for order %s (attempt %d, waited %.1f s)",
}


class _Place(NamedTuple):
    logger: str
    path: str
    line: int
    function: str


def _places(chance: random.Random) -> list[_Place]:
    places = [
        _Place(
            f"svc{service:02d}.mod{module}.sub{index % 3}",
            f"/srv/svc{service:02d}/app/mod{module}/sub{index % 3}.py",
            chance.randrange(5, 900),
            "fn_" + "".join(chance.choices("abcdefgh", k=chance.randrange(3, 14))),
        )
        for service in range(_SERVICES)
        for module in range(_MODULES)
        for index in range(_FUNCTIONS)
    ]
    chance.shuffle(places)
    return places


def _fail(depth: int, key: str) -> None:
    if depth:
        _fail(depth - 1, key)
    raise KeyError(f"missing-key-{key}")


def _attributes(chance: random.Random, key: str) -> dict[str, object]:
    """Return what a record has besides LogRecord's own."""
    kind = chance.random()
    found: dict[str, object] = {}
    if kind > 0.45:
        found["request_id"] = f"{chance.getrandbits(128):032x}"
        found["user_id"] = chance.randrange(1, 1 << 22)
        found["status"] = chance.choice((200, 201, 302, 404, 500))
        found["duration_ms"] = chance.random() * 900
    if kind > 0.80:
        headers = {"user-agent": "curl/8", "accept": ["*/*", "text/html"]}
        found["request"] = {"method": "GET", "path": f"/api/v1/{key}", "headers": headers}
    if kind > 0.95:
        found["order"] = uuid.UUID(int=chance.getrandbits(128))
        found["due"] = dt.datetime(2026, 1, 2, 3, 4, chance.randrange(60))  # noqa: DTZ001 - most services log such ones
        found["total"] = decimal.Decimal("12.50")
    return found


def records(ending: str) -> Iterator[logging.LogRecord]:
    """Make the records, each message with `ending` behind it; they are the same in every run."""
    chance = random.Random(77)
    places = _places(chance)
    weights = [1 / (index + 1) ** 0.9 for index in range(len(places))]
    processes = [
        (chance.randrange(100, 60_000), [chance.randrange(1 << 46, 1 << 47) for _ in range(_THREADS)])
        for _ in range(_PROCESSES)
    ]
    for _ in range(COUNT):
        place = chance.choices(places, weights)[0]
        pid, threads = chance.choice(processes)
        level = chance.choices(_LEVELS, (20, 60, 15, 5))[0]
        key = f"{chance.getrandbits(48):012x}"
        message = _MESSAGES.get(level) or chance.choice(_INFO)
        args = (key, chance.randrange(1, 5000), chance.random() * 100)
        exc_info = None
        if level == logging.ERROR:
            try:
                _fail(chance.randrange(1, 8), key)
            except KeyError:
                exc_info = sys.exc_info()
        record = logging.LogRecord(
            place.logger, level, place.path, place.line, f"{message} {ending}", args, exc_info, place.function
        )
        thread = chance.randrange(_THREADS)
        record.process, record.thread = pid, threads[thread]
        record.threadName = "MainThread" if thread == 0 else f"ThreadPoolExecutor-0_{thread}"
        record.created = 1.795e9 + chance.random() * 1e5
        record.msecs, record.relativeCreated = record.created % 1 * 1000, chance.random() * 1e7
        record.taskName = chance.choice((None, f"Task-{chance.randrange(1, 100_000)}"))
        record.__dict__.update(_attributes(chance, key))
        yield record
