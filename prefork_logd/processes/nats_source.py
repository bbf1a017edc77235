"""A source's life: records of other collectors, from a stream of NATS to the writer.

Owns what is between the stream and the pipe: which partitions are ours, each journal's order, and when a message is
acknowledged. Touches no output file. Which partitions there are for whom is nats_group.py's, reading one of them is
nats_partition.py's, and putting numbers in order nats_order.py's.

To the writer a journal of another collector is a session: 16 bytes, and numbers without holes. So what is delivered
again is known when it is committed, as with any client, and no line comes twice, whatever is killed when. A message is
acknowledged after its commit.

NATS's client is asynchronous: its event loop is this process's, and watches the collector's own loop as one descriptor.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.backoff import Backoff
from prefork_logd.disk import replace_file
from prefork_logd.errors import RecordRejected, StoreError, describe_unexpected
from prefork_logd.log import LOGGER, Limited, describe_bug, reopen_own
from prefork_logd.net.loop import Loop
from prefork_logd.processes import control
from prefork_logd.processes.children import BUG_STATUS, LOST_STATUS
from prefork_logd.processes.dispatch import Dispatcher
from prefork_logd.processes.link import WriterLink
from prefork_logd.processes.nats_partition import LOOK_EVERY_S, Item, Partition
from prefork_logd.protocol.batch import Lines
from prefork_logd.records.stored import split_lines
from prefork_logd.scoreboard import Field, Scoreboard
from prefork_logd.stores import nats_wire as wire
from prefork_logd.stores.nats_connection import Connection, translated
from prefork_logd.stores.nats_group import HEARTBEAT_S, Group, LostError, bucket_of, look_at_stream, names_of
from prefork_logd.stores.nats_order import JournalOrder

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine
    from typing import Any

    from nats.aio.msg import Msg

    from prefork_logd.processes.link import Receipt
    from prefork_logd.source_settings import NatsSourceSettings
    from prefork_logd.stores.nats_order import Next

BATCH_BYTES = 262_144
FIRST_RETRY_S, LONGEST_RETRY_S = 0.2, 5.0
SAVE_EVERY_S = 5.0
FORGET_EVERY_S = 3600.0
"""How often journals are looked for that the stream has no message of."""
MOST_HELD_BYTES = 128 << 20
"""Of messages that wait for others before them; the journal that holds most then loses the last of its own. An edge has
16 MiB on their way at once."""
MOST_WAITING_BYTES = 32 << 20
"""Of messages that wait for the writer to say how far their journal is; then no more are asked for."""
MOST_JOURNALS = 10_000
"""Of one partition: what the group's table says of them is one message of at most 1 MiB."""
LAST_WRITES_S, FAST_WRITES_S, ORPHAN_S = 5.0, 1.0, 0.8
"""How long the writer may take for the last lines: in a stop, a fast one, and when the master is dead."""


