"""The handler as a whole where nobody listens: bounds of memory, and wrong arguments."""

from __future__ import annotations

import logging
import pickle
import socket
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.handlers import SocketHandler
from tests.support.log_records import record

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def nowhere() -> Iterator[int]:
    """Give a port that is bound and refuses."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize("overflow", ["drop_old", "drop_new", "block"])
def test_memory_stays_within_its_limit(overflow: str, nowhere: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the policy, and what is dropped is counted."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler = SocketHandler("127.0.0.1", nowhere, overflow=overflow, limit_bytes=20_000, block_timeout=0.01)
    for number in range(200):
        handler.handle(record("number %d", number))
        assert handler.counters()["held_bytes"] <= 20_000 + 2 * 160
    counters = handler.counters()
    assert counters["dropped"] > 0
    assert counters["held"] + counters["dropped"] == counters["emitted"] == 200
    kept = [pickle.loads(item[1])["msg"] for item in handler._client.queue.unsent if isinstance(item[1], bytes)]
    numbers = range(200 - len(kept), 200) if overflow == "drop_old" else range(len(kept))
    assert kept == [f"number {number}" for number in numbers]
    handler.close_timeout = 0.0
    handler.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"overflow": "forget"},
        {"overflow": "spool"},
        {"key": "short", "key_id": "a"},
        {"key": "x" * 16},
        {"key_id": "a"},
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    """The constructor alone raises."""
    with pytest.raises(ValueError, match=r"overflow|key"):
        SocketHandler("127.0.0.1", 1, **wrong)


@pytest.mark.parametrize("given", [{}, {"host": "127.0.0.1", "port": 1, "limit": 1}], ids=["missing", "unknown"])
def test_errors_about_arguments_name_the_handler(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"^SocketHandler\.__init__\(\) .*('host'|'limit')"):
        SocketHandler(**given)
