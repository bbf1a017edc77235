"""Merges segments: those of an hour when it is over, and those of a day when it is over.

Owns the choice of segments, and the thread that merges them. Does not know how segments are written or searched.

Small files make searching slow. When an hour is over and has many segments, they become one; so do those of a day, when
it is over. Records stay in the order of their arrival, which is nearly that of their time: a search leaves out the row
groups of other times, and sorting would take three times as long as the rest of a merge.

Large row groups are copied as they are (joining.py); DuckDB writes the records of small ones again. That may need
minutes, so a thread of its own does it, of a process that the system gives little time (nice). DuckDB bounds its memory
and spills into a directory of the store.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import threading
import time
from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.errors import StoreError
from prefork_logd.stores.parquet import engine, joining, schema, segments
from prefork_logd.stores.parquet.index import write_segment
from prefork_logd.stores.parquet.segments import Segment, segment_path
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    import duckdb

    from prefork_logd.stores.parquet.segments import Directory

_HOUR_S = 3600
_DAY_S = 86_400
LATE_S = 120.0
"""Time after the end of an hour or day in which records received before it may still be written."""
MOST_OF_HOUR = 16
"""Segments that an hour may have when it is over; more are merged at once, and not only with the day's."""
MOST_BYTES = 4 << 30
"""Most bytes of a merged segment's parts."""
MOST_PARTS = 1000
RETRY_S = 300.0
"""Pause after a merge that failed."""


