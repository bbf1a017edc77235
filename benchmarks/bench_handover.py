"""How long 1,000 connections take to change hands, and how late a record comes meanwhile: TTOU, TTIN, upgrade.

One process holds the connections and sends a record on each in turn; a record carries the time at which it was sent,
and a follower sees it in the file. The same run has a quiet stretch: what is late there is late without any handover.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import signal
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import _report
import _servers
from _follower import following
from _processes import raise_descriptor_limit
from _records import WARM_UP_NUMBER
from _report import Report, Spread, Target
from _servers import serving

from prefork_logd.ipc.command_socket import send_command

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from _servers import Live

WANTED_S = 0.5
_PLACE = b"`NNNNNNNNN sent=TTTTTTTTTTTTTTTTTTTT;"
_LONGEST_S = 30.0
EVENTS = {"a worker fewer": signal.SIGTTOU, "a worker more": signal.SIGTTIN, "upgrade": signal.SIGUSR2}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=1000, help="records a second over all connections (default: 1000)")
    parser.add_argument("--runs", type=int, help="of each event (default: 5; short: 2)")
    options = parser.parse_args(argv)
    options.runs = options.runs or (2 if options.short else 5)
    return options


def _send(address: tuple[str, int], options: argparse.Namespace, ready: int) -> None:
    """Send at the rate for as long as this process lives; a connection that fails ends it."""
    record = logging.makeLogRecord({"name": "shop.orders", "msg": f"order {_PLACE.decode()}", "levelno": logging.INFO})
    before, after = logging.handlers.SocketHandler("", None).makePickle(record).split(_PLACE)
    socks = [socket.create_connection(address, timeout=_LONGEST_S) for _ in range(options.connections)]
    os.write(ready, b"x")
    number, begin = 0, time.monotonic()
    while True:
        due = int((time.monotonic() - begin) * options.rate)
        for number in range(number, due):  # noqa: B020 - goes on where it stopped
            mark = b"`%09d sent=%020d;" % (number, time.monotonic_ns())
            socks[number % len(socks)].sendall(before + mark + after)
        number = due
        time.sleep(0.001)


@contextlib.contextmanager
def _sending(address: tuple[str, int], options: argparse.Namespace) -> Iterator[int]:
    """Fork the sender and give its pid once it is connected; end it."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            _send(address, options, write_fd)
        except BaseException:  # noqa: BLE001 - the child must end here, whatever happens
            traceback.print_exc()
        finally:
            os._exit(1)
    try:
        os.close(write_fd)
        if not os.read(read_fd, 1):
            raise RuntimeError("the clients could not connect")
        yield pid
    finally:
        os.close(read_fd)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _pids(state_dir: Path, total: int) -> set[int] | None:
    """Return the pids of the workers if these, and none besides, hold all connections, evenly; else None."""
    children = [child for child in send_command(state_dir, "status", 10)["children"] if child["kind"] == "worker"]
    held = [child["connections"] for child in children]
    running = all(child["state"] == "running" for child in children)
    is_settled = running and sum(held) == total and max(held) - min(held) <= max(4, total // 50)
    return {child["pid"] for child in children} if is_settled else None


def measure(live: Live, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return, for each event, the seconds it took and the delays of the records sent meanwhile."""
    state_dir, master = live.output.parent, live.running.pid
    found: dict[str, list[dict[str, float]]] = {}
    with following(live.output) as follower, _sending(live.address, options) as sender:

        def settled(after: Callable[[set[int]], bool]) -> bool:
            pids = _pids(state_dir, options.connections)
            return pids is not None and after(pids)

        def take() -> list[float]:
            delays = [taken_ns / 1e9 for number, taken_ns in follower.seen if number < WARM_UP_NUMBER]
            follower.seen.clear()
            return delays

        follower.follow(lambda: settled(lambda _: True), _LONGEST_S)
        for _ in range(options.runs):
            take()
            quiet_until = time.monotonic() + 1.0
            follower.follow(lambda until=quiet_until: time.monotonic() > until, 2.0)
            delays = take()
            found.setdefault("nothing", []).append({"took_s": 0.0, "worst_s": max(delays), "records": len(delays)})
            for name, number in EVENTS.items():
                before = _pids(state_dir, options.connections) or set()
                checks: dict[str, Callable[[set[int]], bool]] = {
                    "a worker fewer": lambda pids, before=before: len(pids) < len(before),
                    "a worker more": lambda pids, before=before: len(pids) > len(before),
                    "upgrade": lambda pids, before=before: not pids & before,
                }
                begin = time.monotonic()
                os.kill(master, number)
                follower.follow(lambda check=checks[name]: settled(check), _LONGEST_S)
                took_s = time.monotonic() - begin
                if took_s >= _LONGEST_S:
                    raise RuntimeError(
                        f"{name}: not done after {_LONGEST_S:g} s; {live.running.log.read_text()[-2000:]}"
                    )
                until = time.monotonic() + 0.3
                follower.follow(lambda until=until: time.monotonic() > until, 2.0)
                delays = take()
                found.setdefault(name, []).append({"took_s": took_s, "worst_s": max(delays), "records": len(delays)})
        if os.waitpid(sender, os.WNOHANG)[0]:
            raise RuntimeError("a connection was closed")
    return found


def main(argv: Sequence[str] | None = None) -> Report:
    """Run it and return the results."""
    options = parse(argv)
    if options.workers == "auto":
        options.workers = "2"
    raise_descriptor_limit(options.connections + 100)
    report = Report("handover", _report.settings(options))
    print(f"handover: {_report.headline()}")
    with serving(_servers.prefork_logd(options.workers, options.durability), options.scratch) as live:
        found = measure(live, options)
    report.results |= found
    spreads: dict[str, tuple[Spread, Spread]] = {
        name: (Spread.of(one["took_s"] for one in runs), Spread.of(one["worst_s"] for one in runs))
        for name, runs in found.items()
    }
    report.table(
        f"milliseconds, {options.connections:,} connections, {options.rate:,} records/s, median (least-most) of "
        f"{options.runs} runs",
        ("what happens", "signal to the last connection served anew", "latest record"),
        [
            [name, took.text(".0f", 1000) if took.median else "", worst.text(".0f", 1000)]
            for name, (took, worst) in spreads.items()
        ],
    )
    for name in EVENTS:
        worst: Any = spreads[name][1]
        text = f"{worst.text('.3f')} s"
        report.targets.append(Target(f"latest record, {name}", f"below {WANTED_S:g} s", text, worst.median < WANTED_S))
    for name in ("a worker fewer", "a worker more"):
        took = spreads[name][0]
        text = f"{took.text('.3f')} s"
        report.targets.append(Target(f"handed over, {name}", f"below {WANTED_S:g} s", text, took.median < WANTED_S))
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
