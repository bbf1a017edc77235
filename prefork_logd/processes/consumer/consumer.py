"""Runs a source: reads records of other collectors from a stream of NATS, and sends them to the writer.

Owns the process: its connection, its turns, its end, and the acknowledgement of committed messages. Does not touch
output files. membership.py claims partitions, partition.py reads one of them, and messages.py makes batches.

The NATS client needs asyncio: the process runs an asyncio event loop, which watches the collector's own loop as one
descriptor.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.errors import StoreError
from prefork_logd.ingest.dispatcher import Dispatcher
from prefork_logd.ipc.batch_builder import Lines
from prefork_logd.ipc.batch_sender import BatchSender
from prefork_logd.ipc.channel import Channel
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.messages import (
    AnyMessage,
    Attach,
    Configure,
    Configured,
    Drain,
    Ready,
    Reopen,
    Retire,
    Settled,
    StatusReport,
)
from prefork_logd.ipc.scoreboard import Field, Scoreboard
from prefork_logd.net.loop import Loop
from prefork_logd.processes.consumer.membership import Membership, join_group, member_name
from prefork_logd.processes.consumer.messages import StreamMessages
from prefork_logd.processes.consumer.partition import COUNT_EVERY_S, Partition
from prefork_logd.processes.fork import BUG_STATUS, LOST_STATUS
from prefork_logd.stores.nats.connection import Connection, translated
from prefork_logd.stores.nats.group import HEARTBEAT_S
from prefork_logd.system.backoff import Backoff
from prefork_logd.system.log import LOGGER, describe_bug, log_unexpected, reopen_own

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine
    from typing import Any

    from prefork_logd.config.sources import NatsSourceSettings
    from prefork_logd.ipc.batch_sender import Receipt

FIRST_RETRY_S, LONGEST_RETRY_S = 0.2, 5.0
SAVE_EVERY_S = 5.0
FORGET_EVERY_S = 3600.0
"""How often journals without a message in the stream are forgotten."""
LAST_WRITES_S, FAST_WRITES_S, ORPHAN_S = 5.0, 1.0, 0.8
"""How long the commit of the last lines may take: in a stop, in a fast one, and after the master's death."""


