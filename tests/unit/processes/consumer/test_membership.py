"""A member of the group: takes its share of the partitions, and gives one back only between two commits."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.sources import NatsSourceSettings
from prefork_logd.errors import StoreError
from prefork_logd.processes.consumer import membership
from prefork_logd.processes.consumer.membership import Membership, member_name
from prefork_logd.stores.nats.group import Entry, LostError

if TYPE_CHECKING:
    from pathlib import Path


class Table:
    """A group's table in memory."""

    def __init__(self) -> None:
        self.member = "me"
        self.partitions = 4
        self.entries = {number: Entry() for number in range(4)}
        self.wanted = 4
        self.quicker: set[int] = set()
        self.beats = 0
        self.has_left = False

    async def beat(self) -> None:
        self.beats += 1

    def ours(self) -> set[int]:
        return {number for number, entry in self.entries.items() if entry.owner == "me"}

    def fair_share(self) -> int:
        return self.wanted

    def free(self) -> list[int]:
        return [number for number, entry in self.entries.items() if not entry.owner]

    def entry(self, number: int) -> Entry:
        return self.entries[number]

    def stuck(self) -> dict[str, int]:
        return {}

    async def claim(self, number: int) -> bool:
        if number in self.quicker:
            return False
        self.entries[number].owner = "me"
        return True

    async def save(self, number: int, positions: dict[str, int], sequence: int, *, release: bool = False) -> None:
        self.entries[number] = Entry("" if release else "me", positions, sequence)

    async def leave(self) -> None:
        self.has_left = True


class FakePartition:
    """A partition that reads nothing."""

    def __init__(self, connection: Any, stream: str, group: str, number: int) -> None:
        self.number = number
        self.closed = self.has_forgotten = False
        self.saved: dict[str, int] = {}
        self.committed: dict[str, int] = {}
        self.saved_sequence = self.acknowledged = 0
        self.messages_waiting, self.pulls = 5, 0
        self.acks: list[float] = []

    async def begin(self, subject: str, arrived: Any) -> None:
        self.subject = subject

    async def pull(self) -> None:
        self.pulls += 1

    async def close(self) -> None:
        self.closed = True

    async def count_unread(self) -> None:
        raise RuntimeError("no answer")

    def lag_s(self, now_s: float) -> float:
        return self.number * 1.0

    def to_acknowledge(self) -> Any:
        async def ack_sync(**options: float) -> None:
            self.acks.append(options["timeout"])

        return SimpleNamespace(ack_sync=ack_sync)


