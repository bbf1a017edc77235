"""Runs calls of a search that end late in a process of its own, which can be killed.

Owns that process and what passes through its pipes. Does not know stores or what is searched for.

DuckDB ends a call between two blocks of records, and an expression of RE2 may need minutes for a block. The process
opens the same store and answers one call after another. It ends when its standard input does, so it never outlives the
process that has started it.

What passes through the pipes is pickled: both ends are the same program, and nobody else has them.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from prefork_logd.errors import (
    QueryCancelledError,
    QueryMemoryError,
    QueryTimeoutError,
    StoreError,
    describe_unexpected,
    too_heavy,
)
from prefork_logd.query.search import EndsLate, problems_of
from prefork_logd.stores.registry import open_search

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefork_logd.config.stores.base import StoreSettings
    from prefork_logd.query.conditions import Field
    from prefork_logd.query.filters import Filters
    from prefork_logd.query.search import (
        Bar,
        Cursor,
        Facets,
        Fields,
        Found,
        Limits,
        Page,
        Patterns,
        RecordId,
        Search,
        Table,
    )
    from prefork_logd.query.statistics import Statistics

GRACE_S = 0.25
"""Time that a call has to end by itself after its deadline, before its process is killed."""
_LINES_BYTES = 1 << 18
"""Lines that pass through the pipe at once."""
_LOST = (OSError, EOFError, pickle.UnpicklingError)
"""What a pipe to a process that has ended raises."""
_ERRORS = {"memory": QueryMemoryError, "store": StoreError, "value": ValueError}
_START = (
    "import sys; {0!r} in sys.path or sys.path.insert(0, {0!r}); from prefork_logd.stores.apart import main; main()"
)


class _Call(NamedTuple):
    """A call of a method of Search, as it passes through the pipe."""

    method: str
    arguments: tuple[Any, ...]
    limits: Limits


def open_killable(settings: StoreSettings, journal: Path | None = None) -> Search:
    """Return the store of these settings, opened for reading: every call of it can be ended at once.

    Raises StoreError if it cannot be searched now.
    """
    search = open_search(settings, journal)
    return SearchApart(search, settings, journal) if isinstance(search, EndsLate) else search


class SearchApart:
    """A Search (query/search.py) that passes calls which end late to a process."""

    def __init__(self, search: Search, settings: StoreSettings, journal: Path | None) -> None:
        """Take over `search`, which was opened with these settings. The process is started when it is needed."""
        self.problems = problems_of(search)
        """Sentences about what could not be read, so far."""
        self._search = search
        self._opened_with = (settings, journal)
        self._process: subprocess.Popen[bytes] | None = None
        self._is_cancelled = False
        self._can_start = True

    @property
    def limits(self) -> Limits:
        """Bounds of the calls that follow."""
        return self._search.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._search.limits = limits

    def lines(self, filters: Filters) -> Iterator[bytes]:
        """Yield the stored line of each matching record, with the filters' order and limit."""
        if not self._ends_late(filters):
            yield from self._search.lines(filters)
            return
        for some in self._answers("lines", filters):
            yield from some

    def page(self, filters: Filters, cursor: Cursor | None = None) -> Page:
        """Return matching records with their ids, from the cursor on."""
        found: Page = self._call("page", filters, cursor)
        return found

    def get(self, record: RecordId) -> Found | None:
        """Return one record by its id."""
        return self._search.get(record)

    def count(self, filters: Filters) -> int:
        """Return how many records match."""
        found: int = self._call("count", filters)
        return found

    def span(self) -> tuple[float, float] | None:
        """Return the least and the greatest `created`."""
        return self._search.span()

    def histogram(self, filters: Filters, start: float, slot_s: float, slots: int) -> list[Bar]:
        """Return the number of matching records in each slot of time."""
        found: list[Bar] = self._call("histogram", filters, start, slot_s, slots)
        return found

    def facets(self, filters: Filters, fields: Sequence[Field], top: int) -> Facets:
        """Return the most frequent values of each field."""
        found: Facets = self._call("facets", filters, fields, top)
        return found

    def fields(self, filters: Filters) -> Fields:
        """Return the fields that the matching records have."""
        found: Fields = self._call("fields", filters)
        return found

    def stats(self, filters: Filters, statistics: Statistics) -> Table:
        """Return aggregates of the matching records, by groups."""
        found: Table = self._call("stats", filters, statistics)
        return found

    def patterns(self, filters: Filters, top: int) -> Patterns:
        """Return the most frequent forms of the messages."""
        found: Patterns = self._call("patterns", filters, top)
        return found

    def levels(self) -> dict[str, int]:
        """Return the levels that records carry by name."""
        return self._search.levels()

    def cancel(self) -> None:
        """End the running call of another thread."""
        self._is_cancelled = True
        self._search.cancel()
        self._stop()

    def close(self) -> None:
        """End the process, and release every resource."""
        self._end()
        self._search.close()

    def _ends_late(self, filters: Filters) -> bool:
        return isinstance(self._search, EndsLate) and self._search.ends_late(filters)

    def _call(self, method: str, filters: Filters, *arguments: Any) -> Any:
        if not self._ends_late(filters):
            return getattr(self._search, method)(filters, *arguments)
        [answer] = self._answers(method, filters, *arguments)
        return answer

    def _answers(self, method: str, *arguments: Any) -> Iterator[Any]:
        """Yield what the process answers to a call, or this one if there can be none. Raises StoreError, ValueError."""
        self._is_cancelled = False
        limits = self.limits
        ends_s = time.monotonic() + limits.deadline_s
        timer = threading.Timer(limits.deadline_s + GRACE_S, self._stop)
        timer.daemon = True
        timer.start()
        is_over = False
        try:
            try:
                process = self._process_of_calls()
                kind, answer = "here", None
                if process is not None:
                    _write(process.stdin, _Call(method, arguments, limits))
                    kind, answer = _read(process.stdout)
                while process is not None and kind == "answer":
                    yield answer
                    kind, answer = _read(process.stdout)
            except _LOST as error:
                raise self._error_of_end(limits.deadline_s, ends_s) from error
            is_over = True
            if kind == "here":
                found = getattr(self._search, method)(*arguments)
                yield from ([line] for line in found) if method == "lines" else (found,)
            else:
                self._finish(kind, answer, limits)
        finally:
            timer.cancel()
            if not is_over:
                self._end()

    def _finish(self, kind: str, answer: Any, limits: Limits) -> None:
        """Raise the error with which a call has ended; note what could not be read."""
        match kind:
            case "end":
                self.problems += [problem for problem in answer if problem not in self.problems]
            case "timeout":
                raise QueryTimeoutError(limits.deadline_s)
            case "unexpected":
                raise RuntimeError(f"in the process of a search: {answer}")
            case _:
                raise _ERRORS[kind](answer)

    def _error_of_end(self, deadline_s: float, ends_s: float) -> StoreError:
        """Return the error for a process that has ended during a call."""
        if self._is_cancelled:
            return QueryCancelledError()
        if time.monotonic() >= ends_s:
            return QueryTimeoutError(deadline_s)
        self._stop()
        status = self._process.wait() if self._process is not None else 0
        # For lack of memory the kernel kills a process, and a library in C++ aborts.
        if -status in (signal.SIGKILL, signal.SIGABRT):
            return QueryMemoryError(too_heavy(self._opened_with[0].name, f"its process has ended: {status}"))
        return StoreError(f"the process of the search has ended ({status}); try again")

    def _process_of_calls(self) -> subprocess.Popen[bytes] | None:
        """Return the process, started if there is none; None if none can be started. Raises one of _LOST."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        if not self._can_start:
            return None
        root = str(Path(__file__).resolve().parents[2])
        try:
            process = self._process = subprocess.Popen(  # noqa: S603 - this interpreter and this program
                # -P: the directory in which the collector runs is no place for modules.
                [sys.executable, "-P", "-c", _START.format(root)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # A Ctrl-C in the terminal is for the collector.
                start_new_session=True,
            )
            _write(process.stdin, self._opened_with)
            _read(process.stdout)
        except _LOST:
            # The user who started the collector may be able to read more than its own user. A signal has other reasons.
            if self._process is not None and self._process.wait() < 0:
                raise
            self._can_start = False
            self._end()
            return None
        return process

    def _stop(self) -> None:
        """Kill the process if there is one; a call that it runs ends."""
        if (process := self._process) is not None:
            process.kill()

    def _end(self) -> None:
        """End the process if there is one. No call may be running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            # What was not written yet is lost with the process.
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()


