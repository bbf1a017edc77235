"""Lines of other collectors, dispatched one by one or all at once, make the same batch."""

from __future__ import annotations

import itertools
import json
import pickle
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.config.load import load
from prefork_logd.errors import RecordRejected
from prefork_logd.ingest import _core_py
from prefork_logd.ingest.dispatcher import REJECTED_OUTPUT, Dispatcher
from prefork_logd.ingest.rejections import PEER_BURST
from prefork_logd.ipc.batch_builder import Lines
from prefork_logd.ipc.batch_reader import BatchReader
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.records.render import TextTemplate
from prefork_logd.records.sender import make_sender

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_logd.records.record import Record

CONFIGURATION = Configuration(1, load(None, {}), (1,))
GOOD = b'{"message":"x"}\n'


@given(st.lists(st.sampled_from([GOOD, b'{"extra":{"a":{}}}\n', b"{}\n", b"{\n", b"}\n", b"\n", b'{"a":1} {"b":2}\n']),
                min_size=1, max_size=6), st.integers(-1, 1))  # fmt: skip
def test_all_at_once_is_what_one_by_one_is(lines: list[bytes], more: int) -> None:
    """What is done at once is what would have been taken line by line, and never another number of lines."""
    data = b"".join(lines)
    together, single = Dispatcher(CONFIGURATION, Lines), Dispatcher(CONFIGURATION, Lines)
    refused = 0
    for line in lines:
        try:
            single.dispatch_line(line)
        except RecordRejected:
            refused += 1
    done = together.dispatch_lines(data, len(lines) + more)
    assert done == (not refused and not more)
    if done:
        assert together.batch.build(7) == single.batch.build(7)


@pytest.mark.parametrize("toml", ['[[output]]\nformat = "text"\n', '[[output]]\nlevel = "ERROR"\n'])
def test_an_output_that_looks_into_records_gets_them_one_by_one(toml: str, tmp_path: Path) -> None:
    """Templates and filters want each record."""
    path = tmp_path / "c.toml"
    path.write_text(toml)
    assert not Dispatcher(Configuration(1, load(path, {}), (1,)), Lines).dispatch_lines(GOOD, 1)


def test_lines_of_other_collectors_go_where_their_service_goes(tmp_path: Path) -> None:
    """They are filtered by their own fields, and stay as they are."""
    path = tmp_path / "c.toml"
    path.write_text('store = []\n[[output]]\nservices = ["shop"]\n')
    dispatcher = Dispatcher(Configuration(1, load(path, {}), (1,)), Lines)
    lines = [b'{"created":1.0,"service":"shop"}\n', b'{"created":1.0,"service":"cart"}\n', b'{"created":1.0}\n']
    for line in lines:
        dispatcher.dispatch_line(line)
    assert bytes(dispatcher.batch._gathered(1).joined()) == lines[0]


def test_reports_of_dropped_records_are_listed(tmp_path: Path) -> None:
    """As entries of rejected.jsonl, within the same bounds; the last rejected frame stays the last one."""
    path = tmp_path / "c.toml"
    path.write_text("store = []\n")
    dispatcher = Dispatcher(Configuration(1, load(path, {}), (1,)))
    dispatcher.note_gap("10.0.0.7:4000", 1.5, "cart\x1b on web-1", 12, "between then and now")
    entry = json.loads(bytes(dispatcher.batch._gathered(REJECTED_OUTPUT).joined()))
    assert entry == {
        "time": "1970-01-01T00:00:01.500000Z",
        "received": 1.5,
        "peer": "10.0.0.7:4000",
        "reason": "gap",
        "detail": "between then and now",
        "client": "cart\x1b on web-1",
        "count": 12,
    }
    assert dispatcher.last_rejection == ""
    for _ in range(10_000):
        dispatcher.note_gap("10.0.0.7:4000", 1.5, "x", 1, "")
    assert bytes(dispatcher.batch._gathered(REJECTED_OUTPUT).joined()).count(b"\n") <= PEER_BURST + 100


def test_the_fields_of_a_sender_are_no_way_around_the_rules(tmp_path: Path) -> None:
    """Its secrets are replaced as those of a record are."""
    path = tmp_path / "c.toml"
    path.write_text("store = []\n")
    dispatcher = Dispatcher(Configuration(1, load(path, {}), (1,)))
    sender = make_sender("web-1", fields={"api_key": "x", "n": 1})
    usual = {"msg": "m", "created": 1.0, "n": 2}
    # The second one is left to Python.
    for frame in (pickle.dumps(usual, 1), pickle.dumps(usual | {"lineno": "7"}, 1)):
        dispatcher.run(len(frame).to_bytes(4, "big") + frame, 0, 1, 1000, "peer", 1.0, sender=sender)
    lines = bytes(dispatcher.batch._gathered(1).joined()).splitlines()
    assert [json.loads(line)["extra"] for line in lines] == [
        {"n": 2, "api_key": "<redacted>"},
        {"n": 2, "lineno": "7", "api_key": "<redacted>"},
    ]


