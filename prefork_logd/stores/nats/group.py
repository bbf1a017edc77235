"""Divides the partitions of a stream among the collectors that read it together.

Owns the group's table, a key-value bucket beside the stream, and the rules. Does not know records.

A partition keeps its owner, dead or alive, until the owner gives it back: only the owner's journal has the committed
messages that are not acknowledged. The owner gives a partition back between two commits, with the position of every
journal in it, so that its successor continues exactly there. Every change of an entry names the revision that it
replaces, so only one of two collectors can claim a partition, and an owner that has lost one cannot give it back.

Each member renews its entry every HEARTBEAT_S; the others measure the silence by their own clocks. A member above its
share gives partitions back, one below it claims free ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
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
"""A member that was silent for this long gets no share; it keeps the partitions that it owns."""


class Entry(msgspec.Struct, omit_defaults=True):
    """The entry of a partition in the table."""

    owner: str = ""
    positions: dict[str, int] = {}
    """Journal to its next number, as last saved by the owner."""
    sequence: int = 0
    """Sequence of the last acknowledged message at that time."""
    revision: int = 0


class LostError(StoreError):
    """A partition of this member has another owner."""


class NoStreamError(StoreError):
    """The stream does not exist."""


class Group:
    """The table, as known to this member."""

    def __init__(self, connection: Connection, bucket: str, member: str, partitions: int, takeover_s: float) -> None:
        """Be `member` of the group; a dead member's partitions are free after `takeover_s` (0: never)."""
        self._connection = connection
        self._bucket = bucket
        self.member = member
        self.partitions = partitions
        self._takeover_s = takeover_s
        self._dead_after_s = min(DEAD_AFTER_S, takeover_s or DEAD_AFTER_S)
        self._table: KeyValue
        self._entries: dict[int, Entry] = {}
        self._names = {f"{number:03d}": number for number in range(partitions)}
        """The last word of each partition's key. Others, which a collector never writes, are ignored."""
        self._heard_s: dict[str, float] = {}
        """Member to the time of its last renewal, on the monotonic clock."""
        self._watch: asyncio.Task[None] | None = None

    async def join(self, replicas: int) -> None:
        """Open the table, or make it; read all entries."""
        from nats.js.api import KeyValueConfig
        from nats.js.errors import BucketNotFoundError

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
        elif kind == "partition" and name in self._names:
            number = self._names[name]
            known = self._entries.get(number)
            if known is not None and known.revision >= (revision or 0):
                return
            try:
                entry = msgspec.json.decode(value or b"{}", type=Entry)
            except msgspec.MsgspecError:
                entry = Entry(owner="?")
            entry.revision = revision or 0
            self._entries[number] = entry

    def entry(self, partition: int) -> Entry:
        """Return the entry of a partition."""
        return self._entries.get(partition, Entry())

    def silent_s(self, member: str) -> float:
        """Return the time since a member's last renewal; if there was none, since the first call."""
        return time.monotonic() - self._heard_s.setdefault(member, time.monotonic())

    async def beat(self) -> None:
        """Renew this member's entry."""
        await self._table.put(f"member.{self.member}", b"{}")
        self._heard_s[self.member] = time.monotonic()

    def fair_share(self) -> int:
        """Return the number of partitions that this member should own."""
        alive = {name for name, heard_s in self._heard_s.items() if time.monotonic() - heard_s < self._dead_after_s}
        alive.add(self.member)
        least, more = divmod(self.partitions, len(alive))
        return least + (sorted(alive).index(self.member) < more)

    def ours(self) -> set[int]:
        """Return the partitions that this member owns by the table."""
        return {number for number, entry in self._entries.items() if entry.owner == self.member}

    def free(self) -> list[int]:
        """Return the partitions that this member may claim."""
        return [number for number in range(self.partitions) if self._is_free(self.entry(number).owner)]

    def _is_free(self, owner: str) -> bool:
        return not owner or (
            owner != self.member and bool(self._takeover_s) and self.silent_s(owner) > self._takeover_s
        )

    def stuck(self) -> dict[str, int]:
        """Return the number of partitions of each silent owner."""
        stuck: dict[str, int] = {}
        for entry in self._entries.values():
            if entry.owner and self.silent_s(entry.owner) > DEAD_AFTER_S:
                stuck[entry.owner] = stuck.get(entry.owner, 0) + 1
        return stuck

    async def claim(self, partition: int) -> bool:
        """Claim a free partition; return False if another member has claimed it first."""
        entry = self.entry(partition)
        if not self._is_free(entry.owner):
            # Claimed by another member since the caller's check; with the revision known here we would overwrite that.
            return False
        with contextlib.suppress(LostError):
            await self._write(partition, msgspec.structs.replace(entry, owner=self.member))
            return True
        return False

    async def save(self, partition: int, positions: dict[str, int], sequence: int, *, release: bool = False) -> None:
        """Save the positions of a partition; with `release` also give it back. Raises LostError."""
        entry = self.entry(partition)
        if entry.owner != self.member:
            raise LostError(f"partition {partition} now belongs to {entry.owner or 'no member'}")
        await self._write(partition, Entry("" if release else self.member, positions, sequence, entry.revision))

    async def _write(self, partition: int, entry: Entry) -> None:
        from nats.js.errors import KeyWrongLastSequenceError

        data = msgspec.json.encode({"owner": entry.owner, "positions": entry.positions, "sequence": entry.sequence})
        try:
            entry.revision = await self._table.update(_key_of(partition), data, last=entry.revision)
        except KeyWrongLastSequenceError:
            raise LostError(f"partition {partition} has changed meanwhile") from None
        self._entries[partition] = entry

    async def leave(self) -> None:
        """Remove this member's entry; it keeps the partitions that it still owns."""
        self.close()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1):
                await self._table.delete(f"member.{self.member}")

    def close(self) -> None:
        """Stop watching the table."""
        if self._watch is not None:
            self._watch.cancel()


