"""A client beyond its limit waits, or has its records dropped; others are served, and all workers count together."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING

import pytest

from prefork_logd.ipc import client_table
from prefork_logd.ipc.client_table import MOST_PROBES, ROWS, ClientTable, Usage
from prefork_logd.ipc.messages import Drain
from prefork_logd.ipc.scoreboard import Field, LimitField
from prefork_logd.processes.worker.client_limits import END_S, MOST_REMEMBERED, TICK_S
from tests.support import wire
from tests.support.inprocess import Pair, configuration, frame, is_closed, said

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

RATE = "records_per_second = 10\nburst = '1s'\n"


class Clock:
    """The monotonic clock of a test."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


@pytest.fixture
def make_pair(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Pair]]:
    """Return a function that makes a worker with limits; workers that share a board have different slots."""
    made: list[Pair] = []

    def make(toml: str, slot: int = 1) -> Pair:
        board = made[0].board if made else None
        made.append(Pair(configuration(tmp_path / f"{slot}.toml", f"store = []\n{toml}"), slot, board))
        return made[-1]

    yield make
    for pair in made:
        pair.close()


def pass_time(clock: Clock, seconds: float, *pairs: Pair) -> None:
    """Let time pass in steps in which workers look again."""
    for _ in range(round(seconds / TICK_S)):
        clock.now_s += TICK_S
        for pair in pairs:
            pair.turn(2)


def messages(pair: Pair) -> list[str]:
    return [json.loads(line)["message"] for line in pair.writer.lines]


def send(pair: Pair, count: int, peer: str = "10.0.0.1:1") -> socket.socket:
    client = pair.connect(peer)
    client.sendall(b"".join(frame(str(number)) for number in range(count)))
    pair.turn(3)
    return client


def test_a_client_beyond_its_rate_waits_and_loses_nothing(make_pair: Callable[..., Pair], clock: Clock) -> None:
    """At once it gets its burst, then its rate; its records stay in order, and another address is not affected."""
    pair = make_pair(f"[[limit]]\n{RATE}")
    send(pair, 35)
    assert len(messages(pair)) == 10
    send(pair, 5, "10.0.0.2:1")
    assert len(messages(pair)) == 15
    pass_time(clock, 1.0, pair)
    assert 24 <= len(messages(pair)) <= 26
    pass_time(clock, 2.0, pair)
    assert messages(pair) == [
        *map(str, range(10)),
        *map(str, range(5)),
        *map(str, range(10, 35)),
    ]
    assert pair.worker.counters[Field.DROPPED] == 0


def test_bytes_are_limited_on_average(make_pair: Callable[..., Pair], clock: Clock) -> None:
    """Records are charged when they are handled, so the mean rate holds although the first are more than the burst."""
    size = len(frame("0"))
    pair = make_pair(f"[[limit]]\nbytes_per_second = {size * 10}\nburst = '1s'\n")
    client = send(pair, 10)
    client.sendall(frame("0") * 40)
    pair.turn(3)
    assert len(messages(pair)) == 10
    pass_time(clock, 4.2, pair)
    assert len(messages(pair)) == 50


def test_dropped_records_are_counted_and_named(make_pair: Callable[..., Pair], clock: Clock) -> None:
    """The client's session goes on behind them, and hears of them with its acknowledgement."""
    pair = make_pair(f"[[limit]]\nname = 'noisy'\n{RATE}action = 'drop'\n")
    client = pair.connect("10.0.0.1:1")
    client.sendall(wire.hello(capabilities=3))
    pair.turn(3)
    said(client)
    client.sendall(wire.batch(1, *(frame(str(number))[4:] for number in range(25))))
    pair.turn(3)
    assert messages(pair) == [str(number) for number in range(10)]
    answers = said(client)
    assert (0x83, (25).to_bytes(8, "big")) in answers
    assert (0x86, (25).to_bytes(8, "big") + (15).to_bytes(4, "big")) in answers
    assert pair.worker.counters[Field.DROPPED] == pair.worker.counters[Field.LIMIT_DROPPED] == 15
    assert pair.writer.rejected == 0
    pass_time(clock, END_S + 1, pair)
    assert pair.writer.rejected == 1
    client.sendall(wire.batch(26, frame("last")[4:]))
    pair.turn(3)
    assert messages(pair)[-1] == "last"


