"""Shares of a worker's time, on a clock that the test moves."""

from __future__ import annotations

from collections import deque

import pytest

from prefork_logd.net.loop import Loop
from prefork_logd.processes.worker import shares as module
from prefork_logd.processes.worker.shares import Shares

SLICE_S = 0.001


class Clock:
    """The monotonic clock, and that of the thread's processor time."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.stolen_s = 0.0
        """Time in which the process was kept from the processor."""

    def monotonic(self) -> float:
        return self.now_s + self.stolen_s

    def thread_time(self) -> float:
        return self.now_s


class Client:
    """A connection with as much to read as it is asked for."""

    def __init__(self, need_s: float, peer: str = "10.0.0.1:1") -> None:
        self.peer = peer
        self.paid_s = 0.0
        self.need_s = need_s
        """What one readiness takes; more than a slice makes it wait for another turn again and again."""
        self.used_s = 0.0

    def ready(self, events: int) -> None:
        raise NotImplementedError


class Line:
    """A loop, as far as shares see it, and clients that are served as a worker does."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.queue: deque[Client] = deque()
        self.is_long = False
        self.queued: list[str] = []
        """How connections were queued that were not due."""
        self.shares = Shares(self)  # type: ignore[arg-type]

    @property
    def waiting(self) -> int:
        return len(self.queue)

    def again(self, client: Client) -> None:
        self.queued.append("again")

    def soon(self, client: Client, *, first: bool) -> None:
        self.queued.append("first" if first else "soon")

    def serve(self, client: Client, *, waited: bool) -> None:
        used_s = min(client.need_s, SLICE_S)
        self.shares.begin()
        self.clock.now_s += used_s
        client.used_s += used_s
        if client.need_s > SLICE_S:
            self.queue.append(client)
        self.shares.end(client, waited=waited)

    def turn(self, *ready: Client) -> list[Client]:
        """Serve who has become ready, and then one that waits; return the ready ones that were served at once."""
        waiting, at_once = len(self.queue), []
        for client in ready:
            if client in self.queue:
                continue
            if self.shares.is_due(client):
                self.serve(client, waited=False)
                at_once.append(client)
            else:
                self.queue.append(client)
        if waiting:
            self.serve(self.queue.popleft(), waited=True)
        return at_once


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "SLICE_S", SLICE_S)
    return Line(clock)


def test_who_sends_little_is_read_before_those_who_wait(line: Line) -> None:
    """In every turn, as long as it uses less than they get."""
    noisy = [Client(need_s=1.0) for _ in range(5)]
    for client in noisy:
        line.serve(client, waited=False)
    modest = Client(need_s=SLICE_S / 10)
    for _ in range(100):
        assert line.turn(modest) == [modest]
    assert line.shares.is_pressing


@pytest.mark.parametrize("count", [1, 3, 20])
def test_who_passes_for_one_that_sends_little_gets_a_fair_share(line: Line, count: int) -> None:
    """It always ends just before its slice does, and is ready again at once."""
    noisy = [Client(need_s=1.0) for _ in range(count)]
    for client in noisy:
        line.serve(client, waited=False)
    clever = Client(need_s=SLICE_S * 0.99)
    for _ in range(400 * count):
        line.turn(clever)
    mean_s = sum(client.used_s for client in noisy) / count
    assert 0.5 * mean_s < clever.used_s < 1.2 * mean_s
    assert max(client.used_s for client in noisy) < 1.1 * min(client.used_s for client in noisy)


def test_time_that_nobody_else_wanted_is_free(line: Line) -> None:
    """A client that was alone for long is not kept waiting for it when others come."""
    first = Client(need_s=SLICE_S * 0.9)
    for _ in range(1000):
        line.turn(first)
    line.serve(Client(need_s=1.0), waited=False)
    assert line.turn(first) == [first]


def test_time_of_those_who_waited_is_not_saved_up(line: Line) -> None:
    """A client that comes when others have waited for long gets no more at once than its share from now on."""
    noisy = [Client(need_s=1.0) for _ in range(3)]
    for client in noisy:
        line.serve(client, waited=False)
    for _ in range(1000):
        line.turn()
    before_s = noisy[0].used_s
    late = Client(need_s=SLICE_S * 0.9)
    for _ in range(100):
        line.turn(late)
    assert late.used_s < 1.2 * (noisy[0].used_s - before_s)


def test_nobody_is_read_at_once_when_the_turn_is_long(line: Line) -> None:
    """Else many that send little would keep those who wait from their turn."""
    client = Client(need_s=SLICE_S / 10)
    assert line.turn(client) == [client]
    line.is_long = True
    assert line.turn(client) == []


