"""What is done with each input of the fuzzer, and what must hold then.

Owns the comparison of the native core with its specification in Python: what the core renders is what the twin would
have written, and what the core takes from a stream of frames is what the twin's framing takes from it, for several
configurations, in memory of its own and in memory that is shared. Where an allocation fails, what is written is still
right, or nothing. Crashes, reads and writes out of bounds, and undefined behaviour are the sanitizers' business, of
which this knows nothing.

The module is imported by the fuzzer's process; `FUZZ_EXTENSION` names the extension module that was built for it.
"""

from __future__ import annotations

import copy
import ctypes
import importlib.machinery
import importlib.util
import math
import os
import struct
import sys
import zlib

NAME = "prefork_logd.ingest._core_c"
PEER, RECEIVED = "192.0.2.7:40000", 1_795_404_245.125
TEMPLATE = "%(asctime)s %(levelname)-8s %(name)s[%(process)d] %(message)s %(key)s %(msecs)03d"
WIDE_TEMPLATE = "\t%(created)s %(time)s %(peer)24s|%(received)s %(lineno)-6d%(thread)012d %(key)-9s%(message)80s"
SENDER_TEMPLATE = "%(service)6s %(host)s %(environment)s %(key)s %(region)s %(n)04d %(message)s %(msg)s"
MAX_RECORD_BYTES = 1 << 20
MOST_REPEATED = 20
"""Records of a series with parts in common."""
MOST_RECORDS = 16
"""Taken from one stream."""
SHARED_BLOCKS = 4
BLOCK_BYTES = 589_824
"""Of the shared memory, which the core hands out in such blocks (ingest/core_c/out.pxi)."""
_LENGTH = struct.Struct(">L")


def _load_extension() -> None:
    """Let the instrumented extension be the one that is imported."""
    path = os.environ.get("FUZZ_EXTENSION")
    if path is None:
        return
    loader = importlib.machinery.ExtensionFileLoader(NAME, path)
    spec = importlib.util.spec_from_file_location(NAME, path, loader=loader)
    if spec is None:
        raise ImportError(path)
    sys.modules[NAME] = module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)


_load_extension()

from fuzz import places  # noqa: E402
from prefork_logd.errors import RecordRejected  # noqa: E402 - after the extension is in its place
from prefork_logd.ingest import _core_c as native  # noqa: E402
from prefork_logd.ingest import _core_py as specification  # noqa: E402
from prefork_logd.ingest.bounded import json_line, text_line  # noqa: E402
from prefork_logd.inputs import runs  # noqa: E402
from prefork_logd.inputs.pickles import decode as decoding  # noqa: E402
from prefork_logd.ipc import batch_builder  # noqa: E402
from prefork_logd.records.record import Record, make_record  # noqa: E402
from prefork_logd.records.redaction import Redactor  # noqa: E402
from prefork_logd.records.render import TextTemplate  # noqa: E402
from prefork_logd.records.sender import NOBODY, Sender, make_sender  # noqa: E402

SENDER = make_sender("web-1", "sh\u00f6p", "", "2.4", {"key": "k", "region": "eu", "n": 7, "message": True}, "web-7")
_ARENA = bytearray(SHARED_BLOCKS * BLOCK_BYTES)


class Setup:
    """A configuration: what a Core is told of it, and what its records have to become."""

    def __init__(self, outputs, stores=(), *, ships: bool = False, forms=(), sender: Sender = NOBODY) -> None:
        self.templates = [TextTemplate(template) if template else None for template, _, _ in outputs]
        rules = [
            (template.parts if template else None, *rest)
            for template, (_, *rest) in zip(self.templates, outputs, strict=True)
        ]
        self.redactor = Redactor(["*password*", "*token", "pwd", "k*"], ["keys"], forms)
        self.sender = sender
        self.given = (rules, stores, ships, self.redactor)
        self.filters = [rest for _, *rest in outputs]
        self.stores, self.ships = stores, ships
        self.sinks = len(outputs) + bool(stores)
        self.core = native.Core(*self.given)
        self.runner = native.Core(*self.given)  # another one, for it takes no frame while it calls back

    def twin(self, record: Record, frame: bytes) -> list[bytes | None]:
        """Return the line of each output, and of all stores, that the specification makes of a record."""
        record = copy.copy(record)
        self.redactor.redact(record)
        self.sender.sign(record)
        lines = [
            text_line(one, record, frame) if one else json_line(record, frame, self.redactor, self.sender)
            for one in self.templates
        ]
        lines = [line if _passes(record, *rule) else None for line, rule in zip(lines, self.filters, strict=True)]
        if self.stores:
            line = json_line(record, frame, self.redactor, self.sender)
            lines.append(line if any(_passes(record, *rule) for rule in self.stores) else None)
        return lines

    def outcome(self, lines: list[bytes | None]) -> int:
        """Return what is said of a record with these lines: 1, or 2 if it is for the stores."""
        return 2 if self.ships and (not self.stores or lines[-1] is not None) else 1