def test_begin_and_end_are_logged_once(
    make_pair: Callable[..., Pair], clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of records."""
    monkeypatch.setattr(logging.getLogger("prefork_logd"), "propagate", True)
    pair = make_pair(f"[[limit]]\n{RATE}")
    client = send(pair, 100)
    pass_time(clock, 3.0, pair)
    client.close()
    pair.clients.remove(client)
    pass_time(clock, 7.0 + END_S, pair)
    assert len(messages(pair)) == 100
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2, lines
    assert lines[0] == "limit limit-1: 10.0.0.1 sends more than 10 records a second; it waits"
    within = "limit limit-1: 10.0.0.1 is within it again after 9 s; nothing dropped"
    assert re.fullmatch(rf"{re.escape(within)}; its connections waited (8\.9|9\.\d) s in all", lines[1]), lines[1]
    assert pair.worker.counters[Field.LIMITED] == 0


@pytest.mark.parametrize("action", ["wait", "drop"])
def test_each_limit_counts_what_it_does(make_pair: Callable[..., Pair], clock: Clock, action: str) -> None:
    """Records that it drops, how often and how long connections wait, and its clients of this moment."""
    pair = make_pair(f"[[limit]]\nconnections = 9\n[[limit]]\n{RATE}action = '{action}'\n")
    other, counters = (pair.board.limit(1, index) for index in (0, 1))
    for number in range(2):
        send(pair, 30, f"10.0.0.{number}:1")
    assert counters[LimitField.LIMITED] == 2
    if action == "drop":
        assert (counters[LimitField.DROPPED], counters[LimitField.WAITS]) == (40, 0)
    else:
        pass_time(clock, 1.0, pair)
        assert counters[LimitField.WAITED_US] == pytest.approx(2_000_000, abs=100_000)
        pass_time(clock, 2.0, pair)
        assert counters[LimitField.WAITS] > 2
        assert counters[LimitField.WAITED_US] == pytest.approx(4_000_000, abs=200_000)
        assert counters[LimitField.DROPPED] == 0
    pass_time(clock, END_S + 1, pair)
    assert counters[LimitField.LIMITED] == 0
    assert not any(other)


def test_connections_without_a_place_are_counted_by_their_limit(
    make_pair: Callable[..., Pair], clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, with an answer or without one; the client is at its limit while one waits."""
    monkeypatch.setattr(logging.getLogger("prefork_logd"), "propagate", True)
    pair = make_pair("[[limit]]\nconnections = 1\nname = 'places'\n[[limit]]\nconnections = 5\n")
    first = pair.welcome(peer="10.0.0.1:1")
    busy = pair.connect("10.0.0.1:2")
    busy.sendall(wire.hello().replace(wire.SESSION, b"%016d" % 2))
    send(pair, 1, "10.0.0.1:3")
    pass_time(clock, 2 * END_S, pair)
    counters = pair.board.limit(1, 0)
    assert (counters[LimitField.REFUSED], counters[LimitField.LIMITED]) == (2, 1)
    first.close()
    pass_time(clock, END_S + 1, pair)
    assert (counters[LimitField.REFUSED], counters[LimitField.LIMITED]) == (2, 0)
    assert not any(pair.board.limit(1, 1))
    said_of = [line for line in caplog.messages if line.startswith("limit")]
    assert said_of[0] == "limit places: 10.0.0.1 has 1 connection; further ones find no place"
    assert said_of[1].endswith("nothing dropped; 2 connections found no place")


def test_a_changed_limit_goes_on_counting(make_pair: Callable[..., Pair], tmp_path: Path) -> None:
    """In the slot that it has; nobody is beyond it at first."""
    pair = make_pair(f"[[limit]]\n{RATE}action = 'drop'\n")
    send(pair, 15)
    counters = pair.board.limit(1, 0)
    assert (counters[LimitField.DROPPED], counters[LimitField.LIMITED]) == (5, 1)
    toml = "store = []\n[[limit]]\nrecords_per_second = 1\nburst = '2s'\naction = 'drop'\n"
    pair.worker._configure(configuration(tmp_path / "new.toml", toml, 2))
    assert (counters[LimitField.DROPPED], counters[LimitField.LIMITED]) == (5, 0)
    send(pair, 5)
    assert counters[LimitField.DROPPED] == 8


def test_workers_count_together(make_pair: Callable[..., Pair], clock: Clock) -> None:
    """A client with connections in two workers gets its rate once, also if one of them is new to the second worker."""
    toml = f"[[limit]]\n{RATE}"
    one, two = make_pair(toml, 1), make_pair(toml, 2)
    send(one, 100)
    pass_time(clock, 0.1, one, two)
    send(two, 100)
    pass_time(clock, 4.0, one, two)
    assert 48 <= len(one.writer.lines) + len(two.writer.lines) <= 56


def test_a_burst_from_two_workers_is_a_debt(make_pair: Callable[..., Pair], clock: Clock) -> None:
    """Both know the client, and neither what the other has just allowed; the mean rate holds."""
    toml = f"[[limit]]\n{RATE}"
    one, two = make_pair(toml, 1), make_pair(toml, 2)
    clients = [send(pair, 1) for pair in (one, two)]
    pass_time(clock, 2.0, one, two)
    for pair, client in zip((one, two), clients, strict=True):
        client.sendall(frame("x") * 100)
        pair.turn(3)
    assert 20 <= len(one.writer.lines) + len(two.writer.lines) <= 22
    pass_time(clock, 5.0, one, two)
    assert 58 <= len(one.writer.lines) + len(two.writer.lines) <= 66


def test_a_rate_that_is_not_limited_stays_so_in_another_worker(make_pair: Callable[..., Pair], clock: Clock) -> None:
    """Also if the clock of that one's turn is behind."""
    toml = "[[limit]]\nbytes_per_second = 1_000_000\n"
    one, two = make_pair(toml, 1), make_pair(toml, 2)
    two.turn()
    clock.now_s += 0.5
    send(one, 5)
    clock.now_s -= 0.4
    client = two.connect("10.0.0.1:9")
    client.sendall(frame("x") * 5)
    pass_time(clock, 0.2, one, two)
    assert len(two.writer.lines) == 5


def test_connections_of_one_client_share_its_rate(make_pair: Callable[..., Pair], clock: Clock) -> None:
    """None of them starves."""
    pair = make_pair("[[limit]]\nrecords_per_second = 100\nburst = '1s'\n")
    clients = [pair.connect("10.0.0.1:1") for _ in range(4)]
    for number, client in enumerate(clients):
        client.sendall(frame(str(number)) * 500)
    pair.turn(3)
    pass_time(clock, 3.0, pair)
    counts = [messages(pair).count(str(number)) for number in range(4)]
    assert 390 <= sum(counts) <= 410
    assert min(counts) >= 40, counts


def test_a_run_has_its_share_in_one_part_and_single_records_add_up_to_it(
    make_pair: Callable[..., Pair], clock: Clock
) -> None:
    """A run in several parts would make others wait longer; a record that comes alone is no part."""
    pair = make_pair("[[limit]]\nrecords_per_second = 100\nburst = '1s'\n")
    pair.connect("10.0.0.1:1").sendall(frame("x") * 150)
    pair.turn(3)
    limits = pair.worker.limits
    (known,) = limits._clients.values()
    (connection,) = known.waiting
    pair.worker.loop.now_s = clock.now_s = clock.now_s + 1
    known.share = 5
    assert limits.allowance(connection, 80) == 5
    limits.charge(connection, 3, 0)
    assert limits.allowance(connection, 80) == 0
    assert limits.allowance(connection, 1) == 1
    limits.charge(connection, 2, 0)
    assert limits.allowance(connection, 1) == 0


def test_a_limit_of_connections_answers_busy(make_pair: Callable[..., Pair], clock: Clock) -> None:
    """By address before the greeting; over all workers; a place that becomes free is given again."""
    toml = "[[limit]]\nconnections = 2\n"
    one, two = make_pair(toml, 1), make_pair(toml, 2)
    first = one.welcome(b"%016d" % 1, peer="10.0.0.1:1")
    two.welcome(b"%016d" % 2, peer="10.0.0.1:2")
    third = two.connect("10.0.0.1:3")
    third.sendall(wire.hello().replace(wire.SESSION, b"%016d" % 3))
    two.turn(3)
    assert [(kind, body[:2]) for kind, body in said(third)] == [(0x84, b"\0\7")]
    two.welcome(b"%016d" % 4, peer="10.0.0.2:1")
    first.close()
    one.turn(3)
    two.welcome(b"%016d" % 5, peer="10.0.0.1:4")


def test_a_limit_of_a_service_is_kept_at_the_greeting(make_pair: Callable[..., Pair]) -> None:
    """Only then the service is known; another service has its own."""
    pair = make_pair("[[limit]]\nper = 'service'\nservices = ['shop', 'bank']\nconnections = 1\n")

    def greet(number: int, service: str) -> list[tuple[int, bytes]]:
        document = json.dumps({"service": service}).encode()
        more = len(document).to_bytes(2, "big") + document
        client = pair.connect(f"10.0.0.{number}:1")
        client.sendall(wire.hello(more=more).replace(wire.SESSION, b"%016d" % number))
        pair.turn(3)
        return said(client)

    assert [greet(1, "shop")[-1][0], greet(2, "bank")[-1][0], greet(3, "mail")[-1][0]] == [0x81] * 3
    assert greet(4, "mail")[-1][0] == 0x81
    ((kind, body),) = greet(5, "shop")
    assert (kind, body[:2]) == (0x84, b"\0\7")


@pytest.mark.parametrize(
    ("peers", "peer", "is_limited"),
    [
        ("['10.0.0.0/8']", "10.1.2.3:5", True),
        ("['10.0.0.0/8']", "11.1.2.3:5", False),
        ("['10.0.0.0/8', '2001:db8::/32']", "[2001:db8::1]:5", True),
        ("['10.0.0.0/8']", "unix:pid=3,uid=1000", False),
        ("['unix']", "unix:pid=3,uid=1000", True),
        ("['unix']", "10.0.0.1:5", False),
    ],
)
def test_a_limit_is_for_some_peers(make_pair: Callable[..., Pair], peers: str, peer: str, *, is_limited: bool) -> None:
    """By address, network, or for Unix sockets."""
    pair = make_pair(f"[[limit]]\n{RATE}peers = {peers}\n")
    send(pair, 20, peer)
    assert len(messages(pair)) == (10 if is_limited else 20)


def test_a_limit_is_for_some_certificates(make_pair: Callable[..., Pair]) -> None:
    """By the verified name; several addresses with one name are one client."""
    pair = make_pair(f"[[limit]]\n{RATE}peer_names = ['web-7']\nper = 'peer_name'\n")
    for number, name in enumerate(("web-7", "web-7", "web-8", "")):
        message = name or "none"
        client = pair.connect(f"10.0.0.{number}:1")
        pair.connection().peer_name = name
        client.sendall(frame(message) * 20)
        pair.turn(3)
    assert [messages(pair).count(name) for name in ("web-7", "web-8", "none")] == [10, 20, 20]


def test_half_received_records_are_bounded(make_pair: Callable[..., Pair]) -> None:
    """The connection with the most is closed; that of another client stays."""
    pair = make_pair("[limits]\nmax_record_bytes = 20000\n[[limit]]\nmemory = 40000\n")
    large = (20_000).to_bytes(4, "big")
    clients = [pair.connect(f"10.0.0.{number // 4}:1") for number in range(5)]
    for client, nbytes in zip(clients, (9000, 15_000, 9000, 9000, 15_000), strict=True):
        client.sendall(large + bytes(nbytes))
        pair.turn(2)
    assert [is_closed(client) for client in clients] == [False, True, False, False, False]


MEMORY = "[limits]\nmax_record_bytes = 20000\n[[limit]]\nname = 'held'\n"


def test_a_record_that_is_half_received_counts_for_a_limit_that_comes_later(
    make_pair: Callable[..., Pair], tmp_path: Path
) -> None:
    """By a reload, as by a move from another worker: the client has nothing to send for that."""
    pair = make_pair(f"{MEMORY}connections = 100\n")
    clients = [pair.connect("10.0.0.1:1") for _ in range(5)]
    for client, nbytes in zip(clients, (9000, 15_000, 14_000, 2000, 9000), strict=True):
        client.sendall((20_000).to_bytes(4, "big") + bytes(nbytes))
    pair.turn(3)
    pair.worker._configure(configuration(tmp_path / "new.toml", f"store = []\n{MEMORY}memory = 40000\n", 2))
    assert not any(is_closed(client) for client in clients)
    pair.turn(2)
    assert [is_closed(client) for client in clients] == [False, True, False, False, False]
    (known,) = pair.worker.limits._clients.values()
    assert known.held_bytes == 34_000 + 4 * 4
    assert pair.board.limit(1, 0)[LimitField.CLOSED] == 1
    for client in clients:
        client.close()
    pair.turn(3)
    assert known.held_bytes == 0


def test_a_client_beyond_its_rate_stays_within_its_memory(make_pair: Callable[..., Pair], clock: Clock) -> None:
    """Little is read of it at a time, so none of its connections is closed for what this worker has read ahead."""
    pair = make_pair(f"{MEMORY}memory = 40000\nrecords_per_second = 200\nburst = '1s'\n")
    clients = [pair.connect("10.0.0.1:1") for _ in range(4)]
    for client in clients:
        client.sendall(frame("x" * 500) * 150)
    (known,) = [None]
    most = 0
    for _ in range(50):
        pass_time(clock, 0.1, pair)
        (known,) = pair.worker.limits._clients.values()
        most = max(most, known.held_bytes)
    assert len(messages(pair)) == 600
    assert 0 < most <= 4 * (4096 + 600)
    assert pair.worker.counters[Field.DROPPED] == 0


@pytest.mark.parametrize("line", [b'{"msg":"%d"}', b'{"msg":"%d","padding":"' + b"x" * 1000 + b'"}'])
def test_many_connections_beyond_their_rate_lose_nothing_by_a_small_memory(
    make_pair: Callable[..., Pair], clock: Clock, line: bytes
) -> None:
    """Those for which there is no room are not read; all of them get their turn, at the rate."""
    count, each = 40, 10
    pair = make_pair(f"[limits]\nmax_record_bytes = 20000\n[[limit]]\nmemory = 140000\n{RATE}".replace("10", "100", 1))
    clients = [pair.connect("10.0.0.1:1") for _ in range(count)]
    for client in clients:
        client.sendall(b"".join(line % number + b"\n" for number in range(each)))
    pair.turn(5)
    most = 0
    for _ in range(50):
        pass_time(clock, 0.1, pair)
        (known,) = pair.worker.limits._clients.values()
        most = max(most, known.held_bytes)
    assert sorted(messages(pair)) == sorted(f"{number}" for number in range(each) for _ in range(count))
    assert most <= 140_000
    assert pair.worker.counters[Field.DROPPED] == 0
    assert not any(is_closed(client) for client in clients)


def test_half_received_records_are_bounded_beside_records_that_wait(
    make_pair: Callable[..., Pair], clock: Clock
) -> None:
    """A client that holds its memory with records without an end is not waited for for ever."""
    pair = make_pair(f"[limits]\nmax_record_bytes = 70000\n[[limit]]\nmemory = 140000\n{RATE}")
    busy, *halves = [pair.connect("10.0.0.1:1") for _ in range(4)]
    busy.sendall(frame("x") * 30)
    pair.turn(3)
    for half in halves:
        half.sendall((70_000).to_bytes(4, "big") + bytes(69_000))
    pass_time(clock, 10, pair)
    assert messages(pair) == ["x"] * 30
    assert [is_closed(client) for client in (busy, *halves)].count(True) == 1


@pytest.mark.parametrize("kind", ["texts", "gaps"])
def test_small_events_that_wait_count_with_their_objects(
    make_pair: Callable[..., Pair], clock: Clock, kind: str
) -> None:
    """Their bytes on the wire would be a tenth of their memory."""
    pair = make_pair(f"{MEMORY}memory = 40000\n{RATE}")
    client = pair.connect("10.0.0.1:1")
    if kind == "texts":
        client.sendall(b'{"msg": 1}\n' * 372)
    else:
        client.sendall(wire.hello())
        pair.turn(3)
        records = wire.batch(1, *(frame()[4:],) * 11)
        client.sendall(records + b"".join(wire.gap(12 + number, 1, reason=b"") for number in range(75)))
    pair.turn(3)
    (known,) = pair.worker.limits._clients.values()
    connection = pair.connection()
    assert connection.parked
    assert known.held_bytes == connection.held_bytes >= (362 * 56 if kind == "texts" else 75 * 500)


def test_a_stop_reads_what_was_sent(make_pair: Callable[..., Pair]) -> None:
    """A client of plain frames would lose it."""
    pair = make_pair(f"[[limit]]\n{RATE}")
    send(pair, 50)
    pair.worker._handle_message(Drain(fast=False), [])
    pair.turn(5)
    assert len(messages(pair)) == 50


def test_a_reload_lifts_a_limit(make_pair: Callable[..., Pair], tmp_path: Path) -> None:
    """Connections that wait are read again."""
    pair = make_pair(f"[[limit]]\n{RATE}")
    send(pair, 50)
    pair.worker._configure(configuration(tmp_path / "new.toml", "store = []\n", 2))
    pair.turn(3)
    assert len(messages(pair)) == 50


def test_a_reload_gives_back_the_rows_of_clients(make_pair: Callable[..., Pair], tmp_path: Path) -> None:
    """Else each reload would leave fewer, and workers would not count together any more."""
    pair = make_pair(f"[[limit]]\n{RATE}")
    send(pair, 5)
    assert len(_rows_in_use(pair)) == 1
    pair.worker._configure(configuration(tmp_path / "new.toml", "store = []\n", 2))
    assert not _rows_in_use(pair)


def _rows_in_use(pair: Pair, slot: int = 1) -> list[int]:
    """Return the rows of a worker that have a key."""
    begin = slot * ROWS * client_table._CELLS
    rows = range(begin, begin + ROWS * client_table._CELLS, client_table._CELLS)
    return [row for row in rows if pair.board.clients._cells[row]]


def test_clients_without_a_connection_are_forgotten(make_pair: Callable[..., Pair]) -> None:
    """The least recently seen first."""
    pair = make_pair(f"[[limit]]\n{RATE}")
    for number in range(MOST_REMEMBERED + 50):
        client = send(pair, 1, f"10.1.{number // 256}.{number % 256}:1")
        client.close()
        pair.turn(2)
    limits = pair.worker.limits
    assert len(limits._clients) == len(limits._idle) == MOST_REMEMBERED
    assert (0, "10.1.0.0") not in limits._clients


def test_rows_of_the_table(clock: Clock) -> None:
    """A full place has no row; a row that was given back is free; a worker's start empties its region."""
    table = ClientTable(3)
    keys = [ROWS * number + 5 for number in range(1, MOST_PROBES + 2)]
    rows = [table.take_row(1, key) for key in keys]
    assert rows[-1] == -1
    assert len(set(rows)) == MOST_PROBES + 1
    usage = Usage(1, 2, 3, 4, 5)
    for row in rows:
        table.publish(row, usage)
    assert table.others([1, 2], keys[0]) == usage
    assert table.others([2], keys[0]) == Usage(0, 0, 0, 0, 0)
    table.free_row(rows[0])
    assert table.take_row(1, keys[-1]) == rows[0]
    assert table.others([1], keys[-1]) == Usage(0, 0, 0, 0, 0)
    table.clear(1)
    assert table.others([1], keys[1]) == Usage(0, 0, 0, 0, 0)
