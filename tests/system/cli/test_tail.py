"""What was collected last is shown, what comes is followed, and what was refused is sent again."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json
from tests.support.harness import Collector, frames, wait_for
from tests.support.shipping import SMALL, Place, expected, segments, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_last_records_are_shown(make_collector: Callable[..., Collector], tmp_path: Path) -> None:
    """As many as asked for, with the filters of query."""
    place = Place(tmp_path, "archive")
    collector = make_collector(place.toml).start()
    send(collector, 0, 500)
    place.wait_for(500)
    send(collector, 500, 3, level=40)
    place.wait_for(503)
    shown = collector.cli("tail", "-n", "3", "--format", "json")
    assert [line.partition('"message":"')[2].partition('"')[0] for line in shown.stdout.splitlines()] == [
        "m500", "m501", "m502",
    ]  # fmt: skip
    assert "m0" not in collector.cli("tail", "--level", "ERROR").stdout
    found = collector.cli("tail", "m50* -m501 level>=ERROR", "--format", "json").stdout
    assert [line.partition('"message":"')[2].partition('"')[0] for line in found.splitlines()] == ["m500", "m502"]
    assert collector.cli("tail", "-n", "600", "--format", "json").stdout.count("\n") == 503
    assert collector.cli("tail", "-n", "1").stdout.count("m502") == 1


def test_what_comes_is_followed_through_a_restart(make_collector: Callable[..., Collector], tmp_path: Path) -> None:
    """Each record once, in order, soon."""
    place = Place(tmp_path, "archive")
    collector = make_collector(place.toml).start()
    send(collector, 0, 5)
    place.wait_for(5)
    with subprocess.Popen(
        collector.command("tail", "-n", "2", "-f", "--format", "json"), stdout=subprocess.PIPE, text=True
    ) as tail:
        assert tail.stdout is not None
        try:
            seen = [tail.stdout.readline() for _ in range(2)]
            delays = []
            for number in range(5, 10):
                began_s = time.monotonic()
                send(collector, number, 1)
                seen.append(tail.stdout.readline())
                delays.append(time.monotonic() - began_s)
            assert collector.stop() == 0
            collector.start()
            send(collector, 10, 3)
            seen += [tail.stdout.readline() for _ in range(3)]
        finally:
            tail.kill()
    assert [line.partition('"message":"')[2].partition('"')[0] for line in seen] == expected(13)[3:]
    assert sorted(delays)[2] < 1


def test_what_comes_is_followed_from_segment_to_segment(
    make_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    """The record log rotates under it, and segments go: each record once and in order."""
    place = Place(tmp_path, "archive")
    collector = make_collector(SMALL + place.toml).start()
    send(collector, 0, 1)
    place.wait_for(1)
    total = 3001
    with subprocess.Popen(
        collector.command("tail", "-n", "1", "-f", "--format", "json"), stdout=subprocess.PIPE, text=True
    ) as tail:
        assert tail.stdout is not None
        try:
            seen = [tail.stdout.readline()]
            names = {path.name for path in segments(collector)}
            for first in range(1, total, 300):
                send(collector, first, 300)
                seen += [tail.stdout.readline() for _ in range(300)]
                names |= {path.name for path in segments(collector)}
        finally:
            tail.kill()
    assert [line.partition('"message":"')[2].partition('"')[0] for line in seen] == expected(total)
    assert len(names) > 4
    wait_for(lambda: len(segments(collector)) <= 2, "the segments that were passed to go")


def test_without_a_store_the_first_output_is_read(make_collector: Callable[..., Collector]) -> None:
    """And it is said."""
    collector = make_collector("store = []").start()
    send(collector, 0, 20)
    collector.wait_for_records(20)
    shown = collector.cli("tail", "-n", "2", "--format", "json")
    assert shown.stdout.count("\n") == 2
    assert "records.jsonl" in shown.stderr


@pytest.mark.parametrize(
    ("environment", "is_coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, False)],
)
@pytest.mark.parametrize("verb", ["tail", "query"])
def test_colours_are_for_terminals_that_have_them(
    tmp_path: Path, verb: str, environment: dict[str, str], *, is_coloured: bool
) -> None:
    """An error is red on a terminal; a dumb one, and who wants none, get none."""
    state = tmp_path / "state"
    state.mkdir()
    line = render_json(make_record({"msg": "broken", "levelno": 40, "levelname": "ERROR", "created": 1.5}, "", 1.5))
    (state / "records.jsonl").write_bytes(line)
    toml = tmp_path / "query.toml"
    toml.write_text("store = []" if verb == "tail" else '[[store]]\ntype = "parquet"\nretain = ""')
    command = [sys.executable, "-m", "prefork_logd", "--config", str(toml), "--state-dir", str(state)]
    if verb == "query":
        subprocess.run([*command, "import", str(state / "records.jsonl")], check=True, capture_output=True, timeout=60)
    ours, theirs = pty.openpty()
    base = {key: value for key, value in os.environ.items() if key not in ("TERM", "NO_COLOR")}
    try:
        subprocess.run(
            [*command, verb], check=True, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE,
            env={**base, **environment}, timeout=60,
        )  # fmt: skip
        shown = os.read(ours, 65_536)
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"broken" in shown
    assert (b"\x1b[31m" in shown) == is_coloured


def test_refused_records_are_sent_again_once(make_collector: Callable[..., Collector], tmp_path: Path) -> None:
    """What is refused again stays; what is taken is gone from the dead letters."""
    place = Place(tmp_path, "archive")
    collector = make_collector(place.toml).start()
    with collector.connect() as sock:
        sock.sendall(frames([*expected(5), "poison 1", "poison 2"]))
    wait_for(lambda: len(collector.lines("dead-letters-archive.jsonl")) == 2, "two dead letters")
    wait_for(lambda: len(place.messages()) == 5, "five records")
    again = collector.cli("replay")
    assert again.returncode == 1
    assert "archive: 0 records taken, 2 refused again" in again.stdout
    letters = collector.state_dir / "dead-letters-archive.jsonl"
    assert collector.stop() == 0
    letters.write_bytes(letters.read_bytes().replace(b"poison", b"antidote"))
    assert "archive: 2 records taken, 0 refused again" in collector.cli("replay", "archive").stdout
    assert place.messages() == [*expected(5), "antidote 1", "antidote 2"]
    assert not letters.exists()
    assert "archive: 0 records taken" in collector.cli("replay").stdout
