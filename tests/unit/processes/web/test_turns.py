"""Work of many connections is done in turns, in which their addresses alternate."""

from __future__ import annotations

import asyncio

import pytest

from prefork_logd.processes.web import turns
from prefork_logd.processes.web.turns import Turns


class Reader:
    """A connection that notes when it is read."""

    def __init__(self, address: str, requests: int, order: list[Reader]) -> None:
        self.peer_address, self.requests, self._order = address, requests, order

    def read_events(self) -> None:
        """Note it."""
        self._order.append(self)


def test_the_time_of_one_turn_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is read at once; then addresses take turns, each with the connection that has made fewest requests."""
    monkeypatch.setattr(turns, "TURN_S", 1e-9)

    async def main() -> None:
        shared, order = Turns(), list[Reader]()
        first, *greedy = [Reader("greedy", requests, order) for requests in (5, 3, 1, 0, 1)]
        ada = Reader("ada", 9, order)
        assert shared.take(first)
        for reader in (*greedy, ada):
            assert not shared.take(reader)
        shared.forget(greedy[2])
        shared.forget(Reader("unknown", 0, order))
        for count in range(1, 6):
            assert len(order) == count
            await asyncio.sleep(0)
        assert order == [first, greedy[1], ada, greedy[3], greedy[0]]
        await asyncio.sleep(0)
        assert shared.take(first)

    asyncio.run(main())


def test_a_connection_that_fails_leaves_the_others_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error goes to the event loop."""
    monkeypatch.setattr(turns, "TURN_S", 1e-9)

    class Broken(Reader):
        def read_events(self) -> None:
            raise RuntimeError("broken")

    async def main() -> None:
        seen: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: seen.append(context))
        shared, order = Turns(), list[Reader]()
        first, broken, last = Reader("a", 0, order), Broken("a", 0, order), Reader("a", 0, order)
        for reader in (first, broken, last):
            shared.take(reader)
        for _ in range(3):
            await asyncio.sleep(0)
        assert order == [first, last]
        assert [type(context["exception"]) for context in seen] == [RuntimeError]

    asyncio.run(main())
