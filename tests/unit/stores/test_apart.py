"""Calls that end late run in a process of their own: they find the same records, and can be ended at once."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.errors import QueryCancelledError, QueryMemoryError, QueryTimeoutError, StoreError
from prefork_logd.query.filters import Filters
from prefork_logd.query.language import parse
from prefork_logd.query.search import Limits
from prefork_logd.stores import apart
from prefork_logd.stores.apart import SearchApart, open_killable
from prefork_logd.stores.parquet import costs
from tests.support.harness import wait_for
from tests.support.parquet_store import JOURNAL, NOON, make_store
from tests.support.procfs import cpu_s
from tests.support.record_logs import write_log
from tests.support.searching import Stored, check, check_analysis, make_lines
from tests.support.stores import block, line, never

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLOW = 'message=~"(a|b|0|1|2|3)[0-9a-f ]{200}(a|b)[0-9a-f ]{200}zz"'
"""An expression for which RE2 needs a minute for the text of `slow`."""
ODD = re.compile(rb"\\u0000|\\ud|\de[+-]?\d|:-0|[nx]{257}")
ENDED_S = 0.5
"""Longest time that a call may take to end."""


def opened(directory: Path, lines: list[bytes]) -> SearchApart:
    store = make_store(directory)
    store.open(JOURNAL)
    store.write([block(0, lines)], never)
    store.close()
    search = open_killable(store._settings)
    assert isinstance(search, SearchApart)
    return search


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """Return the mixed lot, and a search with every call in the process."""
    lines = [one for one in make_lines() if not ODD.search(one)]
    with contextlib.closing(opened(tmp_path_factory.mktemp("mixed"), lines)) as search:
        yield Stored(lines, search)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchApart]:
    """Return a search of ordinary records over which SLOW takes minutes."""
    numbers = random.Random(7)
    lines = [line(NOON + at, msg=f"{at:x} {numbers.randbytes(200).hex(' ', 3)}") for at in range(4_000)]
    with contextlib.closing(opened(tmp_path_factory.mktemp("slow"), lines)) as search:
        yield search


@pytest.fixture(autouse=True)
def _limits(slow: SearchApart, found: Stored) -> Iterator[None]:
    yield
    slow.limits = found.search.limits = Limits()


def query(text: str) -> Filters:
    return Filters(tree=parse(text, now=NOON))


@pytest.mark.slow
@pytest.mark.parametrize("text", ['message=~"order|full"', 'NOT message=~"(?i)order"', "order level>=30", "*"])
def test_answers_are_those_of_the_specification(found: Stored, text: str) -> None:
    """Of every call, whether it runs in the process or here."""
    check(found, query(text))
    check_analysis(found, query(text))


@pytest.mark.slow
def test_only_calls_that_end_late_have_a_process(tmp_path: Path) -> None:
    """An expression always, many words and parts of texts only in large records."""
    with contextlib.closing(opened(tmp_path, [line(NOON, msg="disk full")])) as search:
        assert search.count(query("disk OR full OR message~disk")) == 1
        assert search.get(search.page(query("*")).records[0].id)
        assert search._process is None
        assert search.count(query('disk message=~"fu+ll"')) == 1
        first = search._process
        assert [*search.lines(query('message=~"^disk"'))] == [line(NOON, msg="disk full")]
        assert search._process is first
    many = parse(" OR ".join(f"message~{number}" for number in range(48)), now=NOON)
    assert [costs.ends_late(many, octets) for octets in (50, 5_000)] == [False, True]
    some = parse("disk OR full OR timeout OR refused", now=NOON)
    assert [costs.ends_late(some, octets) for octets in (500, 5_000)] == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize(("text", "is_late"), [("disk full", False), ("disk " * 10_000, True)])
def test_large_texts_of_the_journal_count_too(tmp_path: Path, text: str, is_late: bool) -> None:
    """They are in no file yet."""
    (tmp_path / "journal").mkdir()
    write_log(tmp_path / "journal", JOURNAL, [line(NOON, msg=text)] * 3)
    settings = ParquetStoreSettings(path=str(tmp_path / "records"))
    with contextlib.closing(open_killable(settings, tmp_path / "journal")) as search:
        assert search.count(query("disk OR full OR timeout OR refused")) == 3
        assert isinstance(search, SearchApart)
        assert (search._process is not None) == is_late


CALLS: dict[str, Callable[[SearchApart], Any]] = {
    "count": lambda search: search.count(query(SLOW)),
    "lines": lambda search: [*search.lines(query(SLOW))],
    "page": lambda search: search.page(query(SLOW)),
    "patterns": lambda search: search.patterns(query(SLOW), 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_call_is_cancelled_at_once(slow: SearchApart, call: Callable[[SearchApart], Any]) -> None:
    """While RE2 works on a block of records; the next call works."""
    cancelled: list[float] = []

    def cancel() -> None:
        wait_for(lambda: slow._process is not None and cpu_s(slow._process.pid) > 0.6, "the search works")
        cancelled.append(time.monotonic())
        slow.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(QueryCancelledError):
        call(slow)
    assert time.monotonic() - cancelled[0] < ENDED_S
    thread.join()
    assert slow.count(query('message=~"^f9 "')) == 1


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_call_ends_at_its_deadline(slow: SearchApart, call: Callable[[SearchApart], Any]) -> None:
    """Not when the block of records is over; with the sentence for users."""
    slow.limits = Limits(deadline_s=1.0)
    began = time.monotonic()
    with pytest.raises(QueryTimeoutError, match="took longer than 1 s"):
        call(slow)
    assert time.monotonic() - began < 1.0 + apart.GRACE_S + ENDED_S


@pytest.mark.slow
def test_the_process_ends_with_the_search(found: Stored, tmp_path: Path) -> None:
    """Also if the search is not closed, and while it works: nobody waits for its answers."""
    search = opened(tmp_path, [line(NOON, msg="x")])
    assert search.count(query("message=~x")) == 1
    process = search._process
    assert process
    assert process.stdin
    process.stdin.close()
    assert process.wait(20) == 0
    assert search.count(query("message=~x")) == 1
    process = search._process
    search.close()
    assert process
    assert process.returncode == -signal.SIGKILL


_PARENT = """
import sys, threading
from pathlib import Path
from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.query.filters import Filters
from prefork_logd.query.language import parse
from prefork_logd.stores.apart import open_killable
search = open_killable(ParquetStoreSettings(path=sys.argv[1]))
search.count(Filters(tree=parse("message=~x", now=0)))
print(search._process.pid, flush=True)
search.count(Filters(tree=parse(sys.argv[2], now=0)))
"""


@pytest.mark.slow
def test_the_process_does_not_outlive_a_parent_that_is_killed(slow: SearchApart) -> None:
    """It may work on a block of records for minutes, and ends nevertheless."""
    root = str(slow._opened_with[0].path)  # type: ignore[attr-defined]
    command = [sys.executable, "-c", _PARENT, root, SLOW]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        before = cpu_s(pid)
        wait_for(lambda: cpu_s(pid) > before + 0.5, "the search works")
        parent.kill()
    wait_for(lambda: not _runs(pid), "the process has ended")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_lines_that_nobody_wants_any_more_end_the_process(found: Stored) -> None:
    """It has written more than the pipe takes, perhaps."""
    search = found.search
    assert isinstance(search, SearchApart)
    lines = search.lines(query('message=~""'))
    assert next(lines) in found.lines
    lines.close()  # type: ignore[attr-defined]
    assert search._process is None
    assert len([*search.lines(query('message=~""'))]) == len([one for one in found.lines if b'"message"' in one])


@pytest.mark.slow
def test_errors_come_back(found: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their kinds and sentences; a process that was killed, or cannot be started, is an error of the store."""
    search = found.search
    assert isinstance(search, SearchApart)
    with pytest.raises(RuntimeError, match=r"in the process of a search: AttributeError: .* at search.py:\d+"):
        search.page(query("message=~x"), "no cursor")  # type: ignore[arg-type]
    assert search.count(query("message=~order")) > 0
    with contextlib.closing(opened(tmp_path / "gone", [line(NOON, msg="x")])) as other:
        shutil.rmtree(tmp_path / "gone")
        with pytest.raises(StoreError, match="there is nothing stored yet"):
            other.count(query("message=~x"))
    monkeypatch.setattr(apart, "_START", "import os; os.kill(os.getpid(), 9)")
    with contextlib.closing(opened(tmp_path, [line(NOON, msg="x")])) as other:
        with pytest.raises(QueryMemoryError, match=r"more memory .*; ask for a shorter .*process has ended: -9"):
            other.count(query("message=~x"))
        monkeypatch.undo()
        assert other.count(query("message=~x")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("program", ["raise ImportError", "import sys; sys.stdin.close(); raise SystemExit(3)"])
@pytest.mark.parametrize("executable", [None, "absent"])
def test_without_a_process_calls_are_answered_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, executable: str | None
) -> None:
    """The collector's user may not be able to read the program; it is not tried again."""
    monkeypatch.setattr(apart, "_START", program)
    if executable:
        monkeypatch.setattr(apart.sys, "executable", str(tmp_path / executable))
    with contextlib.closing(opened(tmp_path, [line(NOON, msg="x")])) as search:
        assert search.count(query("message=~x")) == 1
        monkeypatch.undo()
        assert [*search.lines(query("message=~x"))] == [line(NOON, msg="x")]
        assert search._process is None
