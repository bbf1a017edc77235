"""A worker stores the collector's own log lines, and no failure of that costs it anything else."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd import __version__
from prefork_logd.processes.worker.own_log import RETRY_S
from prefork_logd.system import own_records
from prefork_logd.system.log import LOGGER
from tests.support.inprocess import Pair, frame

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Return a worker of a collector with own_log = "records"."""
    monkeypatch.setattr(own_records, "_wire", own_records._Wire())
    handlers, level = LOGGER.handlers[:], LOGGER.level
    LOGGER.handlers[:] = [own_records.RecordHandler("writer")]
    LOGGER.setLevel(logging.INFO)
    own_records.open_wire()
    pair = Pair()
    yield pair
    pair.close()
    own_records.close_wire()
    LOGGER.handlers[:] = handlers
    LOGGER.setLevel(level)


def _records(pair: Pair) -> list[dict[str, Any]]:
    return [json.loads(line) for line in pair.writer.lines]


def test_a_line_becomes_a_record(pair: Pair) -> None:
    """With the collector as its service, and without a peer."""
    LOGGER.warning("the disk is slow")
    pair.turn(3)
    (record,) = _records(pair)
    found = {key: record.get(key) for key in ("name", "levelname", "message", "processName", "service", "version")}
    assert found == {
        "name": "prefork_logd", "levelname": "WARNING", "message": "the disk is slow", "processName": "writer",
        "service": "prefork-logd", "version": __version__,
    }  # fmt: skip
    assert record["host"]
    assert "peer" not in record


def test_lines_wait_while_reading_pauses(pair: Pair) -> None:
    """They are taken later, without spinning."""
    pair.turn(3)
    pair.worker.paused = True
    LOGGER.warning("one")
    pair.turn(3)
    LOGGER.warning("two")
    pair.turn(3)
    assert pair.writer.lines == []
    pair.worker.paused = False
    timers = [timer for _, _, timer in pair.worker.loop._timers if timer.when_s <= pair.worker.loop.now_s + RETRY_S]
    assert len(timers) == 1
    timers[0].fire()
    pair.turn(3)
    assert [record["message"] for record in _records(pair)] == ["one", "two"]


def test_a_bug_ends_the_storing_of_lines_alone(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error itself is not passed; clients are served on."""

    def fail(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(pair.worker.dispatcher, "add_texts", fail)
        LOGGER.warning("one")
        pair.turn(3)
    LOGGER.warning("two")
    client = pair.connect()
    client.sendall(frame("served"))
    pair.turn(3)
    assert [record["message"] for record in _records(pair)] == ["served"]


def test_a_worker_that_ends_takes_no_more_lines(pair: Pair) -> None:
    """Another one does."""
    pair.worker.stop_accepting(takes_queue=False)
    LOGGER.warning("one")
    pair.turn(3)
    assert pair.writer.lines == []
