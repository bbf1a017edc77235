"""Kills, cuts and sets back edges, a real cluster and central collectors; each record must arrive once, in order.

python -m tests.torture.cluster --rounds 20 --seed 1      (make cluster)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.harness import Collector, wait_for
from tests.support.nats_proxy import Proxy
from tests.support.nats_servers import Cluster, ask
from tests.support.session_client import Faithful

FLOW_RECORDS, FLOW_PAUSE_S = 10, 0.01
"""Number of records that a client logs at once, and its pause after them."""
NAME = re.compile(r"(.+)-(\d{7})")


class World:
    """Two edges that publish to a cluster, and a central collector that reads it."""

    def __init__(self, directory: Path, cluster: Cluster, *, edges: int = 2, centrals: int = 1) -> None:
        self.cluster = cluster
        urls = json.dumps(cluster.urls)
        # The edges reach the servers through proxies, which can cut.
        self.proxies = [Proxy(server.port) for server in cluster.servers]
        through = json.dumps([proxy.url for proxy in self.proxies])
        store = (
            f'[[store]]\ntype = "nats"\nservers = {through}\nreplicas = {len(cluster.servers)}\ntimeout = "3s"\n'
            'sync_wait = "2s"\n'
        )
        self.edges = [self._collector(directory / f"edge{index}", store) for index in range(edges)]
        source = f'[[source]]\nservers = {urls}\ntimeout = "3s"\n'
        self.centrals = [self._collector(directory / f"central{index}", source) for index in range(centrals)]
        self.clients = [Faithful(edge, f"e{index}c{n}") for index, edge in enumerate(self.edges) for n in range(2)]
        self._is_flowing = False

    @staticmethod
    def _collector(state_dir: Path, toml: str) -> Collector:
        state_dir.mkdir()
        return Collector(state_dir, toml, "--workers", "1")

    def start(self) -> World:
        """Start every collector."""
        for collector in (*self.edges, *self.centrals):
            collector.start()
        return self

    @contextlib.contextmanager
    def flow(self) -> Iterator[None]:
        """Let every client log all the time inside a `with`."""
        over, failures = threading.Event(), []

        def log(client: Faithful) -> None:
            try:
                while not over.wait(FLOW_PAUSE_S):
                    client.log(FLOW_RECORDS, FLOW_RECORDS)
            except Exception as error:  # noqa: BLE001 - told by the one that waits for it
                failures.append(error)

        threads = [threading.Thread(target=log, args=(client,), daemon=True) for client in self.clients]
        for thread in threads:
            thread.start()
        self._is_flowing = True
        try:
            yield
        finally:
            self._is_flowing = False
            over.set()
            for thread in threads:
                thread.join(30)
        assert not failures, failures
        assert not any(thread.is_alive() for thread in threads)

    def log(self, records: int = 200) -> None:
        """Wait until every client has logged so many more records, each acknowledged by its edge."""
        if not self._is_flowing:
            for client in self.clients:
                client.log(records, 50)
            return
        goals = [client.acknowledged + records for client in self.clients]

        def reached() -> bool:
            return all(client.acknowledged >= goal for client, goal in zip(self.clients, goals, strict=True))

        wait_for(reached, f"{records} more records of each client", 60)

    def stored(self) -> dict[str, list[int]]:
        """Return each client's numbers in the end store; fail if a collector has them out of order."""
        found: dict[str, list[int]] = {}
        for central in self.centrals:
            here: dict[str, list[int]] = {}
            for line in central.lines():
                match = NAME.fullmatch(json.loads(line)["message"])
                assert match, line
                here.setdefault(match[1], []).append(int(match[2]))
            for name, numbers in here.items():
                assert numbers == sorted(numbers), f"{name} is out of order"
                found.setdefault(name, []).extend(numbers)
        return found

    def check(self, deadline_s: float = 60) -> None:
        """Wait until everything has arrived; fail unless each record is there once."""
        total = sum(client.sent for client in self.clients)

        def arrived() -> bool:
            return sum(len(central.lines()) for central in self.centrals) >= total

        try:
            wait_for(arrived, f"{total} records arrived", deadline_s)
        finally:
            found = {name: sorted(numbers) for name, numbers in self.stored().items()}
        for client in self.clients:
            numbers = found[client.name]
            assert numbers == list(range(1, client.sent + 1)), (
                f"{client.name}: {len(numbers)} of {client.sent}, {len(set(numbers))} different"
            )

    def kill(self, collector: Collector) -> None:
        """Kill a whole collector, master first, and start it again."""
        assert collector.process is not None
        pids = [child["pid"] for child in collector.status()["children"] if child["pid"]]
        os.kill(collector.process.pid, signal.SIGKILL)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        collector.process.wait()
        collector.start()

    def shipped(self) -> list[int]:
        """Return the number of records that each edge has passed to the stream since its start."""
        return [edge.status()["stores"][0]["records"] for edge in self.edges]

    def lag(self) -> int:
        """Return how many records wait in the edges' journals."""
        return sum(edge.status()["stores"][0]["lag_records"] or 0 for edge in self.edges)

    def close(self) -> None:
        """End everything."""
        for client in self.clients:
            client.close()
        for collector in (*self.edges, *self.centrals):
            collector.clean_up()
        for proxy in self.proxies:
            proxy.close()
        self.cluster.close()