@pytest.mark.parametrize("name", ["", "web-7"])
def test_a_client_is_named_by_its_certificate_alone(tmp_path: Path, name: str) -> None:
    """In JSON and in text: an attribute or a field of that name is in `extra` and nowhere else."""
    path = tmp_path / "c.toml"
    text = '[[output]]\npath = "b"\nformat = "text"\ntemplate = "%(peer_name)s"\n'
    path.write_text(f'store = []\n[[output]]\npath = "a"\n{text}')
    dispatcher = Dispatcher(Configuration(1, load(path, {}), (1, 2)))
    sender = make_sender("web-1", fields={"peer_name": "root"}, peer_name=name)
    usual = {"msg": "m", "created": 1.0, "peer_name": "admin"}
    # The second one is left to Python, and the third one has only the field of its sender.
    for attributes in (usual, usual | {"lineno": "7"}, {"msg": "m", "created": 1.0}):
        frame = pickle.dumps(attributes, 1)
        dispatcher.run(len(frame).to_bytes(4, "big") + frame, 0, 1, 1000, "peer", 1.0, sender=sender)
    lines = [json.loads(line) for line in bytes(dispatcher.batch._gathered(1).joined()).splitlines()]
    assert [line.get("peer_name", "") for line in lines] == [name] * 3
    assert [line["extra"]["peer_name"] for line in lines] == ["admin", "admin", "root"]
    assert bytes(dispatcher.batch._gathered(2).joined()).decode().split() == [name or "-"] * 3


def test_a_bug_costs_one_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is rejected and said; those before and after it are stored, and no output has a part of it."""
    path = tmp_path / "c.toml"
    path.write_text('store = []\n[[output]]\nname = "a"\n[[output]]\nname = "b"\nformat = "text"\npath = "b"\n')
    right = TextTemplate.render

    def wrong(template: TextTemplate, record: Record, *limits: int) -> bytes:
        if record.message == "bad":
            raise ZeroDivisionError
        return right(template, record, *limits)

    monkeypatch.setattr(TextTemplate, "render", wrong)
    monkeypatch.setattr("prefork_logd.ingest.core.Core", _core_py.Core)
    dispatcher = Dispatcher(Configuration(1, load(path, {}), (1, 2)), Lines)
    frames = [pickle.dumps({"name": "n", "msg": text, "levelno": 20}, 2) for text in ("one", "bad", "two")]
    data = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    assert dispatcher.run(data, 0, 3, 1000, "peer", 1.0)[1:3] == (3, 1)
    reader = BatchReader()
    batch, written = None, b"".join(map(bytes, dispatcher.batch.build(1).pieces))
    while batch is None:
        room = reader.want()
        room[:], written = written[: len(room)], written[len(room) :]
        batch = reader.filled(len(room))
    lines = {segment.output: bytes(segment.data).splitlines() for segment in batch.groups[0].segments}
    assert {place: len(found) for place, found in lines.items()} == {0: 1, 1: 2, 2: 2}
    assert b"ZeroDivisionError" in lines[0][0]


def _framed(count: int, **extra: object) -> tuple[bytes, int]:
    frame = pickle.dumps({"name": "n", "msg": "m", "levelno": 20, "created": 1.0, **extra}, 1)
    return (len(frame).to_bytes(4, "big") + frame) * count, len(frame)


def _times(monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    """Let each look at the clock find it `step_s` later."""
    clock = itertools.count(1)
    times = SimpleNamespace(monotonic=lambda: next(clock) * step_s)
    monkeypatch.setattr("prefork_logd.ingest.dispatcher.time", times)


def test_a_run_of_records_with_dear_values_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record with a value that Python makes is followed by a look at the clock, whichever core reads it."""
    _times(monkeypatch, 0.001)
    dispatcher = Dispatcher(CONFIGURATION)
    dispatcher.stop_at_s = 0.0045
    data, size = _framed(50, value=range(5))
    ended, taken, rejected, _, _ = dispatcher.run(data, 0, 50, 1000, "peer", 1.0)
    assert (ended, taken, rejected) == (5 * (size + 4), 5, 0)


def test_a_run_of_plain_records_looks_at_the_clock_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 16 KiB, which the compiled core reads in some microseconds."""
    _times(monkeypatch, 1.0)
    dispatcher = Dispatcher(CONFIGURATION)
    dispatcher.stop_at_s = 0.5
    data, size = _framed(5_000)
    _, taken, rejected, _, _ = dispatcher.run(data, 0, 5_000, 1000, "peer", 1.0)
    assert 1 <= taken <= 16_384 // size + 1
    assert not rejected
