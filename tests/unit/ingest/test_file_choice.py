"""The file of a record: the same by either core, whatever the values of its fields are."""

from __future__ import annotations

import logging
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.config.load import loads
from prefork_logd.config.output_paths import value_name
from prefork_logd.ingest import _core_py, core, file_choice
from prefork_logd.ingest.dispatcher import Dispatcher
from prefork_logd.ingest.file_choice import FileChoice, date_of
from prefork_logd.ipc import batch_builder
from prefork_logd.ipc.batch import MOST_FILES
from prefork_logd.ipc.batch_builder import BatchBuilder
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.net.peers import peer_key
from prefork_logd.records.record import make_record
from prefork_logd.records.sender import NOBODY, Sender, make_sender
from tests.support.batches import read

if TYPE_CHECKING:
    from prefork_logd.ipc.batch import Batch

RECEIVED_S = 1_795_404_250.5
TEXTS = st.one_of(st.text(max_size=8), st.sampled_from(["", ".", "..", "a/b", "_none", "\x00", "x" * 300, "\u2028"]))


def made(path: str, *more: str, is_native: bool = core.NATIVE) -> Dispatcher:
    """Return a dispatcher for an output of this path, and further ones."""
    tables = "".join(f"[[output]]\npath = '{one}'\n" for one in (path, *more))
    settings = loads(f"store = []\n{tables}", overrides={"state_dir": "/nowhere"})
    configuration = Configuration(1, settings, tuple(range(1, len(settings.output) + 1)))
    if is_native:
        return Dispatcher(configuration)
    dispatcher = Dispatcher(configuration, batch_builder.Lines)
    dispatcher._core = _core_py.Core([])
    return dispatcher


def sent(dispatcher: Dispatcher, frames: list[bytes], sender: Sender = NOBODY, received_s: float = RECEIVED_S) -> Batch:
    """Return the batch of some frames; the run may end in between."""
    data = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    position = 0
    while position < len(data):
        position, *_ = dispatcher.run(data, position, 1 << 30, 1 << 20, "192.0.2.1:5", received_s, sender=sender)
    (batch,) = read(b"".join(bytes(piece) for piece in dispatcher.batch.build(1).pieces), [1 << 20])
    return batch


def by_file(batch: Batch) -> dict[tuple[int, str], tuple[int, bytes]]:
    """Return the lines of each output and file."""
    return {(one.output, one.file): (one.lines, bytes(one.data)) for group in batch.groups for one in group.segments}


def frame(name: object = "shop", level: object = "INFO", **more: object) -> bytes:
    """Return the pickle of a record."""
    attributes: dict[str, Any] = {"name": name, "levelname": level, "levelno": 20, "msg": "m", "args": None}
    return pickle.dumps({**attributes, "created": 1.5, "lineno": 1, **more}, 1)


def test_each_field_has_its_value() -> None:
    """The sender's, the record's, and the day of arrival in UTC."""
    path = "/l/{service}/{environment}/{host}/{version}/{logger}/{level}/{date}.jsonl"
    batch = sent(made(path), [frame("a.b", "ERROR")], make_sender("web-1", "shop", "prod", "2.4"))
    assert list(by_file(batch)) == [(1, f"shop/prod/web-1/2.4/a.b/ERROR/{date_of(RECEIVED_S)}.jsonl")]
    assert date_of(RECEIVED_S) == "2026-11-23"


def test_what_a_record_lacks_has_a_name() -> None:
    """Also where the value is none that can be stored."""
    batch = sent(made("/l/{service}/{logger}/{level}.jsonl"), [frame(None, None), frame("", "")])
    assert {key: lines for key, (lines, _) in by_file(batch).items()} == {(1, "_none/_none/_none.jsonl"): 2}


def test_a_day_ends_at_midnight() -> None:
    """A record that comes a moment later is in the next file, in one batch with the others."""
    dispatcher = made("/l/{date}.jsonl")
    midnight_s = 1_795_392_000.0
    data = len(frame()).to_bytes(4, "big") + frame()
    for received_s in (midnight_s - 0.001, midnight_s):
        dispatcher.run(data, 0, 10, 1 << 20, "p:1", received_s)
    (batch,) = read(b"".join(bytes(piece) for piece in dispatcher.batch.build(1).pieces), [1 << 20])
    assert list(by_file(batch)) == [(1, "2026-11-22.jsonl"), (1, "2026-11-23.jsonl")]


@pytest.mark.parametrize("is_native", [core.NATIVE, False])
def test_a_file_counts_for_the_first_peer_with_lines_for_it(is_native: bool) -> None:
    """In the batch, whatever its port; also where others of the same sender come in between."""
    dispatcher = made("/l/{logger}.jsonl", is_native=is_native)
    for peer, name in (("192.0.2.1:5", "a"), ("192.0.2.2:5", "b"), ("192.0.2.2:6", "a"), ("192.0.2.1:7", "c")):
        data = len(frame(name)).to_bytes(4, "big") + frame(name)
        dispatcher.run(data, 0, 10, 1 << 20, peer, RECEIVED_S)
    (batch,) = read(b"".join(bytes(piece) for piece in dispatcher.batch.build(1).pieces), [1 << 20])
    first, second = peer_key("192.0.2.1:1"), peer_key("192.0.2.2:1")
    found = {one.file: one.file_peer for group in batch.groups for one in group.segments}
    assert found == {"a.jsonl": first, "b.jsonl": second, "c.jsonl": first}