def bucket_of(settings: NatsSourceSettings) -> str:
    """Return the name of a group's table."""
    return f"{settings.stream}-{settings.group}"


class Stream(NamedTuple):
    """The facts about a stream that a group needs."""

    subject: str
    partitions: int
    replicas: int


async def read_stream(connection: Connection, name: str) -> Stream:
    """Return the facts about a stream. Raises StoreError if a group cannot read it."""
    from nats.js.errors import NotFoundError

    try:
        config = (await connection.ask(lambda stream: stream.stream_info(name))).config
    except NotFoundError:
        raise NoStreamError(
            f"{connection.where}: there is no stream {name} yet; the first collector with a [[store]] makes it"
        ) from None
    partitions = (config.metadata or {}).get(PARTITIONS_KEY, "")
    subjects = config.subjects or []
    if not re.fullmatch("[1-9][0-9]{0,2}", partitions) or len(subjects) != 1 or not subjects[0].endswith(".>"):
        raise StoreError(
            f"stream {config.name} on {connection.where} was not made by a [[store]] of type nats: its "
            f"metadata have no {PARTITIONS_KEY}, or its subjects are not one that ends in .>"
        )
    return Stream(subjects[0][:-2], int(partitions), config.num_replicas or 1)


def query_group(settings: NatsSourceSettings) -> dict[str, Any]:
    """Query the state of a source's stream and group, and change nothing. Raises StoreError.

    Returns `partitions`, None without a stream; `owners`, the number of partitions of each member; and
    `messages_waiting` for the whole group, None if no member has read yet.
    """
    connection = Connection(settings, "prefork-logd check", settings.timeout_s)
    try:
        connection.open()
        try:
            partitions = connection.run(read_stream(connection, settings.stream)).partitions
        except NoStreamError:
            return {"partitions": None, "owners": {}, "messages_waiting": None}
        return connection.run(_query_members(connection, settings, partitions))
    finally:
        connection.close()


async def _query_members(connection: Connection, settings: NatsSourceSettings, partitions: int) -> dict[str, Any]:
    from nats.js.errors import BucketNotFoundError, KeyNotFoundError, NotFoundError

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
    """Return the name of a group's durable consumer of a partition."""
    return f"{group}-{partition:03d}"


def _key_of(partition: int) -> str:
    return f"partition.{partition:03d}"


def names_of(entries: Iterable[int]) -> str:
    """Return partitions as text for the log."""
    return ", ".join(map(str, sorted(entries))) or "none"
