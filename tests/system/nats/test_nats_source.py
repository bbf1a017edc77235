"""Collectors that read a stream: each record once and in order, whatever is killed, delivered again or set back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from nats.js.errors import NoKeysError

from prefork_logd.config.sources import NatsSourceSettings
from prefork_logd.config.stores.nats import NatsStoreSettings
from prefork_logd.processes.consumer.partition import Partition
from prefork_logd.stores.base import Block
from prefork_logd.stores.nats.connection import Connection
from prefork_logd.stores.nats.group import Group
from prefork_logd.stores.nats.store import NatsStore
from tests.support.harness import Collector, wait_for
from tests.support.nats_servers import Server, ask, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Central = Callable[..., Collector]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One server with JetStream."""
    server = Server(tmp_path, "n1", free_ports(1)[0]).start()
    yield server
    server.close()


@pytest.fixture
def central(tmp_path: Path) -> Iterator[Central]:
    """Return what starts collectors that read the stream."""
    collectors: list[Collector] = []

    def start(urls: tuple[str, ...], name: str = "central", more: str = "", source: str = "") -> Collector:
        toml = f'{more}\n[[source]]\nservers = {json.dumps(urls)}\ntimeout = "3s"\n{source}\n'
        (tmp_path / name).mkdir(exist_ok=True)
        collector = Collector(tmp_path / name, toml)
        collectors.append(collector)
        return collector.start()

    yield start
    for collector in collectors:
        collector.clean_up()


EDGES: list[Edge] = []
"""Those of the test that runs."""


@pytest.fixture(autouse=True)
def _edges() -> Iterator[None]:
    """Close the edges' connections, whatever becomes of the test."""
    yield
    while EDGES:
        EDGES.pop().store.close()


class Edge:
    """What publishes as an edge collector's shipper does: records numbered from 0 on."""

    def __init__(self, urls: tuple[str, ...], path: Path, name: str, **keys: Any) -> None:
        self.journal = name.encode().hex().rjust(32, "a")
        settings = NatsStoreSettings(servers=urls, timeout="3s", checkpoint=str(path / f"{name}.window"), **keys)
        self.name = name
        self.store = NatsStore(settings)
        EDGES.append(self)
        self.at = self.store.open(self.journal)

    def publish(self, count: int, blocks: int = 1) -> None:
        """Publish some records, in some writes."""
        for _ in range(blocks):
            lines = b"".join(
                b'{"created":1.5,"time":"1970-01-01T00:00:01.500000Z","name":"shop","levelno":20,"message":"%s-%d",'
                b'"peer":"10.0.0.1:5","received":1.25}\n' % (self.name.encode(), number)
                for number in range(self.at, self.at + count)
            )
            self.store.write([Block(self.at, count, bytes(16), (), lines)], _refuse)
            self.at += count


def _refuse(number: int, line: bytes, why: str) -> None:
    raise AssertionError((number, line[:80], why))


def stored(*collectors: Collector) -> dict[str, list[int]]:
    """Return each edge's numbers as collectors have stored them, in their order."""
    found: dict[str, list[int]] = {}
    for collector in collectors:
        for line in collector.lines():
            edge, _, number = json.loads(line)["message"].rpartition("-")
            found.setdefault(edge, []).append(int(number))
    return found


def count(*collectors: Collector) -> int:
    """Return how many records collectors have stored."""
    return sum(len(collector.lines()) for collector in collectors)


def check(edges: list[Edge], *collectors: Collector) -> None:
    """Wait until everything is stored; fail unless each record is there once, and in order where it is."""
    total = sum(edge.at for edge in edges)
    wait_for(lambda: count(*collectors) >= total, f"{total} records stored", 40)
    together: dict[str, list[int]] = {}
    for collector in collectors:
        for edge, numbers in stored(collector).items():
            assert numbers == sorted(numbers), f"{edge} is out of order"
            together.setdefault(edge, []).extend(numbers)
    for edge in edges:
        numbers = sorted(together.get(edge.name, []))
        assert numbers == list(range(edge.at)), f"{edge.name}: {len(numbers)} of {edge.at}, {len(set(numbers))} of them"


