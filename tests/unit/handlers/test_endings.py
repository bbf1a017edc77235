"""Waiting for acknowledgements at the end: what is worth it, for how long, and what is said."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.handlers import _client, _compat, _endings
from prefork_logd.handlers._client import Client
from prefork_logd.handlers._options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def refuse(_: float) -> Any:
    raise OSError(errno.ECONNREFUSED, "nobody listens")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give a time that goes on whenever something waits."""
    time = [100.0]

    def wait(_: Any, __: Any, seconds: float) -> bool:
        time[0] += seconds
        return False

    monkeypatch.setattr(_endings, "monotonic", lambda: time[0])
    monkeypatch.setattr(_endings, "wait_for", wait)
    return time


@pytest.fixture
def make(now: list[float]) -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def new(**arguments: Any) -> Client:
        client = Client(Options("127.0.0.1", 1, **arguments), refuse)
        client.section.run(client.submit, b"record", 1.0)
        made.append(client)
        return client

    yield new
    for client in made:
        client.stop_threads(1.0)


def test_a_close_waits_three_seconds_without_an_acknowledgement_and_says_so(
    make: Callable[..., Client], now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    client = make(close_timeout=20.0)
    client.close()
    assert 3.0 <= now[0] - 100.0 < 3.2
    said = capsys.readouterr().err
    assert said.count("has not acknowledged 1 record; the end waits for that, at most 20 s (close_timeout)") == 1
    assert said.count("did not acknowledge 1 record ") == 1


def test_a_close_waits_no_longer_than_it_is_told(make: Callable[..., Client], now: list[float]) -> None:
    make(close_timeout=0.5).close()
    assert 0.5 <= now[0] - 100.0 < 0.6


def test_a_close_with_everything_in_a_spool_waits_for_a_connected_collector_only(
    make: Callable[..., Client], now: list[float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = make(overflow="spool", spool_dir=str(tmp_path), close_timeout=20.0)
    endings = client._endings
    client.connector.step = None
    assert not endings._is_worth_waiting(0.0)
    client.link.sock = SimpleNamespace(close=lambda: None)
    assert endings._is_worth_waiting(0.1)
    assert not endings._is_worth_waiting(0.3)
    client.queue.unspooled = 1
    assert endings._is_worth_waiting(0.3), "a record that is in memory only"
    assert capsys.readouterr().err == ""


def test_a_record_after_the_end_is_waited_for_a_second_in_all(
    make: Callable[..., Client], now: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = make()
    client.options.close_timeout = 0.0
    client.close()
    client.options.close_timeout = 5.0
    monkeypatch.setattr(_client, "is_interpreter_ending", lambda: True)
    now[0] = 200.0
    for _ in range(12):
        client.section.run(client.submit, b"late", 1.0)
    assert 201.0 <= now[0] < 201.1
    assert client.helper.thread is None
    said = capsys.readouterr().err
    assert "did not acknowledge 1 record that came after the end" in said
    assert "did not acknowledge 10 records that came after the end" in said


def test_a_thread_with_a_running_loop_does_not_wait_for_room(
    make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    client = make(limit_bytes=200, block_timeout=60.0)
    monkeypatch.setattr(client.section, "run_outside", lambda *_: pytest.fail("waits"))

    async def log() -> None:
        assert _compat.is_in_event_loop()
        client.section.run(client.submit, b"no room", 1.0)

    assert not _compat.is_in_event_loop()
    asyncio.run(log())
    assert client.count()["dropped"] == 1