def _passes(record: Record, threshold: int, loggers) -> bool:
    """Tell whether a rule lets a record through; no loggers are all of them (docs/outputs.md)."""
    name = record.name or ""
    by_name = not loggers or any(name == logger or name.startswith(logger + ".") for logger in loggers)
    return by_name and (not threshold or (record.levelno or 0) >= threshold)


SETUPS = (
    Setup(((None, 0, ()), (TEMPLATE, 0, ()), (None, 30, ("shop",)))),
    Setup(((WIDE_TEMPLATE, 0, ()), (TEMPLATE, 40, ())), ((20, ()), (0, ("shop", "a.b"))), ships=True),
    Setup((), ((30, ("shop",)),), ships=True),
    Setup(((None, 50, ()),), ships=True),
    Setup(((None, 0, ()), (TEMPLATE, 0, ())), forms=("bearer", "card", "jwt", "key-value", "url-password")),
    Setup(((None, 0, ()), (TEMPLATE, 0, ())), ((20, ()),), forms=("private-key", "provider-token")),
    Setup(((None, 0, ()), (SENDER_TEMPLATE, 0, ())), ((30, ()),), sender=SENDER),
)
"""JSON and text; stores with rules of their own beside text; nothing but stores; what is filtered, but shipped; secrets
by their form, those of any length and long ones; and records of a session that describes its sender."""


def twin(frame: bytes) -> Record | None:
    """Return what the specification reads from a frame; None if it rejects it."""
    try:
        return make_record(decoding.decode(frame), PEER, RECEIVED)
    except RecordRejected:
        return None


def _read(frame: bytes) -> None:
    """Have a frame that the core leaves to Python read by the core, and by the twin: they have to say the same."""
    said: list[object] = []
    for reader in (native.read_symbols, None):
        decoding.read_symbols = reader
        try:
            said.append(repr(decoding.decode(frame)))
        except RecordRejected as rejected:
            said.append((rejected.reason, rejected.detail))
    assert said[0] == said[1], said