def test_lines_come_as_they_were_and_text_is_rendered(server: Server, central: Central, tmp_path: Path) -> None:
    """JSON lines pass unchanged, with their first collector's peer; text outputs and filters work as on an edge."""
    edge = Edge((server.url,), tmp_path, "e1")
    collector = central(
        (server.url,),
        more='[[output]]\nname = "records"\n[[output]]\nname = "t"\nformat = "text"\n'
        'template = "%(name)s %(message)s"\n'
        '[[output]]\nname = "none"\nlevel = "ERROR"\n',
    )
    edge.publish(100)
    wait_for(lambda: len(collector.lines("t.log")) == 100, "100 lines of text")
    assert collector.records()[7] == {
        "created": 1.5, "time": "1970-01-01T00:00:01.500000Z", "name": "shop", "levelno": 20, "message": "e1-7",
        "peer": "10.0.0.1:5", "received": 1.25,
    }  # fmt: skip
    assert collector.lines("t.log")[7] == b"shop e1-7\n"
    assert not collector.lines("none.jsonl")
    assert collector.status()["records"] == 100
    assert [child["kind"] for child in collector.status()["children"]].count("source") == 1
    assert collector.stop() == 0


def test_check_and_status_show_it(server: Server, central: Central, tmp_path: Path) -> None:
    """Who reads what, how much waits and for how long, whom others wait for, and what is wrong."""
    collector = central((server.url,), source='takeover = "60s"')
    done = collector.cli("check", "--connect")
    assert "# source 'LOGS': stream LOGS is not there; the first collector with a [[store]] makes it" in done.stdout
    assert done.returncode == 0

    def said() -> dict[str, Any]:
        return dict(collector.status()["sources"][0])

    wait_for(lambda: "there is no stream LOGS yet" in said()["problem"], "the problem is told")
    assert (said()["connected"], said()["messages_waiting"], said()["lag_s"]) == (False, None, None)
    assert "LOGS (not connected)" in collector.cli("status").stdout
    edge = Edge((server.url,), tmp_path, "e1")
    done = collector.cli("check", "--connect")
    edge.publish(100, 3)
    check([edge], collector)
    # What `status` has is up to a second old, and would say that nothing waits.
    wait_for(lambda: not unacknowledged(server), "everything is acknowledged")
    wait_for(lambda: said()["records"] == 300 and said()["messages_waiting"] == 0, "all is read")
    told = said()
    assert (told["problem"], told["connected"], told["lag_s"], told["dropped"]) == ("", True, 0.0, 0)
    assert (told["details"]["partitions"], told["details"]["partitions_of_stream"]) == (list(range(16)), 16)
    # A writer that stands still: what was read is not committed.
    os.kill(collector.child("writer"), signal.SIGSTOP)
    try:
        edge.publish(100, 3)
        wait_for(lambda: said()["messages_waiting"] == 3, "three messages wait")
        wait_for(lambda: said()["lag_s"] >= 1, "their age is told")
        done = collector.cli("check", "--connect")
        expected = "stream LOGS, group 'collectors': 16 of 16 partitions owned by 1 member, 3 messages waiting"
        assert expected in done.stdout
        assert "16 of 16" in collector.cli("status").stdout
    finally:
        os.kill(collector.child("writer"), signal.SIGCONT)
    check([edge], collector)
    wait_for(lambda: said()["messages_waiting"] == said()["lag_s"] == 0, "nothing waits")
    server.kill()
    wait_for(lambda: "127.0.0.1" in said()["problem"], "the servers are missed")
    done = collector.cli("check", "--connect")
    assert done.returncode == 1
    assert "cannot connect" in done.stderr


