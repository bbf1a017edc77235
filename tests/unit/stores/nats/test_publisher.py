"""Messages on their way: bounded, and a range is acknowledged with its last message."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from prefork_logd.config.stores.nats import NatsStoreSettings
from prefork_logd.errors import StoreError
from prefork_logd.stores.nats import publisher as nats_publisher
from prefork_logd.stores.nats import wire
from prefork_logd.stores.nats.messages import Message
from prefork_logd.stores.nats.publish_log import PublishedRange
from prefork_logd.stores.nats.publisher import Publisher


class Stream:
    """A stream that answers each message at once, unless told otherwise."""

    def __init__(self) -> None:
        self.sequence = 0
        self.on_their_way = self.most_on_their_way = 0
        self.answers: dict[int, Any] = {}
        """Sequence to an exception, a duplicate's sequence, or None for no answer."""
        self.headers: list[dict[str, str]] = []

    async def publish_async(self, subject: str, body: bytes, headers: dict[str, str]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.sequence += 1
        self.headers.append(headers)
        self.on_their_way += 1
        self.most_on_their_way = max(self.most_on_their_way, self.on_their_way)
        asyncio.get_running_loop().call_later(0.001, self._answer, future, self.sequence)
        return future

    def _answer(self, future: asyncio.Future[Any], sequence: int) -> None:
        self.on_their_way -= 1
        answer = self.answers.get(sequence, sequence)
        if future.done() or answer is None:
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(SimpleNamespace(seq=answer, duplicate=answer != sequence))


def _publish(stream: Stream, ranges: list[tuple[PublishedRange, list[Message]]], trouble: str = "") -> None:
    async def publish() -> None:
        connection: Any = SimpleNamespace(
            stream=stream, where="nats://x:1", trouble=asyncio.get_running_loop().create_future()
        )
        if trouble:
            connection.trouble.set_result(RuntimeError(trouble))
        publisher = Publisher(connection, NatsStoreSettings(name="n", timeout="1s"))
        for published, messages in ranges:
            await publisher.publish(published, messages)
        await publisher.finish()

    asyncio.run(publish())


def _message(name: str, numbers: str = "") -> Message:
    return Message("logs.000.ab", b"x" * 100, "1 ...", name, numbers)


def test_a_range_is_acknowledged_with_its_last_message() -> None:
    """It gets the lowest and the highest sequence of its messages."""
    stream = Stream()
    one, two = PublishedRange(0, 10), PublishedRange(10, 20)
    _publish(stream, [(one, [_message("a"), _message("b"), _message("c", "0+5")]), (two, [_message("d")])])
    assert (one.low, one.high, two.low, two.high) == (1, 3, 4, 4)
    assert one.acked_s > 0
    assert [headers["Nats-Msg-Id"] for headers in stream.headers] == ["a", "b", "c", "d"]
    assert [headers.get(wire.NUMBERS_HEADER) for headers in stream.headers] == [None, None, "0+5", None]


def test_a_message_that_the_stream_has_already() -> None:
    """Its id is remembered: the sequence may belong to a message of another collector."""
    stream = Stream()
    stream.answers[2] = 77
    published = PublishedRange(0, 10)
    _publish(stream, [(published, [_message("a"), _message("b")])])
    assert published.elsewhere == {77: "b"}
    assert (published.low, published.high) == (1, 77)


def test_a_refusal_fails_the_write() -> None:
    """What was acknowledged beside it counts all the same."""
    stream = Stream()
    stream.answers[2] = RuntimeError("maximum bytes exceeded")
    ranges = [PublishedRange(n, n + 1) for n in range(3)]
    with pytest.raises(StoreError, match="stream LOGS on nats://x:1: maximum bytes exceeded"):
        _publish(stream, [(published, [_message(str(published.first))]) for published in ranges])
    assert [published.low for published in ranges] == [1, 0, 3]


def test_a_message_without_an_answer_fails_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """The range that it belongs to is not acknowledged, though its other message is."""
    stream = Stream()
    stream.answers[2] = None
    published = PublishedRange(0, 10)
    with pytest.raises(StoreError, match="no acknowledgement in time"):
        _publish(stream, [(published, [_message("a"), _message("b")])])
    assert published.low == 0


def test_trouble_of_the_connection_fails_the_write_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some refusals answer nothing: answers are then waited for only shortly, not for `timeout`."""
    monkeypatch.setattr(nats_publisher, "LATE_ANSWERS_S", 0.05)
    stream = Stream()
    stream.answers[1] = None
    with pytest.raises(StoreError, match="no responders"):
        _publish(stream, [(PublishedRange(0, 10), [_message("a")])], trouble="no responders")


def test_what_is_on_its_way_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By messages, and by bytes."""
    for name, most in (("IN_FLIGHT_MESSAGES", 10), ("IN_FLIGHT_BYTES", 1000)):
        with monkeypatch.context() as patch:
            patch.setattr(nats_publisher, name, most)
            stream = Stream()
            published = PublishedRange(0, 100)
            _publish(stream, [(published, [_message(str(n)) for n in range(100)])])
            assert published.high == 100
            assert stream.most_on_their_way <= 11
