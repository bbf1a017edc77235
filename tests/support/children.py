"""Fakes the master's children without processes: a loop of timers, channels that keep messages, and settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from prefork_logd.config.load import loads
from prefork_logd.ipc.messages import Drain
from prefork_logd.ipc.scoreboard import LAYOUT
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import Event, State, after
from prefork_logd.processes.master.service_manager import ServiceManager
from prefork_logd.processes.master.upgrade.state import FORMAT, Counters, UpgradeState
from prefork_logd.system.systemd import Notifier
from tests.support.harness import NO_ERRORS, NO_PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from prefork_logd.config.settings import Settings
    from prefork_logd.ipc.channel import Channel
    from prefork_logd.ipc.messages import AnyMessage
    from prefork_logd.net.loop import Loop


class FakeTimer:
    """A timer of a FakeLoop."""

    def __init__(self, due_s: float, call: Callable[[], None]) -> None:
        self.due_s = due_s
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Never call."""
        self.call = None


class FakeLoop:
    """A loop whose time a test advances."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.is_stopped = False
        self.timers: list[FakeTimer] = []

    @property
    def loop(self) -> Loop:
        """This loop, with the type that the code under test expects."""
        return cast("Loop", self)

    def later(self, delay_s: float, call: Callable[[], None]) -> FakeTimer:
        """Call after a time."""
        self.timers.append(FakeTimer(self.now_s + delay_s, call))
        return self.timers[-1]

    def pass_s(self, duration_s: float) -> None:
        """Advance the time, and make the calls that are due."""
        end_s = self.now_s + duration_s
        while due := [timer for timer in self.timers if timer.call is not None and timer.due_s <= end_s]:
            timer = min(due, key=lambda timer: timer.due_s)
            self.timers.remove(timer)
            self.now_s = timer.due_s
            if timer.call is not None:
                timer.call()
        self.now_s = end_s

    def stop(self) -> None:
        """Record that the loop must end."""
        self.is_stopped = True

    def add(self, fd: int, handler: object, events: int) -> None:
        """Accept a descriptor; nothing is ever ready."""

    def change(self, fd: int, events: int) -> None:
        """Accept a change."""

    def remove(self, fd: int) -> None:
        """Accept a removal."""


class FakeChannel:
    """A control channel that keeps the messages sent, and closes nothing but their descriptors."""

    open = idle = True
    fd = -1

    def __init__(self) -> None:
        self.messages: list[AnyMessage] = []
        self.silent_since_s: float | None = None

    def probe(self, now_s: float) -> float:
        """Wait for an answer, which a test gives by clearing `silent_since_s`."""
        self.silent_since_s = now_s if self.silent_since_s is None else self.silent_since_s
        return self.silent_since_s

    def send(self, message: AnyMessage, fds: Sequence[int] = ()) -> None:
        """Keep a message."""
        for fd in fds:
            os.close(fd)
        self.messages.append(message)

    def ready(self, events: int) -> None:
        """Read nothing."""

    def close(self) -> None:
        """Close nothing."""


def make_child(kind: Kind, slot: int, state: State = State.RUNNING, **fields: Any) -> Child:
    """Return a child with a channel that keeps messages, a pid and a spawn id of its own."""
    number = 1000 + slot + 300 * list(Kind).index(kind)
    child = Child(kind, slot, state, **{"pid": number, "spawn_id": number, **fields})
    child.channel = cast("Channel", FakeChannel())
    return child


class ChildEvents:
    """Applies the events of a child that is never forked, as the supervisor would, and keeps them."""

    def __init__(self) -> None:
        self.seen: list[Event] = []

    def apply(self, child: Child, event: Event) -> None:
        """Change the state of a child; one that is due gets a pid and a channel, one that stops a message."""
        self.seen.append(event)
        child.state = after(child.state, event).state
        if event is Event.DUE:
            made = make_child(child.kind, child.slot)
            child.pid, child.channel = made.pid, made.channel
        elif child.channel is not None:
            child.channel.send(Drain(fast=False))


def messages(child: Child) -> list[AnyMessage]:
    """Return the messages sent to a child since the last call."""
    channel = cast("FakeChannel", child.channel)
    sent, channel.messages = channel.messages, []
    return sent


def no_service_manager() -> ServiceManager:
    """Return the reports of a collector that no service manager has started."""
    return ServiceManager(FakeLoop().loop, Notifier({}), lambda: make_child(Kind.WRITER, 0), lambda: (0, 0))


def make_settings(state_dir: Path, toml: str = "", workers: int = 2) -> Settings:
    """Return valid settings, without a page and groups of errors unless `toml` has them."""
    text = toml if "[web" in toml else toml + NO_PAGE
    text = text if "[errors" in text else text + NO_ERRORS
    return loads(text, overrides={"state_dir": str(state_dir), "workers": workers})


def make_state(**fields: Any) -> UpgradeState:
    """Return the state of a collector without children, with these fields."""
    given: dict[str, Any] = {
        "format": FORMAT, "version": "1.2.3", "config": "", "overrides": {"workers": 2}, "directory": "/", "home": "/",
        "started_s": 1.5, "next_spawn_id": 8, "reloads": 3, "worker_target": 2, "sockets": [], "lock_fd": 3,
        "command_fd": 4, "answer_fds": [], "board_fd": 5, "layout": LAYOUT, "output_ids": {}, "last_output_id": 0,
        "configurations": [], "children": [], "counters": Counters(), "restarts": {},
    }  # fmt: skip
    return UpgradeState(**given | fields)
