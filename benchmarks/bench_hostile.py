"""How soon honest records are acknowledged beside one hostile client, which sends 1 MB/s of the dearest frames.

Frames that are dear and small it sends as fast as they are read.

The honest ones are those of `bench_acknowledged`: one process holds their sessions and sends at a steady rate. The
hostile client is a process of its own; each family of frames is one that was found by `tests/parity/dearest.py`, or a
session that says something small and useless again and again.

Each family has a collector of its own, and short runs in turn: without another client ("quiet"), beside one that sends
ordinary records as fast as they are read, and beside the hostile one. So a machine that is busy with other things shows
in all three, and the hostile frames' own part is the difference to the ordinary ones. The latter's client and collector
compete for the same cores, too.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import _report
import _servers
from _report import Report, Spread, Target
from bench_acknowledged import latency

from tests.parity import dearest
from tests.support import wire
from tests.support.assemble import call, named, text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

WANTED_P99_S = 0.050
QUIET = "quiet"
ORDINARY = "ordinary records"
SETTLING_S = 1.0
"""After a client is gone, until the collector has read what it left in the socket."""


def _framed(*frames: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(one)) + one for one in frames)


def _nested() -> bytes:
    """Return nested tuples beside something that is left to Python: most microseconds for a byte."""
    return _framed(dearest.record(b"](" + (b"N" + b"\x85" * 180) * 24 + b"e", slow=True))


def _again() -> bytes:
    """Return lone surrogates that are referred to many times: most output for a byte, cut."""
    return _framed(dearest.record(dearest.again(text("\udcff" * 300), 2_000), slow=True))


def _large() -> bytes:
    """Return a megabyte that is left to Python: the longest single frame."""
    return _framed(dearest.record(b"N", text("\x01" * 1_000_000), slow=True))


def _integers() -> bytes:
    """Return integers of 1,700 bytes."""
    return _framed(dearest.record(b"](" + (b"\x8b\xa4\x06\0\0" + b"\x7f" * 1_700) * 36 + b"e"))


def _objects() -> bytes:
    """Return one UUID, thousands of times."""
    one = call(named("uuid", "UUID")) + b"}" + text("int") + b"\x8a\x10" + bytes(range(1, 17)) + b"sb"
    return _framed(dearest.record(dearest.again(one, 8_000)))


def _values() -> bytes:
    """Return small records with values that the core has made by Python."""
    some = call(named("builtins", "range"), b"K\0", b"K\5", b"K\1")
    number = call(named("builtins", "complex"), b"G" + bytes(8), b"G" + bytes(8))
    return _framed(dearest.record(b"](" + some + number + b"e")) * 200


def _records() -> bytes:
    """Return small records that are left to Python as a whole."""
    return _framed(dearest.record(text("a value"), b"](K\1K\2K\3e", slow=True)) * 200


def _ordinary() -> bytes:
    """Return small records that the core takes."""
    return _framed(dearest.record(text("a value"), b"](K\1K\2K\3e")) * 200


def _rejected() -> bytes:
    """Return a frame that is rejected only once all of it was read."""
    return _framed(dearest.record(b"](" + b"N" * 60_000 + b"e\xff"))


def _mixed() -> bytes:
    """Return what the search tries, one of each kind."""
    chance = random.Random(12)
    return _framed(*[dearest.make(chance, 100_000)[1] for _ in range(60)])


FRAMES: dict[str, Callable[[], bytes]] = {
    "nested": _nested,
    "references": _again,
    "megabyte": _large,
    "integers": _integers,
    "objects": _objects,
    "rejected": _rejected,
    "mixed": _mixed,
    "values at full speed": _values,
    "records at full speed": _records,
}
FULL_SPEED = {"values at full speed", "records at full speed", ORDINARY}
"""Families whose client sends as fast as the collector reads."""
SESSIONS = ("gaps", "repeats")


def _says(family: str) -> Iterator[bytes]:
    """Yield pieces of what the hostile client sends, for ever."""
    if family in FRAMES or family == ORDINARY:
        piece = FRAMES.get(family, _ordinary)()
        while True:
            yield piece
    number = 1
    yield wire.batch(1, b"no record")
    while True:
        if family == "gaps":
            yield b"".join(wire.gap(number + index + 1, 1) for index in range(1_000))
            number += 1_000
        else:
            yield wire.batch(1, b"") * 1_000


def hostile(address: tuple[str, int], family: str, bytes_a_second: int) -> None:
    """Send one family's bytes at a rate, from new connections where an old one is closed."""
    begin, sent = time.monotonic(), 0
    while True:
        with contextlib.suppress(OSError), socket.create_connection(address) as sock:
            if family in SESSIONS:
                sock.sendall(wire.hello().replace(wire.SESSION, os.urandom(16)))
                sock.recv(1 << 16)
            for piece in _says(family):
                view = memoryview(piece)
                while view:
                    if family not in FULL_SPEED:
                        time.sleep(max(0.0, begin + sent / bytes_a_second - time.monotonic()))
                    count = sock.send(view[:32_768])
                    view, sent = view[count:], sent + count
        time.sleep(0.02)


