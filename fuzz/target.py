"""What is done with each input of the fuzzer, and what must hold then.

Owns the comparison of the native core with its specification in Python: what the core renders is what the twin would
have written, and what the core takes from a stream of frames is what it takes from each frame alone. Crashes, reads and
writes out of bounds, and undefined behaviour are the sanitizers' business, of which this knows nothing.

The module is imported by the fuzzer's process; `FUZZ_EXTENSION` names the extension module that was built for it.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import struct
import sys

NAME = "prefork_logd.records._speedups"
PEER, RECEIVED = "192.0.2.7:40000", 1_795_404_245.125
TEMPLATE = "%(asctime)s %(levelname)-8s %(name)s[%(process)d] %(message)s %(key)s %(msecs)03d"
MAX_RECORD_BYTES = 1 << 20
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

from prefork_logd.errors import RecordRejected  # noqa: E402 - after the extension is in its place
from prefork_logd.records import _speedups as native  # noqa: E402
from prefork_logd.records.decode import decode  # noqa: E402
from prefork_logd.records.record import make_record  # noqa: E402
from prefork_logd.records.render import TextTemplate, render_json  # noqa: E402

_TEMPLATE = TextTemplate(TEMPLATE)
_OUTPUTS = ((None, 0, ()), (_TEMPLATE.parts, 0, ()), (None, 30, ("shop",)))
_core = native.Core(_OUTPUTS)


def twin(frame: bytes) -> list[bytes | None] | None:
    """Return what the specification makes of a frame: each output's line, or None for a rejected one."""
    try:
        record = make_record(decode(frame), PEER, RECEIVED)
    except RecordRejected:
        return None
    name = record.name or ""
    is_wanted = (record.levelno or 0) >= 30 and (name == "shop" or name.startswith("shop."))
    line = render_json(record)
    return [line, _TEMPLATE.render(record), line if is_wanted else None]


def one(data: bytes) -> None:
    """Try one input, as the body of a frame and as a stream of frames. Raises AssertionError."""
    lines = _core.lines(data, PEER, RECEIVED)
    if lines is not None:
        expected = twin(data)
        assert lines == expected, f"native: {lines}\ntwin:   {expected}"
    _stream(data)
    _stream(_LENGTH.pack(len(data)) + data + data)


def _stream(data: bytes) -> None:
    """Take frames from a stream, and each of them alone: the same lines have to come of it."""
    refused: list[bytes] = []

    def slow(body: bytes) -> int:
        refused.append(body)
        return 0

    sinks = tuple(native.Lines() for _ in _OUTPUTS)
    stop, taken, rejected, _, _ = _core.run(
        data, 0, len(data), 16, MAX_RECORD_BYTES, PEER, RECEIVED, sinks, slow, 1 << 22, 0, 1000
    )
    assert 0 <= stop <= len(data)
    assert rejected == len(refused)
    assert taken <= 16
    position, bodies = 0, []
    while len(bodies) < taken:
        (size,) = _LENGTH.unpack_from(data, position)
        bodies.append(data[position + 4 : position + 4 + size])
        position += 4 + size
    assert position == stop
    singly = [_core.lines(body, PEER, RECEIVED) for body in bodies]
    assert refused == [body for body, lines in zip(bodies, singly, strict=True) if lines is None]
    for place, sink in enumerate(sinks):
        expected = [lines[place] for lines in singly if lines is not None and lines[place] is not None]
        assert bytes(sink) == b"".join(expected)
        assert sink.count == len(expected)
