"""Clients whose handlers are gone: kept while they hold records, and taken by a successor for the same place."""

from __future__ import annotations

import gc
import logging
import logging.config
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.handlers import SocketHandler, _estates
from prefork_logd.handlers._options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def make() -> Iterator[Callable[..., SocketHandler]]:
    """Make handlers with one record that nobody takes."""
    clients: list[Any] = []

    def new(port: int = 1, **arguments: Any) -> SocketHandler:
        handler = SocketHandler("127.0.0.1", port, close_timeout=0.0, **arguments)
        clients.append(handler._client)
        handler.handle(logging.makeLogRecord({"msg": "held"}))
        return handler

    yield new
    for client in clients:
        client.stop_threads(1.0)


def test_a_successor_for_the_same_place_takes_the_queue_and_brings_its_own_options(
    make: Callable[..., SocketHandler],
) -> None:
    old = make(limit_bytes=1000)
    _estates.bequeath(old, old._client)
    new = make(limit_bytes=2000, overflow="drop_new")
    assert new._client is old._client
    assert (new.counters()["emitted"], new.limit_bytes, old.limit_bytes, new.overflow) == (2, 2000, 2000, "drop_new")
    assert not _estates._estates


@pytest.mark.parametrize(
    "other",
    [{"port": 2}, {"key_id": "web", "key": "sixteen bytes or more"}, {"name": "other"}, {"overflow": "spool"}],
    ids=str,
)
def test_a_handler_for_another_place_takes_nothing(
    other: dict[str, Any], make: Callable[..., SocketHandler], tmp_path: Any
) -> None:
    old = make()
    _estates.bequeath(old, old._client)
    if "overflow" in other:
        other = {**other, "spool_dir": str(tmp_path)}
    new = make(**other)
    assert new._client is not old._client
    assert [estate.client for estate in _estates._estates] == [old._client]


def test_a_subclass_with_its_own_sockets_leaves_and_takes_nothing(make: Callable[..., SocketHandler]) -> None:
    old = make()
    old._client._make_socket = old.makeSocket
    _estates.bequeath(old, old._client)
    assert _estates.inherit(Options("127.0.0.1", 1)) is None


def test_an_estate_ends_when_all_is_acknowledged_and_nothing_can_follow(make: Callable[..., SocketHandler]) -> None:
    old, other = make(), make(port=2)
    _estates.bequeath(old, old._client)
    old._client.queue.requeue()
    old._client.queue.forget_unsent(1)
    _estates.bequeath(other, other._client)
    assert len(_estates._estates) == 2, "a forgotten reference to the handler may bring more"
    del old
    gc.collect()
    _estates.bequeath(other, other._client)
    assert [estate.client for estate in _estates._estates] == [other._client]


def test_a_handler_that_dies_with_records_leaves_them(make: Callable[..., SocketHandler]) -> None:
    old = make()
    client = old._client
    del old
    gc.collect()
    assert [estate.client for estate in _estates._estates] == [client]


def test_a_closed_handler_leaves_nothing(
    make: Callable[..., SocketHandler], capsys: pytest.CaptureFixture[str]
) -> None:
    old = make()
    old.close()
    del old
    gc.collect()
    assert not _estates._estates
    assert "did not acknowledge 1 record " in capsys.readouterr().err


def test_a_child_leaves_estates_to_its_parent(make: Callable[..., SocketHandler]) -> None:
    old = make()
    _estates.bequeath(old, old._client)
    old._client.pid = -1
    _estates._estates[0]._after_fork_in_child()
    assert not _estates._estates
    assert old._client.is_done()


def test_logging_that_shuts_down_is_known_from_its_calls(make: Callable[..., SocketHandler]) -> None:
    found = []

    class Asked(logging.Handler):
        def flush(self) -> None:
            found.append(_estates.is_shutdown())

        def close(self) -> None:
            found.append(_estates.is_reconfiguration())

    import weakref

    asked = Asked()
    logging.shutdown([weakref.ref(asked)])
    asked.flush()
    asked.close()
    assert found[-4:] == [True, False, False, False]
    logging._removeHandlerRef(weakref.ref(asked))  # type: ignore[attr-defined]