def one(data: bytes) -> None:
    """Try one input, as the body of a frame and as a stream of frames. Raises AssertionError."""
    chance = zlib.crc32(data)
    found = [setup.core.lines(data, PEER, RECEIVED, setup.sender) for setup in SETUPS]
    if any(lines is not None for lines in found):
        record = twin(data)
        for setup, lines in zip(SETUPS, found, strict=True):
            assert lines is None or (record is not None and lines == setup.twin(record, data)), (
                f"native: {lines}\ntwin: {record}"
            )
    if chance % 4 == 0:
        _read(data)
    setup = SETUPS[chance % len(SETUPS)]
    _stream(setup, data, chance)
    _stream(setup, (_LENGTH.pack(len(data)) + data) * (2 + chance // 8 % 3) + data, chance)
    _repeated(SETUPS[(chance >> 4) % len(SETUPS)], data, chance)
    if _fail is not None:
        _without_memory(data, chance)
    stop, count = native.measure(data, 0, len(data), MOST_RECORDS, MAX_RECORD_BYTES)
    assert (stop, count) == runs.measure_in_python(data, 0, len(data), MOST_RECORDS, MAX_RECORD_BYTES)
    for (number,) in struct.iter_unpack("<d", data[: len(data) & ~7 & 63]):
        if math.isfinite(number):
            assert native.float_text(number, False) == repr(number).encode()
            assert float(native.float_text(number, True)) == number


def _repeated(setup: Setup, data: bytes, chance: int) -> None:
    """Take records with parts in common, and compare each line with the specification's."""
    bodies = places.frames(data, MOST_REPEATED)
    stream = b"".join(_LENGTH.pack(len(body)) + body for body in bodies)
    sinks = tuple(native.Lines() for _ in range(setup.sinks))
    refused: list[bytes] = []

    def slow(body: bytes) -> int:
        refused.append(body)
        return 1

    if chance >> 11 & 1:
        # Keys of earlier inputs leave no room for new ones.
        native.unlearn()
    if chance >> 7 & 1:
        native.expect_many()
    end = setup.runner.run(
        *(stream, 0, len(stream), len(bodies), MAX_RECORD_BYTES, PEER, RECEIVED, sinks, slow),
        *(1 << 30, 0, len(bodies) + 1),
        sender=setup.sender,
    )
    assert end[:3] == (len(stream), len(bodies), 0)
    expected = [b""] * setup.sinks
    left = iter(refused)
    next_left = next(left, None)
    known: dict[bytes, list[bytes | None]] = {}
    for body in bodies:
        if body == next_left:
            next_left = next(left, None)
            continue
        if body not in known:
            record = twin(body)
            assert record is not None, f"taken by the core, and rejected by the twin: {body!r}"
            known[body] = setup.twin(record, body)
        expected = [lines + (line or b"") for lines, line in zip(expected, known[body], strict=True)]
    assert next_left is None
    for sink, lines in zip(sinks, expected, strict=True):
        pairs = zip(bytes(sink).split(b"\n"), lines.split(b"\n"), strict=False)
        assert bytes(sink) == lines, next((pair for pair in pairs if pair[0] != pair[1]), "more or fewer lines")


def _stream(setup: Setup, data: bytes, chance: int) -> None:
    """Take frames from a stream by the core and by the twin: the same has to come of it, wherever the lines lie."""
    most_bytes = (1 << 22, 4_000)[chance >> 8 & 1]
    is_shared = chance >> 9 & 1
    most_failures = (1_000, 2)[chance >> 10 & 1]
    # Now and then nearly full, so that lines have to move out of the shared block; it takes its time.
    filling = b"x" * (BLOCK_BYTES - 200) + b"\n" if chance % 61 == 0 else b"-\n"
    if is_shared:
        native.share(_ARENA)
    results = []
    for core, new_lines in ((setup.runner, native.Lines), (specification.Core(*setup.given), batch_builder.Lines)):
        sinks = tuple(new_lines() for _ in range(setup.sinks))
        one_by_one = _Slow(setup, sinks, is_all=core is not setup.runner)
        limits = (most_bytes, 0, most_failures)
        position, ends = 0, []
        native.expect_many()  # so that the next frame is looked at while one is written
        for _ in range(3):
            # Lines come before the second and the third run; only before the first one a sink takes shared memory.
            end = core.run(
                *(data, position, len(data), MOST_RECORDS, MAX_RECORD_BYTES, PEER, RECEIVED, sinks, one_by_one),
                *limits,
                sender=setup.sender,
            )
            position = end[0]
            assert 0 <= position <= len(data)
            ends.append(end)
            for sink in sinks:
                sink.append(filling)
        for sink in sinks:
            if isinstance(sink, native.Lines) and sink.offset >= 0:
                assert is_shared
                assert _ARENA[sink.offset : sink.offset + len(sink)] == bytes(sink)
        results.append((ends, [(bytes(sink.joined()), sink.count) for sink in sinks]))
        del sinks, one_by_one, sink
    assert results[0] == results[1]
    if is_shared:
        native.share(None)  # refuses if a block was not given back, or given back twice


class _Slow:
    """What is done with a body that is left to Python: a line like no record's, or a verdict, after its checksum."""

    def __init__(self, setup: Setup, sinks, *, is_all: bool) -> None:
        self.setup, self.sinks, self.is_all = setup, sinks, is_all

    def __call__(self, body: bytes) -> int:
        lines = self.setup.core.lines(body, PEER, RECEIVED, self.setup.sender)
        if lines is None:
            outcome = zlib.crc32(body) % 3
            if outcome and self.sinks:
                self.sinks[0].append(b"%d\n" % len(body))
            return outcome
        assert self.is_all, "left to Python once, and not another time"
        for sink, line in zip(self.sinks, lines, strict=True):
            if line is not None:
                sink.append(line)
        return self.setup.outcome(lines)


def _find_fail():
    """Return the instrumented extension's `fail_allocations` (allocations.h), None if this is another one."""
    path = os.environ.get("FUZZ_EXTENSION")
    return None if path is None else ctypes.CDLL(path).fail_allocations


_fail = _find_fail()


def _without_memory(data: bytes, chance: int) -> None:
    """Let an allocation fail, that one or all from there on: what is written then is right, or it is nothing."""
    setup = SETUPS[chance >> 12 & 3]
    expected = setup.core.lines(data, PEER, RECEIVED, setup.sender)
    refused: list[bytes] = []

    def slow(body: bytes) -> int:
        refused.append(body)
        return 1

    try:
        _fail(chance >> 16 & 31, chance >> 14 & 1)
        core = native.Core(*setup.given)
        lines = core.lines(data, PEER, RECEIVED, setup.sender)
        assert lines is None or lines == expected
        _fail(chance >> 21 & 15, chance >> 15 & 1)
        sinks = tuple(native.Lines() for _ in range(setup.sinks))
        stream = _LENGTH.pack(len(data)) + data
        core.run(
            *(stream, 0, len(stream), 1, MAX_RECORD_BYTES, PEER, RECEIVED, sinks, slow),
            *(MAX_RECORD_BYTES, 0, 1_000),
            sender=setup.sender,
        )
    except MemoryError:
        return
    finally:
        _fail(-1, 0)
    wanted = [b""] * setup.sinks if refused or expected is None else [line or b"" for line in expected]
    assert [bytes(sink) for sink in sinks] == wanted
    assert core.lines(data, PEER, RECEIVED) == expected
