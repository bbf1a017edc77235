"""A handler's parts together, where nothing listens: room, put-off records, what is left at the end."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.handlers import _client, _endings
from prefork_logd.handlers._client import Client
from prefork_logd.handlers._options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def refuse(_: float) -> Any:
    raise OSError(errno.ECONNREFUSED, "nobody listens")


@pytest.fixture
def make() -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def new(**arguments: Any) -> Client:
        arguments.setdefault("close_timeout", 0.0)
        made.append(Client(Options("127.0.0.1", 1, **arguments), refuse))
        return made[-1]

    yield new
    for client in made:
        client.stop_threads(1.0)


def submit(client: Client, count: int) -> None:
    for number in range(count):
        client.section.run(client.submit, b"record %d" % number, float(number))


@pytest.mark.parametrize(
    ("overflow", "kept"), [("drop_new", range(1, 5)), ("drop_old", range(8, 11)), ("block", range(1, 5))]
)
def test_a_full_memory_drops_as_the_policy_says(
    overflow: str, kept: range, make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    client = make(overflow=overflow, limit_bytes=800, block_timeout=0.01)
    submit(client, 10)
    numbers = [number for number, data, _ in client.queue.unsent if isinstance(data, bytes)]
    assert numbers == list(kept)
    counts = client.count()
    assert (counts["emitted"], counts["held"] + counts["dropped"]) == (10, 10)
    assert counts["dropped"] > 0
    assert not client.is_done()


def test_waiting_for_room_is_done_once_in_a_stall(make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    now = [100.0]

    def wait(_: Any, __: bool, timeout: float) -> bool:
        waits.append(timeout)
        now[0] += timeout
        return False

    monkeypatch.setattr(logging, "raiseExceptions", False)
    client = make(limit_bytes=1, block_timeout=0.2)
    submit(client, 1)
    monkeypatch.setattr(_client, "monotonic", lambda: now[0])
    monkeypatch.setattr(_client, "wait_for", wait)
    submit(client, 5)
    assert sum(waits) == pytest.approx(0.2)


def test_records_that_were_put_off_are_submitted_in_order(make: Callable[..., Client]) -> None:
    client = make()
    for number in range(3):
        client.section.defer(b"%d" % number, 1.0)
    client.section.run(client.take_deferred)
    assert not client.queue.unsent
    client.take_deferred()
    assert [data for _, data, _ in client.queue.unsent] == [b"0", b"1", b"2"]


def test_what_is_left_at_the_end_is_said(make: Callable[..., Client], capsys: pytest.CaptureFixture[str]) -> None:
    client = make()
    submit(client, 2)
    assert not client.flush()
    client.close()
    assert "127.0.0.1:1 did not acknowledge 2 records before the handler was closed" in capsys.readouterr().err


def test_what_was_dropped_is_said_at_the_end_though_nothing_is_left(
    make: Callable[..., Client], capsys: pytest.CaptureFixture[str]
) -> None:
    client = make(overflow="drop_new", limit_bytes=400)
    submit(client, 10)
    client.queue.requeue()
    client.queue.forget_unsent(10)
    counts = client.count()
    client.close()
    assert counts["acknowledged"] + counts["dropped"] == 10
    assert f"and {counts['dropped']} were dropped before" in capsys.readouterr().err


def test_plain_frames_are_never_acknowledged(make: Callable[..., Client]) -> None:
    """A flush waits until they are sent, and says no; what is said of them is said once."""
    client = make(fallback=True)
    submit(client, 3)
    client.queue.take_batch(1 << 16, 1 << 16)
    client.queue.hand_over(1000)
    assert (client.count()["handed_over"], client.is_done()) == (3, True)
    assert not client.flush()
    assert client.flush()


def test_a_child_inherits_that_a_collector_is_there(make: Callable[..., Client]) -> None:
    client = make(fallback=True)
    client._fallback.has_collector = True
    client.begin_in_child()
    assert not client._fallback.speak_plain("answers no HELLO")


def test_a_flush_that_has_just_failed_fails_at_once(make: Callable[..., Client], monkeypatch: Any) -> None:
    client = make()
    submit(client, 1)
    assert not client.flush(0.01)
    monkeypatch.setattr(_endings, "wait_for", lambda *_: pytest.fail("waits"))
    client.options.close_timeout = 10
    assert not client.flush()


def test_a_flush_from_inside_does_not_wait(make: Callable[..., Client]) -> None:
    client = make()
    submit(client, 1)
    assert client.section.run(client.flush, 10) is False


def test_a_closed_spool_is_left_to_others_and_the_next_record_begins_another(
    make: Callable[..., Client], tmp_path: Path
) -> None:
    client = make(overflow="spool", spool_dir=str(tmp_path))
    submit(client, 2)
    session = client.queue.session
    client.close()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".spool"]
    assert client.queue.session != session
    submit(client, 1)
    assert len(list(tmp_path.glob("*.spool"))) == 2
    client.close()


def test_a_child_begins_a_session_with_nothing_of_its_parents(make: Callable[..., Client]) -> None:
    client = make()
    submit(client, 3)
    client.stop_threads(1.0)
    session, section = client.queue.session, client.section
    client.begin_in_child()
    assert (client.is_done(), client.queue.next, client.helper.thread) == (True, 1, None)
    assert client.queue.session != session
    assert client.section is not section
    assert not client.has_forked_inside
    client.section.run(client.begin_in_child)
    assert client.has_forked_inside


def test_threads_start_again_after_a_fork_where_there_is_something_to_do(make: Callable[..., Client]) -> None:
    client = make()
    client.resume_threads()
    assert client.helper.thread is None
    submit(client, 1)
    client.stop_threads(1.0)
    client.resume_threads()
    assert client.helper.thread is not None


def test_an_interruption_leaves_every_number_in_the_queue(make: Callable[..., Client]) -> None:
    client = make()
    submit(client, 3)
    client.queue.unsent.pop()
    client.section.run(client.recover)
    assert client.queue.lowest() == 1
    assert client.queue.last_sent() == 0
    assert [number for number, _, _ in client.queue.unsent] == [1, 2, 3]