def choose_parts(found: Sequence[Segment], now_s: float) -> list[Segment]:
    """Return segments that are to be merged into one now: neighbours in numbers, of one journal and day; empty: none.

    `found` has no segment within another. `now_s` is the time in seconds since 1970.
    """
    over_s = now_s - LATE_S
    today = segments.day_name(int(over_s // _DAY_S))
    hour = over_s // _HOUR_S
    for run in _runs(found):
        if run[0].day >= today:
            groups: Iterable[list[Segment]] = (
                [*group] for _, group in itertools.groupby(run, lambda one: one.written_s // _HOUR_S)
            )
        else:
            groups = [run]
        for group in groups:
            if run[0].day >= today and group[-1].written_s // _HOUR_S >= hour:
                continue
            parts = _bounded(group)
            if len(parts) > (MOST_OF_HOUR if run[0].day >= today else 1):
                return parts
    return []


def _runs(found: Sequence[Segment]) -> Iterator[list[Segment]]:
    run: list[Segment] = []
    for one in sorted(found, key=lambda one: (one.day, one.journal, one.first)):
        if run and (one.day, one.journal, one.first) != (run[-1].day, run[-1].journal, run[-1].next):
            yield run
            run = []
        run.append(one)
    if run:
        yield run


def _bounded(group: Sequence[Segment]) -> list[Segment]:
    """Return the first segments of a group that may be merged, without large ones before them."""
    parts: list[Segment] = []
    nbytes = 0
    for one in group:
        if parts and (nbytes + one.nbytes > MOST_BYTES or len(parts) == MOST_PARTS):
            if len(parts) > 1:
                break
            parts, nbytes = [], 0
        parts.append(one)
        nbytes += one.nbytes
    return parts


class Merger:
    """Merges the segments of one store, one group at a time."""

    def __init__(self, directory: Directory, memory_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._memory_bytes = memory_bytes
        self._clock = clock
        self._thread: threading.Thread | None = None
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._ending = False
        self._pause_until_s = 0.0

    def go_on(self) -> bool:
        """Begin a merge if one is due; return whether one runs. Raises OSError."""
        if self._thread is not None:
            if self._thread.is_alive():
                return True
            self._thread = None
        if time.monotonic() < self._pause_until_s:
            return False
        files = segments.find_files(self._directory.root)
        found, covered = segments.split_covered(files)
        if covered:
            with self._directory.locked():
                self._directory.remove(covered)
        parts = choose_parts(found, self._clock())
        if not parts:
            return False
        self._ending = False
        self._thread = threading.Thread(target=self._run, args=(parts,), name="merge", daemon=True)
        self._thread.start()
        return True

    def stop(self) -> None:
        """End a merge that runs, and wait for its end; its parts stay."""
        if self._thread is None:
            return
        self._ending = True
        while self._thread.is_alive():
            # The thread may close the connection, or forget it, at any moment.
            connection = self._connection
            if connection is not None:
                with engine.suppressing_closed():
                    connection.interrupt()
            self._thread.join(0.02)
        self._thread = None

    def _run(self, parts: list[Segment]) -> None:
        try:
            self.merge(parts)
        except Exception as error:  # noqa: BLE001 - a merge that fails must not be the end of the shipper
            if not self._ending:
                self._pause_until_s = time.monotonic() + RETRY_S
                self._explain(parts, error)

    def merge(self, parts: Sequence[Segment]) -> Segment | None:
        """Put one segment in the place of neighbours; return it, or None if it was stopped.

        Raises StoreError, OSError; then the parts are unchanged.
        """
        first, last = parts[0], parts[-1]
        path = segment_path(self._directory.root, first.day, first.journal, first.first, last.next)
        made: list[Path] = []
        try:
            with contextlib.closing(engine.connect(self._memory_bytes, 1, self._directory.spill)) as connection:
                self._connection = connection
                if self._ending:
                    return None
                written = self._write(connection, parts, path, made)
            with self._directory.locked():
                if self._ending or not all(part.path.exists() for part in parts):
                    return None
                self._directory.publish(written, path, max(part.written_s for part in parts))
                self._directory.remove(parts)
            found = path.stat()
            return Segment(path, first.day, first.journal, first.first, last.next, found.st_size, found.st_mtime)
        finally:
            self._connection = None
            for one in made:
                one.unlink(missing_ok=True)
            shutil.rmtree(self._directory.spill, ignore_errors=True)

    def _write(
        self, connection: duckdb.DuckDBPyConnection, parts: Sequence[Segment], path: Path, made: list[Path]
    ) -> Path:
        """Write the records of the parts to a temporary file for `path`; add each file that is made to `made`."""
        ready: list[Path] = []
        for is_large, run in itertools.groupby(parts, lambda part: joining.has_large_groups(part.path)):
            some = [*run]
            ready += [part.path for part in some] if is_large else [self._rewrite(connection, some, made)]
        if len(ready) == 1 and ready[0] in made:
            return ready[0]
        made.append(target := self._directory.temporary(path))
        try:
            joining.join(ready, target, self._check)
        except joining.UnlikeError:
            return self._rewrite(connection, parts, made)
        return target

    def _rewrite(self, connection: duckdb.DuckDBPyConnection, parts: Sequence[Segment], made: list[Path]) -> Path:
        """Let DuckDB write the records of the parts to a temporary file."""
        first, last = parts[0], parts[-1]
        path = segment_path(self._directory.root, first.day, first.journal, first.first, last.next)
        made.append(target := self._directory.temporary(path))
        with engine.failing_as_store_error():
            paths = [part.path for part in parts]
            write_segment(connection, _records_of(paths), str(target), joining.filters_of(paths))
        return target

    def _check(self) -> None:
        if self._ending:
            raise StoreError("the merge was stopped")

    def _explain(self, parts: Sequence[Segment], error: Exception) -> None:
        """Log why a merge failed; put the parts aside that cannot be read, so that the others can be merged."""
        damaged = False
        for part in parts:
            try:
                check(part)
            except StoreError as problem:
                damaged = True
                with contextlib.suppress(OSError), self._directory.locked():
                    aside = self._directory.put_aside(part)
                    LOGGER.error("store: %s; its records cannot be read; it is kept as %s", problem, aside.name)
        if damaged:
            self._pause_until_s = 0.0
        else:
            LOGGER.error("store: cannot merge %s of %s: %s", format_count(len(parts), "file"), parts[0].day, error)


def _records_of(paths: Sequence[Path]) -> str:
    is_current = {path: joining.has_current_columns(path) for path in paths}
    current = [path for path in paths if is_current[path]]
    others = [path for path in paths if not is_current[path]]
    return schema.records_source(*(engine.text_list(some) if some else "" for some in (current, others)))


def check(segment: Segment) -> None:
    """Read all of a segment. Raises StoreError, which names it, if it cannot be read."""
    check_path(str(segment.path), str(segment.path))


def check_path(path: str, name: str) -> None:
    """Read all of a file. Raises StoreError with its `name` if it cannot be read."""
    joining.check_columns(path, name)
    with contextlib.closing(engine.connect(256 << 20, 1)) as connection, engine.failing_as_store_error(name):
        connection.execute(f"SELECT sum(hash(COLUMNS(*))) FROM read_parquet({engine.text(path)})").fetchall()
