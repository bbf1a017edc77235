"""A partition's requests for more: one at a time, and another where the last one has ended without a word."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from prefork_logd.errors import StoreError
from prefork_logd.processes.consumer import partition as nats_partition
from prefork_logd.processes.consumer.partition import SILENT_S, Partition


class Client:
    """What a partition uses of NATS's client."""

    max_payload = 1 << 20

    def __init__(self) -> None:
        self.requests = 0
        self.deliver: Any = None

    def new_inbox(self) -> str:
        return "inbox"

    async def publish(self, subject: str, data: bytes, reply: str) -> None:
        assert (subject, reply) == ("$JS.API.CONSUMER.MSG.NEXT.LOGS.g-003", "inbox")
        assert b"idle_heartbeat" in data
        self.requests += 1


def status(code: str) -> Any:
    return SimpleNamespace(reply="", headers={"Status": code}, data=b"")


def test_a_request_that_ended_without_a_word_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only when the server has said nothing for long, neither a record nor that the request is open."""
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(nats_partition.time, "monotonic", lambda: now.s)
    client = Client()
    partition = Partition(SimpleNamespace(client=client), "LOGS", "g", 3)  # type: ignore[arg-type] - all that it uses

    def pulled() -> int:
        asyncio.run(partition.pull())
        return client.requests

    def hear(code: str) -> None:
        partition._handle_message(status(code), lambda *_: None)

    assert pulled() == 1
    assert pulled() == 1
    now.s += SILENT_S - 1
    hear("100")
    now.s += SILENT_S - 1
    assert pulled() == 1, "it is open still"
    now.s += 1
    assert pulled() == 2, "nothing was heard for too long"
    hear("409")
    assert pulled() == 3, "it is over"
    with pytest.raises(StoreError, match="503"):
        hear("503")
