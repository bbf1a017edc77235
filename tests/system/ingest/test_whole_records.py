"""Whole records, with every field, come through kills, an upgrade and a spool as they come without: each once."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import logging
import os
import signal
import uuid
from typing import TYPE_CHECKING, Any

from prefork_logd.handlers import SocketHandler
from tests.support.harness import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.harness import Collector

SENDERS = (
    {"service": "shop", "environment": "prod", "version": "1.2", "fields": {"team": "red", "shard": 7}},
    {"service": "billing"},
)
BATCH = 40


class Status(enum.Enum):
    PAID = 1


@dataclasses.dataclass
class Order:
    number: int
    token: str = dataclasses.field(default="s3cret", repr=False)


@contextlib.contextmanager
def _senders(calm: Collector, harmed: Collector, spool: Path) -> Iterator[list[logging.Logger]]:
    """Give loggers whose records go to both collectors; that of the last sender has a spool on the way to `harmed`."""
    loggers = []
    for index, sender in enumerate(SENDERS):
        logger = logging.getLogger(f"whole.{sender['service']}")
        logger.propagate = False
        logger.setLevel(1)
        spooled = {"overflow": "spool", "spool_dir": str(spool)} if index else {}
        for collector, more in ((calm, {}), (harmed, spooled)):
            logger.addHandler(SocketHandler(*collector.address(), close_timeout=30, **more, **sender))
        loggers.append(logger)
    try:
        yield loggers
    finally:
        for logger in loggers:
            for handler in list(logger.handlers):
                logger.removeHandler(handler)
                handler.close()


def _log(logger: logging.Logger, number: int) -> None:
    """Log one of ten kinds of records."""
    extras: list[dict[str, Any]] = [
        {},
        {"order": Order(number), "status": Status.PAID},
        {"id": uuid.UUID(int=number), "at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "total": decimal.Decimal("9.50")},
        {"path": {"a": [1, {"b": [None, True, 1.5]}]}, "password": "hunter2", "octets": b"\x00\xff"},
        {"ids": list(range(12_000))},
        {"text": "é\ud800\u2028" * 50},
    ]
    extra = extras[number % len(extras)]
    match number % 10:
        case 3:
            try:
                try:
                    {}[number]
                except KeyError as error:
                    raise ValueError(f"bad order {number}") from error
            except ValueError:
                logger.exception("order %d failed", number, extra=extra)
        case 5:
            logger.warning({"event": f"paid {number}", "user": number}, extra=extra)
        case 7:
            logger.debug("%d: %s", number, "y" * 20_000, extra=extra, stack_info=True)
        case _:
            logger.info("order %d of %s", number, logger.name, extra=extra)


def _kill_all(collector: Collector) -> None:
    assert collector.process is not None
    collector.status()
    os.killpg(collector.process.pid, signal.SIGKILL)
    collector.process.wait()
    wait_for(lambda: not list(collector.survivors()), "every process gone")
    collector.configure('[server]\nbind = ["{}:{}"]\n'.format(*collector.address()))
    collector.start()


def _upgrade(collector: Collector) -> None:
    done = collector.cli("upgrade")
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stderr}\n{collector.log}"


def _stop_and_start(collector: Collector) -> None:
    assert collector.stop() == 0
    collector.start()


def test_whole_records_are_the_same_through_harm(make_collector: Callable[..., Collector], tmp_path: Path) -> None:
    """Two services log to two collectors; of one every process is killed, upgraded and stopped. Their lines are equal.

    It takes seconds, because a collector starts four times.
    """
    calm = make_collector("", "--workers", "1", name="calm").start()
    harmed = make_collector("", "--workers", "2", name="harmed").start()
    harms: list[Callable[[Collector], object]] = [
        lambda collector: os.kill(collector.child("writer"), signal.SIGKILL),
        lambda collector: [os.kill(pid, signal.SIGKILL) for pid in collector.worker_pids().values()],
        _kill_all,
        _upgrade,
        _stop_and_start,
        lambda _: None,
    ]
    with _senders(calm, harmed, tmp_path / "spool") as loggers:
        number = 0
        for harm in harms:
            for _ in range(BATCH):
                _log(loggers[number % 2], number)
                number += 1
            harm(harmed)
        for logger in loggers:
            for handler in logger.handlers:
                assert isinstance(handler, SocketHandler)
                assert handler.flush(60)
                counters = handler.counters()
                assert (counters["acknowledged"], counters["dropped"], counters["rejected"]) == (number // 2, 0, 0)
    expected, found = ([_sent(record) for record in collector.records()] for collector in (calm, harmed))
    assert len(expected) == len(found) == number
    for logger in loggers:
        # The lines of different services may change places; those of one stay in order.
        assert _of(found, logger.name) == _of(expected, logger.name)
    assert [collector.rejected() for collector in (calm, harmed)] == [[], []]
    has = collections.Counter(name for record in found for name in record)
    for name in (
        "host",
        "service",
        "environment",
        "version",
        "msg",
        "exception",
        "exc_text",
        "stack_info",
        "truncated",
    ):
        assert 0 < has[name] <= number, name
    assert not [word for word in ("s3cret", "hunter2") if word in str(found)]


def _sent(record: dict[str, Any]) -> dict[str, Any]:
    """Return a stored record without the peer's port and the time of arrival, which are its connection's."""
    return {name: value for name, value in record.items() if name not in ("peer", "received")}


def _of(records: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [record for record in records if record["name"] == name]
