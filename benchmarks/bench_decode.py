"""How long one record takes to decode and render, by every way it can go, beside what a pickle costs without care."""

from __future__ import annotations

import io
import logging
import logging.handlers
import pickle
import pickletools
import sys
import time
import uuid
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import _report
from _records import frame
from _report import Report, Spread, Target

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from prefork_logd.ingest import core as native
from prefork_logd.inputs.pickles.decode import decode, decode_symbolically
from prefork_logd.inputs.pickles.flat import is_flat
from prefork_logd.records.record import make_record
from prefork_logd.records.render import TextTemplate, render_json
from prefork_logd.system import compiled

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

PEER, RECEIVED = "192.0.2.7:40000", 1_795_404_250.5
HEADER_BYTES = 4
TARGET_US = 12.0
NATIVE_TARGET = 1_200_000
"""Records a second on one core, from received bytes to JSON lines."""
NATIVE_RECORDS = 400
"""In the buffer, about what one read brings."""
_MIX = 64


class Refusing(pickle.Unpickler):
    """The usual advice: an Unpickler that finds no class. It is no protection, and it refuses most extras."""

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse."""
        raise pickle.UnpicklingError(f"{module}.{name}")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, help="default: 15; short: 5")
    options = parser.parse_args(argv)
    options.runs = options.runs or (5 if options.short else 15)
    return options


def pickled(message: str, **extra: object) -> bytes:
    """Return the body of the frame that a SocketHandler sends for one record."""
    record = logging.LogRecord("shop.views", logging.INFO, "/srv/shop/views.py", 142, message, None, None, "checkout")
    record.__dict__.update(extra)
    return logging.handlers.SocketHandler("localhost", 1).makePickle(record)[HEADER_BYTES:]


def median_us(functions: dict[str, Callable[[bytes], object]], frames: list[bytes], runs: int) -> dict[str, Spread]:
    """Return what each function takes for one frame, in microseconds; runs of all functions take turns."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    rounds = max(1, 4_096 // len(frames))
    for turn in range(runs + 1):
        for name, function in functions.items():
            begin = time.process_time()
            for _ in range(rounds):
                for one in frames:
                    function(one)
            if turn:
                taken[name].append((time.process_time() - begin) / (rounds * len(frames)) * 1e6)
    return {name: Spread.of(values) for name, values in taken.items()}


def to_json(one: bytes) -> bytes:
    """Return what a worker makes of a frame for a JSON output."""
    return render_json(make_record(decode(one), PEER, RECEIVED))


def native_us(runs: int) -> dict[str, Spread]:
    """Return what the compiled core takes for one record of the mix, of all its kinds, from a buffer into lines."""
    data = b"".join(frame(number) for number in range(NATIVE_RECORDS))
    template = TextTemplate("%(asctime)s %(levelname)s %(name)s %(message)s")
    taken: dict[str, list[float]] = {"JSON": [], "text": []}
    cores = {"JSON": native.Core([(None, 0, ())]), "text": native.Core([(template.parts, 0, ())])}
    for _ in range(runs * 3):
        for what, core in cores.items():
            begin = time.process_time()
            for _ in range(50):
                _, count, rejected, _, _ = core.run(
                    *(data, 0, len(data), NATIVE_RECORDS, 1 << 20, PEER, RECEIVED, (native.Lines(),)),
                    *(_unexpected, 1 << 30, 0, 1),
                )
                if (count, rejected) != (NATIVE_RECORDS, 0):
                    raise AssertionError("not every record was taken")
            taken[what].append((time.process_time() - begin) / (50 * NATIVE_RECORDS) * 1e6)
    return {what: Spread.of(values) for what, values in taken.items()}


def _unexpected(_: bytes) -> int:
    raise AssertionError("a record of the mix was left to Python")


def main(argv: Sequence[str] | None = None) -> Report:
    """Run it and return the results."""
    options = parse(argv)
    report = Report("decode", _report.settings(options))
    print(f"decode: {_report.headline()}")
    template = TextTemplate("%(asctime)s %(levelname)s %(name)s %(message)s")
    flat = [frame(number)[HEADER_BYTES:] for number in range(_MIX)]
    kinds = {
        "flat": [one for one in flat if is_flat(one)],
        "dict extra": [
            pickled("order paid", user={"id": 7, "roles": ["buyer", "beta"]}, request_id="5f0c9a8e2b7d4c11")
        ],
        "typed extra": [pickled("order paid", amount=Decimal("129.95"), order=uuid.UUID(int=7), tags={"a", "b"})],
    }
    rows = []
    for kind, frames in kinds.items():
        records = {one: make_record(decode(one), PEER, RECEIVED) for one in frames}
        functions: dict[str, Callable[[bytes], object]] = {
            "pickle.loads, trusting": pickle.loads,
            "pickletools.genops": lambda one: list(pickletools.genops(one)),
            "the machine alone": decode_symbolically,
            "decode": decode,
            "decode, make_record": lambda one: make_record(decode(one), PEER, RECEIVED),
            "render_json alone": lambda one, records=records: render_json(records[one]),
            "text alone": lambda one, records=records: template.render(records[one]),
            "frame to JSON line": to_json,
        }
        if kind != "typed extra":
            functions["Unpickler without find_class"] = lambda one: Refusing(io.BytesIO(one)).load()
        spreads = median_us(functions, frames, options.runs)
        size = sum(map(len, frames)) / len(frames)
        rows += [
            [f"{kind}, {size:.0f} bytes: {name}", spread.text(".1f"), f"{1e6 / spread.median:,.0f}"]
            for name, spread in spreads.items()
        ]
        report.results[kind] = {
            "bytes": round(size),
            "us": {name: [round(value, 3) for value in (s.median, s.least, s.most)] for name, s in spreads.items()},
        }
        if kind == "flat":
            line = spreads["frame to JSON line"]
            report.targets.append(
                Target(
                    "frame to JSON line, flat record",
                    f"at most {TARGET_US:g} us",
                    f"{line.text('.1f')} us",
                    line.median <= TARGET_US,
                )
            )
    if native.NATIVE:
        spreads = native_us(options.runs)
        rows += [
            [f"the mix: native, received bytes to {what} lines", spread.text(".2f"), f"{1e6 / spread.median:,.0f}"]
            for what, spread in spreads.items()
        ]
        report.results["native"] = {what: [s.median, s.least, s.most] for what, s in spreads.items()}
        rate = 1e6 / spreads["JSON"].median
        report.targets.append(
            Target(
                "native, records/s on one core",
                f"at least {NATIVE_TARGET:,}",
                f"{rate:,.0f}",
                rate >= NATIVE_TARGET,
            )
        )
    else:
        print(f"*** no compiled core, so it is not measured: {native.MISSING or compiled.VARIABLE}")
    report.results["flat share of the mix"] = len(kinds["flat"]) / _MIX
    report.table(
        f"CPU time for one record on one core, median (least-most) of {options.runs} runs",
        ("record: what", "us", "records/s"),
        rows,
    )
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)
