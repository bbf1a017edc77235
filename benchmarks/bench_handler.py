"""What our handler's `emit` costs the service in CPU, beside the standard library's SocketHandler, on several Pythons.

Both send the same typical records to one collector, which acknowledges ours. CPU is what the whole process used, user
and system, its helper thread included, from the first record until the last is acknowledged. Rounds of the two
alternate, and each ratio is of two rounds side by side. With `--beside CHECKOUT` the handler of that checkout takes the
place of the standard library's; with `--tls` ours without TLS does, and ours speaks TLS.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _report
import _servers
from _report import Report, Spread, Target

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support import interpreters
from tests.support.authority import LOCAL, Authority

_EMITTER = Path(__file__).with_name("_emitter.py")
_WANTED_RATIO, _WANTED_TLS_RATIO = 1.0, 1.5
_STDLIB, _OURS = "stdlib", "prefork-logd"
_PACES = {"as fast as it goes": 0, "1,000 records/s": 1000}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--pythons", nargs="+", default=["2.7", "3.11", "3.13"], help="default: 2.7 3.11 3.13")
    parser.add_argument("--records", type=int, default=10_000, help="of a round (default: 10,000)")
    parser.add_argument("--paced", type=int, help="records of a round at 1,000/s (default: 3,000; short: 1,000)")
    parser.add_argument("--beside", type=Path, help="a checkout with another version of our handler to compare with")
    parser.add_argument("--tls", action="store_true", help="compare our handler over TLS with itself without")
    parser.add_argument("--runs", type=int, help="rounds of each (default: 9; short: 3)")
    options = parser.parse_args(argv)
    options.paced = options.paced or (1000 if options.short else 3000)
    options.runs = options.runs or (3 if options.short else 9)
    return options


class _Service:
    """One interpreter with one handler, told to emit a round at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def round(self, records: int, per_second: int) -> dict[str, Any]:
        """Return what a round cost. Raises RuntimeError if the service has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(records, per_second, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the emitting service has ended")
        found: dict[str, Any] = json.loads(answer)
        found["us"] = found["cpu_s"] / records * 1e6
        return found


@contextlib.contextmanager
def _service(
    python: str, handler: str, port: int, checkout: Path | None = None, authority: str | None = None
) -> Iterator[_Service]:
    emitter = _EMITTER if checkout is None else checkout / "benchmarks" / _EMITTER.name
    command = [python, "-B", str(emitter), handler, str(port), *([authority] if authority else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _Service(process)
        finally:
            process.communicate(timeout=60)


def _tls_listener(directory: Path, port: int) -> tuple[str, str]:
    """Return the file of an authority, and the configuration of a listener with a certificate of it."""
    authority = Authority(directory / "authority")
    certificate = authority.issue("collector", *LOCAL)
    files = f'tls_cert = "{certificate.path}"\ntls_key = "{certificate.key}"\n'
    return authority.path, f'[[listener]]\naddress = "{_servers.HOST}:{port}"\ntls = "require"\n{files}'


def _measure(python: str, options: argparse.Namespace) -> dict[str, list[tuple[dict[str, Any], dict[str, Any]]]]:
    """Return pairs of rounds by pace, the standard library's first, or those of the other version."""
    found: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {pace: [] for pace in _PACES}
    port, authority, listener = 0, None, ""
    handler = _OURS if options.beside or options.tls else _STDLIB
    with contextlib.ExitStack() as stack:
        if options.tls:
            port = _servers.free_port()
            authority, listener = _tls_listener(Path(stack.enter_context(tempfile.TemporaryDirectory())), port)
        server = _servers.prefork_logd(options.workers, options.durability, more=listener)
        live = stack.enter_context(_servers.serving(server, options.scratch))
        other = stack.enter_context(_service(python, handler, live.address[1], options.beside))
        ours = stack.enter_context(_service(python, _OURS, port or live.address[1], authority=authority))
        for run in range(options.runs + 1):
            for pace, per_second in _PACES.items():
                records = options.paced if per_second else options.records
                # Whoever is first in a round finds the caches of the other pace; so they take turns.
                order = (other, ours) if run % 2 else (ours, other)
                rounds = {service: service.round(records, per_second) for service in order}
                if run:
                    found[pace].append((rounds[other], rounds[ours]))
    return found


def main(argv: Sequence[str] | None = None) -> Report:
    """Run it and return the results."""
    options = parse(argv)
    report = Report("handler", _report.settings(options))
    print(f"handler: {_report.headline()}")
    wanted = _WANTED_TLS_RATIO if options.tls else _WANTED_RATIO
    other = "before" if options.beside else "plain" if options.tls else _STDLIB
    rows = []
    for version in options.pythons:
        python = interpreters.found().get(version)
        if python is None:
            print(f"*** MISSING: no Python {version} is here; it is left out", file=sys.stderr)
            continue
        found = _measure(python, options)
        report.results[version] = found
        for pace, pairs in found.items():
            spreads = [Spread.of(pair[index]["us"] for pair in pairs) for index in (0, 1)]
            ratio = Spread.of(ours["us"] / theirs["us"] for theirs, ours in pairs)
            rows.append([version, pace, *(spread.text(".1f") for spread in spreads), ratio.text(".2f")])
            report.targets.append(
                Target(
                    f"CPU of emit, ours / {other}, {version}, {pace}",
                    f"at most {wanted:.1f}",
                    ratio.text(".3f"),
                    ratio.median <= wanted,
                )
            )
            report.whole &= all(ours["whole"] for _, ours in pairs)
    report.table(
        f"CPU microseconds a record, median (least-most) of {options.runs} rounds",
        ("Python", "pace", other, _OURS, f"ours / {other}"),
        rows,
    )
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