def test_what_is_unread_is_told_while_there_is_no_room(server: Server, central: Central, tmp_path: Path) -> None:
    """A source whose writer takes nothing asks for no more messages; how many there are is asked then."""
    collector = central((server.url,), more="[limits]\nqueue_bytes = 1048576\n")
    edge = Edge((server.url,), tmp_path, "e1", compress="none")
    edge.publish(10)
    check([edge], collector)
    wait_for(lambda: not unacknowledged(server), "everything is acknowledged")
    os.kill(collector.child("writer"), signal.SIGSTOP)
    try:
        # More than pipes, queues and a request hold.
        edge.publish(2048, 40)
        wait_for(lambda: collector.status()["sources"][0]["messages_waiting"] == 40, "40 messages wait", 25)
    finally:
        os.kill(collector.child("writer"), signal.SIGCONT)
    check([edge], collector)
    wait_for(lambda: collector.status()["sources"][0]["messages_waiting"] == 0, "nothing waits")


@pytest.mark.parametrize("kind", ["source", "writer", "master"])
def test_kills_cost_and_double_nothing(server: Server, central: Central, tmp_path: Path, kind: str) -> None:
    """Kill -9 in the middle of it, several times, while messages keep coming."""
    edges = [Edge((server.url,), tmp_path, f"e{index}") for index in range(3)]
    collector = central((server.url,))
    chance = random.Random(kind)
    for _ in range(3):
        for edge in edges:
            edge.publish(chance.randrange(1, 900), 6)
        if kind == "master":
            assert collector.process is not None
            collector.send_signal(signal.SIGKILL)
            collector.process.wait()
            collector.start()
        else:
            os.kill(collector.child(kind), signal.SIGKILL)
    check(edges, collector)


def test_what_is_delivered_again_is_known(server: Server, central: Central, tmp_path: Path) -> None:
    """The consumers are deleted, so that everything comes once more; other cuts of the same numbers come, too."""
    edge = Edge((server.url,), tmp_path, "e1")
    edge.publish(1000, 5)
    collector = central((server.url,))
    check([edge], collector)

    async def forget(js: Any) -> None:
        for consumer in await js.consumers_info("LOGS"):
            await js.delete_consumer("LOGS", consumer.name)

    ask([server.url], forget)
    os.kill(collector.child("source"), signal.SIGKILL)
    # As after a lost checkpoint: the same records, cut elsewhere.
    edge.store.close()
    (tmp_path / "e1.window").unlink()
    wanted = edge.store.open(edge.journal)
    assert wanted < edge.at
    edge.at = wanted
    edge.publish(700, 3)
    check([edge], collector)


def test_a_group_shares_the_work(server: Server, central: Central, tmp_path: Path) -> None:
    """A second collector takes half of the partitions, between two commits; one that stops leaves all to the other."""
    edges = [Edge((server.url,), tmp_path, f"{index}" * 8) for index in range(6)]
    for edge in edges:
        edge.journal = os.urandom(16).hex()
        edge.store.close()
        edge.at = edge.store.open(edge.journal)
    first = central((server.url,))
    for edge in edges:
        edge.publish(50, 4)
    check(edges, first)
    second = central((server.url,), "second")
    wait_for(lambda: holds(server, first) == holds(server, second) == 8, "eight partitions each")
    for _ in range(3):
        for edge in edges:
            edge.publish(40, 3)
    check(edges, first, second)
    # A dead member's part waits for it, and for nobody else.
    assert second.process is not None
    second.send_signal(signal.SIGKILL)
    second.process.wait()
    for edge in edges:
        edge.publish(40, 2)
    second.start()
    check(edges, first, second)
    assert second.stop() == 0
    wait_for(lambda: holds(server, first) == 16, "all partitions with the first")
    for edge in edges:
        edge.publish(30, 2)
    check(edges, first, second)