@pytest.mark.parametrize("received_s", [-5.0, 1e20, float("nan")])
def test_any_time_has_a_date(received_s: float) -> None:
    """A line of another collector may have any number."""
    assert len(date_of(received_s)) == len("2026-11-29")


@pytest.mark.slow
@pytest.mark.skipif(not core.NATIVE, reason="needs the compiled core")
@given(st.lists(st.tuples(TEXTS, TEXTS, st.booleans()), min_size=1, max_size=12), TEXTS)
def test_both_cores_choose_the_same_file(records: list[tuple[str, str, bool]], service: str) -> None:
    """And make the same lines, in the same order, also of records that the compiled one leaves to Python."""
    frames = [frame(name, level, lineno="none" if odd else 1) for name, level, odd in records]
    sender = make_sender("h", service.replace("\ud800", ""))
    for path in ("/l/{service}/{logger}-{level}.jsonl", "/l/{level}.jsonl", "/l/{service}.jsonl"):
        native, python = (
            by_file(sent(made(path, "/l2/all.jsonl", is_native=is_native), frames, sender))
            for is_native in (True, False)
        )
        assert native == python
        assert sum(lines for (output, _), (lines, _) in native.items() if output == 1) == len(records)


@pytest.mark.skipif(not core.NATIVE, reason="needs the compiled core")
@pytest.mark.parametrize("path", ["/l/{level}.jsonl", "/l/{logger}.jsonl", "/l/{level}/{logger}.jsonl"])
def test_repeated_parts_of_records_have_their_level(path: str) -> None:
    """The core copies what comes again without reading it; the level and the logger are known all the same."""
    logger = logging.getLogger("x")
    frames = []
    for number in range(300):
        level = (logging.INFO, logging.ERROR, 35)[number % 3]
        record = logger.makeRecord(f"l{number % 2}", level, "/srv/a.py", number % 5, f"m{number}", (), None, "f")
        frames.append(pickle.dumps({**record.__dict__, "args": None}, 1))
    native, python = (by_file(sent(made(path, is_native=which), frames)) for which in (True, False))
    assert native == python
    assert len(native) == {"/l/{level}.jsonl": 3, "/l/{logger}.jsonl": 2}.get(path, 6)


def test_a_batch_with_many_files_ends_the_run() -> None:
    """So that the writer need not open more than it may."""
    dispatcher = made("/l/{logger}.jsonl")
    data = b"".join(len(one).to_bytes(4, "big") + one for one in (frame(f"l{index}") for index in range(200)))
    _, taken, *_ = dispatcher.run(data, 0, 1 << 30, 1 << 20, "p:1", RECEIVED_S)
    assert taken == 64
    assert dispatcher.batch.is_full
    dispatcher.batch.build(1)
    assert not dispatcher.batch.is_full


def test_lines_of_a_stream_go_to_their_files() -> None:
    """Those that another collector has stored, with its senders and its times."""
    dispatcher = made("/l/{service}-{date}.jsonl")
    line = b'{"created":1.5,"name":"a","message":"m","service":"sh/op","received":86400.5}\n'
    dispatcher.dispatch_line(line)
    (batch,) = read(b"".join(bytes(piece) for piece in dispatcher.batch.build(1).pieces), [1 << 20])
    assert by_file(batch) == {(1, "sh%2Fop-1970-01-02.jsonl"): (1, line)}


def test_files_and_what_is_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of a stream may have lines for any number of files; a value may have any length."""
    monkeypatch.setattr(file_choice, "MOST_REMEMBERED", 10)
    batch, choice = BatchBuilder(1), FileChoice(1, "/l/{logger}.jsonl")
    outputs = {choice.of_record(make_record({"name": f"l{index}"}, "", 1.0), batch) for index in range(MOST_FILES + 50)}
    assert len(outputs) == MOST_FILES + 1
    choice.of_record(make_record({"name": "x" * 10_000}, "", 1.0), batch)
    assert len(choice._found) <= 10
    batch.add(max(outputs), b"line\n")
    (found,) = read(b"".join(bytes(piece) for piece in batch.build(1).pieces), [1 << 20])
    assert list(by_file(found)) == [(1, "_other.jsonl")]


def test_the_stores_get_every_line() -> None:
    """An output with files is not like the stores, whose lines are in one piece."""
    settings = loads("[[output]]\npath = '/l/{logger}.jsonl'\n", overrides={"state_dir": "/nowhere"})
    dispatcher = Dispatcher(Configuration(1, settings, (1,), (0,)))
    batch = sent(dispatcher, [frame("a"), frame("b")])
    lines = by_file(batch)
    assert lines[0xFFFF_FFFF, ""][1] == lines[1, "a.jsonl"][1] + lines[1, "b.jsonl"][1]
    assert value_name("a") == "a"
