"""The loop gives every handler its turn, and every timer its time."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from prefork_logd.net import loop as module
from prefork_logd.net.loop import EDGE, ENDED, READ, SOON, Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Recorder:
    """A handler that notes what it is told, and may act."""

    def __init__(self, act: Callable[[int], None] | None = None) -> None:
        self.events: list[int] = []
        self._act = act

    def ready(self, events: int) -> None:
        self.events.append(events)
        if self._act is not None:
            self._act(events)


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_an_edge_is_told_once(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    """With EDGE a change is reported when it happens, and not again."""
    ours, theirs = pair
    handler = Recorder()
    loop.add(ours.fileno(), handler, READ | EDGE)
    theirs.send(b"x")
    loop.turn(0)
    loop.turn(0)
    assert handler.events == [READ]
    theirs.send(b"y")
    loop.turn(0)
    assert handler.events == [READ, READ]


def test_who_asks_again_comes_after_those_who_are_ready(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    """Another turn is given after the events, once for each time it was asked for."""
    ours, theirs = pair
    order: list[str] = []
    busy = Recorder(lambda _: order.append("again"))
    loop.add(ours.fileno(), Recorder(lambda _: order.append("ready")), READ | EDGE)
    loop.again(busy)
    theirs.send(b"x")
    loop.turn()
    assert order == ["ready", "again"]
    assert busy.events == [ENDED]
    loop.turn(0)
    assert order == ["ready", "again"]


def test_asking_again_within_a_turn_is_for_the_next(loop: Loop) -> None:
    """A handler that always asks again cannot keep a turn from ending."""
    greedy = Recorder()
    greedy._act = lambda _: loop.again(greedy)
    loop.again(greedy)
    loop.turn()
    loop.turn()
    assert len(greedy.events) == 2


def test_a_removed_descriptor_is_told_nothing_more(loop: Loop) -> None:
    """A handler that removes another in the same turn silences it."""
    pairs = [socket.socketpair() for _ in range(2)]
    handlers: list[Recorder] = []

    def remove_other(me: int) -> Callable[[int], None]:
        return lambda _: loop.remove(pairs[1 - me][0].fileno())

    for index, (ours, theirs) in enumerate(pairs):
        handlers.append(Recorder(remove_other(index)))
        loop.add(ours.fileno(), handlers[index], READ | EDGE)
        theirs.send(b"x")
    loop.turn(0)
    assert sum(len(handler.events) for handler in handlers) == 1
    for ends in pairs:
        for end in ends:
            end.close()


def test_timers_fire_in_order_and_once(loop: Loop) -> None:
    """The earliest first, and none before its time or after it was cancelled."""
    fired: list[str] = []
    loop.later(0.002, lambda: fired.append("second"))
    loop.later(0.001, lambda: fired.append("first"))
    cancelled = loop.later(0.0, lambda: fired.append("never"))
    cancelled.cancel()
    last = loop.later(0.003, loop.stop)
    assert last.pending
    loop.run()
    assert fired == ["first", "second"]
    assert not last.pending
    assert not cancelled.pending


def test_a_timer_may_set_another(loop: Loop) -> None:
    """Repeating is setting anew."""
    fired: list[int] = []

    def fire() -> None:
        fired.append(len(fired))
        if len(fired) == 3:
            loop.stop()
        else:
            loop.later(0, fire)

    loop.later(0, fire)
    loop.run()
    assert fired == [0, 1, 2]


def test_work_is_passed_on_at_the_end_of_each_turn(loop: Loop) -> None:
    """`after_turn` comes after every handler and timer of the turn."""
    order: list[str] = []
    loop.after_turn(lambda: order.append("end"))
    loop.later(0, lambda: order.append("timer"))
    loop.again(Recorder(lambda _: order.append("handler")))
    loop.turn()
    assert order == ["handler", "timer", "end"]


def test_the_other_side_closing_is_readiness(loop: Loop) -> None:
    """End-of-file reaches the handler as an event, and reading tells what it is."""
    read_fd, write_fd = os.pipe()
    handler = Recorder()
    loop.add(read_fd, handler, READ | EDGE)
    os.close(write_fd)
    loop.turn(0)
    assert handler.events
    assert os.read(read_fd, 1) == b""
    os.close(read_fd)


def test_a_timer_in_a_hundred_years_ends_no_turn(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    """epoll_wait(2) cannot wait for so long; events are handled meanwhile as ever."""
    ours, theirs = pair
    recorder = Recorder()
    loop.add(ours.fileno(), recorder, READ)
    for delay_s in (30 * 86_400.0, 36_500 * 86_400.0):
        loop.later(delay_s, lambda: pytest.fail("it is not due"))
        theirs.send(b"x")
        loop.turn()
    assert recorder.events == [READ, READ]


def test_a_turn_leaves_those_who_ask_again_when_it_was_long(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them is served in any case; the others come first in the next turn."""
    monkeypatch.setattr(module, "TURN_S", 0.0)
    order: list[str] = []

    class Asking:
        def __init__(self, name: str) -> None:
            self.name = name

        def ready(self, _: int) -> None:
            order.append(self.name)
            loop.again(self)

    for name in "abc":
        loop.again(Asking(name))
    for _ in range(4):
        loop.turn(0)
    assert order == ["a", "b", "c", "a"]
    assert loop.crowded


def test_a_turn_that_is_requested_soon_comes_before_ready_handlers(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Those with `first` come first; the rest follows in the next turn, when this one is long."""
    ours, theirs = pair
    seen: list[str] = []
    loop.add(ours.fileno(), Recorder(lambda _: seen.append("ready")), READ | EDGE)
    theirs.send(b"x")
    loop.again(Recorder(lambda _: seen.append("again")))
    early = Recorder(lambda _: seen.append("soon"))
    loop.soon(early, first=False)
    loop.soon(Recorder(lambda _: seen.append("first")), first=True)
    assert loop.crowded
    assert loop.waiting == 1
    loop.turn(0)
    assert seen == ["first", "soon", "ready", "again"]
    assert early.events == [SOON]
    assert not loop.crowded


def test_turns_that_are_requested_soon_end_with_a_long_turn(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who wait get one each turn all the same."""
    now_s = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    monkeypatch.setattr(module, "TURN_S", 0.5)
    seen: list[str] = []

    def work(name: str) -> None:
        seen.append(name)
        now_s[0] += 1

    for name in ("one", "other"):
        loop.soon(Recorder(lambda _, name=name: work(name)), first=True)  # type: ignore[misc]
    loop.again(Recorder(lambda _: work("waiting")))
    loop.turn(0)
    assert seen == ["one", "waiting"]
    loop.turn(0)
    assert seen == ["one", "waiting", "other"]


def test_turns_that_are_requested_soon_are_not_passed_over_for_ever(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others come first in each turn, and make it long, the rest takes turns with those that wait."""
    now_s = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(module, "TURN_S", 0.5)
    seen: list[str] = []

    def work(name: str) -> None:
        seen.append(name)
        now_s[0] += 1

    rest = [Recorder(lambda _, name=name: work(name)) for name in ("one", "other")]  # type: ignore[misc]
    for handler in rest:
        loop.soon(handler, first=False)
    for name in ("waiting", "later"):
        loop.again(Recorder(lambda _, name=name: work(name)))  # type: ignore[misc]
    for _ in range(4):
        loop.soon(Recorder(lambda _: work("first")), first=True)
        loop.turn(0)
    assert seen == ["first", "one", "first", "waiting", "first", "other", "first", "later"]
    assert [handler.events for handler in rest] == [[ENDED], [ENDED]]
