"""A short torture of the stores in every run; `python -m tests.torture.stores` has a long one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.stores.nats import NatsStoreSettings
from prefork_logd.query.filters import Filters
from prefork_logd.stores.base import Block
from prefork_logd.stores.nats import wire
from prefork_logd.stores.nats.store import NatsStore
from tests.support.nats_servers import Server, ask, free_ports
from tests.support.stores import never
from tests.torture.processes import SPARING_S
from tests.torture.stores import StoresTorture, StreamSearch, database, find_fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOURNAL = "0123456789abcdef" * 2


@pytest.mark.slow
def test_every_record_is_in_each_store_once_whatever_happens(tmp_path: Path) -> None:
    """Killed shippers, writers, workers and masters, servers that crash, and what their owners do to them."""
    with database() as server:
        torture = StoresTorture(tmp_path, 1, [sys.executable] * 2, server, with_nats=True, pauses_s=SPARING_S)
        try:
            assert torture.run(3) > 0
        finally:
            torture.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One server with JetStream."""
    server = Server(tmp_path, "n1", free_ports(1)[0]).start()
    yield server
    server.close()


def lines(first: int, count: int) -> list[bytes]:
    """Return lines as a service of the torture logs them."""
    return [b'{"created":1.0,"name":"x","message":"s0-%07d"}\n' % number for number in range(first, first + count)]


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (lines(0, 5), ""),
        (lines(0, 2) + lines(3, 2), "s0: 1 of 5 lost, from 2 on"),
        (lines(0, 5) + lines(3, 2), "s0: 2 of 5 came more than once, from 3 on"),
        (lines(1, 4) + lines(4, 1), "s0: 1 of 5 lost, from 0 on"),
        (lines(0, 6), "s0: 1 that it has refused, or that nobody has logged, from 5 on"),
    ],
)
def test_the_check_sees_every_fault(found: list[bytes], fault: str) -> None:
    """Where as many records are too many as are missing, too."""
    assert find_fault(found, {"s0": set(range(5))}) == fault


@pytest.mark.parametrize(("form", "compress"), [("batch", "zstd"), ("json", "none")])
def test_a_record_in_two_messages_of_a_stream_is_seen(tmp_path: Path, server: Server, form: str, compress: str) -> None:
    """Under the same numbers, as after a range that was cut elsewhere."""
    store = NatsStore(
        NatsStoreSettings(servers=(server.url,), format=form, compress=compress, checkpoint=str(tmp_path / "w"))
    )
    store.open(JOURNAL)
    store.write([Block(0, 5, bytes(16), (), b"".join(lines(0, 5)))], never)
    store.close()
    wanted = {"s0": set(range(5))}
    assert find_fault(StreamSearch(server.url).lines(Filters()), wanted) == ""
    headers = {wire.HEADER: wire.header_of(wire.Range(JOURNAL, 3, 4, 0, "none")), "Nats-Msg-Id": "another"}
    subject = wire.subject_of("logs", JOURNAL, 16) + (".x" if form == "json" else "")
    ask([server.url], lambda stream: stream.publish(subject, lines(3, 1)[0], headers=headers))
    search = StreamSearch(server.url)
    assert search.count(Filters()) == 6
    assert find_fault(search.lines(Filters()), wanted) == "s0: 1 of 5 came more than once, from 3 on"