def test_partitions_of_a_killed_collector_are_taken(server: Server, central: Central, tmp_path: Path) -> None:
    """With `takeover`: the other goes on where the dead one was, and when that is back, it gets its share again."""
    edges = [Edge((server.url,), tmp_path, f"{partition}") for partition in (1, 5, 9, 13)]
    for edge in edges:
        edge.store.close()
        edge.journal = f"{int(edge.name):08x}" + os.urandom(12).hex()
        edge.at = edge.store.open(edge.journal)
    first = central((server.url,), "first", source='takeover = "1s"')
    for edge in edges:
        edge.publish(100, 3)
    check(edges, first)
    second = central((server.url,), "second", source='takeover = "1s"')
    wait_for(lambda: holds(server, first) == holds(server, second) == 8, "eight partitions each")
    # What comes now is in no table yet when it dies.
    for edge in edges:
        edge.publish(100, 3)
    check(edges, first, second)
    wait_for(lambda: not unacknowledged(server), "everything is acknowledged")
    kill(second)
    for edge in edges:
        edge.publish(100, 3)
    wait_for(lambda: holds(server, first) == 16, "the other has taken all")
    check(edges, first, second)
    second.start()
    wait_for(lambda: holds(server, first) == holds(server, second) == 8, "eight partitions each, again")
    for edge in edges:
        edge.publish(100, 3)
    check(edges, first, second)
    for collector in (first, second):
        assert collector.status()["dropped"] == 0
        assert "no longer in it" not in collector.log


def test_journals_that_the_stream_has_nothing_of_are_forgotten(server: Server, tmp_path: Path) -> None:
    """The table of a group does not grow with every edge that ever was; what is on its way counts as there."""
    edges = [Edge((server.url,), tmp_path, name) for name in ("gone", "here", "read")]
    for edge in edges:
        edge.store.close()
        edge.journal = "00000003" + edge.journal[8:]
        edge.store.open(edge.journal)
        edge.publish(10)
    gone, here, read = (edge.journal for edge in edges)

    async def forget() -> Partition:
        connection = Connection(NatsSourceSettings(servers=(server.url,)), "test", 3.0)
        await connection.connect()
        partition, arrived = Partition(connection, "LOGS", "group", 3), asyncio.Event()
        partition.saved = {gone: 10, here: 5, read: 5}
        await partition.begin("logs", lambda *_: arrived.set())
        await partition.forget()
        assert partition.saved.keys() == {gone, here, read}
        assert not partition.has_forgotten
        await partition.pull()
        await asyncio.wait_for(arrived.wait(), 10)
        await asyncio.to_thread(wait_for, lambda: partition.messages_waiting == 3 and not partition.unread, "all came")
        for sequence in (1, 2):
            partition.done(sequence)
        assert partition.to_acknowledge() is not None
        partition.committed = {gone: 10, here: 10}
        for journal in (gone, read):
            await connection.stream.purge_stream("LOGS", subject=f"logs.*.{journal}")
        await partition.forget()
        await partition.close()
        await connection.disconnect()
        return partition

    partition = asyncio.run(forget())
    # The last message is gone from the stream, too, and not committed yet.
    assert (partition.saved.keys(), partition.committed) == ({here, read}, {here: 10})
    assert partition.has_forgotten


def test_a_stream_that_is_set_back_doubles_nothing(server: Server, central: Central, tmp_path: Path) -> None:
    """What the centre has already comes again from the edge, whose journal had it still, and is known."""
    edge = Edge((server.url,), tmp_path, "e1")
    collector = central((server.url,))
    edge.publish(100, 3)
    check([edge], collector)
    server.kill(signal.SIGTERM)
    shutil.copytree(server.store, tmp_path / "older")
    server.start()
    edge.at = edge.store.open(edge.journal)
    edge.publish(100, 3)
    check([edge], collector)
    server.kill()
    server.set_back_to(tmp_path / "older")
    server.start()
    edge.at = edge.store.open(edge.journal)
    assert edge.at == 300, "what was lost is wanted again"
    edge.publish(100, 5)
    check([edge], collector)


