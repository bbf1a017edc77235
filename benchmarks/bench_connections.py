"""What an idle connection costs: memory and CPU with 1,000 and 5,000 of them, and the busy ones beside them.

Memory is what the server's whole tree has of its own (mapped files left out, shared pages counted once), before and
after; what the kernel keeps for a socket is the same for every server and is left out. Each connection is measured
twice: when it has only been opened, and after it has sent one record, as a service's has. The slope between two counts
tells what one more costs, without what a server takes once.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

import _report
import _servers
import _trial
from _generator import connect
from _processes import cpu_s, descriptors, memory_bytes, raise_descriptor_limit, wait_until
from _records import Buffer, frame
from _report import Report, Spread, Target, warm_memory
from _servers import serving
from _verify import marks

if TYPE_CHECKING:
    import argparse
    import socket
    from collections.abc import Iterator, Sequence

    from _servers import Live, Server

WANTED_BYTES = 2.4 * 1024
"""The best of the C collectors, syslog-ng."""
_BUSY = 100
_SETTLE_S = 0.5
_WARM_UP_RECORDS = 64
"""Few: what a busy start leaves free in a server's heap would hide what connections take."""
_WARM_UP_BUSY_S = 0.3


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--idle-seconds", type=float, help="over which CPU is measured (default: 5; short: 1)")
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs beside idle connections (default: 5)")
    parser.add_argument("--records", type=int, default=100_000, help="sent by the busy connections in a run")
    options = parser.parse_args(argv)
    options.idle_seconds = options.idle_seconds or (1.0 if options.short else 5.0)
    return options


@contextlib.contextmanager
def idle(live: Live, count: int) -> Iterator[list[socket.socket]]:
    """Hold connections that the server has accepted, all of them; close them after.

    Raises RuntimeError when it does not take so many.
    """
    before = descriptors(live.running.pid)
    held: list[socket.socket] = []
    try:
        # In portions smaller than a backlog, so that no attempt has to be repeated by the kernel a second later.
        while len(held) < count:
            held.extend(connect(live.address) for _ in range(min(100, count - len(held))))
            if not wait_until(lambda: descriptors(live.running.pid) >= before + len(held), 20, 0.01):
                taken = descriptors(live.running.pid) - before
                raise RuntimeError(f"{live.server.name} has accepted {taken} of {len(held)} connections")
        yield held
    finally:
        for connection in held:
            connection.close()


def cost(server: Server, count: int, options: argparse.Namespace) -> dict[str, float]:
    """Return what `count` connections cost a fresh server: bytes each when opened and after a record, CPU share."""
    with serving(server, options.scratch, _WARM_UP_RECORDS) as live:
        root = live.running.pid
        time.sleep(_SETTLE_S)
        empty = memory_bytes(root, own=True)
        with idle(live, count) as held:
            time.sleep(_SETTLE_S)
            opened = memory_bytes(root, own=True)
            stored = marks(live.output) if live.output.exists() else 0
            for number, connection in enumerate(held):
                connection.sendall(frame(number, server.wire))
            wait_until(lambda: live.output.exists() and marks(live.output) >= stored + count, 15, 0.05)
            time.sleep(_SETTLE_S)
            used, begin = cpu_s(root), time.monotonic()
            time.sleep(options.idle_seconds)
            share = (cpu_s(root) - used) / (time.monotonic() - begin)
            after = memory_bytes(root, own=True)
    return {
        "connections": count,
        "opened_bytes_each": (opened - empty) / count,
        "used_bytes_each": (after - empty) / count,
        "idle_cpu_share": share,
        "tree_bytes": after,
    }