FAULTS: dict[str, Callable[[World, random.Random], None]] = {}
"""Name to the function of a fault."""


def fault(name: str) -> Callable[[Callable[[World, random.Random], None]], Callable[[World, random.Random], None]]:
    """Register a fault under a name."""

    def named(do: Callable[[World, random.Random], None]) -> Callable[[World, random.Random], None]:
        FAULTS[name] = do
        return do

    return named


@fault("a server is killed and comes back")
def _kill_server(world: World, chance: random.Random) -> None:
    server = chance.choice(world.cluster.servers)
    server.kill()
    world.log()
    server.start()


@fault("the leader is killed and comes back")
def _kill_leader(world: World, chance: random.Random) -> None:
    server = world.cluster.leader("LOGS")
    server.kill()
    world.log()
    server.start()


@fault("two of three are killed and come back")
def _kill_two(world: World, chance: random.Random) -> None:
    some = chance.sample(world.cluster.servers, 2)
    for server in some:
        server.kill()
    world.log()
    for server in some:
        server.start()


@fault("all are killed and come back")
def _kill_all(world: World, chance: random.Random) -> None:
    for server in world.cluster.servers:
        server.kill()
    world.log()
    for server in world.cluster.servers:
        server.start(wait=False)


@fault("the stream is set back to an older copy")
def _set_back(world: World, chance: random.Random) -> None:
    servers = world.cluster.servers
    for server in servers:
        server.kill(signal.SIGTERM)
    for server in servers:
        shutil.rmtree(server.directory / f"{server.name}.copy", ignore_errors=True)
        shutil.copytree(server.store, server.directory / f"{server.name}.copy")
        server.start(wait=False)
    before = world.shipped()
    world.log()
    # Published and perhaps read; then the stream loses it.
    wait_for(
        lambda: all(now >= then + 400 for now, then in zip(world.shipped(), before, strict=True)), "it is published", 60
    )
    for server in servers:
        server.kill()
    for server in servers:
        server.set_back_to(server.directory / f"{server.name}.copy")
        server.start(wait=False)


@fault("an edge is killed")
def _kill_edge(world: World, chance: random.Random) -> None:
    world.kill(chance.choice(world.edges))


@fault("a central collector is killed")
def _kill_central(world: World, chance: random.Random) -> None:
    world.kill(chance.choice(world.centrals))


@fault("a child of any collector is killed")
def _kill_child(world: World, chance: random.Random) -> None:
    collector = chance.choice([*world.edges, *world.centrals])
    pids = [child["pid"] for child in collector.status()["children"] if child["pid"] and child["kind"] != "worker"]
    with contextlib.suppress(ProcessLookupError):
        os.kill(chance.choice(pids), signal.SIGKILL)


@fault("the edges' links are cut, and come back")
def _cut(world: World, chance: random.Random) -> None:
    for proxy in world.proxies:
        proxy.cut()
    world.log(100)
    for proxy in world.proxies:
        proxy.mend()


@fault("acknowledgements are lost: what servers say does not arrive, then the link is cut")
def _deafen(world: World, chance: random.Random) -> None:
    for proxy in world.proxies:
        proxy.deafen()
    world.log(100)
    for proxy in world.proxies:
        proxy.cut()
        proxy.mend()


@fault("everything is delivered again")
def _redeliver(world: World, chance: random.Random) -> None:
    async def forget(js: Any) -> None:
        for consumer in await js.consumers_info("LOGS"):
            with contextlib.suppress(Exception):
                await js.delete_consumer("LOGS", consumer.name)

    with contextlib.suppress(Exception):
        ask(world.cluster.urls, forget)


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="each round has every fault once, in another order")
    parser.add_argument("--centrals", type=int, default=2)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        world = World(directory, Cluster(directory).start(), centrals=options.centrals)
        try:
            world.start()
            for number in range(options.rounds):
                for what in chance.sample(sorted(FAULTS), len(FAULTS)):
                    began_s = time.monotonic()
                    with world.flow():
                        world.log()
                        FAULTS[what](world, chance)
                        world.log()
                    world.check(120)
                    total = sum(client.sent for client in world.clients)
                    print(
                        f"round {number + 1}: {what}: {total} records, each once and in order "
                        f"({time.monotonic() - began_s:.1f} s)", flush=True,
                    )  # fmt: skip
        except AssertionError as error:
            print(f"seed {options.seed}: {error}", file=sys.stderr)
            return 1
        finally:
            world.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
