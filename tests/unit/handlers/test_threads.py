"""The helper thread's ticks without the thread, and its beginning and end."""

from __future__ import annotations

import _thread
import itertools
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from prefork_logd.handlers import _threads
from prefork_logd.handlers._threads import Helper


def client(**link: Any) -> Any:
    """Return a client of which nothing is due."""
    states = {"is_connecting": False, "is_opening": False, "wants_to_write": False}
    values = {"has_more": False, "is_direct": False, "out": b"", "sock": None}
    calls = {name: itertools.repeat(link.get(name, value)).__next__ for name, value in states.items()}
    done: list[str] = []
    return SimpleNamespace(
        link=SimpleNamespace(
            pump=lambda: done.append("pump"),
            say_away=lambda: None,
            **calls,
            **{name: link.get(name, value) for name, value in values.items()},
        ),
        queue=SimpleNamespace(next=1),
        end_idle=lambda: done.append("ended"),
        connector=SimpleNamespace(step=None, take_step=lambda: done.append("step")),
        section=SimpleNamespace(deferred=[], run=lambda function, *args: function(*args)),
        notices=SimpleNamespace(warnings=["said"], warn=lambda: done.append("warned")),
        look_after_files=lambda: done.append("files"),
        take_deferred=lambda: done.append("deferred"),
        is_done=lambda: True,
        done=done,
    )


def tick(made: Any, helper: Helper | None = None) -> tuple[float, bool]:
    helper = helper or Helper()
    helper._stop = threading.Event()
    return helper.tick(made, helper._stop)


def test_a_helper_that_was_told_to_stop_does_nothing() -> None:
    helper, made = Helper(), client()
    assert helper.tick(made, threading.Event()) == (0.0, False)
    assert made.done == []


def test_a_tick_pumps_and_looks_after_the_files() -> None:
    made = client()
    assert tick(made) == (0.05, True)
    assert made.done == ["pump", "files"]


@pytest.mark.parametrize(
    ("link", "step", "expected"),
    [
        ({"has_more": True}, None, 0.001),
        ({"is_opening": True}, None, 0.005),
        ({"wants_to_write": True}, None, 0.005),
        ({}, "resolve", 0.005),
        ({}, None, 0.05),
    ],
)
def test_the_next_tick_comes_as_soon_as_something_can_be_done(link: Any, step: str | None, expected: float) -> None:
    made = client(**link)
    made.connector.step = step
    made.is_done = lambda: False
    assert tick(made) == (expected, False)


def test_ticks_are_rare_while_emit_looks_after_the_connection_itself() -> None:
    made, helper = client(is_direct=True), Helper()
    made.queue.next = 100
    made.is_done = lambda: False
    assert tick(made, helper)[0] == 0.25
    assert tick(made, helper)[0] == 0.05


def test_a_helper_leaves_only_while_nothing_is_held() -> None:
    helper, made = Helper(), client()
    helper.thread, helper._stop = "thread", threading.Event()
    made.is_done = lambda: False
    assert not helper.leave(made, helper._stop)
    assert helper.thread == "thread"
    made.is_done = lambda: True
    assert helper.leave(made, helper._stop)
    assert helper.thread is None
    assert made.done == ["ended"]


def test_the_thread_ends_by_itself_and_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_threads, "TICK_S", 0.0)
    helper, made = Helper(), client()
    made.connector.step = "resolve"
    made.section.deferred.append("record")
    for _ in range(2):
        helper.start(made)
        thread = helper.thread
        if thread is not None:
            thread.join(10)
            assert not thread.is_alive()
        assert helper.thread is None
    assert {"step", "deferred", "warned", "pump", "files", "ended"} == set(made.done)


def test_a_failure_is_told_and_the_thread_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_threads, "_AFTER_FAILURE_S", 0.0)
    monkeypatch.setattr(_threads, "TICK_S", 0.0)
    made, failures = client(), [True]

    def pump() -> None:
        if failures:
            failures.pop()
            raise OSError("a fault of ours")

    made.link.pump = pump
    helper = Helper()
    helper.start(made)
    thread = helper.thread
    if thread is not None:
        thread.join(10)
    assert helper.thread is None
    assert "a fault of ours" in capsys.readouterr().err


def test_where_no_thread_can_be_had_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    helper = Helper()
    helper.start(client())
    assert helper.thread is None


def test_where_no_daemon_is_allowed_there_is_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("daemon threads are disabled in this interpreter")

    monkeypatch.setattr(threading.Thread, "daemon", property(lambda _: False, refuse))
    helper = Helper()
    helper.start(client())
    assert helper.thread is None


def test_a_thread_that_cannot_be_waited_for_is_left() -> None:
    """The join of gevent raises a greenlet.error in another thread than the one whose loop runs the greenlet."""

    class Greenlet:
        def join(self, timeout: float) -> None:
            raise ValueError("Cannot switch to a different thread")

    other = threading.Thread(target=lambda: None)
    other.start()
    _threads.join_threads([Greenlet(), other], 10)
    assert not other.is_alive()


def test_stopping_gives_the_thread_to_wait_for() -> None:
    helper, made = Helper(), client()
    made.is_done = lambda: False
    helper.start(made)
    thread = helper.ask_to_stop()
    assert helper.thread is None
    _threads.join_threads([thread, None, threading.current_thread()], 10)
    assert not thread.is_alive()
    assert helper.ask_to_stop() is None


def test_each_handler_that_lives_is_told_of_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class Handler:
        def _before_fork(self, timeout: float) -> None:
            told.append(timeout)

        def _needs_threads(self) -> bool:
            return True

        def _after_fork_in_parent(self) -> None:
            told.append("parent")

        def _after_fork_in_child(self) -> None:
            told.append("child")

    monkeypatch.setattr(_threads, "_live", type(_threads._live)())
    handler = Handler()
    _threads.watch_forks(handler)
    _threads._before_fork()
    _threads._resume_threads()
    _threads._after_fork_in_child()
    del handler
    _threads._before_fork()
    assert told == [0.1, "parent", "child"]


def test_threads_start_again_after_a_fork_in_c_code_without_a_frame_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """As uWSGI does it: there is no caller to wait for."""
    is_resumed = threading.Event()
    handler = SimpleNamespace(_needs_threads=lambda: True, _after_fork_in_parent=is_resumed.set)
    monkeypatch.setattr(_threads, "_live", [handler])
    monkeypatch.setattr(_threads, "_WARNS_OF_THREADS", True)
    _thread.start_new_thread(_threads._after_fork_in_parent, ())
    assert is_resumed.wait(10)


def test_a_thread_that_was_told_to_stop_ends_silently(capsys: pytest.CaptureFixture[str]) -> None:
    """At its end an interpreter takes away the names that such a thread still looks up."""
    made, stop = client(), threading.Event()

    def pump() -> None:
        stop.set()
        raise TypeError("'NoneType' object is not callable")

    made.link.pump = pump
    helper = Helper()
    helper._stop = stop
    helper._help(made, stop)
    _threads._run_until_stopped(stop, pump, ())
    assert capsys.readouterr().err == ""
    stop.clear()
    with pytest.raises(ZeroDivisionError):
        _threads._run_until_stopped(stop, lambda: 1 // 0, ())
