"""How long a record takes from the service's `logger.info` to the file, at 1,000 a second from 200 processes.

Each client is a process of its own with a real stdlib SocketHandler, and a record carries the time at which its
`logger.info` was called: making, pickling and sending it count. A follower sees it in the file. What the follower and
the machine's scheduler add is measured too: the control is the same clients writing straight to the followed file.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import signal
import statistics
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _report
import _servers
from _follower import following
from _processes import cpu_s
from _records import WARM_UP_NUMBER
from _report import Report, Target
from _servers import serving

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from _servers import Server

WANTED_P99_MS = 20.0
_CONNECT_S = 15.0
"""Time for the clients to be forked and to get one record each through, before the first that counts."""
_START_S = 0.3
_TIME = struct.Struct("=d")
_MESSAGE = "order %s accepted for customer %d, %d items, total %.2f EUR `%09d sent=%d;"
_EXTRA = {"request_id": "5f0c9a8e2b7d4c11", "tenant": "north-europe", "elapsed_ms": 48.25}

Result = dict[str, Any]


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rate", type=float, default=5.0, help="records a second from each client (default: 5)")
    parser.add_argument("--seconds", type=float, help="length of a run (default: 10; short: 5)")
    parser.add_argument("--runs", type=int, help="interleaved runs (default: 5; short: 1)")
    options = parser.parse_args(argv)
    options.seconds = options.seconds or (5.0 if options.short else 10.0)
    options.runs = options.runs or (1 if options.short else 5)
    return options


class _Appender(logging.Handler):
    """The control: a record's line goes straight to the file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def emit(self, record: logging.LogRecord) -> None:
        os.write(self._file, self.format(record).encode() + b"\n")


def _client(handler: logging.Handler, begins: int, first: int, records: int, delay_s: float, period_s: float) -> None:
    """Log one record to connect, wait to be told when it begins, then log the ones that count, each at its own time."""
    logger = logging.getLogger("shop.orders.checkout")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)

    def log(number: int) -> None:
        logger.info(_MESSAGE, "A-2207-118834", 884_213, 4, 129.95, number, time.monotonic_ns(), extra=_EXTRA)

    log(WARM_UP_NUMBER + first)
    begin: float = _TIME.unpack(os.read(begins, _TIME.size))[0] + delay_s
    for index in range(records):
        time.sleep(max(0.0, begin + index * period_s - time.monotonic()))
        log(first + index)
    handler.close()


@contextlib.contextmanager
def _clients(
    make: Callable[[], logging.Handler], options: argparse.Namespace, records: int
) -> Iterator[Callable[[], None]]:
    """Fork the clients; give a function that lets them begin, their times spread evenly over a period; end them all."""
    period_s = 1 / options.rate
    begins_out, begins_in = os.pipe()
    pids: list[int] = []

    def begin() -> None:
        os.write(begins_in, _TIME.pack(time.monotonic() + _START_S) * options.clients)

    try:
        for index in range(options.clients):
            pid = os.fork()
            if not pid:
                status = 1
                try:
                    delay_s = period_s * index / options.clients
                    _client(make(), begins_out, index * records, records, delay_s, period_s)
                    status = 0
                except BaseException:  # noqa: BLE001 - the child must end here, whatever happens
                    traceback.print_exc()
                finally:
                    os._exit(status)
            pids.append(pid)
        yield begin
    finally:
        os.close(begins_in)
        os.close(begins_out)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


def _observe(path: Path, make: Callable[[], logging.Handler], options: argparse.Namespace) -> tuple[list[float], int]:
    """Run the clients and return each record's milliseconds, and how many records were sent."""
    records = max(1, round(options.seconds * options.rate))
    total = records * options.clients
    with following(path) as follower, _clients(make, options, records) as begin:
        follower.follow(lambda: len(follower.seen) >= options.clients, _CONNECT_S)
        begin()
        follower.follow(lambda: len(follower.seen) >= total + options.clients, _START_S + options.seconds + 5)
    return [taken_ns / 1e6 for number, taken_ns in follower.seen if number < WARM_UP_NUMBER], total


def control(options: argparse.Namespace) -> Result:
    """Return what the measurement itself adds."""
    with tempfile.TemporaryDirectory(prefix="prefork-logd-bench-", dir=options.scratch) as name:
        path = Path(name, "control.log")
        taken_ms, total = _observe(path, lambda: _Appender(path), options)
    return _result(taken_ms, total, 0.0)


def measure(server: Server, options: argparse.Namespace) -> Result:
    """Return the latency through a server."""
    with serving(server, options.scratch) as live:
        used, begin = cpu_s(live.running.pid), time.monotonic()
        taken_ms, total = _observe(live.output, lambda: logging.handlers.SocketHandler(*live.address), options)
        share = (cpu_s(live.running.pid) - used) / (time.monotonic() - begin)
    return _result(taken_ms, total, share)


def _result(taken_ms: list[float], total: int, cpu_share: float) -> Result:
    if len(taken_ms) < 2:
        raise RuntimeError(f"{len(taken_ms)} of {total} records came through")
    ordered = sorted(taken_ms)
    return {
        "records": total,
        "lost": total - len(ordered),
        "p50_ms": round(statistics.median(ordered), 3),
        "p90_ms": round(ordered[int(len(ordered) * 0.90)], 3),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 3),
        "p999_ms": round(ordered[int(len(ordered) * 0.999)], 3),
        "max_ms": round(ordered[-1], 3),
        "cpu_share": round(cpu_share, 4),
    }


def main(argv: Sequence[str] | None = None) -> Report:
    """Run it and return the results."""
    options = parse(argv)
    ours = _servers.prefork_logd(options.workers, options.durability)
    what: dict[str, Callable[[], Result]] = {
        ours.name: lambda: measure(ours, options),
        "cookbook": lambda: measure(_servers.cookbook(), options),
        "control: straight to the file": lambda: control(options),
    }
    report = Report("latency", _report.settings(options))
    print(f"latency: {_report.headline()}")
    found: dict[str, list[Result]] = {}
    for _ in range(options.runs):
        for name, run in what.items():
            try:
                found.setdefault(name, []).append(run())
            except RuntimeError as error:
                print(f"*** {name} left out: {error}", file=sys.stderr)
    report.results |= found
    middle = {
        name: {key: statistics.median(one[key] for one in results) for key in results[0]}
        for name, results in found.items()
        if results
    }
    report.table(
        f"send to file in ms, {options.clients * options.rate:,.0f} records/s from {options.clients} processes, "
        f"medians of {options.runs} runs",
        ("through", "p50", "p90", "p99", "p99.9", "max", "lost", "CPU"),
        [
            [
                name,
                *(f"{one[f'{key}_ms']:.2f}" for key in ("p50", "p90", "p99", "p999", "max")),
                f"{one['lost']:.0f}",
                f"{one['cpu_share']:.1%}" if one["cpu_share"] else "",
            ]
            for name, one in middle.items()
        ],
    )
    if ours.name in middle:
        p99_ms = [one["p99_ms"] for one in found[ours.name]]
        spread = _report.Spread.of(p99_ms)
        text = f"{spread.text('.2f')} ms"
        report.targets.append(
            Target("p99 from send to file", f"below {WANTED_P99_MS:g} ms", text, spread.median < WANTED_P99_MS)
        )
        report.whole &= all(one["lost"] == 0 for one in found[ours.name])
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
