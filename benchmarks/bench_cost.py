"""What a record costs, and of what: CPU for each record, byte, wake-up and connection of the whole collector.

Records with messages of several lengths go through at full speed; a straight line through CPU over bytes tells both
prices. Records that come one at a time, each with a wake-up of worker and writer and a commit of its own, tell that of
a wake-up; connections that are opened for one record tell that of a connection.
"""

from __future__ import annotations

import logging
import logging.handlers
import socket
import statistics
import sys
import time
from typing import TYPE_CHECKING

import _report
import _servers
from _generator import generator
from _processes import cpu_s, stop
from _report import Report, Spread, warm_memory

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from _servers import Live

LENGTHS = (20, 200, 1_000, 4_000)
"""Of the message, in characters."""
CONNECTIONS = 100
_POLL_S = 0.01
_QUIET_S = 0.3
_LONGEST_S = 60.0
_GAP_S = 0.0005


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, help="default: 5; short: 2")
    parser.add_argument("--megabytes", type=int, help="in one run of each length (default: 400; short: 150)")
    parser.add_argument("--singles", type=int, help="records that come one by one (default: 6,000; short: 2,000)")
    options = parser.parse_args(argv)
    options.runs = options.runs or (2 if options.short else 5)
    options.megabytes = options.megabytes or (150 if options.short else 400)
    options.singles = options.singles or (2_000 if options.short else 6_000)
    return options


def frame(length: int) -> bytes:
    """Return what the standard library sends for one record with a message of this length."""
    record = logging.LogRecord(
        "shop.orders", logging.INFO, "/srv/shop/orders.py", 42, "m" * length, None, None, "place"
    )
    return logging.handlers.SocketHandler("localhost", 0).makePickle(record)


def used(live: Live, work: Callable[[], None], lines: int) -> float:
    """Return the CPU seconds that the collector needs for `work`, until the last line of it is in the file."""
    root, output = live.running.pid, live.output
    before_s, size = cpu_s(root), output.stat().st_size
    work()
    line_bytes, grown_s = 0, time.monotonic()
    while time.monotonic() - grown_s < _LONGEST_S:
        now = output.stat().st_size
        if now != size + line_bytes:
            line_bytes, grown_s = now - size, time.monotonic()
        elif line_bytes and time.monotonic() - grown_s > _QUIET_S:
            break
        time.sleep(_POLL_S)
    with output.open("rb") as file:
        file.seek(size)
        found = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    if found != lines:
        raise RuntimeError(f"{found} of {lines} records were stored")
    return cpu_s(root) - before_s


def bulk_us(options: argparse.Namespace, length: int) -> float:
    """Return the CPU microseconds of a record of this length at full speed."""
    one = frame(length)
    each = max(1, options.megabytes * 1_000_000 // len(one) // CONNECTIONS)
    share = memoryview(one * each)
    warm_memory(2 * len(share) * CONNECTIONS, options.scratch)
    with _servers.serving(_servers.prefork_logd(options.workers, options.durability), options.scratch) as live:
        with generator(live.address, [share] * CONNECTIONS) as load:
            time.sleep(0.3)
            taken_s = used(live, load.go, each * CONNECTIONS)
        stop(live.running.process)
    return taken_s / (each * CONNECTIONS) * 1e6


def single_us(options: argparse.Namespace) -> tuple[float, float]:
    """Return the CPU microseconds of a record that comes alone, and of one on a connection of its own."""
    one, count = frame(LENGTHS[1]), options.singles

    def one_by_one() -> None:
        for _ in range(count):
            connection.sendall(one)
            time.sleep(_GAP_S)

    def one_each() -> None:
        for _ in range(count):
            with socket.create_connection(live.address) as short:
                short.sendall(one)
            time.sleep(_GAP_S)

    with _servers.serving(_servers.prefork_logd(options.workers, options.durability), options.scratch) as live:
        with socket.create_connection(live.address) as connection:
            alone_s = used(live, one_by_one, count)
        connected_s = used(live, one_each, count)
        stop(live.running.process)
    return alone_s / count * 1e6, connected_s / count * 1e6


def main(argv: Sequence[str] | None = None) -> Report:
    """Run it and return the results."""
    options = parse(argv)
    report = Report("cost", _report.settings(options))
    print(f"cost: {_report.headline()}")
    sizes = {length: len(frame(length)) for length in LENGTHS}
    bulk: dict[int, list[float]] = {length: [] for length in LENGTHS}
    alone, connected = [], []
    for _ in range(options.runs):
        for length in LENGTHS:
            bulk[length].append(bulk_us(options, length))
        one, other = single_us(options)
        alone.append(one)
        connected.append(other)
    lines = [
        statistics.linear_regression(list(sizes.values()), [bulk[length][turn] for length in LENGTHS])
        for turn in range(options.runs)
    ]
    at_once = [line.intercept + line.slope * sizes[LENGTHS[1]] for line in lines]
    prices = {
        "a record": [line.intercept for line in lines],
        "a thousand bytes on the wire": [1000 * line.slope for line in lines],
        "a wake-up of worker and writer, with its commit": [
            one - whole for one, whole in zip(alone, at_once, strict=True)
        ],
        "a connection, opened and closed": [other - one for one, other in zip(alone, connected, strict=True)],
    }
    report.table(
        f"CPU microseconds of the whole collector, median (least-most) of {options.runs} runs",
        ("what", "us"),
        [[what, Spread.of(values).text(".2f")] for what, values in prices.items()],
    )
    report.table(
        f"a record at full speed over {CONNECTIONS} connections",
        ("bytes on the wire", "us"),
        [[f"{sizes[length]:,}", Spread.of(bulk[length]).text(".2f")] for length in LENGTHS],
    )
    report.results = {
        "prices_us": prices,
        "bulk_us": {str(sizes[length]): bulk[length] for length in LENGTHS},
        "alone_us": alone,
        "connected_us": connected,
    }
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
