"""Joins the group that reads a stream, claims this collector's share of the partitions, and gives partitions back.

Owns which partitions are read here, from joining the group over one connection until leaving it, and the positions that
are saved in the group's table. Does not know outputs or pipes: messages.py gets the messages, stores/nats/group.py has
the table.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError, describe_refusal
from prefork_logd.processes.consumer.partition import Partition
from prefork_logd.stores.nats.group import Group, LostError, bucket_of, names_of, read_stream
from prefork_logd.system.disk import replace_file
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from prefork_logd.config.sources import NatsSourceSettings
    from prefork_logd.processes.consumer.messages import StreamMessages
    from prefork_logd.stores.nats.connection import Connection


class Membership:
    """This collector as a member of the group, over one connection."""

    def __init__(
        self,
        settings: NatsSourceSettings,
        connection: Connection,
        group: Group,
        subject: str,
        partitions: dict[int, Partition],
        messages: StreamMessages,
        committed: asyncio.Event,
        give_back_s: Callable[[], float],
    ) -> None:
        """Read partitions of `subject`, and keep those that are read in `partitions`.

        `committed` is set whenever the writer has committed batches. `give_back_s` returns the longest time in seconds
        for the last commits before a partition is given back.
        """
        self._settings = settings
        self._connection = connection
        self._group = group
        self._subject = subject
        self._partitions = partitions
        self._messages = messages
        self._committed = committed
        self._give_back_s = give_back_s

    # The group

    async def rebalance(self) -> None:
        """Renew this member's entry, claim its own and free partitions, and give back those above its share.

        Raises LostError when another member has claimed one of its partitions.
        """
        group = self._group
        await group.beat()
        before = set(self._partitions)
        for number in sorted(group.ours() - self._partitions.keys()):
            await self._begin(number)
        for number in sorted(self._partitions.keys() - group.ours()):
            raise LostError(f"partition {number} was claimed by another member")
        share = group.fair_share()
        while len(self._partitions) > share:
            await self._give_back(max(self._partitions))
        free = group.free()
        for number in free[: max(0, share - len(self._partitions))]:
            if await group.claim(number):
                await self._begin(number)
        if self._partitions.keys() != before:
            LOGGER.info("source %s: reads partitions %s", self._settings.stream, names_of(self._partitions))
        await self.pull_messages()

    async def save_positions(self) -> None:
        """Save the positions of the partitions in the table. Raises LostError."""
        for number, partition in self._partitions.items():
            positions = partition.saved | partition.committed
            if positions != partition.saved or partition.has_forgotten:
                await self._group.save(number, positions, partition.acknowledged)
                partition.saved, partition.has_forgotten = positions, False

    async def leave(self) -> None:
        """Give every partition back, and leave the group. Raises StoreError if the writer does not commit in time."""
        for number in list(self._partitions):
            await self._give_back(number)
        await self._group.leave()

    def close(self) -> None:
        """Stop watching the table; it keeps this member's partitions."""
        self._group.close()

    def stuck(self) -> dict[str, int]:
        """Return the number of partitions of each silent member."""
        return self._group.stuck()

    def status(self) -> dict[str, Any]:
        """Return the details of a source for the status document."""
        now_s, partitions = time.time(), self._partitions.values()
        return {
            "member": self._group.member,
            "partitions": sorted(self._partitions),
            "partitions_of_stream": self._group.partitions,
            "messages_waiting": sum(partition.messages_waiting for partition in partitions),
            "lag_s": round(max((partition.lag_s(now_s) for partition in partitions), default=0.0), 1),
            "waiting_for_members": self._group.stuck(),
        }

    # Its partitions

    async def pull_messages(self) -> None:
        """Request more messages of each partition while there is room for them."""
        for partition in list(self._partitions.values()):
            if self._messages.has_room:
                await partition.pull()

    async def forget_journals(self) -> None:
        """Forget the journals without a message in the stream."""
        for partition in self._partitions.values():
            await partition.forget()
        self._messages.forget_sessions()

    async def count_unread(self) -> None:
        """Count the unread messages of each partition; failures are ignored, because it is called again soon."""
        for partition in list(self._partitions.values()):
            with contextlib.suppress(Exception):
                await partition.count_unread()

    async def _begin(self, number: int) -> None:
        partition = Partition(self._connection, self._settings.stream, self._settings.group, number)
        entry = self._group.entry(number)
        partition.saved, partition.saved_sequence = dict(entry.positions), entry.sequence
        self._partitions[number] = partition
        await partition.begin(self._subject, self._messages.add_message)
        await partition.pull()

    async def _give_back(self, number: int) -> None:
        """Give a partition back between two commits. Raises StoreError if the writer does not commit in time."""
        partition = self._partitions[number]
        partition.closed = True
        await partition.close()
        self._messages.send_batch()
        end_s = asyncio.get_running_loop().time() + self._give_back_s()
        while not self._messages.is_committed(partition):
            left_s = end_s - asyncio.get_running_loop().time()
            if left_s <= 0:
                raise StoreError(f"partition {number} cannot be given back: the last commits take too long")
            self._committed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._committed.wait()
        message = partition.to_acknowledge()
        if message is not None:
            await message.ack_sync(timeout=self._settings.timeout_s)
        await self._group.save(number, partition.saved | partition.committed, partition.acknowledged, release=True)
        del self._partitions[number]


async def join_group(settings: NatsSourceSettings, member: str, connection: Connection) -> tuple[Group, str]:
    """Join the configured group as `member`; return the group, and the subject of the stream.

    Raises StoreError if the stream cannot be read by a group, and errors of the connection.
    """
    found = await read_stream(connection, settings.stream)
    group = Group(connection, bucket_of(settings), member, found.partitions, settings.takeover_s)
    await group.join(found.replicas)
    return group, found.subject


def member_name(state_dir: Path, settings: NatsSourceSettings) -> str:
    """Return this collector's name in groups, which is made once and kept in its state directory.

    It lives as long as the journal in the same directory. Raises StoreError.
    """
    path = state_dir / f"{settings.stream}-{settings.group}.member"
    try:
        if path.exists():
            return path.read_text().strip()
        name = os.urandom(8).hex()
        replace_file(path, f"{name}\n".encode())
    except OSError as error:
        raise StoreError(f"{path}: cannot write it: {describe_refusal(error)}") from error
    return name
