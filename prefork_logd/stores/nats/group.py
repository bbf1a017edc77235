"""Which of the collectors that read a stream together reads which partition of it.

Owns the group's table, a key-value bucket beside the stream, and the rules. Knows no records.

A partition has one owner, and keeps it, dead or alive, until the owner gives it back: only the owner's journal knows
what it has committed and not acknowledged. It gives a partition back between two commits, with the position of every
journal in it, so that its successor goes on exactly there. Every change of an entry names the revision that it changes,
so of two collectors that want a partition one gets it, and an owner that has lost one cannot give it back.

Each member says every HEARTBEAT_S that it lives; the others go by their own clocks. A member that holds more than its
share gives back, one that holds less takes what is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from prefork_logd.errors import StoreError
from prefork_logd.stores.nats.connection import Connection
from prefork_logd.stores.nats.stream import PARTITIONS_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from nats.js import JetStreamContext
    from nats.js.kv import KeyValue

    from prefork_logd.config.sources import NatsSourceSettings

HEARTBEAT_S = 1.0
DEAD_AFTER_S = 5.0
"""A member that was silent for so long does not count when the work is divided; what it owns stays its own."""


class Entry(msgspec.Struct, omit_defaults=True):
    """What the table says of a partition."""

    owner: str = ""
    positions: dict[str, int] = {}
    """Journal to the number that comes next, as of the last time that the owner wrote it down."""
    sequence: int = 0
    """What was acknowledged then: a message of the stream."""
    revision: int = 0


class LostError(StoreError):
    """A partition that we held has another owner."""


class NoStreamError(StoreError):
    """There is no such stream."""


class Group:
    """The table, as this member sees it."""

    def __init__(self, connection: Connection, bucket: str, member: str, partitions: int, takeover_s: float) -> None:
        """Be `member` of the group; `takeover_s` is after how long the partitions of a dead one are taken; 0: never."""
        self._connection = connection
        self._bucket = bucket
        self.member = member
        self.partitions = partitions
        self._takeover_s = takeover_s
        self._dead_after_s = min(DEAD_AFTER_S, takeover_s or DEAD_AFTER_S)
        self._table: KeyValue
        self._entries: dict[int, Entry] = {}
        self._heard_s: dict[str, float] = {}
        """Member to when it was last heard, on our monotonic clock."""
        self._watch: asyncio.Task[None] | None = None

    async def join(self, replicas: int) -> None:
        """Open the table, or make it; learn what it says."""
        from nats.js.api import KeyValueConfig  # noqa: PLC0415
        from nats.js.errors import BucketNotFoundError  # noqa: PLC0415

        ask = self._connection.ask
        try:
            await ask(lambda stream: stream.key_value(self._bucket))
        except BucketNotFoundError:
            config = KeyValueConfig(bucket=self._bucket, history=1, replicas=replicas)
            await ask(lambda stream: stream.create_key_value(config))
        self._table = await self._connection.stream.key_value(self._bucket)

        async def watchall(stream: JetStreamContext) -> KeyValue.KeyWatcher:
            return await (await stream.key_value(self._bucket)).watchall()

        watcher = await ask(watchall)
        known = asyncio.Event()

        async def watch() -> None:
            while True:
                try:
                    update = await watcher.updates(timeout=60)  # type: ignore[no-untyped-call]
                except TimeoutError:
                    continue
                if update is None:
                    known.set()
                    continue
                self._learn(update.key, update.value if update.operation is None else None, update.revision)

        self._watch = asyncio.create_task(watch())
        async with asyncio.timeout(self._connection.timeout_s):
            await known.wait()

    def _learn(self, key: str, value: bytes | None, revision: int | None) -> None:
        kind, _, name = key.partition(".")
        if kind == "member":
            if value is None:
                self._heard_s.pop(name, None)
            else:
                self._heard_s[name] = time.monotonic()
        elif kind == "partition" and name.isdigit():
            known = self._entries.get(int(name))
            if known is not None and known.revision >= (revision or 0):
                return
            try:
                entry = msgspec.json.decode(value or b"{}", type=Entry)
            except msgspec.MsgspecError:
                entry = Entry(owner="?")
            entry.revision = revision or 0
            self._entries[int(name)] = entry

    def entry(self, partition: int) -> Entry:
        """Return what the table says of a partition."""
        return self._entries.get(partition, Entry())

    def silent_s(self, member: str) -> float:
        """Return for how long a member was not heard; from our joining on, if it never was."""
        return time.monotonic() - self._heard_s.setdefault(member, time.monotonic())

    async def beat(self) -> None:
        """Say that we live."""
        await self._table.put(f"member.{self.member}", b"{}")
        self._heard_s[self.member] = time.monotonic()

    def share(self) -> int:
        """Return how many partitions we should have."""
        alive = {name for name, heard_s in self._heard_s.items() if time.monotonic() - heard_s < self._dead_after_s}
        alive.add(self.member)
        least, more = divmod(self.partitions, len(alive))
        return least + (sorted(alive).index(self.member) < more)

    def ours(self) -> set[int]:
        """Return the partitions that the table says are ours."""
        return {number for number, entry in self._entries.items() if entry.owner == self.member}

    def free(self) -> list[int]:
        """Return the partitions that may be taken."""
        return [number for number in range(self.partitions) if self._is_free(self.entry(number).owner)]

    def _is_free(self, owner: str) -> bool:
        return not owner or (
            owner != self.member and bool(self._takeover_s) and self.silent_s(owner) > self._takeover_s
        )

    def stuck(self) -> dict[str, int]:
        """Return how many partitions wait for each owner that is not heard of."""
        stuck: dict[str, int] = {}
        for entry in self._entries.values():
            if entry.owner and self.silent_s(entry.owner) > DEAD_AFTER_S:
                stuck[entry.owner] = stuck.get(entry.owner, 0) + 1
        return stuck

    async def claim(self, partition: int) -> bool:
        """Make a partition ours; return whether nobody was quicker."""
        entry = self.entry(partition)
        if not self._is_free(entry.owner):
            # It was taken after the caller had looked; the revision that is known here would let us take it away.
            return False
        with contextlib.suppress(LostError):
            await self._write(partition, msgspec.structs.replace(entry, owner=self.member))
            return True
        return False

    async def save(self, partition: int, positions: dict[str, int], sequence: int, *, release: bool = False) -> None:
        """Write down how far we are; with `release` also give the partition back. Raises LostError."""
        entry = self.entry(partition)
        if entry.owner != self.member:
            raise LostError(f"partition {partition} was taken by {entry.owner or 'nobody'}")
        await self._write(partition, Entry("" if release else self.member, positions, sequence, entry.revision))

    async def _write(self, partition: int, entry: Entry) -> None:
        from nats.js.errors import KeyWrongLastSequenceError  # noqa: PLC0415

        said = {"owner": entry.owner, "positions": entry.positions, "sequence": entry.sequence}
        data = msgspec.json.encode(said)
        try:
            entry.revision = await self._table.update(_key_of(partition), data, last=entry.revision)
        except KeyWrongLastSequenceError:
            raise LostError(f"partition {partition} has changed meanwhile") from None
        self._entries[partition] = entry

    async def leave(self) -> None:
        """Say that we do not live any more; the partitions that are still ours stay so."""
        self.close()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1):
                await self._table.delete(f"member.{self.member}")

    def close(self) -> None:
        """Stop looking at the table."""
        if self._watch is not None:
            self._watch.cancel()


def bucket_of(settings: NatsSourceSettings) -> str:
    """Return what a group's table is called."""
    return f"{settings.stream}-{settings.group}"


