"""`query` and `import` as a user has them: what is printed, and that each line is stored once, whatever is killed."""

import contextlib
import csv
import gzip
import io
import json
import random
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from prefork_logd.errors import StoreError
from prefork_logd.query.filters import Filters
from prefork_logd.query.language import parse
from prefork_logd.query.tree import all_of, level_from, logger
from prefork_logd.stores.parquet import segments
from prefork_logd.stores.parquet.search import open_search
from tests.support import disks
from tests.support.corpus import corpus_lines
from tests.support.harness import Collector, wait_for
from tests.support.parquet_store import DAY, JOURNAL, NOON, lines_of, make_store, numbered
from tests.support.procfs import cpu_s
from tests.support.searching import make_lines
from tests.support.stores import block, line, never

TOML = '[[store]]\ntype = "parquet"\nretain = ""\n'


@pytest.fixture
def place(tmp_path):
    """Return a configured collector that does not run, and the path of its store."""
    (tmp_path / "state").mkdir()
    return Collector(tmp_path / "state", TOML), tmp_path / "state" / "records"


@pytest.fixture
def filled(place, tmp_path):
    """Return the same with records in the store, and their lines."""
    collector, path = place
    lines = make_lines()
    (tmp_path / "old.jsonl").write_bytes(b"".join(lines))
    done = collector.cli("import", str(tmp_path / "old.jsonl"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("old.jsonl: 400 records stored, 0 lines refused\n")
    return collector, path, lines


def test_query_prints_records_as_they_were_stored(filled):
    """--format json gives back the stored lines to the byte, with every filter at once and in order."""
    collector, _, lines = filled
    done = subprocess.run(collector.command("query", "--format", "json"), capture_output=True, check=True, timeout=60)
    assert sorted(done.stdout.splitlines(keepends=True)) == sorted(lines)
    done = collector.cli(
        "query", "--format", "json", "--level", "info", "--logger", "shop", "--grep", "order", "--where", "lineno>=3",
        "--since", "2026-11-20T12:00:00Z", "--until", "2026-11-26T12:00:00Z", "--order", "newest", "--limit", "5",
    )  # fmt: skip
    found = [json.loads(one) for one in done.stdout.splitlines()]
    assert len(found) == 5
    assert all(one["levelno"] >= 20 and one["lineno"] >= 3 and one["name"].startswith("shop") for one in found)
    assert found == sorted(found, key=lambda one: one["created"], reverse=True)


def test_a_query_in_the_language(filled):
    """Every kind of condition in one text, and flags beside it."""
    collector, _, lines = filled
    text = 'order -accepted level>=INFO logger:shop (id:1 OR id>=500 OR lineno:7) -message:"nothing at all"'
    records = [json.loads(one) for one in lines]
    want = [one for one in records if Filters(tree=parse(text, now=0.0)).matches(one)]
    assert 5 < len(want) < 100
    assert collector.cli("query", text, "--count").stdout == f"{len(want)}\n"
    fewer = [one for one in want if one["levelno"] >= 40]
    assert collector.cli("query", "--level", "error", "--count", text).stdout == f"{len(fewer)}\n"
    none = collector.cli("query", "--count", "--", "-created:*")
    assert (none.returncode, none.stdout) == (0, "0\n")


def test_query_forms(filled):
    """Text, CSV, table, count and histogram tell of the same records."""
    collector, _, lines = filled
    wanted = ("--level", "ERROR", "--logger", "shop")
    records = [json.loads(one) for one in lines]
    want = [one for one in records if Filters(tree=all_of((level_from(40), logger("shop")))).matches(one)]
    assert want
    assert collector.cli("query", "--count", *wanted).stdout == f"{len(want)}\n"
    text = collector.cli("query", *wanted).stdout
    assert sum(not one.startswith("\t") for one in text.splitlines()) == len(want)
    rows = list(csv.DictReader(io.StringIO(collector.cli("query", "--format", "csv", *wanted).stdout, newline="")))
    assert Counter(row["name"] for row in rows) == Counter(one["name"] for one in want)
    table = collector.cli("query", "--format", "table", *wanted).stdout.splitlines()
    assert len(table) == len(want) + 2
    bars = collector.cli("query", "--histogram", *wanted).stdout
    assert f"{len(want):,} records" in bars
    assert "▓" in bars


@pytest.mark.parametrize(
    ("flags", "status", "says"),
    [
        (("disk (full",), 2, "column 6 of the query: the parenthesis is not closed; add `)`"),
        (("level>LOUD",), 2, "column 1 of the query: 'LOUD' is not a level"),
        (("--since", "soon"), 2, "'soon' is not a time"),
        (("--level", "LOUD"), 2, "'LOUD' is not a level"),
        (("--grep", "--"), 2, "does not hold a word"),
        (("--where", "trace_id=1"), 2, "did you mean extra.trace_id"),
        (("--logger", ""), 2, "a name is empty"),
        (("--store", "other"), 2, "there is no such store; configured: parquet"),
        ((), 1, "there is nothing stored yet"),
    ],
)
def test_what_cannot_be_asked_says_so(place, flags, status, says):
    """A sentence with the remedy, and a status."""
    done = place[0].cli("query", *flags)
    assert done.returncode == status
    assert says in " ".join(done.stderr.split())


def test_no_cell_is_a_formula(place, tmp_path):
    """What a client logs is not run by the spreadsheet that opens it; numbers stay numbers."""
    collector, _ = place
    messages = ["=1+2", "+1", "-1", "@SUM(A1)", "plain = text"]
    (tmp_path / "old.jsonl").write_text(
        "".join(json.dumps({"created": 1.5, "message": one}) + "\n" for one in messages)
    )
    assert collector.cli("import", str(tmp_path / "old.jsonl")).returncode == 0
    rows = list(csv.DictReader(io.StringIO(collector.cli("query", "--format", "csv").stdout)))
    assert sorted(row["message"] for row in rows) == ["'+1", "'-1", "'=1+2", "'@SUM(A1)", "plain = text"]
    assert {row["created"] for row in rows} == {"1.5"}


def test_a_reader_that_has_seen_enough_ends_the_query(filled):
    """A closed pipe is no error of ours."""
    collector, _, _ = filled
    process = subprocess.Popen(collector.command("query"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(20)


def test_ctrl_c_ends_a_query_at_once(place, tmp_path):
    """While RE2 works on a block of records, where Python's own handler would wait for minutes."""
    collector, path = place
    numbers = random.Random(7)
    store = make_store(path)
    store.open(JOURNAL)
    lines = [line(NOON + at, msg=numbers.randbytes(200).hex(" ", 3)) for at in range(4_000)]
    store.write([block(0, lines)], never)
    store.close()
    slow = 'message=~"(a|b|0|1|2|3)[0-9a-f ]{200}(a|b)[0-9a-f ]{200}zz"'
    process = subprocess.Popen(collector.command("query", slow), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: cpu_s(process.pid) > 2, "the query works")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == (b"", b"")
    assert time.monotonic() - began < 0.5
    assert process.returncode == -signal.SIGINT


def test_an_import_killed_again_and_again_stores_each_line_once(place, tmp_path):
    """Kill -9 at any moment; what was committed is not stored again, what was not is."""
    collector, path = place
    # A segment for every 2,000 lines or so: each batch of 20,000 lines is there in part for a while.
    lines = [line(NOON + number // 3_000 % 2 * DAY + number / 1000, n=number) for number in range(60_000)]
    (tmp_path / "old.jsonl").write_bytes(b"".join(lines))
    stored, kills = 0, 0

    def count():
        return sum(one.next - one.first for one in segments.find_segments(path))

    command = collector.command("import", str(tmp_path / "old.jsonl"))
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_for(lambda process=process, seen=stored: process.poll() is not None or count() > seen, "progress")
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=20)
        kills += process.returncode == -signal.SIGKILL
        stored = count()
        if process.returncode == 0:
            break
    done = collector.cli("import", str(tmp_path / "old.jsonl"))
    assert done.returncode == 0
    assert kills >= 2
    assert Counter(lines_of(path)) == Counter(lines)
    assert {one.name for one in path.rglob(".*")} == {".lock"}, "temporary files"


def test_import_takes_what_others_wrote(place, tmp_path):
    """Compressed files, fields that are not ours, a last line without a newline, and lines that are no record."""
    collector, _ = place
    genuine = corpus_lines()[:50]
    with gzip.open(tmp_path / "old.jsonl.gz", "wb") as file:
        file.write(b"".join(genuine))
    other = tmp_path / "other.jsonl"
    other.write_text(
        '{"time": "2026-11-23T12:00:00+01:00", "message": "hello from elsewhere", "trace": 7,'
        ' "extra": {"a": NaN}, "levelno": "40"}\n'
        "no json\n[1]\n"
        '{"msg": "bare", "deep": 1e999}'
    )
    done = collector.cli("import", str(tmp_path / "old.jsonl.gz"), str(other))
    assert done.returncode == 1
    assert "50 records stored" in done.stdout
    assert "other.jsonl: 2 records stored, 2 lines refused" in done.stdout
    complaints = done.stderr.splitlines()
    assert [one.partition("other.jsonl:")[2][:14] for one in complaints] == ["2: not stored:", "3: not stored:"]
    found = [json.loads(one) for one in collector.cli("query", "--format", "json").stdout.splitlines()]
    hello = next(one for one in found if one.get("message") == "hello from elsewhere")
    assert (hello["time"], hello["levelno"]) == ("2026-11-23T11:00:00.000000Z", 40)
    assert hello["extra"] == {"a": "nan", "trace": 7, "levelno": "40"}
    assert next(one for one in found if one.get("message") == "bare")["extra"] == {"deep": "1e999"}
    again = collector.cli("import", str(tmp_path / "old.jsonl.gz"))
    assert "0 records stored, 50 were there already" in again.stdout


def test_readers_and_a_writer_do_not_disturb_one_another(tmp_path):
    """While records come in, every query sees whole segments, more and more of them, each record once."""
    store = make_store(tmp_path / "records")
    store.open(JOURNAL)
    store.write([block(0, numbered(0, 1))], never)
    stop, seen, problems = threading.Event(), [], []

    def read():
        while not stop.is_set():
            with contextlib.closing(open_search(store._settings)) as search:
                lines = list(search.lines(Filters()))
                if len(set(lines)) != len(lines) or len(lines) != search.count(Filters()) or len(lines) % 500 != 1:
                    problems.append(len(lines))
                seen.append(len(lines))

    reader = threading.Thread(target=read)
    reader.start()
    for first in range(1, 10_001, 500):
        store.write([block(first, numbered(first, 500))], never)
    wait_for(lambda: seen and seen[-1] == 10_001, "everything seen")
    stop.set()
    reader.join(20)
    store.close()
    assert problems == []
    assert seen == sorted(seen)


def test_a_full_disk_loses_and_doubles_nothing(tmp_path):
    """A store that cannot be written says so, and goes on exactly where it was when there is room."""
    chance = random.Random(1)
    lines = [line(NOON + at, key=chance.randbytes(40).hex()) for at in range(40_000)]
    with disks.mounted(tmp_path / "disk", "size=1m") as disk:
        store = make_store(disk.path / "records")
        number, failures = store.open(JOURNAL), 0
        while number < len(lines):
            try:
                store.write([block(number, lines[number : number + 2_000])], never)
                number += 2_000
            except StoreError as error:
                failures += "No space" in str(error)
                store.close()
                disk.remount("size=64m")
                number = store.open(JOURNAL)
        assert failures
        store.close()
        assert Counter(lines_of(disk.path / "records")) == Counter(lines)


def test_an_import_waits_for_a_directory_that_another_process_holds(place, tmp_path):
    """Then it stores each line once."""
    collector, path = place
    lines = numbered(0, 100)
    store = make_store(path)
    store.open(JOURNAL)
    store.write([block(0, lines[:1])], never)
    (tmp_path / "old.jsonl").write_bytes(b"".join(lines[1:]))
    command = collector.command("import", str(tmp_path / "old.jsonl"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        with segments.Directory(path).locked():
            # proc_locks(5): an arrow is before a process that waits.
            waiting = re.compile(rf"-> FLOCK +ADVISORY +WRITE {process.pid} ")
            wait_for(lambda: waiting.search(Path("/proc/locks").read_text()), "the import waits")
            assert len(lines_of(path)) == 1
        assert process.communicate(timeout=60)[0].endswith("old.jsonl: 99 records stored, 0 lines refused\n")
    assert Counter(lines_of(path)) == Counter(lines)
