"""How much a store costs ingest, and how soon it has the records.

Runs the whole collector with each store and without, in turn. Measures how long after its sending `tail -f` shows a
record, and how long each store needs to catch up after a burst. PostgreSQL's server runs on the same cores, where its
programs are found.
"""

from __future__ import annotations

import dataclasses
import itertools
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import _report
import _servers
import _trial
from _generator import generator
from _records import Buffer, frame
from _report import Report, Spread, Target

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from prefork_logd.ipc.command_socket import send_command
from tests.support.postgresql import Server as PostgresqlServer
from tests.support.postgresql import find_programs

try:
    import psycopg
except ImportError:  # as in an installation without PostgreSQL
    psycopg = None

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from _records import Mix
    from _servers import Server

_KEPT = 0.85
"""The part of its rate that ingest is to keep."""
_CONNECTIONS = 100
_BURST_PIECE = 500_000
_TAILED = 300
_TAIL_PAUSE_S = 0.01
_TAIL_MS = 100.0
_MEMORY_MB = 150.0
_COPIES = 4
"""How often a record is written with a store: to the output, the journal, the store and a database's own log."""
_PARTS = ("ingest", "tail", "burst")
_STEP_S = 0.05
_LONGEST_S = 300.0


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, help="default: 5; short: 3")
    parser.add_argument(
        "--ingest-records", type=int, help="in one run of the collector (default: 600,000; short: 200,000)"
    )
    parser.add_argument("--fleet", action="store_true", help="send the records of a mixed fleet through, too")
    parser.add_argument("--burst", type=int, help="records of the burst (default: 5,000,000; short: none)")
    parser.add_argument(
        "--only", nargs="+", choices=_PARTS, default=_PARTS, help="what is measured; default: everything"
    )
    options = parser.parse_args(argv)
    options.ingest_records = options.ingest_records or (200_000 if options.short else 600_000)
    options.burst = (0 if options.short else 5_000_000) if options.burst is None else options.burst
    options.runs = options.runs or (3 if options.short else 5)
    return options


class Stores:
    """The stores that a collector is measured with, by name, each with what configures it."""

    def __init__(self) -> None:
        self.toml = {"Parquet": '[[store]]\ntype = "parquet"\n'}
        self._database: PostgresqlServer | None = None
        self._schemas = itertools.count()
        programs = find_programs() if psycopg is not None else None
        if programs is None:
            print(
                "NO POSTGRESQL: psycopg or the server's programs are not here; Parquet files are measured", flush=True
            )
        else:
            self._database = PostgresqlServer(programs, shared_buffers="1GB", max_wal_size="8GB").start()
            self.toml["PostgreSQL"] = ""

    def with_store(self, server: Server, name: str, keys: str = "") -> Server:
        """Return the collector with an empty store, and these `keys` in its table."""
        toml = self.toml[name]
        if name == "PostgreSQL":
            assert self._database is not None
            toml = f'[[store]]\ntype = "postgresql"\ndsn = "{self._database.dsn}"\nschema = "s{next(self._schemas)}"\n'

        def configure(directory: Path, port: int) -> list[str]:
            command = server.configure(directory, port)
            config = directory / "prefork-logd.toml"
            config.write_text(config.read_text().replace("store = []\n", "", 1) + toml + keys)
            return command

        return dataclasses.replace(server, name=f"{server.name} with {name}", configure=configure)

    def forget(self) -> None:
        """Drop what runs before have left in PostgreSQL: it is no part of the next one."""
        if self._database is not None:
            with psycopg.connect(self._database.dsn, autocommit=True) as connection:
                for (schema,) in connection.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '^s[0-9]+$'"):
                    connection.execute(f"DROP SCHEMA {schema} CASCADE")
                connection.execute("CHECKPOINT")

    def close(self) -> None:
        """Remove the server."""
        if self._database is not None:
            self._database.remove()


def ingest(options: argparse.Namespace, report: Report, stores: Stores) -> None:
    """Push the same records through the collector with and without a store, in turn."""
    mixes: tuple[Mix, ...] = ("uniform", "fleet") if options.fleet else ("uniform",)
    buffers = {mix: Buffer("stdlib", mix=mix) for mix in mixes}
    found: dict[Mix, dict[str, list[_trial.Trial]]] = {
        mix: {name: [] for name in ("no store", *stores.toml)} for mix in mixes
    }
    for _ in range(options.runs):
        for mix in mixes:
            plain = _servers.prefork_logd(options.workers, options.durability, mix=mix)
            for name, trials in found[mix].items():
                server = plain if name == "no store" else stores.with_store(plain, name)
                trials.append(
                    _trial.run(server, buffers[mix], options.ingest_records, _CONNECTIONS, options.scratch, _COPIES)
                )
                report.whole = report.whole and not trials[-1].count.lost
                stores.forget()
    report.results["ingest"] = {
        _label(name, mix): [trial.as_dict() for trial in trials] for mix in mixes for name, trials in found[mix].items()
    }
    rows = []
    for mix in mixes:
        for name, trials in found[mix].items():
            kept = Spread.of(
                ours.records_per_s / max(1.0, theirs.records_per_s)
                for ours, theirs in zip(trials, found[mix]["no store"], strict=True)
            )
            rate = Spread.of(trial.records_per_s for trial in trials).text()
            memory = Spread.of(trial.peak_memory_bytes / 1e6 for trial in trials)
            is_plain = name == "no store"
            rows.append([_label(name, mix), rate, "" if is_plain else kept.text(".2f"), memory.text()])
            if not is_plain:
                what = f"ingest with {_label(name, mix)}, part of its rate without a store"
                report.targets.append(Target(what, f"{_KEPT} or more", kept.text(".2f"), kept.median >= _KEPT))
            if name == "Parquet":
                what = f"memory of all, {_label(name, mix)}, under load"
                met = memory.median < _MEMORY_MB
                report.targets.append(Target(what, f"below {_MEMORY_MB:.0f} MB", f"{memory.text()} MB", met))
    report.table(
        f"into the file from {_CONNECTIONS} connections, median (least-most) of {options.runs} runs",
        ("collector", "records/s", "of the rate without", "MB of all processes"),
        rows,
    )


