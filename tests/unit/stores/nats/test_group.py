"""Collectors share a stream's partitions by one table: only one of two gets a partition, and none is left out."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from prefork_logd.errors import StoreError
from prefork_logd.stores.nats import group as module
from prefork_logd.stores.nats.group import (
    DEAD_AFTER_S,
    Entry,
    Group,
    LostError,
    NoStreamError,
    Stream,
    consumer_of,
    names_of,
    read_stream,
)
from prefork_logd.stores.nats.stream import PARTITIONS_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from prefork_logd.stores.nats.connection import Connection

nats_errors = pytest.importorskip("nats.js.errors")


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


class Bucket:
    """A key-value bucket of JetStream in memory: revisions grow by one, and every watcher hears of each change."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[bytes | None, int]] = {}
        self.watchers: list[asyncio.Queue[Any]] = []
        self._revision = 0

    def _set(self, key: str, value: bytes | None) -> int:
        self._revision += 1
        self.values[key] = value, self._revision
        for watcher in self.watchers:
            watcher.put_nowait(self._update(key))
        return self._revision

    def _update(self, key: str) -> Any:
        value, revision = self.values[key]
        return SimpleNamespace(key=key, value=value, revision=revision, operation=None if value is not None else "DEL")

    async def put(self, key: str, value: bytes) -> int:
        return self._set(key, value)

    async def update(self, key: str, value: bytes, last: int) -> int:
        if self.values.get(key, (None, 0))[1] != last:
            raise nats_errors.KeyWrongLastSequenceError
        return self._set(key, value)

    async def delete(self, key: str) -> None:
        self._set(key, None)

    async def watchall(self) -> Any:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        for key in self.values:
            queue.put_nowait(self._update(key))
        queue.put_nowait(None)
        self.watchers.append(queue)

        async def updates(**_: float) -> Any:
            return await queue.get()

        return SimpleNamespace(updates=updates)


class Server:
    """A server with a bucket, and the connection to it."""

    timeout_s = 5.0
    where = "nats://here"

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.info: Any = None
        self.stream = self

    async def ask(self, call: Callable[[Server], Coroutine[Any, Any, Any]]) -> Any:
        return await call(self)

    async def key_value(self, name: str) -> Bucket:
        if name not in self.buckets:
            raise nats_errors.BucketNotFoundError
        return self.buckets[name]

    async def create_key_value(self, config: Any) -> Bucket:
        self.buckets[config.bucket] = Bucket()
        return self.buckets[config.bucket]

    async def stream_info(self, name: str) -> Any:
        if self.info is None:
            raise nats_errors.NotFoundError
        return SimpleNamespace(config=SimpleNamespace(name=name, **self.info))

    async def member(self, name: str, partitions: int = 4, takeover_s: float = 0.0) -> Group:
        """Return a member that has joined and renewed its entry."""
        group = Group(cast("Connection", self), "LOGS-g", name, partitions, takeover_s)
        await group.join(1)
        await group.beat()
        await settle()
        return group


async def settle() -> None:
    """Let every watcher read what it was sent."""
    for _ in range(20):
        await asyncio.sleep(0)


