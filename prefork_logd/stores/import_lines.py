"""Brings existing files of JSON lines into a store, each line once.

Owns the way from a file to a store's blocks. Does not know shippers, and prints nothing.

A file counts as a journal of its own, named by its inode and its first line, and its lines are numbered from 0. The
store keeps the position in the transaction with the records, so an import that was killed continues, and a repeated one
adds the appended lines.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from prefork_logd.errors import NotARecord, ProcessError, StoreError, describe_refusal
from prefork_logd.files.unpacking import Unpacked
from prefork_logd.ipc.batch import NO_SESSION
from prefork_logd.records.imported import MOST_DEPTH, MOST_LINE_BYTES, PADDING, canonical
from prefork_logd.records.render import render_json
from prefork_logd.records.stored import read_record, read_row
from prefork_logd.stores.base import Block
from prefork_logd.stores.rows import render

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prefork_logd.records.redaction import Redactor
    from prefork_logd.stores.base import Store

_T = TypeVar("_T")

BATCH_LINES = 20_000
BATCH_BYTES = 8 << 20
MOST_NAMED = 20
"""Refused lines of one file that are reported singly; further ones are only counted."""
_FIRST_LINE_BYTES = 1 << 20
_RETRIES_S = (0.5, 1, 2, 5, 10, 10, 10, 10)
"""The wait before each further try with a store that cannot be used at the moment."""


class Imported(NamedTuple):
    """The outcome for one file."""

    stored: int
    """Records stored by this import."""
    before: int
    """Lines that an earlier import had handled."""
    refused: int
    """Lines that are not records."""
    without_time: int
    """Records of other programs without a readable time: `created` is the time of the import."""
    without_level: int
    """Records of other programs without a level."""
    trouble: str
    """Why the file was not read to its end; empty if it was read."""


def import_file(
    store: Store,
    path: Path,
    advance: Callable[[int], object],
    complain: Callable[[int, str], object],
    wait: Callable[[float], object] = time.sleep,
    redactor: Redactor | None = None,
) -> Imported:
    """Store every line of a file, plain or compressed by gzip or zstd, that is not stored yet.

    `advance` gets the number of bytes of the file that were handled since the last call, `complain` the line number
    (from 1) and a reason for each of the first MOST_NAMED refused lines. `redactor` replaces secrets; None: they stay.
    Raises ProcessError if the file cannot be opened, StoreError if the store stays unusable for most of a minute.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return _Import(store, _journal(path), complain, wait, redactor).run(file, path, advance)
    except OSError as error:
        raise ProcessError(f"{path}: cannot read it: {describe_refusal(error)}") from error


def summary(done: Imported) -> Iterator[str]:
    """Yield further sentences about a file, besides its counts of lines."""
    if done.without_time:
        yield f"{done.without_time:,} of them without a readable time: `created` is the time of the import"
    if done.without_level:
        yield f"{done.without_level:,} of them without a known level: filters take it as 0"
    if done.refused > MOST_NAMED:
        yield f"only the first {MOST_NAMED} refused lines are named"


class _Import:
    """The import of one file."""

    def __init__(
        self,
        store: Store,
        journal: str,
        complain: Callable[[int, str], object],
        wait: Callable[[float], object],
        redactor: Redactor | None,
    ) -> None:
        self._store = store
        self._journal = journal
        self._complain = complain
        self._wait = wait
        self._redactor = redactor
        self._stored = self._refused = self._without_time = self._without_level = 0

    def run(self, file: io.FileIO, path: Path, advance: Callable[[int], object]) -> Imported:
        begin = self._retried(lambda: self._store.open(self._journal))
        now, number, at = time.time(), 0, 0
        unpacked = Unpacked(file, path, MOST_LINE_BYTES)
        for lines in _batches(unpacked.lines()):
            if number + len(lines) > begin:
                skipped = max(0, begin - number)
                self._write(self._blocks(number + skipped, lines[skipped:], now))
            number += len(lines)
            position = file.tell()
            advance(position - at)
            at = position
        trouble = unpacked.trouble
        if trouble:
            trouble += f", behind line {number:,}: what was read is stored; import the rest from a whole copy"
        counts = (self._refused, self._without_time, self._without_level)
        return Imported(self._stored, min(begin, number), *counts, trouble)

    def _blocks(self, number: int, lines: list[bytes | None], now: float) -> list[Block]:
        """Return the records, in blocks of consecutive lines; `number` is that of the first line."""
        blocks: list[Block] = []
        run: list[bytes] = []
        for at, line in enumerate([*lines, b""], number):
            fitted = self._fitted(at, line, now)
            if fitted is not None:
                run.append(fitted)
            elif run:
                blocks.append(Block(at - len(run), len(run), NO_SESSION, (), b"".join(run)))
                run = []
        return blocks

    def _fitted(self, number: int, line: bytes | None, now: float) -> bytes | None:
        """Return a line in this collector's own form; None for one that is empty or refused."""
        if line is None:
            self._refuse(number, f"is longer than {MOST_LINE_BYTES:,} bytes")
            return None
        stripped = line.strip(PADDING) + b"\n"
        if stripped == b"\n":
            return None
        try:
            if render(read_row(stripped)) == stripped:
                return self._without_secrets(stripped)
        except NotARecord:
            pass
        try:
            found = canonical(stripped, now)
        except NotARecord as error:
            torn = "" if line.endswith(b"\n") else " (the file ends within it; once it is whole an import takes it)"
            self._refuse(number, f"{error}{torn}")
            return None
        self._without_time += not found.has_time
        self._without_level += not found.has_level
        return self._without_secrets(found.line)

    def _without_secrets(self, line: bytes) -> bytes:
        """Return a stored line without secrets, which a collector with other rules may have kept."""
        if self._redactor is None:
            return line
        record = read_record(line)
        found = self._redactor.redact(record)
        if len(line) >= 2 * MOST_DEPTH:
            # Values that lie too deep are the text of their JSON.
            found = self._redactor.redact_unread(record) or found
        return render_json(record) if found else line

    def _refuse(self, number: int, reason: str) -> None:
        self._refused += 1
        if self._refused <= MOST_NAMED:
            self._complain(number + 1, reason)

    def _write(self, blocks: list[Block]) -> None:
        if not blocks:
            return
        refused: dict[int, str] = {}

        def refuse(at: int, _: bytes, reason: str) -> None:
            refused[at] = reason

        self._retried(lambda: self._store.write(blocks, refuse))
        self._stored += sum(block.count for block in blocks) - len(refused)
        for at, reason in sorted(refused.items()):
            self._refuse(at, reason)

    def _retried(self, action: Callable[[], _T]) -> _T:
        """Return the action's result; open the store again after each failure: a collector may lock it for a while."""
        for wait_s in _RETRIES_S:
            try:
                return action()
            except StoreError:
                self._store.close()
                self._wait(wait_s)
                try:
                    self._store.open(self._journal)
                except StoreError:
                    continue
        return action()


def _journal(path: Path) -> str:
    """Return the name of a file's journal, from its inode and first line: neither alone is unique over time."""
    with path.open("rb") as file:
        first = file.readline(_FIRST_LINE_BYTES)
    name = hashlib.blake2b(first, digest_size=16, salt=path.stat().st_ino.to_bytes(16, "big"), person=b"import")
    return name.hexdigest()


def _batches(lines: Iterator[bytes | None]) -> Iterator[list[bytes | None]]:
    """Yield the lines in pieces."""
    batch: list[bytes | None] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line or b"")
        if len(batch) >= BATCH_LINES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
