"""A record has its time, and no more; while we do not read, no time runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_logd.net.loop import Loop
from prefork_logd.processes.worker import deadlines as module
from prefork_logd.processes.worker.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock(Loop):
    """A loop whose time a test moves."""

    def move_to(self, now_s: float) -> None:
        self.now_s = now_s
        # The real clock has set them; only what they do is of interest.
        timers, self._timers = self._timers, []
        for _, _, timer in timers:
            timer.fire()


class Host:
    """Closes what is given up."""

    def __init__(self) -> None:
        self.loop = Clock()
        self.loop.now_s = 0.0
        self.given_up: list[tuple[str, str]] = []
        self.unread: set[str] = set()
        # Any name is a connection here.
        self.deadlines = Deadlines(self.loop, self._give_up, lambda name: name not in self.unread)  # type: ignore[arg-type]
        self.deadlines.restart(10.0)

    def _give_up(self, connection: str, why: str) -> None:
        self.given_up.append((connection, why))
        self.deadlines.forget(connection)  # type: ignore[arg-type]

    def begin(self, connection: str, held: int = 1, *, is_new: bool = False) -> None:
        self.deadlines.begin(connection, held, is_new=is_new)  # type: ignore[arg-type]

    def names(self) -> list[str]:
        return [name for name, _ in self.given_up]


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.loop.close()


def test_a_record_that_takes_too_long_is_given_up(host: Host) -> None:
    """Its time runs from its first byte, however much comes later."""
    host.begin("slow")
    host.loop.move_to(6.0)
    host.begin("slow", 2)
    host.begin("later")
    host.loop.move_to(10.0)
    assert host.given_up == [("slow", "a record was not complete after 10 s")]
    host.loop.move_to(16.0)
    assert host.names() == ["slow", "later"]


def test_the_next_record_has_its_own_time(host: Host) -> None:
    """A client that sends one record after the other is never late."""
    for second in range(0, 100, 9):
        host.loop.move_to(float(second))
        host.begin("busy", is_new=True)
    assert host.given_up == []


def test_a_record_that_is_complete_is_not_waited_for(host: Host) -> None:
    """Idle connections live for ever."""
    host.begin("done")
    host.deadlines.forget("done")  # type: ignore[arg-type]
    host.loop.move_to(1000.0)
    assert host.given_up == []


def test_no_time_runs_while_we_do_not_read(host: Host) -> None:
    """A full disk is not the client's fault."""
    host.begin("patient")
    host.deadlines.pause()
    host.loop.move_to(1000.0)
    assert host.given_up == []
    host.deadlines.resume()
    host.loop.move_to(1009.0)
    assert host.given_up == []
    host.loop.move_to(1010.0)
    assert host.names() == ["patient"]


def test_another_timeout_holds_at_once(host: Host) -> None:
    """A reload need not wait for the deadlines of before."""
    host.begin("slow")
    host.deadlines.restart(2.0)
    host.loop.move_to(2.0)
    assert host.names() == ["slow"]


class Held(str):
    """A connection by its name, such as "10.0.0.1:1"."""

    __slots__ = ()

    @property
    def peer(self) -> str:
        return str(self)


def test_who_holds_most_is_given_up_when_all_hold_too_much(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the peer that holds most the largest, however young: an honest client with a slow record is not the reason."""
    monkeypatch.setattr(module, "HELD_BYTES", 1000)
    host.begin(Held("10.0.0.1:1"), 300)
    for port in range(1, 7):
        host.begin(Held(f"10.0.0.2:{port}"), 100 + port)
    assert host.names() == []
    host.begin(Held("10.0.0.2:7"), 100)
    assert host.given_up == [("10.0.0.2:6", "no room for more half-received records")]
    host.begin(Held("10.0.0.3:1"), 10)
    assert host.names() == ["10.0.0.2:6"]
    host.begin(Held("10.0.0.2:1"), 500)
    assert host.names() == ["10.0.0.2:6", "10.0.0.2:1"]
    host.begin(Held("10.0.0.1:1"), 900)
    assert host.names()[2:] == ["10.0.0.1:1"]


def test_a_deadline_goes_on_in_another_process(host: Host) -> None:
    """A record that is half received when its connection moves has what is left of its time, and no more."""
    host.begin("here")
    host.loop.move_to(4.0)
    assert host.deadlines.left_s("here") == 6.0  # type: ignore[arg-type]
    assert host.deadlines.left_s("elsewhere") is None  # type: ignore[arg-type]
    host.begin("later")
    host.deadlines.adopt([("moved", 1, 2.0), ("generous", 1, 1000.0)])  # type: ignore[list-item]
    host.loop.move_to(6.0)
    assert host.names() == ["moved"]
    host.loop.move_to(10.0)
    assert host.names() == ["moved", "here"]
    host.loop.move_to(14.0)
    assert host.names() == ["moved", "here", "later", "generous"]


def test_a_client_is_not_late_while_its_bytes_wait_to_be_read(host: Host) -> None:
    """This process is: the record gets the full time once more, behind the others."""
    host.begin("served late", 5)
    host.begin("silent")
    host.unread = {"served late"}
    host.loop.move_to(10.0)
    assert host.names() == ["silent"]
    host.unread = set()
    host.loop.move_to(19.0)
    assert host.names() == ["silent"]
    host.loop.move_to(20.0)
    assert host.names() == ["silent", "served late"]
    assert host.deadlines._held_bytes == 0
