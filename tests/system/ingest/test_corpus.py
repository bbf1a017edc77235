"""The hostile corpus over real sockets: what the decoder's verdicts are worth in a process that serves others too."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import corpus, procfs
from tests.support.harness import UNSAFE, frame, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]

EXECUTED = "PWNED"
"""Name of the file that the corpus's payloads make in the temporary directory, if they are ever executed."""
TEMPLATE = """[[output]]
path = "records.jsonl"
[[output]]
path = "records.log"
format = "text"
template = "%(name)s %(message)s"
"""


def _framed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


@pytest.fixture
def watched(make_collector: Maker, tmp_path: Path) -> Collector:
    """Return a collector whose payloads, if one were executed, would leave their mark in `tmp_path`."""
    collector = make_collector(TEMPLATE, "--workers", "2", env={"TMPDIR": str(tmp_path)}).start()
    assert not (Path(tempfile.gettempdir()) / EXECUTED).exists()
    return collector


def _assert_unharmed(collector: Collector, pids: dict[int, int], before_bytes: dict[int, int], tmp_path: Path) -> None:
    assert collector.worker_pids() == pids
    for pid in pids.values():
        assert procfs.rss_bytes(pid) - before_bytes[pid] < 64 << 20
    assert not (tmp_path / EXECUTED).exists()
    assert not (Path(tempfile.gettempdir()) / EXECUTED).exists()
    assert "Traceback" not in collector.log
    assert "bug" not in collector.log


def test_every_payload_on_its_own_connection(watched: Collector, tmp_path: Path) -> None:
    """Each payload gets its verdict; workers live on, memory stays, and records of clients beside it are all stored."""
    collector = watched
    pids = collector.worker_pids()
    with collector.connect() as good:
        good.sendall(frame("good: first"))
        collector.wait_for_records(1)
        before_bytes = {pid: procfs.rss_bytes(pid) for pid in pids.values()}
        outcomes = {}
        for number, payload in enumerate(corpus.frames()):
            with collector.connect() as sock:
                sock.sendall(_framed(payload.data) + frame(f"marker: {payload.name}"))
                outcomes["{}:{}".format(*sock.getsockname())] = payload
            good.sendall(frame(f"good: {number}"))
        count = len(corpus.frames())
        assert len(outcomes) == count

        def all_in() -> bool:
            return sum(len(collector.lines(name)) for name in ("records.jsonl", "rejected.jsonl")) >= 3 * count + 1

        wait_for(all_in, "every payload accounted for")
    stored, rejected = collector.records(), collector.rejected()
    assert len(stored) + len(rejected) == 3 * count + 1
    goods = [record["message"] for record in stored if str(record.get("message")).startswith("good: ")]
    assert goods == ["good: first", *(f"good: {number}" for number in range(count))]
    markers = {record["peer"]: record["message"] for record in stored if str(record.get("message"))[:8] == "marker: "}
    assert markers == {peer: f"marker: {payload.name}" for peer, payload in outcomes.items()}
    refused = {entry["peer"] for entry in rejected}
    assert len(refused) == len(rejected)
    wrong = [
        payload.name
        for peer, payload in outcomes.items()
        if payload.expect != "bounded" and (peer in refused) != (payload.expect == "reject")
    ]
    assert wrong == []
    assert collector.status()["rejected"] == len(rejected)
    _assert_unharmed(collector, pids, before_bytes, tmp_path)
    assert collector.stop() == 0
    files = {
        name: b"".join(collector.lines(name)).decode() for name in ("records.jsonl", "rejected.jsonl", "records.log")
    }
    assert not [name for name, text in files.items() if UNSAFE.search(text)]
    lines = files["records.log"].removesuffix("\n").split("\n")
    assert sum(not line.startswith("\t") for line in lines) == len(stored), "no record passes for two, or for a part"


def test_bad_frames_between_good_ones(watched: Collector, tmp_path: Path) -> None:
    """On one connection, each bad frame leaves one entry and costs no good record before or after it."""
    collector = watched
    pids = collector.worker_pids()
    bad = [payload for payload in corpus.hostile() if payload.expect == "reject"]
    with collector.connect() as sock:
        sock.sendall(frame("good -1"))
        collector.wait_for_records(1)
        before_bytes = {pid: procfs.rss_bytes(pid) for pid in pids.values()}
        sock.sendall(b"".join(_framed(payload.data) + frame(f"good {number}") for number, payload in enumerate(bad)))
        stored = collector.wait_for_records(len(bad) + 1)
        rejected = collector.wait_for_records(len(bad), "rejected.jsonl")
    assert [record["message"] for record in stored] == [f"good {number}" for number in range(-1, len(bad))]
    assert [entry["size"] for entry in rejected] == [len(payload.data) for payload in bad]
    _assert_unharmed(collector, pids, before_bytes, tmp_path)


def test_genuine_records_are_stored_with_their_fields(watched: Collector) -> None:
    """Every record of real Pythons and protocols is stored with all that it carries, whatever its kind."""
    collector = watched
    records = corpus.records()
    with collector.connect() as sock:
        sock.sendall(b"".join(_framed(payload.data) for payload in records))
        stored = collector.wait_for_records(len(records))
    assert collector.rejected() == []
    problems = {}
    for payload, record in zip(records, stored, strict=True):
        attributes = _attributes(record)
        if missing := corpus.missing(payload, attributes):
            problems[payload.name] = missing
    assert problems == {}


def _attributes(record: dict[str, Any]) -> dict[str, Any]:
    """Return a stored record's fields under LogRecord's names; an original that did not fit its field is in extra."""
    # An empty field is left out of the line.
    return {"msg": record.get("message", ""), **record, **record.get("extra", {})}


@pytest.mark.parametrize("payload", corpus.streams(), ids=lambda payload: payload.name)
def test_raw_streams(payload: corpus.Payload, collector: Collector) -> None:
    """Each stream is stored, refused or closed as the manifest says, whole and byte by byte."""
    wanted = {
        "stream-zero-then-good": (1, 1),
        "stream-len-max": (0, 1),
        "stream-len-2g": (0, 1),
        "stream-payload-short": (0, 0),
        "stream-good-then-garbage": (1, 1),
        "stream-good-x3": (3, 0),
        "stream-good-exec-good": (2, 1),
    }
    stored, rejected = wanted[payload.name]
    for turn, size in enumerate((len(payload.data), 1), 1):
        with collector.connect() as sock:
            try:
                for start in range(0, len(payload.data), size):
                    sock.sendall(payload.data[start : start + size])
            except (BrokenPipeError, ConnectionResetError):
                assert rejected
        wait_for(lambda: sum(collector.held()) == 0, "the connection gone")
        collector.wait_for_records(turn * stored)
        collector.wait_for_records(turn * rejected, "rejected.jsonl")
    assert collector.stop() == 0
    assert (len(collector.records()), len(collector.rejected())) == (2 * stored, 2 * rejected)
    assert "Traceback" not in collector.log