def beside(server: Server, buffer: Buffer, idle_count: int, options: argparse.Namespace) -> _trial.Trial:
    """Return one throughput run of busy connections beside idle ones."""
    shares = buffer.shares(options.records, _BUSY)
    warm_memory(sum(share.nbytes for share in shares) * 5 // 4, options.scratch)
    with serving(server, options.scratch) as live, idle(live, idle_count):
        time.sleep(_WARM_UP_BUSY_S)
        return _trial.push(live, shares, options.records)


def _measure_cost(report: Report, servers: list[Server], options: argparse.Namespace) -> None:
    rows = []
    for server in servers:
        ours = server.name.startswith("prefork")
        for count in options.counts if ours or not options.short else [max(options.counts)]:
            try:
                found = cost(server, count, options)
            except RuntimeError as error:
                print(f"*** {server.name} left out: {error}", file=sys.stderr)
                continue
            report.results.setdefault("idle", {}).setdefault(server.name, []).append(found)
            first = report.results["idle"][server.name][0]
            more = count - first["connections"]
            slope = (found["tree_bytes"] - first["tree_bytes"]) / more / 1024 if more else None
            opened, used, share = (found[key] for key in ("opened_bytes_each", "used_bytes_each", "idle_cpu_share"))
            rows.append(
                [
                    server.name,
                    f"{count:,}",
                    f"{opened / 1024:.2f}",
                    f"{used / 1024:.2f}",
                    "" if slope is None else f"{slope:.2f}",
                    f"{share:.2%}",
                    f"{found['tree_bytes'] / 2**20:.0f}",
                ]
            )
            if ours:
                report.targets += [
                    Target(
                        f"KiB for each of {count:,} idle connections",
                        f"below {WANTED_BYTES / 1024:.1f}",
                        f"{used / 1024:.2f} ({opened / 1024:.2f} before its first record)",
                        used < WANTED_BYTES,
                    ),
                    # One tick of the clock that counts CPU time is no work.
                    Target(f"CPU with {count:,} idle connections", "none", f"{share:.2%}", share < 0.005),
                ]
    report.table(
        f"idle connections (CPU over {options.idle_seconds:g} s)",
        ("server", "connections", "KiB each, opened", "KiB each, after a record", "slope", "CPU", "tree MiB"),
        rows,
    )


def _measure_beside(report: Report, server: Server, options: argparse.Namespace) -> None:
    buffer, most = Buffer("stdlib"), max(options.counts)
    beside(server, buffer, 0, options)
    trials: dict[int, list[_trial.Trial]] = {0: [], most: []}
    for turn in range(options.runs):
        # The order alternates, so that a drift of the machine does not favour one of the two.
        for count in sorted(trials, reverse=bool(turn % 2)):
            trials[count].append(beside(server, buffer, count, options))
        print(".", end="", flush=True)
    pairs = zip(trials[most], trials[0], strict=True)
    ratio = Spread.of(with_idle.records_per_s / without.records_per_s for with_idle, without in pairs)
    report.table(
        f"{_BUSY} busy connections of {server.name} beside idle ones, median (least-most) of {options.runs} runs",
        ("idle", "records/s", "CPU s/million", "lost", "noise"),
        [
            [
                f"{count:,}",
                Spread.of(trial.records_per_s for trial in found).text(),
                Spread.of(trial.cpu_s_per_million for trial in found).text(".1f"),
                str(sum(trial.count.lost for trial in found)),
                f"{Spread.of(trial.others_cores for trial in found).median:.2f}",
            ]
            for count, found in trials.items()
        ],
    )
    report.results["beside"] = {f"{count} idle": [one.as_dict() for one in found] for count, found in trials.items()}
    report.whole &= all(trial.count.whole for found in trials.values() for trial in found)
    report.targets.append(
        Target(
            f"throughput of {_BUSY} connections beside {most:,} idle ones",
            "at least 0.90 of that without",
            ratio.text(".2f"),
            ratio.median >= 0.9,
        )
    )


def main(argv: Sequence[str] | None = None) -> Report:
    """Run it and return the results."""
    options = parse(argv)
    raise_descriptor_limit(max(options.counts) + 1000)
    ours = _servers.prefork_logd(options.workers, options.durability)
    # Idle connections see no format, so one kind of each rival says it all.
    rivals = [server for server in _servers.rivals() if server.name.endswith(("cookbook", "copy", "(C)"))]
    report = Report("connections", _report.settings(options))
    print(f"connections: {_report.headline()}")
    _measure_cost(report, [ours, *rivals], options)
    try:
        _measure_beside(report, ours, options)
    except RuntimeError as error:
        print(f"*** {ours.name} left out: {error}", file=sys.stderr)
        report.whole = False
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