class NatsSource:
    """One source process."""

    def __init__(
        self,
        slot: int,
        board: Scoreboard,
        channel: socket.socket,
        configuration: Configuration,
        settings: NatsSourceSettings,
    ) -> None:
        self.loop = Loop()
        self._settings = settings
        self._counters = board.slot(slot)
        self._channel = Channel(self.loop, channel, self._handle_message, self._orphaned)
        self._link = BatchSender(self.loop, self)
        self._state_dir = Path(configuration.settings.server.state_dir)
        self._unsettled: deque[tuple[int, int]] = deque()
        self._member = ""
        self._connection: Connection | None = None
        self._membership: Membership | None = None
        self._partitions: dict[int, Partition] = {}
        """The partitions that are read now; the membership adds and removes them."""
        self._messages = StreamMessages(
            settings.stream, self._partitions, self._link, self._counters, self._fail, self._work_on
        )
        self._configure(configuration)
        self._trouble: asyncio.Future[str]
        self._stopping = asyncio.Event()
        self._longest_s = LAST_WRITES_S
        self._changed = asyncio.Event()
        """Set when the writer has committed batches."""
        self._working = False
        self._last_report = StatusReport("")
        self._looking: asyncio.Future[None] | None = None
        self._bug: BaseException | None = None
        self._exit_status = 0

    def _configure(self, configuration: Configuration) -> None:
        self._messages.configure(Dispatcher(configuration, Lines), configuration.settings.limits.queue_bytes)

    def run(self) -> int:
        """Work until the master ends the source; return the exit status."""
        self._counters[Field.PID] = os.getpid()
        self._channel.send(Ready())
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(self._failed)
        loop.add_reader(self.loop.fileno(), self._turn)
        loop.run_until_complete(self._live())
        if self._bug is not None:
            LOGGER.critical("%s", describe_bug(self._bug))
            return BUG_STATUS
        return self._exit_status

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG002 - its form
        error = context.get("exception")
        if isinstance(error, StoreError):
            self._fail(str(error))
        elif error is not None and not isinstance(error, (OSError, asyncio.CancelledError)):
            self._bug = error
            self._stopping.set()
            self._fail("a bug")

    def _turn(self) -> None:
        self.loop.turn(0)

    # Messages of the master

    def _handle_message(self, message: AnyMessage, fds: list[int]) -> None:
        match message:
            case Attach():
                self._link.attach(*fds)
            case Configure():
                self._messages.send_batch()
                configuration = Configuration.from_file(fds[0])
                self._configure(configuration)
                self._channel.send(Configured(configuration.generation))
                self._unsettled.append((self._link.next_number, configuration.generation))
                self._settle()
            case Retire():
                self._stopping.set()
            case Drain(fast):
                self._longest_s = FAST_WRITES_S if fast else self._longest_s
                self._stopping.set()
            case Reopen():
                reopen_own()
            case _:
                log_unexpected(message, "the master")

    def _orphaned(self) -> None:
        self._longest_s = ORPHAN_S
        self._stopping.set()

    # Answers of the writer

    def batches_committed(self, receipts: list[Receipt]) -> None:  # noqa: ARG002 - messages are known by their batches
        """Acknowledge the messages whose batches are committed."""
        self._settle()
        self._messages.record_commits()
        self._acknowledge()
        self._changed.set()
        self._work_on()

    def session_opened(self, token: int, epoch: int, committed: int) -> None:
        """Continue a journal after the number that the writer has committed."""
        self._messages.session_opened(token, epoch, committed)

    def range_refused(self, session: bytes, epoch: int) -> None:
        """Begin again after the writer has refused records."""
        self._messages.range_refused(session, epoch)

    def writer_resumed(self) -> None:
        """Repeat, to a new writer, the requests for sessions that the last one did not answer."""
        self._messages.writer_resumed()

    def _settle(self) -> None:
        generation = 0
        while self._unsettled and self._unsettled[0][0] <= self._link.first_held:
            generation = self._unsettled.popleft()[1]
        if generation:
            self._channel.send(Settled(generation))

    # Messages

    def _work_on(self) -> None:
        if not self._working:
            self._working = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """Handle a few messages, send their lines, and come again; commits and the master have their turns between."""
        self._working = False
        self._messages.take_messages()
        self._acknowledge()
        if self._messages.has_work:
            self._work_on()

    def _acknowledge(self) -> None:
        for partition in self._partitions.values():
            message = None if partition.closed else partition.to_acknowledge()
            if message is not None:
                self._spawn(message.ack())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def done() -> None:
            await translated(work, self._settings.stream)

        task = asyncio.ensure_future(done())
        task.add_done_callback(self._check_task)

    def _check_task(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._failed(asyncio.get_running_loop(), {"exception": task.exception()})

    # The stream

    def _fail(self, why: str) -> None:
        """Drop the connection and begin again; the writer knows the committed positions."""
        if not self._trouble.done():
            self._trouble.set_result(why)

    async def _live(self) -> None:
        """Read the stream until the source ends; begin again after every error."""
        backoff, logged = Backoff(FIRST_RETRY_S, LONGEST_RETRY_S), ""
        self._trouble = asyncio.get_running_loop().create_future()
        while not self._stopping.is_set():
            self._trouble = asyncio.get_running_loop().create_future()
            try:
                self._member = self._member or member_name(self._state_dir, self._settings)
                await self._read()
                why = ""
            except StoreError as error:
                why = str(error)
            self._send_report(why)
            if self._membership is not None and self._partitions:
                backoff.worked()
            await self._drop_connection()
            if why and not self._stopping.is_set():
                if why != logged:
                    LOGGER.error("source %s: %s; tried again until it works", self._settings.stream, why)
                    logged = why
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(backoff.failed()):
                        await self._stopping.wait()
        if not self._link.empty:
            self._exit_status = LOST_STATUS if self._longest_s > ORPHAN_S else 0

    def _send_report(self, problem: str = "") -> None:
        """Send the master the report for `status`, if it has changed."""
        details = self._membership.status() if self._membership is not None and not problem else {}
        report = StatusReport(problem, details)
        if report != self._last_report:
            self._last_report = report
            self._channel.send(report)

    async def _read(self) -> None:
        """Connect, and read this member's partitions until an error or the end of the source. Raises StoreError."""
        stream = self._settings.stream
        connection = self._connection = Connection(self._settings, "prefork-logd source", self._settings.timeout_s)
        await connection.connect()
        connection.trouble.add_done_callback(lambda error: self._fail(str(error.result())))
        group, subject = await translated(join_group(self._settings, self._member, connection), connection.where)
        membership = self._membership = Membership(
            self._settings, connection, group, subject, self._partitions, self._messages, self._changed,
            lambda: self._longest_s,
        )  # fmt: skip
        LOGGER.info("source %s: connected, as member %s of %s", stream, self._member, self._settings.group)
        saved_s = stuck_s = looked_s = forgot_s = asyncio.get_running_loop().time()
        stuck: dict[str, int] = {}
        while not self._stopping.is_set():
            await translated(membership.rebalance(), connection.where)
            now_s = asyncio.get_running_loop().time()
            if now_s - forgot_s > FORGET_EVERY_S:
                forgot_s = now_s
                await translated(membership.forget_journals(), connection.where)
            if now_s - saved_s > SAVE_EVERY_S:
                saved_s = now_s
                await translated(membership.save_positions(), connection.where)
            if now_s - stuck_s > SAVE_EVERY_S and membership.stuck() != stuck:
                stuck_s, stuck = now_s, membership.stuck()
                for member, count in stuck.items():
                    LOGGER.warning(
                        "source %s: member %s is away, with %s", stream, member, format_count(count, "partition")
                    )
            if now_s - looked_s > COUNT_EVERY_S and (self._looking is None or self._looking.done()):
                looked_s = now_s
                self._looking = asyncio.ensure_future(membership.count_unread())
            self._send_report()
            await self._wait(membership, HEARTBEAT_S)
            self._counters[Field.CONNECTIONS] = 1
        await translated(membership.leave(), connection.where)

    async def _wait(self, membership: Membership, seconds: float) -> None:
        """Wait for a time; request messages as soon as there is room. Raises StoreError after a failure."""
        end_s = asyncio.get_running_loop().time() + seconds
        while not self._stopping.is_set() and (left_s := end_s - asyncio.get_running_loop().time()) > 0:
            self._changed.clear()
            changed = asyncio.ensure_future(self._changed.wait())
            stopping = asyncio.ensure_future(self._stopping.wait())
            await asyncio.wait(
                (changed, stopping, self._trouble), timeout=left_s, return_when=asyncio.FIRST_COMPLETED
            )  # fmt: skip
            changed.cancel()
            stopping.cancel()
            if self._trouble.done():
                raise StoreError(self._trouble.result())
            await membership.pull_messages()

    async def _drop_connection(self) -> None:
        """Forget a connection and its messages; the writer knows the committed positions."""
        self._counters[Field.CONNECTIONS] = 0
        for partition in self._partitions.values():
            partition.closed = True
        self._partitions.clear()
        self._messages.clear()
        membership, self._membership = self._membership, None
        if membership is not None:
            membership.close()
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect()
        end_s = asyncio.get_running_loop().time() + self._longest_s
        while not self._link.empty and asyncio.get_running_loop().time() < end_s and self._stopping.is_set():
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._changed.wait()