def play(scene: Callable[[Server], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a server."""

    async def run() -> None:
        await scene(Server())
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run(run())


def test_one_of_two_gets_a_partition() -> None:
    """Although both have seen that it is free."""

    async def scene(server: Server) -> None:
        one, two = await server.member("one"), await server.member("two")
        assert one.free() == two.free() == [0, 1, 2, 3]
        assert await one.claim(1)
        assert not await two.claim(1)
        assert not await one.claim(1)
        await settle()
        assert not await two.claim(1)
        assert (one.ours(), two.ours()) == ({1}, set())
        assert one.free() == two.free() == [0, 2, 3]

    play(scene)


def test_a_partition_is_given_back_with_its_positions() -> None:
    """The next owner goes on exactly there, also one that joins later."""

    async def scene(server: Server) -> None:
        one = await server.member("one")
        assert await one.claim(2)
        await one.save(2, {"ab": 17}, 5)
        assert one.ours() == {2}
        await one.save(2, {"ab": 19, "cd": 1}, 9, release=True)
        assert one.ours() == set()
        two = await server.member("two")
        entry = two.entry(2)
        assert (entry.owner, entry.positions, entry.sequence) == ("", {"ab": 19, "cd": 1}, 9)
        assert await two.claim(2)
        assert (two.entry(2).owner, two.entry(2).positions, two.entry(2).sequence) == ("two", {"ab": 19, "cd": 1}, 9)
        with pytest.raises(LostError):
            await one.save(2, {}, 0)

    play(scene)


def test_an_owner_that_has_lost_a_partition_writes_nothing(clock: Clock) -> None:
    """Neither where it knows of its loss, nor where it does not."""

    async def scene(server: Server) -> None:
        one = await server.member("one", takeover_s=60.0)
        two = await server.member("two", takeover_s=60.0)
        assert await one.claim(0)
        one.close()  # it hears nothing more
        await settle()
        clock.now_s += 61.0
        assert await two.claim(0)
        with pytest.raises(LostError, match="partition 0 has changed meanwhile"):
            await one.save(0, {"ab": 1}, 1)
        late = await server.member("one", takeover_s=60.0)
        with pytest.raises(LostError, match="partition 0 now belongs to two"):
            await late.save(0, {"ab": 1}, 1)
        with pytest.raises(LostError, match="partition 3 now belongs to no member"):
            await late.save(3, {}, 0)
        assert two.entry(0).positions == {}

    play(scene)


@pytest.mark.parametrize("partitions", [1, 3, 4, 7])
@pytest.mark.parametrize("names", ["a", "ab", "abcd", "abcde"])
def test_fair_shares_make_up_the_whole(partitions: int, names: str) -> None:
    """Each member computes its own, and they differ by one at most."""

    async def scene(server: Server) -> None:
        members = [await server.member(name, partitions) for name in names]
        shares = [member.fair_share() for member in members]
        assert sum(shares) == partitions
        assert max(shares) - min(shares) <= 1

    play(scene)


def test_a_silent_member_has_no_share_and_keeps_its_partitions(clock: Clock) -> None:
    """Without a time for a takeover; it is named as stuck, with their number."""

    async def scene(server: Server) -> None:
        one, two = await server.member("one"), await server.member("two")
        assert await two.claim(0)
        assert await two.claim(3)
        await settle()
        assert (one.fair_share(), one.stuck()) == (2, {})
        clock.now_s += DEAD_AFTER_S + 0.1
        await one.beat()
        assert one.fair_share() == 4
        assert one.stuck() == {"two": 2}
        clock.now_s += 1e6
        assert one.free() == [1, 2]
        assert not await one.claim(0)
        await two.beat()
        await settle()
        assert (one.fair_share(), one.stuck()) == (2, {})

    play(scene)


def test_partitions_of_a_dead_member_are_free_after_a_while(clock: Clock) -> None:
    """If that is configured; an owner that was never heard is given the same time."""

    async def scene(server: Server) -> None:
        server.buckets["LOGS-g"] = bucket = Bucket()
        await bucket.put("partition.001", b'{"owner":"unknown","positions":{"ab":7},"sequence":3}')
        one = await server.member("one", takeover_s=30.0)
        assert one.free() == [0, 2, 3]
        clock.now_s += 30.0
        assert one.free() == [0, 2, 3]
        clock.now_s += 0.1
        assert one.free() == [0, 1, 2, 3]
        assert await one.claim(1)
        assert one.entry(1).positions == {"ab": 7}

    play(scene)


def test_one_that_leaves_has_no_share() -> None:
    """Its partitions stay its own, as long as it has not given them back."""

    async def scene(server: Server) -> None:
        one, two = await server.member("one"), await server.member("two")
        assert await two.claim(0)
        await two.leave()
        await settle()
        assert one.fair_share() == 4
        assert one.free() == [1, 2, 3]

    play(scene)


@pytest.mark.parametrize(
    "key",
    ["partition.4", "partition.1", "partition.x", "partition.\u00b2", "partition.004", "partition.-01", "partition.",
     "partition.0001", "member", "other.001", "", "partition." + "1" * 5000],
)  # fmt: skip
def test_a_key_that_no_member_writes_is_ignored(key: str) -> None:
    """Whoever has written it: the table is watched as before."""

    async def scene(server: Server) -> None:
        one = await server.member("one")
        await server.buckets["LOGS-g"].put(key, b'{"owner":"one"}')
        await settle()
        assert one.ours() == set()
        two = await server.member("two")
        assert await two.claim(1)
        await settle()
        assert one.free() == [0, 2, 3]

    play(scene)


@pytest.mark.parametrize("value", [b"", b"no JSON", b"[]", b'{"owner":7}', b'{"positions":{"ab":"x"}}', b"\xff"])
def test_an_entry_that_cannot_be_read_is_nobodys_to_claim(value: bytes) -> None:
    """Except an empty one, which is as good as none."""

    async def scene(server: Server) -> None:
        one = await server.member("one")
        await server.buckets["LOGS-g"].put("partition.001", value)
        await settle()
        assert one.free() == ([0, 1, 2, 3] if not value else [0, 2, 3])
        assert await one.claim(2)

    play(scene)


def test_later_news_of_an_entry_count() -> None:
    """A member's own change is known to it before it hears of it."""

    async def scene(server: Server) -> None:
        one = await server.member("one")
        bucket = server.buckets["LOGS-g"]
        queue, bucket.watchers = bucket.watchers[0], []
        assert await one.claim(0)
        old = SimpleNamespace(key="partition.000", value=b"{}", revision=1, operation=None)
        queue.put_nowait(old)
        await settle()
        assert one.ours() == {0}

    play(scene)


MADE = {"metadata": {PARTITIONS_KEY: "16"}, "subjects": ["logs.>"], "num_replicas": 3}


def test_the_facts_of_a_stream() -> None:
    """As the store that made it has left them."""

    async def scene(server: Server) -> None:
        server.info = MADE
        assert await read_stream(cast("Connection", server), "LOGS") == Stream("logs", 16, 3)

    play(scene)


@pytest.mark.parametrize(
    "changes",
    [{"metadata": None}, {"metadata": {}}, {"subjects": None}, {"subjects": ["a.>", "b.>"]}, {"subjects": ["logs"]},
     *({"metadata": {PARTITIONS_KEY: text}} for text in ("", "x", "-1", "0", "\u00b2", "1000", "9" * 5000))],
)  # fmt: skip
def test_a_stream_of_somebody_else_is_an_error(changes: dict[str, Any]) -> None:
    """Its messages are no batches of ours."""

    async def scene(server: Server) -> None:
        server.info = {**MADE, **changes}
        with pytest.raises(StoreError, match="was not made by a"):
            await read_stream(cast("Connection", server), "LOGS")

    play(scene)


def test_a_stream_that_is_not_there_yet_is_another_error() -> None:
    """It may come; `check` says so in other words."""

    async def scene(server: Server) -> None:
        with pytest.raises(NoStreamError, match="there is no stream LOGS yet"):
            await read_stream(cast("Connection", server), "LOGS")

    play(scene)


def test_names() -> None:
    """Of a durable consumer, and of partitions in the log; an entry without values takes no bytes."""
    assert consumer_of("g", 7) == "g-007"
    assert names_of([3, 1, 2]) == "1, 2, 3"
    assert names_of([]) == "none"
    assert msgspec.json.encode(Entry()) == b"{}"