def test_time_without_the_processor_is_nobodys(line: Line) -> None:
    """A client is not kept waiting because its slice was interrupted by other programs."""
    noisy = [Client(need_s=1.0) for _ in range(50)]
    for client in noisy:
        line.serve(client, waited=False)
    modest = Client(need_s=SLICE_S / 10, peer="10.0.0.2:1")
    for _ in range(20):
        line.shares.begin()
        line.clock.stolen_s += 0.05
        line.shares.end(modest, waited=False)
        assert line.turn(modest) == [modest]


@pytest.mark.parametrize(("peer", "expected"), [("10.0.0.2:1", "first"), ("10.0.0.1:9", "soon"), ("", "again")])
def test_who_only_the_length_of_a_turn_delays_does_not_wait_behind_others(line: Line, peer: str, expected: str) -> None:
    """A client of an address that has used little comes first, then other clients that have; a noisy one waits."""
    noisy = [Client(need_s=1.0) for _ in range(50)]
    for client in noisy:
        line.serve(client, waited=False)
    for _ in range(200):
        line.turn()
    line.is_long = True
    late = Client(SLICE_S / 10, peer) if peer else noisy[0]
    assert not line.shares.is_due(late)
    line.shares.queue(late)
    assert line.queued == [expected]


def test_a_slice_ends(line: Line) -> None:
    line.shares.begin()
    assert not line.shares.is_over
    line.clock.now_s += SLICE_S
    assert line.shares.is_over


def test_a_loop_tells_how_many_wait() -> None:
    loop = Loop()
    loop.again(Client(0.0))
    assert (loop.waiting, loop.crowded) == (1, True)
    loop.close()


@pytest.mark.parametrize("need_s", [SLICE_S / 3, SLICE_S * 0.99])
def test_pauses_in_reading_keep_nobody_from_a_slice(line: Line, need_s: float) -> None:
    """Clients that send little at a time are ready first in each pause, and come again after it."""
    clever = [Client(need_s) for _ in range(10)]
    steady = Client(need_s=1.0)
    line.serve(steady, waited=False)
    line.queue.extend(clever)
    for _ in range(1000):
        served_s = 0.0
        served = []
        while served_s < 2 * SLICE_S and line.queue:
            client = line.queue.popleft()
            before_s = client.used_s
            line.serve(client, waited=True)
            served_s += client.used_s - before_s
            served.append(client)
        # Reading pauses: those who were served have sent more already, and the others come from the queue.
        rest = [client for client in line.queue if client not in served or client is steady]
        line.queue.clear()
        line.queue.extend(line.shares.in_order([client for client in served if client is not steady] + rest))
    fair_s = sum(client.used_s for client in (steady, *clever)) / 11
    assert steady.used_s > 0.8 * fair_s


def test_an_address_with_many_connections_delays_no_other_one(line: Line) -> None:
    """A client of another address is read at once, though it uses more than the share of one connection."""
    noisy = [Client(need_s=1.0) for _ in range(500)]
    for client in noisy:
        line.serve(client, waited=False)
    modest, neighbour = Client(SLICE_S / 4, "10.0.0.2:1"), Client(SLICE_S / 4)
    for _ in range(5):
        line.turn(neighbour)
    assert all(line.turn(modest, neighbour) == [modest] for _ in range(400))


def test_an_address_gets_no_more_than_its_share(line: Line) -> None:
    """Its connections end just before their slices do; together they take half of the time at most."""
    steady = [Client(need_s=1.0, peer=f"10.0.0.1:{number}") for number in range(100)]
    for client in steady:
        line.serve(client, waited=False)
    clever = [Client(SLICE_S * 0.99, f"10.0.0.2:{number}") for number in range(3)]
    for _ in range(5000):
        line.turn(*clever)
    used_s = sum(client.used_s for client in clever)
    total_s = used_s + sum(client.used_s for client in steady)
    assert used_s < 0.55 * total_s


def test_addresses_are_forgotten(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are within their share, once there are many; the others not."""
    monkeypatch.setattr(module, "MOST_ADDRESSES", 10)
    line.serve(Client(need_s=1.0), waited=False)
    for number in range(100):
        line.turn(Client(SLICE_S / 1000, f"10.0.1.{number}:1"))
    assert len(line.shares._addresses._paid_s) <= 11
    greedy = Client(SLICE_S * 0.99, "10.0.2.1:1")
    line.serve(greedy, waited=False)
    for number in range(20):
        line.serve(Client(SLICE_S / 1000, f"10.0.3.{number}:1"), waited=False)
    assert line.shares._addresses.ahead_s(greedy.peer) > 0
