"""How long until it works: from the command to an accepted connection and a stored record, and `--help`."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import _report
import _servers
from _processes import started, stop, wait_until
from _records import frame
from _report import Report, Spread, Target
from _verify import marks

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from _servers import Server

_STEP_S = 0.001


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, help="default: 20; short: 7")
    options = parser.parse_args(argv)
    options.runs = options.runs or (7 if options.short else 20)
    return options


def _with_default_store(server: Server) -> Server:
    """Return the collector as it is without a word about stores."""

    def configure(directory: Path, port: int) -> list[str]:
        command = server.configure(directory, port)
        config = directory / "prefork-logd.toml"
        config.write_text(config.read_text().replace("store = []\n", "", 1))
        return command

    return dataclasses.replace(server, configure=configure)


def start(options: argparse.Namespace, *, stores: bool = False) -> tuple[float, float, float]:
    """Return the seconds from the command to an accepted connection, to a stored record, and from SIGTERM to gone.

    Raises RuntimeError when it does not come up.
    """
    server = _servers.prefork_logd(options.workers, options.durability)
    if stores:
        server = _with_default_store(server)
    with tempfile.TemporaryDirectory(prefix="prefork-logd-bench-", dir=options.scratch) as name:
        directory, port = Path(name), _servers.free_port()
        command = server.configure(directory, port)
        output = directory / server.output
        begin = time.monotonic()
        with started(command, directory, _servers.environment()) as running:
            client: list[socket.socket] = []

            def accepted() -> bool:
                running.check()
                try:
                    client.append(socket.create_connection((_servers.HOST, port), timeout=5))
                except ConnectionRefusedError:
                    return False
                return True

            if not wait_until(accepted, 15, _STEP_S):
                raise RuntimeError("prefork-logd does not listen after 15 s")
            accepted_s = time.monotonic() - begin
            with client[0] as connection:
                connection.sendall(frame(0))
                if not wait_until(lambda: output.exists() and marks(output), 15, _STEP_S):
                    raise RuntimeError("prefork-logd has not stored its first record after 15 s")
                stored_s = time.monotonic() - begin
            return accepted_s, stored_s, stop(running.process)


def command_s(*arguments: str) -> float:
    """Return how long a command takes. Raises CalledProcessError when it fails."""
    begin = time.monotonic()
    command = [sys.executable, *arguments]
    subprocess.run(command, check=True, capture_output=True, env=_servers.environment(), timeout=30)
    return time.monotonic() - begin


def main(argv: Sequence[str] | None = None) -> Report:
    """Run it and return the results."""
    options = parse(argv)
    report = Report("startup", _report.settings(options))
    print(f"startup: {_report.headline()}")
    times: dict[str, list[float]] = {}
    # The first round reads everything from disk and compiles it; it is not kept.
    for turn in range(options.runs + 1):
        accepted_s, stored_s, stopped_s = start(options)
        found = {
            "python -c pass": command_s("-c", "pass"),
            "prefork-logd --help": command_s("-m", "prefork_logd", "--help"),
            "run, to an accepted connection": accepted_s,
            "run with the default store, to an accepted connection": start(options, stores=True)[0],
            "run, to a stored record": stored_s,
            "SIGTERM, to the end": stopped_s,
        }
        if turn:
            for what, seconds in found.items():
                times.setdefault(what, []).append(seconds)
    spreads = {what: Spread.of(seconds) for what, seconds in times.items()}
    report.table(
        f"milliseconds, median (least-most) of {options.runs} runs",
        ("what", "ms"),
        [[what, spread.text(".0f", 1000)] for what, spread in spreads.items()],
    )
    report.results["seconds"] = {what: [round(one, 5) for one in seconds] for what, seconds in times.items()}
    for what, wanted_s in (
        ("run, to an accepted connection", 0.5),
        ("run with the default store, to an accepted connection", 0.5),
        ("prefork-logd --help", 0.3),
    ):
        measured = spreads[what]
        report.targets.append(
            Target(what, f"below {wanted_s:g} s", f"{measured.text('.3f')} s", measured.median < wanted_s)
        )
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
