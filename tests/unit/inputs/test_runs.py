"""Runs of records are measured as they lie there, by the compiled core as in Python."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.ingest import _core_py
from prefork_logd.ingest import core as native
from prefork_logd.inputs import runs
from prefork_logd.inputs.session.messages import MAGIC, Message
from prefork_logd.ipc import batch_builder
from tests.support import wire

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD = MAGIC << 16 | Message.BATCH << 8
MAX_BYTES, MAX_BATCH_BYTES = 50, 200

IMPLEMENTATIONS = [runs.measure_batches_in_python]
CORES: list[tuple[type[_core_py.Core], type[batch_builder.Lines]]] = [(_core_py.Core, batch_builder.Lines)]
if native.speedups is not None:
    IMPLEMENTATIONS.append(native.speedups.measure_batches)
    CORES.append((native.speedups.Core, native.speedups.Lines))

bodies = st.lists(st.binary(max_size=60), min_size=0, max_size=4)
batches = st.lists(st.tuples(bodies, st.sampled_from([0, 0, 0, 0, 1, -1])), max_size=5)


@pytest.mark.parametrize("measure", IMPLEMENTATIONS)
def test_whole_batches_in_order_are_one_run(measure: Callable[..., tuple[int, int, int]]) -> None:
    """It ends before one that is not whole, out of order, too large, or not what its numbers say."""
    good = wire.batch(7, b"a", b"bc") + wire.batch(9, b"", b"d" * MAX_BYTES) + wire.batch(11, b"e")
    for position in (0, 3):
        data = memoryview(b"x" * position + good + wire.batch(12, b"f")[:-1])
        end, records, count = measure(data, position, 7, HEAD, MAX_BYTES, MAX_BATCH_BYTES)
        assert (end, records, count) == (position + len(good), 5, 3)
        run = runs.Run(data[position:end], records, runs.WHOLE.size, count)
        assert list(run.bodies()) == [b"a", b"bc", b"", b"d" * MAX_BYTES, b"e"]
        assert run.nbytes == 4 + MAX_BYTES
    for bad in (
        wire.batch(8, b"a"),
        wire.batch(6, b"a"),
        wire.batch(7, b"x" * (MAX_BYTES + 1)),
        wire.batch(7, *[b"x" * MAX_BYTES] * 4),
        wire.batch(7, b"a", count=2),
        wire.batch(7, b"a", b"b", count=1),
        wire.batch(7, b"a", more=b"\0"),
        wire.batch(7, b"a", flags=1),
        wire.batch(7),
        wire.bye(),
        b"",
    ):
        assert measure(memoryview(bad), 0, 7, HEAD, MAX_BYTES, MAX_BATCH_BYTES) == (0, 0, 0), bad
    last = memoryview(wire.batch(runs.MAX_NUMBER, b"a", b"b"))
    assert measure(last, 0, runs.MAX_NUMBER, HEAD, MAX_BYTES, MAX_BATCH_BYTES)[1] == 0
    last = memoryview(wire.batch(runs.MAX_NUMBER, b"a"))
    assert measure(last, 0, runs.MAX_NUMBER, HEAD, MAX_BYTES, MAX_BATCH_BYTES)[1] == 1
    after = memoryview(wire.batch(runs.MAX_NUMBER + 1, b"a"))
    assert measure(after, 0, runs.MAX_NUMBER + 1, HEAD, MAX_BYTES, MAX_BATCH_BYTES)[1] == 0


@given(batches, st.integers(0, 400), st.integers(0, 300), st.integers(0, 255))
def test_both_measure_alike(batches: list[tuple[list[bytes], int]], cut: int, at: int, octet: int) -> None:
    """Whatever is cut off or changed."""
    number, data = 5, b""
    for bodies, skip in batches:
        data += wire.batch(max(1, number + skip), *bodies)
        number += len(bodies)
    changed = bytearray(data)
    if at < len(changed):
        changed[at] = octet
    for one in (data, data[:cut], bytes(changed)):
        found = {measure(memoryview(one), 0, 5, HEAD, MAX_BYTES, MAX_BATCH_BYTES) for measure in IMPLEMENTATIONS}
        assert len(found) == 1
        end, records, count = found.pop()
        run = runs.Run(memoryview(one)[:end], records, runs.WHOLE.size, count)
        assert sum(len(body) for body in run.bodies()) == run.nbytes


@pytest.mark.parametrize(("core", "lines"), CORES)
def test_headers_among_the_records_are_passed_over(core: type[_core_py.Core], lines: type[batch_builder.Lines]) -> None:
    """By whoever makes lines of a run, wherever it was asked to end."""
    taken: list[bytes] = []

    def take(body: bytes) -> int:
        taken.append(body)
        return 1

    data = wire.batch(1, b"a", b"b") + wire.batch(3, b"c") + wire.batch(4, b"d", b"e")
    position = 0
    for count in (1, 2, 5):
        position, done, _, _, _ = core([(None, 0, ())]).run(
            *(data, position, len(data), count, 100, "peer", 1.0, (lines(),), take, 1 << 20, 0, 100),
            runs.WHOLE.size,
        )
        assert done == min(count, 2)
    assert (taken, position) == ([b"a", b"b", b"c", b"d", b"e"], len(data))
    # Where none is to be expected it is a length, and far too large; and one that is cut off is left alone.
    for stop, header_bytes in ((len(data), 0), (runs.WHOLE.size - 1, runs.WHOLE.size)):
        end, done, _, _, _ = core([(None, 0, ())]).run(
            *(data, 0, stop, 9, 100, "peer", 1.0, (lines(),), take, 1 << 20, 0, 100), header_bytes
        )
        assert (end, done) == (0, 0)


def test_no_length_is_taken_for_a_header() -> None:
    """The largest record that settings allow is far below."""
    (mark,) = struct.unpack(">H", runs.MARK)
    assert mark == MAGIC
    assert mark << 16 > 1 << 28
