"""Records above limits.max_record_bytes are stored cut and marked; a client hears of rejected ones."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import pickle
import signal
from typing import TYPE_CHECKING

from prefork_logd.handlers import SocketHandler
from tests.support.harness import frame, wait_for
from tests.support.session_client import Client
from tests.support.wire import batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.harness import Collector

MAX_RECORD_BYTES = 1 << 20
SESSION = b"large records..."


@contextlib.contextmanager
def _logger(handler: logging.Handler) -> Iterator[logging.Logger]:
    logger = logging.getLogger("shop.large")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        handler.close()


def test_a_large_record_of_a_stdlib_client_is_stored_cut(collector: Collector) -> None:
    """Its message loses the middle; everything before and behind it is there, and the connection goes on."""
    with _logger(logging.handlers.SocketHandler(*collector.address())) as logger:
        try:
            {}["no such order"]
        except LookupError:
            logger.exception("%s", "begin " + "x" * (3 << 20) + " end", extra={"order": 17})
        logger.info("next")
        large, after = collector.wait_for_records(2)
    assert large["message"].startswith("begin xxx")
    assert large["message"].endswith("xxx end")
    assert MAX_RECORD_BYTES // 2 < len(large["message"]) < MAX_RECORD_BYTES
    assert " bytes cut) ..." in large["message"]
    assert large["truncated"] == ["message"]
    assert (large["levelname"], large["name"], large["extra"]["order"]) == ("ERROR", "shop.large", 17)
    assert large["exc_text"].endswith("KeyError: 'no such order'")
    assert (after["message"], "truncated" in after) == ("next", False)
    status = collector.status()
    assert (status["records"], status["rejected"], collector.rejected()) == (2, 0, [])
    assert collector.log.count("cut a frame of 3") == 1


def test_a_client_hears_of_the_records_that_are_rejected(collector: Collector) -> None:
    """The handler's counters tell them from those that are stored; they are acknowledged all the same."""

    class Handler(SocketHandler):
        def makePickle(self, record: logging.LogRecord) -> bytes:  # noqa: N802
            return frame(record.getMessage()) if record.levelno < logging.ERROR else b"\0\0\0\4what"

    handler = Handler(*collector.address())
    with _logger(handler) as logger:
        for number in range(20):
            logger.log(logging.ERROR if number % 5 == 3 else logging.INFO, "%d", number)
        assert handler.flush(30)
        counters = handler.counters()
        assert (counters["emitted"], counters["acknowledged"], counters["rejected"]) == (20, 20, 4)
        assert (counters["dropped"], counters["held"]) == (0, 0)
    assert [record["message"] for record in collector.records()] == [str(n) for n in range(20) if n % 5 != 3]
    assert [entry["size"] for entry in collector.rejected()] == [4] * 4
    assert collector.status()["rejected"] == 4


def test_a_large_record_of_a_session_is_stored_cut_and_once(make_collector: Callable[..., Collector]) -> None:
    """Its number is used up as any other: it is not stored again after a kill, and a store gets it with the file."""
    toml = '[limits]\nmax_record_bytes = 65536\n[[store]]\ntype = "parquet"\nbatch_time = "1ms"\n'
    collector = make_collector(toml, "--workers", "1").start()
    attributes = {"name": "shop", "msg": "m" * 300_000, "levelno": 40, "created": 1.0, "order": 17}
    bodies = [frame("one")[4:], pickle.dumps(attributes), frame("three")[4:], b"\x80\x02" + bytes(100_000)]
    client = Client(collector)
    assert client.welcome(SESSION) == 0
    client.send(batch(1, *bodies))
    assert client.acknowledged(4) == 4
    os.kill(collector.child("worker"), signal.SIGKILL)
    client.close()
    again = Client(collector)
    wait_for(lambda: again.welcome(SESSION) == 4, "welcomed with what is committed")
    again.send(batch(1, *bodies, frame("five")[4:]))
    assert again.acknowledged(5) == 5
    again.close()
    records = collector.records()
    assert [record["message"][:5] for record in records] == ["one", "mmmmm", "three", "five"]
    assert [record.get("truncated") for record in records] == [None, ["message"], None, None]
    assert (records[1]["extra"], records[1]["levelno"]) == ({"order": 17}, 40)
    assert [(entry["reason"], entry["size"]) for entry in collector.rejected()] == [("too-large", 100_002)]
    assert collector.status()["rejected"] == 1
    wait_for(lambda: collector.status()["stores"][0]["records"] == 4, "every record shipped")
    found = collector.cli("query", "--where", "extra.order=17", "--format", "json")
    assert found.stdout.encode() == collector.lines()[1], found.stderr