def _write(pipe: IO[bytes] | None, value: object) -> None:
    assert pipe is not None  # noqa: S101 - Popen was asked for pipes
    pickle.dump(value, pipe)
    pipe.flush()


def _read(pipe: IO[bytes] | None) -> Any:
    assert pipe is not None  # noqa: S101 - Popen was asked for pipes
    return pickle.load(pipe)  # noqa: S301 - from the same program; see the top


def main() -> None:
    """Answer calls from standard input on standard output, until it ends. The first message names the store."""
    from setproctitle import setproctitle  # noqa: PLC0415 - only in the process

    setproctitle("prefork-logd: search")
    given, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # A library that prints something does not write among the answers.
    os.dup2(2, 1)
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(given, calls), daemon=True).start()
    settings, journal = calls.get()
    _write(answers, "ready")
    search: Search | None = None
    while True:
        call: _Call = calls.get()
        try:
            search = search or open_search(settings, journal)
            _answer(search, call, answers)
            ending: tuple[str, object] = ("end", problems_of(search))
        except QueryTimeoutError:
            ending = ("timeout", "")
        except QueryMemoryError as error:
            ending = ("memory", str(error))
        except MemoryError:
            ending = ("memory", too_heavy(settings.name, "no memory was left"))
        except StoreError as error:
            ending = ("store", str(error))
        except ValueError as error:
            ending = ("value", str(error))
        except Exception as error:  # noqa: BLE001 - the caller reports it
            ending = ("unexpected", describe_unexpected(error))
        _write(answers, ending)


def _receive(given: IO[bytes], calls: queue.SimpleQueue[Any]) -> None:
    """Read calls; end the process once nobody waits for answers any more, whatever it is doing."""
    while True:
        try:
            calls.put(_read(given))
        except _LOST:
            os._exit(0)


def _answer(search: Search, call: _Call, answers: IO[bytes]) -> None:
    search.limits = call.limits
    found = getattr(search, call.method)(*call.arguments)
    if call.method != "lines":
        _write(answers, ("answer", found))
        return
    some: list[bytes] = []
    size = most = 0
    for line in found:
        some.append(line)
        size += len(line)
        if size >= most:  # the first line at once
            _write(answers, ("answer", some))
            some, size, most = [], 0, _LINES_BYTES
    if some:
        _write(answers, ("answer", some))
