"""Frames of strangers make entries at a bounded rate; the number of the others is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_logd.ingest import rejections as module
from prefork_logd.ingest.rejections import MOST_FAILURES, Rejections
from prefork_logd.ipc.scoreboard import Field
from tests.support import wire
from tests.support.inprocess import Pair, frame, is_closed, said

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_peer_has_so_many_and_then_so_many_a_second() -> None:
    """Whatever its ports; the number left out comes with the next entry. Others have a rate of their own."""
    clock = Clock()
    rejections = Rejections(clock)
    taken = [rejections.admit_entry(f"10.0.0.1:{number}") for number in range(8000)]
    assert taken == [0] * 5000 + [-1] * 3000
    assert rejections.admit_entry("10.0.0.2:1") == 0
    clock.now_s = 1.0
    assert [rejections.admit_entry("10.0.0.1:1") for _ in range(22)] == [3000, *[0] * 19, -1, -1]


def test_all_peers_together_are_bounded_and_few_are_remembered() -> None:
    """A flood of addresses costs no more than one; an entry of one peer is no reason to leave out all of another's."""
    clock = Clock()
    rejections = Rejections(clock)
    written = 0
    for second in range(10):
        clock.now_s = float(second)
        for number in range(3000):
            written += rejections.admit_entry(f"10.{second}.{number >> 8}.{number & 255}:1") >= 0
    assert written == module.ALL_BURST + 9 * module.ALL_PER_S
    assert len(rejections._peers) == module.MOST_PEERS


def test_a_session_of_records_that_are_none_is_closed(pair: Pair) -> None:
    """After as many in a row as on a plain connection; those before it are used up, and a good one begins anew."""
    client = pair.welcome()
    good = frame()[4:]
    client.sendall(wire.batch(1, *[b""] * (MOST_FAILURES - 1), good, *[b""] * (MOST_FAILURES - 1)))
    pair.turn(30)
    assert not is_closed(client)
    client.sendall(wire.batch(2 * MOST_FAILURES, b"", *[b""] * 5000))
    pair.turn(30)
    assert is_closed(client)
    assert pair.worker.counters[Field.REJECTED] == 2 * MOST_FAILURES - 1
    assert pair.worker.counters[Field.RECORDS] == 1
    assert len(pair.writer.lines) == 1
    again = pair.connect()
    again.sendall(wire.hello())
    pair.turn(3)
    assert int.from_bytes(said(again)[0][1][13:21], "big") == 2 * MOST_FAILURES


def test_a_session_of_records_that_are_too_large_is_closed(pair: Pair) -> None:
    """They count as well."""
    client = pair.welcome()
    pair.connection().input.limit(10)  # type: ignore[union-attr]
    client.sendall(wire.batch(1, *[bytes(11)] * (MOST_FAILURES + 100)))
    pair.turn(30)
    assert pair.worker.counters[Field.REJECTED] == MOST_FAILURES
    kind, body = said(client)[-1]
    assert (kind, body[:2]) == (0x84, b"\0\4")


@pytest.mark.slow
def test_a_flood_fills_no_file(pair: Pair) -> None:
    """A client that comes again and again: 20 times its limit in a row, and entries up to the burst."""
    for number in range(20):
        client = pair.welcome(b"%016d" % number)
        client.sendall(wire.batch(1, *[b""] * MOST_FAILURES))
        pair.turn(20)
        assert is_closed(client)
    assert pair.worker.counters[Field.REJECTED] == 20 * MOST_FAILURES
    assert pair.writer.rejected <= module.PEER_BURST + 40 * module.PEER_PER_S
