"""The lock under eventlet, and who may have green threads: with a module in eventlet's place."""

from __future__ import annotations

import os
import sys
import threading
import types
from typing import Any

import pytest

from prefork_logd.handlers import _eventlet

make_lock: Any = _eventlet.make_lock
may_wait_here: Any = _eventlet.may_wait_here


@pytest.fixture(params=[True, False])
def is_patched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    patcher: Any = types.ModuleType("eventlet.patcher")
    patcher.is_monkey_patched = lambda name: request.param and name == "thread"
    patcher.original = lambda name: sys.modules[name]
    monkeypatch.setitem(sys.modules, "eventlet.patcher", patcher)
    return bool(request.param)


def test_only_a_patched_eventlet_takes_another_lock(is_patched: bool) -> None:
    assert isinstance(make_lock(), _eventlet.PollingLock) == is_patched


def test_only_the_main_thread_has_green_threads_of_eventlet(is_patched: bool) -> None:
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(may_wait_here()))
    thread.start()
    thread.join(10)
    assert found == [not is_patched]
    assert may_wait_here() == (threading.get_native_id() == os.getpid() or not is_patched)


def test_one_at_a_time_holds_the_lock() -> None:
    lock = _eventlet.PollingLock(threading.Lock())
    counts = [0, 0]

    def count() -> None:
        for _ in range(200):
            with lock:
                counts[0] += 1
                counts[1] = max(counts[1], counts[0])
                counts[0] -= 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert counts == [0, 1]


def test_the_lock_knows_its_owner() -> None:
    lock: Any = _eventlet.PollingLock(threading.Lock())
    assert not lock._is_owned()
    assert lock.acquire()
    assert lock._is_owned()
    assert not lock.acquire(False)
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(lock._is_owned()))
    thread.start()
    thread.join(10)
    assert found == [False]
    lock.release()
    assert not lock._is_owned()
    assert lock.acquire(False)
