"""No frame costs more than its size allows: in lines, and in time."""

import json
import pickle

import pytest

from prefork_logd.config.outputs import OutputSettings
from prefork_logd.ingest import core
from prefork_logd.ingest.bounded import text_line
from prefork_logd.inputs.pickles.budget import DEFAULT_BUDGET
from prefork_logd.inputs.pickles.decode import decode
from prefork_logd.records.record import make_record
from prefork_logd.records.render import TextTemplate
from prefork_logd.records.values import TRUNCATED
from tests.parity import dearest
from tests.support.assemble import text

MOST_BYTES = 8_192
"""Bytes of a line beyond its frame's share: our own fields, and the ends of containers that were cut."""
MOST_MICROSECONDS = 40
"""For a byte, in time that a loaded machine takes; 2 on one at rest (docs/record.md)."""
MOST_SECONDS = 0.1
"""For a frame, likewise; 0.015 on a machine at rest."""


def _line(frame, configuration="json"):
    one = dearest.dispatcher(configuration)
    assert one.run(len(frame).to_bytes(4, "big") + frame, 0, 1, 1 << 28, "peer", 1.0)[1:3] == (1, 0)
    return one.batch.build(1).pieces[1:]


@pytest.mark.parametrize("seed", [12, 28])
def test_lines_are_bounded_by_their_frame(seed):
    """Whatever is referred to again and again: a line has six bytes for each of the frame, ten more of a small one."""
    found = dearest.search(seed, seconds=20, most=400, largest=30_000)
    assert len(found) > 100
    for one in found:
        assert one.longest <= DEFAULT_BUDGET.output_for(len(one.frame)) + MOST_BYTES, one
        assert one.lines_bytes <= dearest.LINES[one.configuration] * (20 * len(one.frame) + 2 * MOST_BYTES), one
    large = [one for one in found if len(one.frame) > 1_000]
    assert max(one.microseconds_a_byte for one in large) < MOST_MICROSECONDS
    if core.NATIVE:
        assert max(one.seconds for one in found) < MOST_SECONDS


def _many(one, count):
    return dearest.record(b"](" + one * count + b"e")


@pytest.mark.skipif(not core.NATIVE, reason="the promise is the compiled core's")
@pytest.mark.parametrize(
    "frame",
    [
        _many(b"\x8b\xa4\x06\0\0" + b"\x7f" * 1_700, 480),
        _many(b"L" + b"9" * 4_090 + b"L\n", 240),
        dearest.record(b"Nq\x01" + b"r\xff\xff\x00\x00" * 119_000),
        dearest.record(text("\udcff" * 300_000), slow=True),
        dearest.record(dearest.again(text("\udcff" * 30_000), 900), slow=True),
        _many(b"S'" + b"\\x41" * 240_000 + b"'\n", 1),
        _many(b"N" + b"\x85" * 180, 100),
        dearest.record(dearest.again(b"T\0\0\1\0" + b"\x80" * 65_536, 40_000), slow=True),
        _many(dearest.call(dearest.named("builtins", "range"), b"K\x01", b"K\x02", b"K\x03"), 6_000),
        _many(b"G" + bytes(8), 49_000),
    ],
    ids=["big", "digits", "memo", "surrogates", "again", "escapes", "nested", "octets", "ranges", "floats"],
)
def test_no_frame_takes_long(frame):
    """Some that took 45 to 130 ms."""
    assert dearest.cost(dearest.dispatcher("json"), "", "json", frame, times=3).seconds < MOST_SECONDS / 2


@pytest.mark.parametrize("character", ["\x01", "\udcff", "\u2028", "\x7f", "\x85", "a"])
@pytest.mark.parametrize(("characters", "references"), [(1_000, 2_090), (60, 33_000), (20, 49_000), (90, 900)])
def test_references_are_cut_and_marked(character, characters, references):
    """One text, thousands of references: what fits is kept, and a mark stands where the rest was."""
    frame = dearest.record(dearest.again(text(character * characters), references))
    (line,) = _line(frame)
    assert len(line) <= 16 * len(frame) + 4_096 + MOST_BYTES
    values = json.loads(bytes(line))["extra"]["x"]
    assert values == [character * characters] * (len(values) - 1) + [{"...": references - len(values) + 1}]
    assert len(values) > 5


@pytest.mark.parametrize("character", ["\x01", "\udcff", "\u2028", "\x85", '"', "\n", "é", "a"])
@pytest.mark.parametrize("size", [1, 100, 5_000, 1_000_000])
@pytest.mark.parametrize("protocol", [1, 2, 4])
def test_plain_content_is_never_cut(character, size, protocol):
    """What stands in a frame once is stored as a whole, however it is escaped, as message, traceback and extra."""
    values = {"exc_text": f"Traceback\n{character * (size // 4)}", "x": [character * (size // 4), {"y": True}], "n": 1}
    long = character * (size // 4)
    frame = pickle.dumps({"name": "h", "msg": long, "args": None, "created": 1.5, "levelno": 20, **values}, protocol)
    (line,) = _line(frame)
    stored = json.loads(bytes(line))
    assert stored.get("message", "") == long
    assert stored["exc_text"] == values["exc_text"]
    assert stored["extra"] == {"x": values["x"], "n": 1}
    record = make_record(decode(frame), "peer", 1.0)
    assert TRUNCATED.encode() not in text_line(TextTemplate(OutputSettings().template), record, frame)
