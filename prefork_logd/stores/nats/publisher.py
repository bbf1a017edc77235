"""Publishes messages to a stream, many at once, and collects their acknowledgements.

Owns the limits of messages in flight, and the time limits for answers. Does not know journals, or how messages are
made.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError
from prefork_logd.stores.nats import wire
from prefork_logd.stores.nats.connection import describe

if TYPE_CHECKING:
    from nats.js.api import PubAck

    from prefork_logd.config.stores.nats import NatsStoreSettings
    from prefork_logd.stores.nats.connection import Connection
    from prefork_logd.stores.nats.messages import Message
    from prefork_logd.stores.nats.publish_log import PublishedRange

IN_FLIGHT_BYTES = 16 << 20
IN_FLIGHT_MESSAGES = 4096
"""The most bytes and messages that are published and not acknowledged yet."""
LATE_ANSWERS_S = 0.3
"""How long to wait for late answers after a failure: each avoids that a message is published again."""


class Publisher:
    """Messages in flight to the stream."""

    def __init__(self, connection: Connection, settings: NatsStoreSettings) -> None:
        self._connection = connection
        self._stream = connection.stream
        self._settings = settings
        self._waiting: list[tuple[asyncio.Future[PubAck], PublishedRange, Message]] = []
        self._nbytes = 0
        self._left: dict[int, int] = {}
        """First number of each range to the number of its unacknowledged messages."""
        self._bounds: dict[int, tuple[int, int]] = {}

    async def publish(self, published: PublishedRange, messages: list[Message]) -> None:
        """Publish a range, as soon as few enough messages are in flight. Raises StoreError for an earlier range."""
        self._left[published.first] = len(messages)
        for message in messages:
            while self._nbytes > IN_FLIGHT_BYTES or len(self._waiting) >= IN_FLIGHT_MESSAGES:
                await self._settle(len(self._waiting) // 2)
            headers = {wire.HEADER: message.header, "Nats-Msg-Id": message.id}
            if message.numbers:
                headers[wire.NUMBERS_HEADER] = message.numbers
            future = await self._stream.publish_async(message.subject, message.body, headers=headers)
            self._waiting.append((future, published, message))
            self._nbytes += len(message.body)

    async def finish(self) -> None:
        """Wait for all acknowledgements. Raises StoreError if one does not come, or is a refusal."""
        await self._settle(0)

    async def _settle(self, leave: int) -> None:
        some, self._waiting = self._waiting[: len(self._waiting) - leave], self._waiting[len(self._waiting) - leave :]
        await self._answers([future for future, _, _ in some])
        failure: BaseException | None = None
        silent = 0
        for future, published, message in some:
            self._nbytes -= len(message.body)
            if not future.done():
                silent += 1
                future.cancel()
            elif future.exception() is not None:
                failure = future.exception()
            else:
                self._acked(published, message, future.result())
        if failure is None and self._connection.trouble.done():
            failure = self._connection.trouble.result()
        if failure is not None or silent:
            for future, _, _ in self._waiting:
                future.cancel()
            why = "no acknowledgement in time" if failure is None else f"{describe(failure)}"
            code = getattr(failure, "code", None)
            number = f" ({code})" if code else ""
            raise StoreError(f"stream {self._settings.stream} on {self._connection.where}: {why}{number}") from failure

    async def _answers(self, futures: list[asyncio.Future[PubAck]]) -> None:
        """Wait for answers; at most `timeout`, and only LATE_ANSWERS_S after a failure.

        The client reports some refusals (503) as an error of the connection, and not as an answer.
        """
        if not futures:
            return
        all_of_them = asyncio.ensure_future(asyncio.wait(futures))
        try:
            trouble = self._connection.trouble
            await asyncio.wait(
                (all_of_them, trouble), timeout=self._settings.timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not all_of_them.done() and trouble.done():
                await asyncio.wait((all_of_them,), timeout=LATE_ANSWERS_S)
        finally:
            all_of_them.cancel()

    def _acked(self, published: PublishedRange, message: Message, ack: PubAck) -> None:
        """Record an acknowledgement; a range is acknowledged with its last message."""
        if ack.duplicate:
            published.elsewhere[ack.seq] = message.id
        low, high = self._bounds.get(published.first, (ack.seq, ack.seq))
        self._bounds[published.first] = min(low, ack.seq), max(high, ack.seq)
        self._left[published.first] -= 1
        if not self._left[published.first]:
            published.low, published.high = self._bounds[published.first]
            published.acked_s = time.monotonic()