class NatsSource:
    """One source."""

    def __init__(
        self,
        slot: int,
        board: Scoreboard,
        channel: socket.socket,
        configuration: control.Configuration,
        settings: NatsSourceSettings,
    ) -> None:
        self.loop = Loop()
        self._settings = settings
        self._counters = board.slot(slot)
        self._channel = control.Channel(self.loop, channel, self._told, self._orphaned)
        self._link = WriterLink(self.loop, self)
        self._warnings = Limited()
        self._state_dir = Path(configuration.settings.server.state_dir)
        self._unsettled: deque[tuple[int, int]] = deque()
        self._configure(configuration)
        self._member = ""
        self._connection: Connection | None = None
        self._group: Group | None = None
        self._partitions: dict[int, Partition] = {}
        self._arrived: deque[Item] = deque()
        self._in_batch: list[Item] = []
        self._sent: deque[tuple[int, list[Item], dict[tuple[Partition, str], int]]] = deque()
        """(batch, its messages, how far it brings each journal), not committed."""
        self._reached: dict[tuple[Partition, str], int] = {}
        self._epochs: dict[bytes, int] = {}
        self._floors: dict[bytes, int] = {}
        self._opening: dict[int, tuple[Partition, str]] = {}
        self._waiting_bytes = 0
        self._blamed: tuple[int, int] | None = None
        """Partition and sequence of the message at which reading was begun anew last."""
        self._tokens = 0
        self._trouble: asyncio.Future[str]
        self._stopping = asyncio.Event()
        self._longest_s = LAST_WRITES_S
        self._changed = asyncio.Event()
        """Set when something was committed, or told by the master."""
        self._working = False
        self._last_told = control.StatusReport("")
        self._looking: asyncio.Future[None] | None = None
        self._bug: BaseException | None = None
        self._exit_status = 0

    def _configure(self, configuration: control.Configuration) -> None:
        self._configuration = configuration
        self._dispatcher = Dispatcher(configuration, Lines)
        self._high_water = configuration.settings.limits.queue_bytes

    def run(self) -> int:
        """Work until told to end; return the exit status."""
        self._counters[Field.PID] = os.getpid()
        self._channel.send(control.Ready())
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

    # What the master says

    def _told(self, message: control.AnyMessage, fds: list[int]) -> None:
        match message:
            case control.Attach():
                self._link.attach(*fds)
            case control.Configure():
                self._send_batch()
                configuration = control.Configuration.from_file(fds[0])
                self._configure(configuration)
                self._channel.send(control.Configured(configuration.generation))
                self._unsettled.append((self._link.next_number, configuration.generation))
                self._settle()
            case control.Retire():
                self._stopping.set()
            case control.Drain(fast):
                self._longest_s = FAST_WRITES_S if fast else self._longest_s
                self._stopping.set()
            case control.Reopen():
                reopen_own()
            case _:
                LOGGER.error("cannot make sense of a %s", type(message).__name__)

    def _orphaned(self) -> None:
        self._longest_s = ORPHAN_S
        self._stopping.set()

    # What the writer says

    def batches_committed(self, receipts: list[Receipt]) -> None:  # noqa: ARG002 - messages are known by their batches
        """Acknowledge what is committed."""
        self._settle()
        while self._sent and self._sent[0][0] < self._link.first_held:
            _, items, reached = self._sent.popleft()
            for item in items:
                item.partition.done(item.sequence)
            for (partition, journal), number in reached.items():
                partition.committed[journal] = number
        self._acknowledge()
        self._changed.set()
        self._work_on()

    def session_opened(self, token: int, epoch: int, committed: int) -> None:
        """Go on with a journal where the writer says."""
        partition, journal = self._opening.pop(token, (None, ""))
        if partition is None or partition.closed:
            return
        self._epochs[bytes.fromhex(journal)] = epoch
        self._floors[bytes.fromhex(journal)] = committed + 1
        partition.orders[journal] = JournalOrder(committed)
        partition.committed[journal] = committed
        for item in partition.waiting.pop(journal, ()):
            self._waiting_bytes -= len(item.body)
            self._offer(item)
        self._work_on()

    def range_refused(self, session: bytes, epoch: int) -> None:
        """Begin anew when the writer has left out what we sent: nothing of it is acknowledged."""
        if self._epochs.get(session) == epoch:
            for partition in self._partitions.values():
                partition.closed = True
            self._fail(f"the writer is out of step with {session.hex()}")

    def writer_resumed(self) -> None:
        """Ask the new writer what only the last one knew."""
        opening, self._opening = self._opening, {}
        for partition, journal in opening.values():
            if not partition.closed:
                self._ask(partition, journal)
        self._work_on()

    def _settle(self) -> None:
        generation = 0
        while self._unsettled and self._unsettled[0][0] <= self._link.first_held:
            generation = self._unsettled.popleft()[1]
        if generation:
            self._channel.send(control.Settled(generation))

    # Messages

    def _arrive(self, partition: Partition, message: Msg) -> None:
        try:
            it = wire.read_header(message.headers)
        except Exception as error:  # noqa: BLE001 - whatever a stranger has published
            why = str(error) if isinstance(error, wire.FormError) else describe_unexpected(error)
            self._refuse(partition.sequence, message.data, why)
            partition.done(partition.sequence)
            return
        self._arrived.append(Item(partition, partition.sequence, it, message.headers or {}, message.data))
        self._work_on()

    def _refuse(self, sequence: int, body: bytes, why: str) -> None:
        """Keep the beginning of a message that cannot be taken in rejected.jsonl, and count it."""
        self._counters[Field.REJECTED] += 1
        self._warnings.warning("stream %s: message %d %s; it is passed over", self._settings.stream, sequence, why)
        self._dispatcher.reject("nats", 0.0, "not-a-message", why, body, len(body))

    def _work_on(self) -> None:
        if not self._working:
            self._working = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """Take a few messages, send what they make, and come again: commits and the master have their turn between."""
        self._working = False
        for _ in range(8):
            if not self._arrived or self._link.held_bytes >= self._high_water:
                break
            item = self._arrived.popleft()
            if item.partition.closed:
                continue
            try:
                self._sort_in(item)
            except Exception as error:  # noqa: BLE001 - one message must not stop its partition for ever
                self._blame(item, describe_unexpected(error))
        self._send_batch()
        self._acknowledge()
        if self._arrived and self._link.held_bytes < self._high_water:
            self._work_on()

    def _blame(self, item: Item, why: str) -> None:
        """Begin anew, for it is not known how far the message came; give up one that is to blame the second time."""
        if self._blamed == (item.partition.number, item.sequence):
            self._refuse(item.sequence, item.body, why)
            item.partition.done(item.sequence)
            return
        self._blamed = item.partition.number, item.sequence
        for partition in self._partitions.values():
            partition.closed = True
        self._fail(f"message {item.sequence}: {why}")

    def _sort_in(self, item: Item) -> None:
        partition, journal = item.partition, item.range.journal
        if journal in partition.orders:
            self._offer(item)
            return
        if journal not in partition.waiting and len(partition.orders) + len(partition.waiting) >= MOST_JOURNALS:
            self._refuse(item.sequence, item.body, f"is of a new journal, and {MOST_JOURNALS} are remembered already")
            partition.done(item.sequence)
            return
        self._waiting_bytes += len(item.body)
        if journal in partition.waiting:
            partition.waiting[journal].append(item)
        else:
            partition.waiting[journal] = [item]
            self._ask(partition, journal)

    def _ask(self, partition: Partition, journal: str) -> None:
        """Ask the writer how far a journal is, from where it is known or begins."""
        self._tokens += 1
        self._opening[self._tokens] = partition, journal
        first = partition.saved.get(journal)
        if first is None:
            it = partition.waiting[journal][0].range
            first = min(it.first, it.floor)
        self._dispatcher.batch.open(self._tokens, bytes.fromhex(journal), first + 1)

    def _offer(self, item: Item) -> None:
        order = item.partition.orders[item.range.journal]
        steps, useless = order.offer(item.range, item, len(item.body))
        for step in steps:
            self._take(item.partition, item.range.journal, step)
        for other in useless:
            other.partition.done(other.sequence)
        if order.held_bytes:
            self._bound_what_is_held()

    def _bound_what_is_held(self) -> None:
        """Give up messages that wait for others before them, where they have become too many."""
        held = [order for partition in self._partitions.values() for order in partition.orders.values()]
        excess = sum(order.held_bytes for order in held) - MOST_HELD_BYTES
        if excess <= 0:
            return
        most = max(held, key=lambda order: order.held_bytes)
        while excess > 0 and (item := most.give_up_last()) is not None:
            excess -= len(item.body)
            self._refuse(item.sequence, item.body, "has to wait for earlier ones, and too many of its journal wait")
            item.partition.done(item.sequence)

    def _take(self, partition: Partition, journal: str, step: Next[Item]) -> None:
        """Put the lines of the numbers whose turn it is into the batch."""
        session = bytes.fromhex(journal)
        batch = self._dispatcher.batch
        if batch.has_other_epoch(session, self._epochs[session]):
            self._send_batch()
            batch = self._dispatcher.batch
        batch.begin(session, self._epochs[session], step.first + 1, step.end, self._floors[session])
        self._reached[partition, journal] = step.end
        if step.item is None:
            self._counters[Field.DROPPED] += step.end - step.first
            self._warnings.warning(
                "stream %s: records %d to %d of journal %s are not in it any more",
                self._settings.stream, step.first, step.end - 1, journal,
            )  # fmt: skip
        else:
            self._in_batch.append(step.item)
            try:
                self._lines(step.item, step.first)
            except Exception as error:  # noqa: BLE001 - one message must not stop its partition for ever
                why = str(error) if isinstance(error, wire.FormError) else describe_unexpected(error)
                self._refuse(step.item.sequence, step.item.body, why)
        batch.end()
        if batch.nbytes >= BATCH_BYTES:
            self._send_batch()

    def _lines(self, item: Item, first: int) -> None:
        """Dispatch a message's lines, but for those below a number, which are committed already.

        Raises FormError, or an unexpected error, before anything of the message is in the batch.
        """
        data = wire.unpack(item.body, item.range.encoding)
        if data and not data.endswith(b"\n"):
            data += b"\n"
        if first == item.range.first and wire.NUMBERS_HEADER not in item.headers and self._at_once(item, data):
            return
        lines = split_lines(data)
        runs = wire.read_numbers(item.headers, item.range, len(lines))
        numbered = [
            (number, line)
            for number, line in zip((number for run in runs for number in run), lines, strict=True)
            if number >= first
        ]
        taken = rejected = 0
        dispatch, batch = self._dispatcher.dispatch_line, self._dispatcher.batch
        for number, line in numbered:
            try:
                if dispatch(line):
                    batch.run(number + 1, 1)
                taken += 1
            except RecordRejected as verdict:
                rejected += 1
                self._dispatcher.reject("nats", 0.0, verdict.reason, verdict.detail, line, len(line))
            except Exception as error:  # noqa: BLE001 - one line costs itself
                rejected += 1
                self._dispatcher.reject("nats", 0.0, "unexpected", describe_unexpected(error), line, len(line))
        self._counters[Field.RECORDS] += taken
        self._counters[Field.REJECTED] += rejected
        self._counters[Field.RECEIVED_BYTES] += len(data)

    def _at_once(self, item: Item, data: bytes) -> bool:
        """Dispatch all lines of a message together, if that can be; return whether it could."""
        count = item.range.end - item.range.first
        if not self._dispatcher.dispatch_lines(data, count):
            return False
        if self._dispatcher.has_stores:
            self._dispatcher.batch.run(item.range.first + 1, count)
        self._counters[Field.RECORDS] += count
        self._counters[Field.RECEIVED_BYTES] += len(data)
        return True

    def _send_batch(self) -> None:
        batch = self._dispatcher.batch
        if batch:
            self._sent.append((self._link.next_number, self._in_batch, self._reached))
            self._in_batch, self._reached = [], {}
            self._link.send(batch.build(self._link.next_number), [])

    def _acknowledge(self) -> None:
        for partition in self._partitions.values():
            message = None if partition.closed else partition.to_acknowledge()
            if message is not None:
                self._spawn(message.ack())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def done() -> None:
            await translated(work, self._settings.stream)

        task = asyncio.ensure_future(done())
        task.add_done_callback(self._look_at)

    def _look_at(self, task: asyncio.Future[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._failed(asyncio.get_running_loop(), {"exception": task.exception()})

    # The stream

    def _fail(self, why: str) -> None:
        """Let go of the connection and begin anew; what is committed by then is known to the writer."""
        if not self._trouble.done():
            self._trouble.set_result(why)

    async def _live(self) -> None:
        """Read the stream until told to end, beginning anew whenever something goes wrong."""
        backoff, told = Backoff(FIRST_RETRY_S, LONGEST_RETRY_S), ""
        self._trouble = asyncio.get_running_loop().create_future()
        while not self._stopping.is_set():
            self._trouble = asyncio.get_running_loop().create_future()
            try:
                self._member = self._member or self._own_name()
                await self._read()
                why = ""
            except StoreError as error:
                why = str(error)
            self._tell(why)
            if self._group is not None and self._partitions:
                backoff.worked()
            await self._let_go()
            if why and not self._stopping.is_set():
                if why != told:
                    LOGGER.error("source %s: %s; tried again until it works", self._settings.stream, why)
                    told = why
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(backoff.failed()):
                        await self._stopping.wait()
        if not self._link.empty:
            self._exit_status = LOST_STATUS if self._longest_s > ORPHAN_S else 0

    def _tell(self, problem: str = "") -> None:
        """Let the master know what `status` shows, when it has changed."""
        details: dict[str, Any] = {}
        if self._group is not None and not problem:
            now_s, partitions = time.time(), self._partitions.values()
            details = {
                "member": self._member,
                "partitions": sorted(self._partitions),
                "partitions_of_stream": self._group.partitions,
                "messages_waiting": sum(partition.messages_waiting for partition in partitions),
                "lag_s": round(max((partition.lag_s(now_s) for partition in partitions), default=0.0), 1),
                "waiting_for_members": self._group.stuck(),
            }
        told = control.StatusReport(problem, details)
        if told != self._last_told:
            self._last_told = told
            self._channel.send(told)

    async def _look_at_what_waits(self) -> None:
        """See how much is unread where nothing is asked for; what is not answered is asked again, and harms nobody."""
        for partition in list(self._partitions.values()):
            with contextlib.suppress(Exception):
                await partition.look()

    def _own_name(self) -> str:
        """Return what the group calls this collector: as long as its state directory, which has its journal."""
        path = self._state_dir / f"{self._settings.stream}-{self._settings.group}.member"
        try:
            if path.exists():
                return path.read_text().strip()
            name = os.urandom(8).hex()
            replace_file(path, f"{name}\n".encode())
        except OSError as error:
            raise StoreError(f"{path}: cannot write it: {error.strerror}") from error
        return name

    async def _read(self) -> None:
        """Connect, and read our partitions until something goes wrong or we are to end. Raises StoreError."""
        settings = self._settings
        connection = self._connection = Connection(settings, "prefork-logd source", settings.timeout_s)
        await connection.connect()
        connection.trouble.add_done_callback(lambda error: self._fail(str(error.result())))
        found = await translated(look_at_stream(connection, settings.stream), connection.where)
        stream = settings.stream
        group = Group(connection, bucket_of(settings), self._member, found.partitions, settings.takeover_s)
        await translated(group.join(found.replicas), connection.where)
        self._group = group
        LOGGER.info("source %s: connected, as member %s of %s", stream, self._member, settings.group)
        saved_s = stuck_s = looked_s = forgot_s = asyncio.get_running_loop().time()
        stuck: dict[str, int] = {}
        while not self._stopping.is_set():
            await translated(self._share(group, found.subject), connection.where)
            now_s = asyncio.get_running_loop().time()
            if now_s - forgot_s > FORGET_EVERY_S:
                forgot_s = now_s
                for partition in self._partitions.values():
                    await translated(partition.forget(), connection.where)
                known = {bytes.fromhex(name) for it in self._partitions.values() for name in it.orders}
                self._epochs = {session: epoch for session, epoch in self._epochs.items() if session in known}
            if now_s - saved_s > SAVE_EVERY_S:
                saved_s = now_s
                await translated(self._save(group), connection.where)
            if now_s - stuck_s > SAVE_EVERY_S and group.stuck() != stuck:
                stuck_s, stuck = now_s, group.stuck()
                for member, count in stuck.items():
                    LOGGER.warning("source %s: %d partitions wait for member %s", stream, count, member)
            if now_s - looked_s > LOOK_EVERY_S and (self._looking is None or self._looking.done()):
                looked_s = now_s
                self._looking = asyncio.ensure_future(self._look_at_what_waits())
            self._tell()
            await self._wait(HEARTBEAT_S)
            self._counters[Field.CONNECTIONS] = 1
        await self._finish(group, connection)

    async def _share(self, group: Group, subject: str) -> None:
        """Live, take what is ours or free, and give back what is more than our share."""
        await group.beat()
        before = set(self._partitions)
        for number in sorted(group.ours() - self._partitions.keys()):
            await self._begin(group, number, subject)
        for number in sorted(self._partitions.keys() - group.ours()):
            raise LostError(f"partition {number} was taken by another member")
        share = group.share()
        while len(self._partitions) > share:
            await self._give_back(group, max(self._partitions))
        free = group.free()
        for number in free[: max(0, share - len(self._partitions))]:
            if await group.take(number):
                await self._begin(group, number, subject)
        if self._partitions.keys() != before:
            LOGGER.info("source %s: reads partitions %s", self._settings.stream, names_of(self._partitions))
        for partition in self._partitions.values():
            await self._pull(partition)

    async def _begin(self, group: Group, number: int, subject: str) -> None:
        if self._connection is None:
            return
        partition = Partition(self._connection, self._settings.stream, self._settings.group, number)
        entry = group.entry(number)
        partition.saved, partition.saved_sequence = dict(entry.positions), entry.sequence
        self._partitions[number] = partition
        await partition.begin(subject, self._arrive)
        await partition.pull()

    async def _pull(self, partition: Partition) -> None:
        has_room = self._link.held_bytes < self._high_water and self._waiting_bytes < MOST_WAITING_BYTES
        if has_room and len(self._arrived) < 4 * BATCH_BYTES // 1024:
            await partition.pull()

    async def _wait(self, seconds: float) -> None:
        """Let the work go on for a while; pull as soon as there is room. Raises StoreError if something goes wrong."""
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
            for partition in list(self._partitions.values()):
                await self._pull(partition)

    async def _save(self, group: Group) -> None:
        for number, partition in self._partitions.items():
            positions = partition.saved | partition.committed
            if positions != partition.saved or partition.has_forgotten:
                await group.save(number, positions, partition.acknowledged)
                partition.saved, partition.has_forgotten = positions, False

    async def _give_back(self, group: Group, number: int) -> None:
        """Give a partition back between two commits."""
        partition = self._partitions[number]
        partition.closed = True
        await partition.close()
        self._send_batch()
        end_s = asyncio.get_running_loop().time() + self._longest_s
        while any(item.partition is partition for _, items, _ in self._sent for item in items):
            left_s = end_s - asyncio.get_running_loop().time()
            if left_s <= 0:
                raise StoreError(f"partition {number} cannot be given back: the writer takes too long")
            await self._settled(left_s)
        message = partition.to_acknowledge()
        if message is not None:
            await message.ack_sync(timeout=self._settings.timeout_s)
        await group.save(number, partition.saved | partition.committed, partition.acknowledged, release=True)
        del self._partitions[number]

    async def _settled(self, longest_s: float) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._changed.wait()

    async def _finish(self, group: Group, connection: Connection) -> None:
        """Give everything back, if the writer commits in time."""
        for number in list(self._partitions):
            await translated(self._give_back(group, number), connection.where)
        await group.leave()

    async def _let_go(self) -> None:
        """Forget everything of a connection; the writer knows what is committed."""
        self._counters[Field.CONNECTIONS] = 0
        partitions, self._partitions = self._partitions, {}
        for partition in partitions.values():
            partition.closed = True
        self._arrived.clear()
        self._waiting_bytes = 0
        self._opening.clear()
        self._epochs.clear()
        self._floors.clear()
        self._send_batch()
        group, self._group = self._group, None
        if group is not None:
            group.close()
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect()
        end_s = asyncio.get_running_loop().time() + self._longest_s
        while not self._link.empty and asyncio.get_running_loop().time() < end_s and self._stopping.is_set():
            await self._settled(0.1)