@contextlib.contextmanager
def beside(address: tuple[str, int], family: str, rate: int) -> Iterator[None]:
    """Let another client send to a collector in this context."""
    if family == QUIET:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=hostile, args=(address, family, rate), daemon=True)
    process.start()
    try:
        time.sleep(1)
        yield
    finally:
        process.kill()
        process.join()
        time.sleep(SETTLING_S)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--rate", type=int, default=500, help="honest records a second (default: 500)")
    parser.add_argument(
        "--bytes", type=int, default=1_000_000, help="a second, of the hostile client (default: 1,000,000)"
    )
    parser.add_argument("--only", nargs="+", metavar="FAMILY", choices=(*FRAMES, *SESSIONS), help="default: all")
    parser.add_argument("--seconds", type=float, help="of each run (default: 3)", default=3.0)
    parser.add_argument("--runs", type=int, help="of each kind and family (default: 5; short: 1)")
    options = parser.parse_args(argv)
    options.runs = options.runs or (1 if options.short else 5)
    return options


def _in_turn(family: str, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return the runs beside each kind of client, on one collector; each turn begins with another kind."""
    kinds = (QUIET, ORDINARY, family)
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    with _servers.serving(_servers.prefork_logd(options.workers, options.durability), options.scratch) as live:
        for turn in range(options.runs):
            for index in range(len(kinds)):
                kind = kinds[(turn + index) % len(kinds)]
                with beside(live.address, kind, options.bytes):
                    found[kind].append(latency(live.address, options))
    return found


def _row(family: str, kind: str, found: dict[str, list[dict[str, float]]]) -> list[str]:
    """Return a row of the table; `more`: how much longer the p99 was than the one beside ordinary records."""
    runs = found[kind]
    spreads = [Spread.of(run[key] for run in runs).text(".2f", 1000) for key in ("p50_s", "p99_s", "max_s")]
    pairs = zip(runs, found[ORDINARY], strict=True)
    more = (
        "" if kind == ORDINARY else Spread.of(one["p99_s"] - other["p99_s"] for one, other in pairs).text("+.2f", 1000)
    )
    return [family, kind if kind in (QUIET, ORDINARY) else "itself", *spreads, more]


def main(argv: Sequence[str] | None = None) -> Report:
    """Run it and return the results."""
    options = parse(argv)
    report = Report("hostile", _report.settings(options))
    print(f"hostile: {_report.headline()}")
    rows = []
    for family in options.only or (*FRAMES, *SESSIONS):
        found = _in_turn(family, options)
        report.results[family] = found
        rows += [_row(family, kind, found) for kind in found]
        p99 = Spread.of(run["p99_s"] for run in found[family])
        measured = f"{p99.text('.2f', 1000)} ms"
        report.targets.append(Target(f"acknowledged p99, {family}", "below 50 ms", measured, p99.median < WANTED_P99_S))
        report.whole &= not any(run["lost"] for runs in found.values() for run in runs)
    report.table(
        f"milliseconds to the acknowledgement, {options.rate:,} records/s over {options.sessions} sessions, beside "
        f"one other client (hostile: {options.bytes:,} bytes/s, or as fast as it is read), median (least-most) of "
        f"{options.runs} runs",
        ("family", "beside", "p50", "p99", "max", "p99, more than beside ordinary records"),
        rows,
    )
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