def _label(name: str, mix: Mix) -> str:
    return name if mix == "uniform" else f"{name}, {mix} mix"


def burst(options: argparse.Namespace, report: Report, stores: Stores) -> None:
    """Push many records through, and wait until each store has them all."""
    report.results["burst"] = {name: _burst(options, report, stores, name) for name in stores.toml}
    report.table(
        "a burst, until the store has every record",
        ("store", "records", "sent in s", "stored in s", "most that waited", "stored a second"),
        [
            [
                name,
                f"{one['records']:,}",
                f"{one['sent_s']:.1f}",
                f"{one['stored_s']:.1f}",
                f"{one['most_lag_records']:,}",
                f"{one['records'] / one['stored_s']:,.0f}",
            ]
            for name, one in report.results["burst"].items()
        ],
    )


def _burst(options: argparse.Namespace, report: Report, stores: Stores, name: str) -> dict[str, float]:
    """Do it with one store, and return what was found."""
    buffer = Buffer("stdlib")
    plain = _servers.prefork_logd(options.workers, options.durability)
    # The end of a burst fills no batch, and would wait in the journal for five minutes.
    server = stores.with_store(plain, name, 'batch_time = "1s"\n' if name == "Parquet" else "")
    with _servers.serving(server, options.scratch) as live:
        state_dir, most = live.output.parent, 0
        shares = buffer.shares(min(_BURST_PIECE, options.burst), _CONNECTIONS)
        begin = time.monotonic()
        for _ in range(max(1, options.burst // _BURST_PIECE)):
            with generator(live.address, shares) as load:
                load.go()
                load.times(_LONGEST_S)
            most = max(most, send_command(state_dir, "status", 20)["stores"][0]["lag_records"] or 0)
        sent_s = time.monotonic() - begin
        wanted = max(1, options.burst // _BURST_PIECE) * min(_BURST_PIECE, options.burst) + live.warmed_up
        while True:
            (store,) = send_command(state_dir, "status", 20)["stores"]
            if store["records"] >= wanted and not store["lag_records"]:
                break
            if time.monotonic() - begin > _LONGEST_S:
                report.whole = False
                break
            time.sleep(_STEP_S)
        done_s = time.monotonic() - begin
    stores.forget()
    left = store["lag_records"]
    measured = f"{left:,} left {done_s - sent_s:.0f} s after the burst"
    report.targets.append(Target(f"lag of {name} after a burst of {wanted:,}", "back to 0", measured, not left))
    return {
        "records": wanted, "sent_s": round(sent_s, 2), "stored_s": round(done_s, 2), "most_lag_records": most,
        "left": left,
    }  # fmt: skip


def tail(options: argparse.Namespace, report: Report, stores: Stores) -> None:
    """Send records one by one, and see how long after its sending each comes out of `tail -f`."""
    server = stores.with_store(_servers.prefork_logd(options.workers, options.durability), "Parquet")
    delays_ms: list[float] = []
    with _servers.serving(server, options.scratch) as live:
        state_dir = live.output.parent
        flags = ["--config", str(state_dir / "prefork-logd.toml"), "--state-dir", str(state_dir)]
        with subprocess.Popen(
            [sys.executable, "-m", "prefork_logd", *flags, "tail", "-n", "1", "-f", "--format", "json"],
            stdout=subprocess.PIPE, env=_servers.environment(), cwd=state_dir,
        ) as follower:  # fmt: skip
            assert follower.stdout is not None
            try:
                follower.stdout.readline()  # a warm-up record: it reads
                with socket.create_connection(live.address) as client:
                    for number in range(_TAILED):
                        begin = time.monotonic()
                        client.sendall(frame(number, created=time.time()))
                        line = follower.stdout.readline()
                        delays_ms.append(1000 * (time.monotonic() - begin))
                        report.whole = report.whole and b"`%09d" % number in line
                        time.sleep(_TAIL_PAUSE_S)
            finally:
                follower.kill()
    spread = Spread.of(delays_ms)
    p99 = sorted(delays_ms)[int(0.99 * len(delays_ms))]
    report.results["tail_ms"] = [round(delay, 3) for delay in delays_ms]
    report.table(
        f"milliseconds from a record's sending to its line from `tail -f`, {_TAILED} records",
        ("median (least-most)", "99th percentile"),
        [[spread.text(".1f"), f"{p99:.1f}"]],
    )
    report.targets.append(Target("tail -f, 99th percentile", "below 100 ms", f"{p99:.1f} ms", p99 < _TAIL_MS))


def main(argv: Sequence[str] | None = None) -> Report:
    """Run it and return the results."""
    options = parse(argv)
    report = Report("stores", _report.settings(options))
    print(f"stores: {_report.headline()}")
    stores = Stores()
    try:
        if "ingest" in options.only:
            ingest(options, report, stores)
        if "tail" in options.only:
            tail(options, report, stores)
        if "burst" in options.only and options.burst:
            burst(options, report, stores)
    finally:
        stores.close()
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