class Rig:
    """A member of a group of one."""

    def __init__(self) -> None:
        self.table = Table()
        self.partitions: dict[int, Any] = {}
        self.uncommitted: set[int] = set()
        self.room = True
        self.sent = 0
        self.committed = asyncio.Event()
        self.longest_s = 0.05
        rig = self

        class Messages:
            has_room = property(lambda _: rig.room)

            def add_message(self, partition: Any, message: Any) -> None: ...

            def send_batch(self) -> None:
                rig.sent += 1

            def is_committed(self, partition: Any) -> bool:
                return partition.number not in rig.uncommitted

        messages: Any = Messages()
        connection: Any = SimpleNamespace(where="nats://x:1")
        table: Any = self.table
        self.member = Membership(
            NatsSourceSettings(), connection, table, "logs", self.partitions, messages, self.committed,
            lambda: self.longest_s,
        )  # fmt: skip


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Return a member whose partitions read nothing."""
    monkeypatch.setattr(membership, "Partition", FakePartition)
    return Rig()


async def _let_others_run() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_it_takes_its_share(rig: Rig) -> None:
    """And no more; a partition that another member was quicker to take is left alone."""
    rig.table.wanted, rig.table.quicker = 2, {0}
    asyncio.run(rig.member.rebalance())
    assert sorted(rig.partitions) == [1]
    rig.table.quicker = set()
    asyncio.run(rig.member.rebalance())
    assert sorted(rig.partitions) == [0, 1]
    assert rig.table.beats == 2
    assert all(partition.subject == "logs" for partition in rig.partitions.values())


def test_it_continues_what_the_table_says_is_ours(rig: Rig) -> None:
    """After a restart, from the positions that were saved."""
    rig.table.entries[2] = Entry("me", {"ab": 7}, 30)
    rig.table.wanted = 1
    asyncio.run(rig.member.rebalance())
    assert sorted(rig.partitions) == [2]
    assert (rig.partitions[2].saved, rig.partitions[2].saved_sequence) == ({"ab": 7}, 30)


def test_a_partition_that_was_taken_away_is_an_error(rig: Rig) -> None:
    """Reading then begins anew."""
    asyncio.run(rig.member.rebalance())
    rig.table.entries[3].owner = "another"
    with pytest.raises(LostError, match="partition 3 was claimed"):
        asyncio.run(rig.member.rebalance())


def test_it_gives_back_what_is_above_its_share(rig: Rig) -> None:
    """With its positions, and after its last message was acknowledged."""
    asyncio.run(rig.member.rebalance())
    last = rig.partitions[3]
    last.saved, last.committed, last.acknowledged = {"ab": 3, "cd": 4}, {"ab": 9}, 17
    rig.table.wanted = 3
    asyncio.run(rig.member.rebalance())
    assert sorted(rig.partitions) == [0, 1, 2]
    assert rig.table.entries[3] == Entry("", {"ab": 9, "cd": 4}, 17)
    assert last.closed
    assert last.acks == [rig.member._settings.timeout_s]


def test_a_partition_is_given_back_between_two_commits(rig: Rig) -> None:
    """Its last batch is sent, and its commit awaited."""
    rig.longest_s = 10.0

    async def scenario() -> None:
        await rig.member.rebalance()
        rig.uncommitted, rig.table.wanted = {3}, 3
        giving = asyncio.create_task(rig.member.rebalance())
        await _let_others_run()
        assert rig.sent == 1
        assert 3 in rig.partitions
        rig.committed.set()
        await _let_others_run()
        assert 3 in rig.partitions, "it was another batch"
        rig.uncommitted = set()
        rig.committed.set()
        await giving
        assert 3 not in rig.partitions

    asyncio.run(scenario())


def test_a_writer_that_takes_too_long(rig: Rig) -> None:
    """The partition stays ours: nothing says that it is committed."""
    asyncio.run(rig.member.rebalance())
    rig.uncommitted = {0}
    with pytest.raises(StoreError, match="partition 0 cannot be given back"):
        asyncio.run(rig.member.leave())
    assert rig.table.entries[0].owner == "me"
    assert not rig.table.has_left


def test_leaving_gives_everything_back(rig: Rig) -> None:
    """Then other members need not wait until we count as dead."""
    asyncio.run(rig.member.rebalance())
    asyncio.run(rig.member.leave())
    assert rig.partitions == {}
    assert rig.table.ours() == set()
    assert rig.table.has_left


def test_positions_are_saved_when_they_have_changed(rig: Rig) -> None:
    """Or when a journal was forgotten."""
    asyncio.run(rig.member.rebalance())
    rig.partitions[0].committed = {"ab": 5}
    rig.partitions[1].has_forgotten = True
    asyncio.run(rig.member.save_positions())
    assert rig.table.entries[0].positions == {"ab": 5}
    assert rig.partitions[0].saved == {"ab": 5}
    assert not rig.partitions[1].has_forgotten
    rig.table.entries[0].positions = {}
    asyncio.run(rig.member.save_positions())
    assert rig.table.entries[0].positions == {}, "not written again"


def test_nothing_is_asked_for_while_there_is_no_room(rig: Rig) -> None:
    """Messages wait in the stream then."""
    rig.room = False
    asyncio.run(rig.member.rebalance())
    pulls = [partition.pulls for partition in rig.partitions.values()]
    assert pulls == [1, 1, 1, 1], "the first request, made at the beginning"
    rig.room = True
    asyncio.run(rig.member.pull_messages())
    assert [partition.pulls for partition in rig.partitions.values()] == [2, 2, 2, 2]
    asyncio.run(rig.member.count_unread())


def test_the_status(rig: Rig) -> None:
    """The sums over our partitions, and the longest lag."""
    rig.table.wanted = 3
    asyncio.run(rig.member.rebalance())
    assert rig.member.status() == {
        "member": "me",
        "partitions": [0, 1, 2],
        "partitions_of_stream": 4,
        "messages_waiting": 15,
        "lag_s": 2.0,
        "waiting_for_members": {},
    }


def test_the_name_of_a_member(tmp_path: Path) -> None:
    """It is made once for each stream and group, and says where it cannot be kept."""
    settings = NatsSourceSettings()
    name = member_name(tmp_path, settings)
    assert len(name) == 16
    assert member_name(tmp_path, settings) == name
    assert member_name(tmp_path, NatsSourceSettings(group="other")) != name
    with pytest.raises(StoreError, match="cannot write it: No such file"):
        member_name(tmp_path / "gone", settings)
