"""Cuts links, partitions the leader and kills hosts in network namespaces, while services log.

python -m tests.torture.namespaces --seed 1        (needs root and `ip`; not part of the suite)

Three NATS servers, two edges, two central collectors and two more hosts with services each have a network namespace of
their own, behind one bridge, and the configuration of examples/cluster/. Two services log on the edges' own hosts, two
come over the bridge. After each fault everything logged until then must arrive: each record once, and in the
order of its service at each central collector. The result has one line for each fault.

Everything is removed at the end, also after a failure. The next run removes the remains of a killed one.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import logging
import os
import random
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.support.harness import Collector, wait_for
from tests.support.nats_servers import Server, ask

EXAMPLE = Path(__file__).parents[2] / "examples" / "cluster"
PREFIX = "plogd-"
NETWORK = "10.231.77"
HUB, NODES, EDGES, CENTRALS, GUESTS = "hub", ("n1", "n2", "n3"), ("e1", "e2"), ("c1", "c2"), ("s1", "s2")
HOSTS = (*NODES, *EDGES, *CENTRALS, *GUESTS)
NOWHERE = "02:00:00:00:00:99"
PORT, ROUTES, LISTEN = 4222, 6222, 9020
ARRIVE_S = 180.0
MESSAGE = re.compile(rb'"message":"(\w+)-(\d{8})"')


def ip(*words: str, check: bool = True) -> str:
    """Run ip."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


def address(host: str) -> str:
    """Return a host's address."""
    return f"{NETWORK}.{HOSTS.index(host) + 10}"