def kill(collector: Collector) -> None:
    """Kill a whole collector, master first."""
    assert collector.process is not None
    pids = [child["pid"] for child in collector.status()["children"] if child["pid"]]
    for pid in (collector.process.pid, *pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    collector.process.wait()


def holds(server: Server, collector: Collector) -> int:
    """Return how many partitions a collector owns."""
    name = collector.state_dir / "LOGS-collectors.member"
    return owners(server).count(name.read_text().strip()) if name.exists() else 0


def unacknowledged(server: Server) -> int:
    """Return how many messages have not come, or are not acknowledged."""

    async def read(js: Any) -> int:
        return sum(info.num_pending + info.num_ack_pending for info in await js.consumers_info("LOGS"))

    return int(ask([server.url], read))


def test_what_was_taken_meanwhile_is_not_taken_away(server: Server) -> None:
    """Two members that look at the same time want the same: the second does not get it, even if it knows by then."""

    async def contend() -> None:
        first, second = (Connection(NatsSourceSettings(servers=(server.url,)), "test", 3.0) for _ in range(2))
        for connection in (first, second):
            await connection.connect()
        groups = [Group(first, "table", "a" * 16, 4, 0.0), Group(second, "table", "b" * 16, 4, 0.0)]
        for group in groups:
            await group.join(1)
        assert groups[1].free() == [0, 1, 2, 3]
        assert await groups[0].claim(0)
        await asyncio.to_thread(wait_for, lambda: groups[1].entry(0).owner, "the second knows")
        assert not await groups[1].claim(0)
        assert await groups[1].claim(1)
        assert (groups[0].ours(), groups[1].ours()) == ({0}, {1})
        for group, connection in zip(groups, (first, second), strict=True):
            await group.leave()
            await connection.disconnect()

    asyncio.run(contend())


def owners(server: Server) -> list[str]:
    """Return the owner of each partition."""
    return [entry["owner"] for entry in table(server)]


def table(server: Server, bucket: str = "LOGS-collectors") -> list[dict[str, Any]]:
    """Return what the group's table says of each partition."""

    async def read(js: Any) -> list[dict[str, Any]]:
        table = await js.key_value(bucket)
        try:
            keys = [key for key in await table.keys() if key.startswith("partition.")]
        except NoKeysError:
            # Also what a listing says that the server has not begun in time.
            return []
        return [msgspec.json.decode((await table.get(key)).value) for key in keys]

    return ask([server.url], read)


def _foreign(server: Server, messages: list[tuple[dict[str, str], bytes]]) -> None:
    """Publish what some other user of NATS might, on the subject of a journal of its own."""
    journal = "ab" * 16
    subject = f"logs.{int(journal[:8], 16) % 16:03d}.{journal}"

    async def publish(js: Any) -> None:
        for headers, body in messages:
            await js.publish(subject, body, headers=headers)

    ask([server.url], publish)


def test_a_message_that_makes_no_sense_costs_itself_alone(server: Server, central: Central, tmp_path: Path) -> None:
    """Forged claims, damaged bodies, other forms: counted, kept in rejected.jsonl, acknowledged, and nothing built."""
    edge = Edge((server.url,), tmp_path, "e1")
    edge.publish(10)
    journal = "ab" * 16

    def head(claim: str, encoding: str = "none", numbers: str = "") -> dict[str, str]:
        more = {"Prefork-Logd-Numbers": numbers} if numbers else {}
        return {"Prefork-Logd": f"1 {journal} {claim} {encoding}"} | more

    bombs = [
        (head(f"0 {1 << 62} 0", numbers=f"0+{1 << 61}"), b""),
        (head(f"0 {1 << 39} 0", numbers=f"0+{1 << 38}"), b'{"created":1.0}\n'),
        (head(f"{1 << 39} {(1 << 39) + 5} {1 << 39}", "zstd"), b"no zstd"),
        (head(f"{(1 << 39) + 5} {(1 << 39) + 9} 0"), b'{"created":1.0}\n' * 5),
        ({}, b"hello"),
        ({"Prefork-Logd": "7 of another version"}, b""),
    ]
    _foreign(server, bombs)
    collector = central((server.url,))
    edge.publish(10)
    check([edge], collector)
    wait_for(lambda: collector.status()["sources"][0]["rejected"] >= len(bombs), "all are counted")
    source = next(child for child in collector.status()["children"] if child["kind"] == "source")
    memory = Path(f"/proc/{source['pid']}/status").read_text().partition("VmRSS:")[2].split()[0]
    assert int(memory) < 300_000
    wait_for(lambda: collector.status()["sources"][0]["messages_waiting"] == 0, "all are acknowledged")
    assert len(collector.lines("rejected.jsonl")) >= len(bombs)
