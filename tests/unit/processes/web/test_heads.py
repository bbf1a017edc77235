"""Heads of requests have bounds: their lines, and the time that all of them take in a turn of the event loop."""

from __future__ import annotations

import asyncio

import h11
import pytest

from prefork_logd.processes.web import heads
from prefork_logd.processes.web.heads import MOST_HEAD_LINES, BoundedHeads, HeadTurns

START = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


class Reader:
    """A connection that notes when it is read."""

    def __init__(self, address: str, requests: int, order: list[Reader]) -> None:
        self.peer_address, self.requests, self._order = address, requests, order

    def read_events(self) -> None:
        """Note it."""
        self._order.append(self)


@pytest.mark.parametrize("line", [b"a: b\r\n", b"a:\n", b"\tfolded\r\n"])
@pytest.mark.parametrize("end", [b"\r\n", b""])
def test_a_head_of_too_many_lines_is_refused_before_it_is_parsed(line: bytes, end: bytes) -> None:
    """In any form of a line, and whether its end has come or not."""
    connection = BoundedHeads()
    connection.receive_data(START + b"x: y\r\n" + line * MOST_HEAD_LINES + end)
    with pytest.raises(h11.RemoteProtocolError, match="too many header lines"):
        connection.next_event()


def test_a_head_at_the_bound_is_read() -> None:
    """The lines of a body, and of further requests, do not count."""
    connection = BoundedHeads()
    body = b"\n" * 1000
    head = START + b"a: b\r\n" * (MOST_HEAD_LINES - 4) + b"Content-Length: 1000\r\n\r\n"
    connection.receive_data(head + body + START * 40)
    assert isinstance(connection.next_event(), h11.Request)
    data = connection.next_event()
    assert isinstance(data, h11.Data)
    assert bytes(data.data) == body


def test_the_heads_of_one_turn_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is read at once; then addresses take turns, each with the connection that has made fewest requests."""
    monkeypatch.setattr(heads, "TURN_S", 1e-9)

    async def main() -> None:
        turns, order = HeadTurns(), list[Reader]()
        first, *greedy = [Reader("greedy", requests, order) for requests in (5, 3, 1, 0, 1)]
        ada = Reader("ada", 9, order)
        assert turns.take(first)
        for reader in (*greedy, ada):
            assert not turns.take(reader)
        turns.forget(greedy[2])
        turns.forget(Reader("unknown", 0, order))
        for count in range(1, 6):
            assert len(order) == count
            await asyncio.sleep(0)
        assert order == [first, greedy[1], ada, greedy[3], greedy[0]]
        await asyncio.sleep(0)
        assert turns.take(first)

    asyncio.run(main())


def test_a_connection_that_fails_leaves_the_others_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error goes to the event loop."""
    monkeypatch.setattr(heads, "TURN_S", 1e-9)

    class Broken(Reader):
        def read_events(self) -> None:
            raise RuntimeError("broken")

    async def main() -> None:
        seen: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: seen.append(context))
        turns, order = HeadTurns(), list[Reader]()
        first, broken, last = Reader("a", 0, order), Broken("a", 0, order), Reader("a", 0, order)
        for reader in (first, broken, last):
            turns.take(reader)
        for _ in range(3):
            await asyncio.sleep(0)
        assert order == [first, last]
        assert [type(context["exception"]) for context in seen] == [RuntimeError]

    asyncio.run(main())