class Stream(NamedTuple):
    """What a group has to know of its stream."""

    subject: str
    partitions: int
    replicas: int


async def look_at_stream(connection: Connection, name: str) -> Stream:
    """Return what a stream is like. Raises StoreError if no group can read it."""
    from nats.js.errors import NotFoundError  # noqa: PLC0415

    try:
        config = (await connection.ask(lambda stream: stream.stream_info(name))).config
    except NotFoundError:
        raise NoStreamError(
            f"{connection.where}: there is no stream {name} yet; the first collector with a [[store]] makes it"
        ) from None
    told = (config.metadata or {}).get(PARTITIONS_KEY, "")
    subjects = config.subjects or []
    if not told.isdigit() or len(subjects) != 1 or not subjects[0].endswith(".>"):
        raise StoreError(
            f"stream {config.name} on {connection.where} was not made by a [[store]] of type nats: its "
            f"metadata have no {PARTITIONS_KEY}, or its subjects are not one that ends in .>"
        )
    return Stream(subjects[0][:-2], int(told), config.num_replicas or 1)


def look(settings: NatsSourceSettings) -> dict[str, Any]:
    """Ask the servers for a source's stream and group, and change nothing. Raises StoreError.

    Returns `partitions`, None where there is no stream yet; `owners`, each member with how many it has; and how many
    messages wait for all of the group, None where nobody of it has read yet.
    """
    connection = Connection(settings, "prefork-logd check", settings.timeout_s)
    try:
        connection.open()
        try:
            partitions = connection.run(look_at_stream(connection, settings.stream)).partitions
        except NoStreamError:
            return {"partitions": None, "owners": {}, "messages_waiting": None}
        return connection.run(_look_at_group(connection, settings, partitions))
    finally:
        connection.close()


async def _look_at_group(connection: Connection, settings: NatsSourceSettings, partitions: int) -> dict[str, Any]:
    from nats.js.errors import BucketNotFoundError, KeyNotFoundError, NotFoundError  # noqa: PLC0415

    owners: dict[str, int] = {}
    waiting = None
    with contextlib.suppress(BucketNotFoundError):
        table = await connection.ask(lambda stream: stream.key_value(bucket_of(settings)))
        for number in range(partitions):
            with contextlib.suppress(KeyNotFoundError, msgspec.MsgspecError):
                entry = msgspec.json.decode((await table.get(_key_of(number))).value or b"{}", type=Entry)
                if entry.owner:
                    owners[entry.owner] = owners.get(entry.owner, 0) + 1
            consumer = consumer_of(settings.group, number)
            with contextlib.suppress(NotFoundError):
                waiting = (waiting or 0) + await connection.ask(partial(_messages_waiting, settings.stream, consumer))
    return {"partitions": partitions, "owners": owners, "messages_waiting": waiting}


async def _messages_waiting(name: str, consumer: str, stream: JetStreamContext) -> int:
    info = await stream.consumer_info(name, consumer)
    return (info.num_pending or 0) + (info.num_ack_pending or 0)


def consumer_of(group: str, partition: int) -> str:
    """Return what a group's durable consumer of a partition is called."""
    return f"{group}-{partition:03d}"


def _key_of(partition: int) -> str:
    return f"partition.{partition:03d}"


def names_of(entries: Iterable[int]) -> str:
    """Return partitions as people read them."""
    return ", ".join(map(str, sorted(entries))) or "none"
