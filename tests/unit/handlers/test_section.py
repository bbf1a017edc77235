"""The lock of a handler: one thread at a time, and never its own thread's trap."""

from __future__ import annotations

import threading

import pytest

from prefork_logd.handlers._options import Options
from prefork_logd.handlers._section import Section


@pytest.fixture
def section() -> Section:
    return Section(Options("127.0.0.1", 1))


def test_a_thread_that_is_inside_enters_again_without_waiting(section: Section) -> None:
    assert section.run(section.run, lambda value: value + 1, 2) == 3
    assert not section.is_mine()
    assert section.run(section.is_mine)


def test_another_thread_waits_until_the_first_has_left(section: Section) -> None:
    order: list[str] = []
    is_inside, may_leave = threading.Event(), threading.Event()

    def first() -> None:
        is_inside.set()
        may_leave.wait(10)
        order.append("first")

    threads = [threading.Thread(target=section.run, args=(first,))]
    threads[0].start()
    assert is_inside.wait(10)
    threads.append(threading.Thread(target=section.run, args=(order.append, "second")))
    threads[1].start()
    assert order == []
    may_leave.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second"]


def test_an_exception_leaves_the_lock_free(section: Section) -> None:
    with pytest.raises(KeyboardInterrupt):
        section.run(_interrupt)
    assert section.run(lambda: 1) == 1
    assert section.inside == set()


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_a_lock_that_an_interruption_left_taken_is_given_back(section: Section) -> None:
    """A signal handler may raise between taking the lock and the block that gives it back."""
    me = threading.get_ident()
    section.inside.add(me)
    section.mutex.acquire()
    section.unstick(me)
    assert not section.is_mine()
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(section.mutex.acquire(timeout=10)))
    thread.start()
    thread.join(10)
    assert taken == [True]


def test_records_that_are_put_off_have_a_bound(section: Section) -> None:
    for number in range(10_005):
        section.defer(b"", float(number))
    assert len(section.deferred) == 10_000
    assert section.deferred[0] == (b"", 0.0)
