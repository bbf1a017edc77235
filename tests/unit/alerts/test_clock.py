"""The clock of alerts: it cannot be set, and it knows which times records carry that arrived in a window."""

from __future__ import annotations

from prefork_logd.alerts.clock import AlertClock, boot_id, run_id


class Host:
    """A host whose clocks a test moves."""

    def __init__(self) -> None:
        self.monotonic, self.wall, self.boot = 50.0, 1_000_000.0, "a"
        self.number = 0

    def clock(self, saved: object = None) -> AlertClock:
        return AlertClock(saved, monotonic=lambda: self.monotonic, wall=lambda: self.wall, boot=self.boot)  # type: ignore[arg-type]

    def go(self, clock: AlertClock, seconds: float, *, step: float = 0.0) -> bool:
        self.monotonic += seconds
        self.wall += seconds + step
        self.number += 1
        return clock.look(self.number)


def test_ticks_go_on_after_a_restart_and_a_reboot() -> None:
    """After a restart with the time between, after a reboot without it; the wall clock does not matter."""
    host = Host()
    clock = host.clock()
    host.go(clock, 10, step=5_000)
    saved = clock.saved()
    assert clock.ticks() == 10
    host.monotonic += 7
    assert host.clock(saved).ticks() == 17
    host.boot = "b"
    assert host.clock(saved).ticks() == 10
    host.boot, host.monotonic = "a", 3.0
    assert host.clock(saved).ticks() == 10, "a boot id that came back with another clock"


def test_a_window_is_one_range_while_nobody_sets_the_clock() -> None:
    """Drift is followed."""
    host = Host()
    clock = host.clock()
    assert not host.go(clock, 0)
    for _ in range(100):
        assert not host.go(clock, 1, step=0.001)
    (one,) = clock.ranges(30)
    assert abs(one.least - (host.wall - 30)) < 0.2
    assert (one.below, one.first, one.last) == (host.wall + 2, 0, None)
    assert clock.is_simple((one,))


def test_a_clock_that_is_set_forward_makes_two_ranges() -> None:
    """Until the window is over."""
    host = Host()
    clock = host.clock()
    host.go(clock, 0)
    host.go(clock, 100)
    before = host.wall
    assert host.go(clock, 1, step=3600)
    host.go(clock, 10)
    old, new = clock.ranges(30)
    assert (old.least, old.below) == (before - 19, before + 1)
    assert (new.least, new.below) == (before + 3600, host.wall + 2)
    assert (old.last, new.first) == (3, 2), "records between two looks are of either"
    host.go(clock, 30)
    (one,) = clock.ranges(30)
    assert one.least == host.wall - 30
    assert clock.is_simple((one,))


def test_a_clock_that_is_set_back_lives_some_times_again() -> None:
    """Then `received` alone does not tell which records are new."""
    host = Host()
    clock = host.clock()
    host.go(clock, 0)
    host.go(clock, 100)
    assert host.go(clock, 1, step=-600)
    host.go(clock, 60)
    (one,) = clock.ranges(30)
    assert (one.least, one.first) == (host.wall - 30, 2)
    assert not clock.is_simple((one,))
    host.go(clock, 569)
    assert not clock.is_simple(clock.ranges(30))
    host.go(clock, 2)
    assert clock.is_simple(clock.ranges(30))


def test_a_clock_that_is_set_while_nothing_runs() -> None:
    """It is noticed by the next process."""
    host = Host()
    clock = host.clock()
    host.number = 40
    host.go(clock, 100)
    saved = clock.saved()
    host.monotonic, host.wall = host.monotonic + 5, host.wall - 600
    clock = host.clock(saved)
    assert clock.look(50)
    _, new = clock.eras
    assert (new.earliest, new.latest, new.first, new.known) == (100, 105, 41, 50)


def test_the_number_of_eras_is_bounded() -> None:
    """A clock that is set each second costs no memory."""
    host = Host()
    clock = host.clock()
    for number in range(50):
        host.go(clock, 1, step=100 if number % 2 else -100)
    assert len(clock.eras) == 8
    assert len(clock.ranges(1e6)) == 8


def test_ids_of_the_boot_and_of_the_run() -> None:
    """Of this host, and of the parent of this process."""
    assert boot_id()
    assert run_id().split("-")[1].isdigit()
    assert run_id(1 << 40) == str(1 << 40)