class Network:
    """Namespaces, each with a link to one bridge; this process is in the bridge's own."""

    def __init__(self) -> None:
        self.remove()
        for name in (HUB, *HOSTS):
            ip("netns", "add", PREFIX + name)
            self._at(name, "link", "set", "lo", "up")
        self._at(HUB, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        self._at(HUB, "link", "set", "br0", "up")
        self._at(HUB, "addr", "add", f"{NETWORK}.1/24", "dev", "br0")
        for host in HOSTS:
            self._at(HUB, "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", PREFIX + host)
            self._at(HUB, "link", "set", host, "master", "br0", "up")
            self._at(host, "addr", "add", f"{address(host)}/24", "dev", "eth0")
            self._at(host, "link", "set", "eth0", "up")
        with Path(f"/var/run/netns/{PREFIX}{HUB}").open() as namespace:
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.setns(namespace.fileno(), 0) == 0, os.strerror(ctypes.get_errno())

    @staticmethod
    def _at(name: str, *words: str) -> None:
        ip("-n", PREFIX + name, *words)

    def cut(self, host: str) -> None:
        """Take a host's link down, at the bridge."""
        self._at(HUB, "link", "set", host, "down")

    def mend(self, host: str) -> None:
        """Take it up again."""
        self._at(HUB, "link", "set", host, "up")

    def part(self, one: str, other: str) -> None:
        """Drop all packets between two hosts without an error."""
        for here, there in ((one, other), (other, one)):
            self._at(here, "neigh", "replace", address(there), "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent")

    def join(self, one: str, other: str) -> None:
        """Pass packets between them again."""
        for here, there in ((one, other), (other, one)):
            self._at(here, "neigh", "del", address(there), "dev", "eth0")

    @staticmethod
    def inside(host: str) -> tuple[str, ...]:
        """Return the beginning of a command that runs on a host."""
        return ("ip", "netns", "exec", PREFIX + host)

    @staticmethod
    def remove() -> None:
        """Remove every namespace of ours, and with them their links."""
        for line in ip("netns", "list").splitlines():
            name = line.split()[0]
            if name.startswith(PREFIX):
                ip("netns", "del", name)


class Node(Server):
    """A server on a host of its own."""

    def __init__(self, directory: Path, host: str) -> None:
        routes = ", ".join(f'"nats://{address(other)}:{ROUTES}"' for other in NODES)
        extra = f'cluster {{ name: logs, listen: "{address(host)}:{ROUTES}", routes: [{routes}] }}\n'
        super().__init__(directory, host, PORT, extra, host=address(host))
        self.prefix = Network.inside(host)


class Service:
    """A process that logs with our handler until it is stopped."""

    def __init__(self, host: str, edge: str, directory: Path, rate: int) -> None:
        self.name = f"{host}to{edge}"
        self._progress = directory / f"{self.name}.progress"
        self._progress.write_bytes(bytes(8))
        command = [sys.executable, "-m", "tests.torture.namespaces", "--service", self.name]
        command += ["--address", address(edge), "--rate", str(rate), "--progress", str(self._progress)]
        self.process = subprocess.Popen(
            [*Network.inside(host), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def logged(self) -> int:
        """How many records it has logged by now."""
        return int(struct.unpack("Q", self._progress.read_bytes())[0])

    def end(self) -> int:
        """Wait until it has sent all records; return their number. None may be dropped."""
        said, _ = self.process.communicate(timeout=120)
        counts = json.loads(said)
        assert counts["dropped"] == 0, counts
        assert counts["acknowledged"] == self.logged, (counts, self.logged)
        return self.logged

    def close(self) -> None:
        """End it in any state."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def serve(name: str, host: str, rate: int, progress: Path) -> None:
    """Log until the end of standard input: the main function of a service."""
    from prefork_logd.handlers import SocketHandler

    handler = SocketHandler(host, LISTEN, overflow="block", block_timeout=3600, close_timeout=90)
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    number, began_s = 0, time.monotonic()
    with progress.open("r+b", buffering=0) as file:
        while not select.select([sys.stdin], [], [], 0.01)[0]:
            for number in range(number + 1, int((time.monotonic() - began_s) * rate) + 1):  # noqa: B020
                logger.info("%s-%08d", name, number)
            os.pwrite(file.fileno(), struct.pack("Q", number), 0)
    handler.flush()
    handler.close()
    print(json.dumps(dict(handler.counters())))


class World:
    """All hosts and their processes."""

    def __init__(self, directory: Path, rate: int) -> None:
        self.network = Network()
        self.nodes = {host: Node(directory, host) for host in NODES}
        self.urls = tuple(node.url for node in self.nodes.values())
        self.edges = {host: self._collector(directory, host, "edge.toml") for host in EDGES}
        self.centrals = {host: self._collector(directory, host, "central.toml") for host in CENTRALS}
        self.services: list[Service] = []
        self._directory = directory
        self._rate = rate

    def _collector(self, directory: Path, host: str, example: str) -> Collector:
        toml = (EXAMPLE / example).read_text()
        for index, node in enumerate(NODES):
            toml = toml.replace(f"logs{index + 1}:", f"{address(node)}:")
        (directory / host).mkdir()
        return Collector(directory / host, f"{toml}", "--workers", "1", "--bind", f"{address(host)}:{LISTEN}")

    def start(self) -> None:
        """Start everything."""
        for node in self.nodes.values():
            node.start(wait=False)
        for node in self.nodes.values():
            node.wait()
        for host, collector in (*self.edges.items(), *self.centrals.items()):
            collector.start(*Network.inside(host))
        for host, edge in (("e1", "e1"), ("e2", "e2"), ("s1", "e1"), ("s2", "e2")):
            self.services.append(Service(host, edge, self._directory, self._rate))

    def kill(self, host: str) -> None:
        """Kill all processes of a host at once, as by a power failure."""
        for pid in map(int, ip("netns", "pids", PREFIX + host).split()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        collector = self.edges.get(host) or self.centrals.get(host)
        process = self.nodes[host].process if collector is None else collector.process
        assert process is not None
        process.wait()

    def restart(self, host: str) -> None:
        """Start a killed host again."""
        if host in self.nodes:
            self.nodes[host].start()
        else:
            (self.edges.get(host) or self.centrals[host]).start(*Network.inside(host))

    def leader(self, away: str = "") -> str:
        """Return the leader of the stream, as reported by the hosts that are not `away`; "" if there is none."""
        urls = [node.url for host, node in self.nodes.items() if host != away]
        with contextlib.suppress(Exception):
            found = ask(urls, lambda js: js.stream_info("LOGS")).cluster.leader or ""
            return found if found != away else ""
        return ""

    def wait_leader(self, away: str = "") -> str:
        """Wait until a host leads the stream."""
        return str(wait_for(lambda: self.leader(away), "there is a leader", 60))

    def stored(self) -> dict[str, Counter[int]]:
        """Return the number of copies of each record of each service; fail if one is out of order."""
        found: dict[str, Counter[int]] = {service.name: Counter() for service in self.services}
        for host, central in self.centrals.items():
            last: dict[str, int] = {}
            path = central.state_dir / "records.jsonl"
            data = path.read_bytes() if path.exists() else b""
            for name, digits in MESSAGE.findall(data[: data.rfind(b"\n") + 1]):
                service, number = name.decode(), int(digits)
                assert number > last.get(service, 0), f"{host}: {service}-{number} after {last[service]}"
                last[service] = number
                found[service][number] += 1
        return found

    def check(self, wanted: dict[str, int]) -> int:
        """Wait until everything up to the wanted numbers has arrived; fail unless each record is there once."""
        found: dict[str, Counter[int]] = {}

        def arrived() -> bool:
            nonlocal found
            # Each check reads all stored records.
            time.sleep(0.3)
            found = self.stored()
            return all(len(found[name]) >= count for name, count in wanted.items())

        try:
            wait_for(arrived, f"{wanted} arrived", ARRIVE_S)
        except AssertionError as error:
            missing = {name: count - len(found[name]) for name, count in wanted.items()}
            raise AssertionError(f"{error}; missing: {missing}") from None
        for name, count in wanted.items():
            twice = [number for number, times in found[name].items() if times != 1]
            assert not twice, f"{name}: {len(twice)} records are there twice, {twice[:3]}"
            assert all(number in found[name] for number in range(1, count + 1)), f"{name} has holes"
        return sum(len(numbers) for numbers in found.values())

    def logged(self) -> dict[str, int]:
        """Return the number of records that each service has logged."""
        return {service.name: service.logged for service in self.services}

    def finish(self) -> int:
        """End the services, and check that each record is stored once; return their number."""
        wanted = {service.name: service.end() for service in self.services}
        total = self.check(wanted)
        assert total == sum(wanted.values()), (total, wanted)
        return total

    def close(self) -> None:
        """End everything."""
        for service in self.services:
            service.close()
        for collector in (*self.edges.values(), *self.centrals.values()):
            with contextlib.suppress(Exception):
                collector.clean_up()
        for node in self.nodes.values():
            node.close()
        for host in HOSTS:
            for pid in ip("netns", "pids", PREFIX + host, check=False).split():
                print(f"left on {host}: {pid}", file=sys.stderr)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        self.network.remove()


FAULTS: dict[str, Callable[[World, random.Random], None]] = {}
"""Name to the function of a fault."""


def fault(name: str) -> Callable[[Callable[[World, random.Random], None]], Callable[[World, random.Random], None]]:
    """Register a fault under a name."""

    def named(do: Callable[[World, random.Random], None]) -> Callable[[World, random.Random], None]:
        FAULTS[name] = do
        return do

    return named


def _for_a_while(world: World, seconds: float) -> None:
    """Let services log for so long."""
    before, end = sum(world.logged().values()), time.monotonic() + seconds
    wait_for(lambda: time.monotonic() > end and sum(world.logged().values()) > before, "services log", 60)


@fault("a server's link goes down for 5 s")
def _cut_server(world: World, chance: random.Random) -> None:
    leader = world.wait_leader()
    host = chance.choice([host for host in NODES if host != leader])
    world.network.cut(host)
    _for_a_while(world, 5)
    world.network.mend(host)


@fault("the leader's link goes down until another leads, and 5 s more")
def _cut_leader(world: World, chance: random.Random) -> None:
    leader = world.wait_leader()
    world.network.cut(leader)
    world.wait_leader(leader)
    _for_a_while(world, 5)
    world.network.mend(leader)


@fault("the leader is cut off from the other servers, not from collectors, until another leads, and 5 s more")
def _part_leader(world: World, chance: random.Random) -> None:
    leader = world.wait_leader()
    others = [host for host in NODES if host != leader]
    for other in others:
        world.network.part(leader, other)
    world.wait_leader(leader)
    _for_a_while(world, 5)
    for other in others:
        world.network.join(leader, other)


@fault("the leader and an edge are cut off from all others, together, for 8 s")
def _part_side(world: World, chance: random.Random) -> None:
    leader, edge = world.wait_leader(), chance.choice(EDGES)
    pairs = [(one, other) for one in (leader, edge) for other in HOSTS if other not in {leader, edge}]
    for pair in pairs:
        world.network.part(*pair)
    _for_a_while(world, 8)
    for pair in pairs:
        world.network.join(*pair)


@fault("the leader is killed and comes back")
def _kill_leader(world: World, chance: random.Random) -> None:
    leader = world.wait_leader()
    world.kill(leader)
    _for_a_while(world, 3)
    world.restart(leader)


@fault("two servers are killed and come back")
def _kill_two(world: World, chance: random.Random) -> None:
    some = chance.sample(NODES, 2)
    for host in some:
        world.kill(host)
    _for_a_while(world, 3)
    for host in some:
        world.restart(host)


@fault("an edge's link goes down for 5 s")
def _cut_edge(world: World, chance: random.Random) -> None:
    host = chance.choice(EDGES)
    world.network.cut(host)
    _for_a_while(world, 5)
    world.network.mend(host)


@fault("a central collector's link goes down for 8 s")
def _cut_central(world: World, chance: random.Random) -> None:
    host = chance.choice(CENTRALS)
    world.network.cut(host)
    _for_a_while(world, 8)
    world.network.mend(host)


@fault("a service's link goes down for 5 s")
def _cut_service(world: World, chance: random.Random) -> None:
    host = chance.choice(GUESTS)
    world.network.cut(host)
    _for_a_while(world, 5)
    world.network.mend(host)


@fault("all links go down for 5 s")
def _cut_all(world: World, chance: random.Random) -> None:
    for host in HOSTS:
        world.network.cut(host)
    _for_a_while(world, 5)
    for host in HOSTS:
        world.network.mend(host)


@fault("a link flaps, ten times in 5 s")
def _flap(world: World, chance: random.Random) -> None:
    host = chance.choice((*NODES, *EDGES, *CENTRALS))
    for _ in range(10):
        world.network.cut(host)
        _for_a_while(world, 0.25)
        world.network.mend(host)
        _for_a_while(world, 0.25)


@fault("a central collector is killed while the leader is cut off; both come back")
def _kill_central(world: World, chance: random.Random) -> None:
    leader, central = world.wait_leader(), chance.choice(CENTRALS)
    world.network.cut(leader)
    world.kill(central)
    _for_a_while(world, 3)
    world.restart(central)
    world.network.mend(leader)


@fault("an edge is killed while two servers are cut off; all come back")
def _kill_edge(world: World, chance: random.Random) -> None:
    edge, some = chance.choice(EDGES), chance.sample(NODES, 2)
    for host in some:
        world.network.cut(host)
    _for_a_while(world, 2)
    # Only the collector: a service on the same host would lose its unacknowledged records.
    collector = world.edges[edge]
    assert collector.process is not None
    pids = [child["pid"] for child in collector.status()["children"] if child["pid"]]
    for pid in (collector.process.pid, *pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    collector.process.wait()
    _for_a_while(world, 2)
    world.restart(edge)
    for host in some:
        world.network.mend(host)


def run(options: argparse.Namespace, directory: Path) -> None:
    """Run each fault once in each round."""
    chance = random.Random(options.seed)
    world = World(directory, options.rate)
    try:
        world.start()
        _for_a_while(world, 1)
        world.check(world.logged())
        for number in range(options.rounds):
            for what in chance.sample(sorted(FAULTS), len(FAULTS)):
                if options.only not in what:
                    continue
                _for_a_while(world, 0.5)
                began_s, before = time.monotonic(), sum(world.logged().values())
                FAULTS[what](world, chance)
                fault_s = time.monotonic() - began_s
                wanted = world.logged()
                world.check(wanted)
                took_s = time.monotonic() - began_s - fault_s
                print(
                    f"round {number + 1}: {what}: {sum(wanted.values()) - before:,} records in {fault_s:.1f} s, "
                    f"all there {took_s:.1f} s after, each once and in order", flush=True,
                )  # fmt: skip
        total = world.finish()
        print(f"{total:,} records logged, acknowledged and stored at the centre, each once and in order", flush=True)
        traces = [line for c in (*world.edges.values(), *world.centrals.values()) for line in c.log.splitlines()
                  if "Traceback" in line]  # fmt: skip
        assert not traces, traces
    finally:
        world.close()


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="each has every fault once, in another order")
    parser.add_argument("--rate", type=int, default=500, help="records a second of each of four services")
    parser.add_argument("--only", default="", help="only faults with this in their names")
    parser.add_argument("--keep", type=Path, help="where to leave configurations, logs and what is stored")
    for name in ("--service", "--address", "--progress"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.service:
        serve(options.service, options.address, options.rate, Path(options.progress))
        return 0
    if os.geteuid() != 0:
        print("network namespaces need root", file=sys.stderr)
        return 1
    with contextlib.ExitStack() as stack:
        name = options.keep or stack.enter_context(tempfile.TemporaryDirectory())
        Path(name).mkdir(exist_ok=True, parents=True)
        try:
            run(options, Path(name))
        except AssertionError as error:
            print(f"seed {options.seed}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
