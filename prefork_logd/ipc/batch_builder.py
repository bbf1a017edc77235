"""Gathers finished lines by output and session, and makes batches of them (batch.py has the layout).

Owns the lines that are not in a batch yet. Does not know pipes, or how lines are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from prefork_logd.errors import LocalProtocolError
from prefork_logd.ipc.batch import (
    FILE_COUNT,
    FILE_ENTRY,
    GROUP_ENTRY,
    HEADER,
    INLINE,
    MAGIC,
    MAGIC_WITH_FILES,
    MOST_FILES,
    NO_SESSION,
    OPEN_ENTRY,
    RECORDS,
    RUN_ENTRY,
    SEGMENT_ENTRY,
    Open,
    file_output,
)
from prefork_logd.net.peers import peer_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LARGEST = (1 << 64) - 1
"""The largest number that fits into a field of a batch."""


class Gathered(Protocol):
    """Finished lines for one output; the compiled core has its own."""

    @property
    def nbytes(self) -> int:
        """Size of all lines."""

    @property
    def count(self) -> int:
        """Number of lines."""

    @property
    def offset(self) -> int:
        """Their offset in the memory shared with the writer; -1 if they are not in it."""

    def append(self, line: bytes) -> None:
        """Add one line, its newline included."""

    def joined(self) -> memoryview:
        """Return all lines, end to end; no line may be added after this."""


class Lines:
    """Gathered in Python."""

    __slots__ = ("_lines", "count", "nbytes")

    offset = -1

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self.count = 0
        self.nbytes = 0

    def append(self, line: bytes) -> None:
        """Add one line, its newline included."""
        self._lines.append(line)
        self.count += 1
        self.nbytes += len(line)

    def extend(self, lines: bytes, count: int) -> None:
        """Add several lines, end to end."""
        self._lines.append(lines)
        self.count += count
        self.nbytes += len(lines)

    def joined(self) -> memoryview:
        """Return all lines, end to end."""
        return memoryview(b"".join(self._lines))


class Outgoing(NamedTuple):
    """One batch in the form in which the worker sends it."""

    pieces: list[bytes | memoryview]
    """The bytes for the pipe, in order."""
    shared: list[memoryview]
    """Lines that the writer reads from the shared memory; they must be kept until their commit."""
    nbytes: int
    """Size of the pieces and of the shared lines."""


Mark = dict[int, tuple[int, int]]
"""Output to (lines, bytes) gathered so far."""


class _Group:
    """One session's part of the gathered lines."""

    __slots__ = ("begins", "epoch", "first", "floor", "last", "peer", "pieces", "runs", "session")

    def __init__(self, session: bytes, epoch: int, first: int, begins: Mark, floor: int = 0, peer: int = 0) -> None:
        self.floor = floor
        self.peer = peer
        self.session = session
        self.epoch = epoch
        self.first = first
        self.last = first - 1
        self.begins = begins
        """The lines gathered before this group."""
        self.pieces: list[tuple[int, int, int, int]] = []
        """(output, lines, first byte, bytes), once another group has begun."""
        self.runs: list[tuple[int, int]] = []

    def end(self, ends: Mark) -> None:
        """End the group: its lines are those between its beginning and `ends`."""
        for output, (end_lines, end_nbytes) in ends.items():
            lines, nbytes = self.begins.get(output, (0, 0))
            if end_lines > lines:
                self.pieces.append((output, end_lines - lines, nbytes, end_nbytes - nbytes))

    @property
    def is_empty(self) -> bool:
        """Whether it has no lines and no numbers."""
        return not self.pieces and self.last < self.first


class BatchBuilder:
    """Gathers finished lines by output, and records the session of each, until the batch is sent.

    The lines of one output are stored end to end, of all sessions: a group is a piece of them. A session that begins
    again after lines of others gets another group.
    """

    def __init__(
        self,
        generation: int,
        records_like: int | None = None,
        new_lines: Callable[[], Gathered] = Lines,
        most_files: Mapping[int, int] | None = None,
    ) -> None:
        """Gather for a configuration. `records_like` is an output whose lines are also those for RECORDS.

        No lines may then be added for RECORDS: they are in the batch once, and the reader returns them twice.
        `most_files` has, for each output whose path has fields, the number of files that makes a batch full.
        """
        self.generation = generation
        self._most_files = dict(most_files or {})
        self._like = records_like
        self._new_lines = new_lines
        self.peer = ""
        """The peer of the lines that are added, as a text; "" if it is not known."""
        self._start()

    def _start(self) -> None:
        self._outputs: dict[int, Gathered] = {}
        self._sinks: tuple[Gathered, ...] = ()
        self._files: dict[tuple[int, str], int] = {}
        self._file_peers: list[int] = []
        self._file_counts = dict.fromkeys(self._most_files, 0)
        self.is_full = False
        """Whether an output has lines for so many files that the batch must be sent."""
        self.kept: dict[tuple[Any, ...], Any] = {}
        """What those who add lines remember until the batch is sent."""
        self._current = _Group(NO_SESSION, 0, 1, {})
        self._is_ended = False
        """Begin a group of unacknowledged clients, without ending the current group."""
        self._groups = [self._current]
        self._latest: dict[bytes, _Group] = {}
        self._opens: list[Open] = []

    @property
    def nbytes(self) -> int:
        """Size of all gathered lines."""
        return sum([gathered.nbytes for gathered in self._outputs.values()])

    def __len__(self) -> int:
        """Return the size of all gathered lines, or 1 if there are only ranges or opens."""
        return self.nbytes or bool(self._latest or self._opens)

    def _gathered(self, output: int) -> Gathered:
        if self._is_ended:
            self._switch(NO_SESSION, 0, 1)
        gathered = self._outputs.get(output)
        if gathered is None:
            gathered = self._outputs[output] = self._new_lines()
        return gathered

    def file(self, output: int, name: str, other: str) -> int:
        """Return the output of lines for a file of the output in a slot, whose path has fields.

        `name`: the file's path below the pattern's directory. `other`: that of the file for lines beyond MOST_FILES.
        """
        found = self._files.get((output, name))
        if found is None:
            if len(self._files) >= MOST_FILES and name != other:
                return self.file(output, other, other)
            found = self._files[output, name] = file_output(output, len(self._files))
            self._file_peers.append(peer_key(self.peer) if self.peer else 0)
            count = self._file_counts[output] = self._file_counts.get(output, 0) + 1
            self.is_full = self.is_full or count >= self._most_files.get(output, MOST_FILES)
        return found

    def nbytes_of_files(self, output: int) -> int:
        """Return the size of all lines for files of the output in a slot, whose path has fields."""
        ids = [number for (slot, _), number in self._files.items() if slot == output]
        return sum([self._outputs[number].nbytes for number in ids if number in self._outputs])

    def gathered(self, output: int) -> Gathered:
        """Return the lines for an output (the same object each time), valid until the next `begin` or `build`."""
        return self._gathered(output)

    def add(self, output: int, line: bytes) -> None:
        """Add one line, its newline included, for an output; it belongs to the current session (`begin`)."""
        self._gathered(output).append(line)

    def extend(self, output: int, lines: bytes, count: int) -> None:
        """Add several lines, end to end, in the same way; only for a builder whose `new_lines` is Lines."""
        self._gathered(output).extend(lines, count)  # type: ignore[attr-defined]  # the compiled core's Lines lack it

    def sinks(self, outputs: Sequence[int]) -> tuple[Gathered, ...]:
        """Return the Gathered of these outputs (the same ones each time), valid until the next `begin` or `build`."""
        if self._is_ended:
            self._switch(NO_SESSION, 0, 1)
        if not self._sinks:
            self._sinks = tuple(self._gathered(output) for output in outputs)
        return self._sinks

    def run(self, first: int, count: int) -> None:
        """Set the session's numbers of the lines for RECORDS that were added since the last call."""
        runs = self._current.runs
        if count <= 0:
            return
        if runs and sum(runs[-1]) == first:
            runs[-1] = (runs[-1][0], runs[-1][1] + count)
        else:
            runs.append((first, count))

    def begin(self, session: bytes, epoch: int, first: int, last: int, floor: int = 0, peer: int = 0) -> None:
        """Begin a range: the lines added from here on are of a session's records from `first` to `last`.

        In this epoch the client sends from `floor` on, and counts for `peer`.
        The ranges of one epoch in a batch must be consecutive, else LocalProtocolError is raised.
        The range may be empty at first, and grow by `advance`.
        """
        group = self._latest.get(session)
        if not (0 <= first <= LARGEST and first - 1 <= last <= LARGEST):
            # Refused here, where it costs one connection: in `build` it would cost the lines of all.
            raise LocalProtocolError(f"a range from {first} to {last}")
        if group is not None:
            if group.epoch != epoch:
                raise LocalProtocolError(f"a session has two epochs in one batch: {group.epoch} and {epoch}")
            if first != group.last + 1:
                raise LocalProtocolError(f"a session goes from {group.last} to {first}")
        if group is None or group is not self._current:
            group = self._latest[session] = self._switch(session, epoch, first, floor, peer)
        group.last = last
        self._is_ended = False

    def advance(self, count: int) -> None:
        """Extend the range by `count` records, whose lines have been added."""
        self._current.last += count

    def has_other_epoch(self, session: bytes, epoch: int) -> bool:
        """Return whether this batch has lines of another epoch of the session, and must be sent before new ones."""
        group = self._latest.get(session)
        return group is not None and group.epoch != epoch

    def end(self) -> None:
        """End the range: the lines added from here on are of unacknowledged clients."""
        self._is_ended = self._current.session != NO_SESSION

    def mark(self) -> Mark:
        """Return the amount of gathered lines, for `discard`."""
        return {output: (gathered.count, gathered.nbytes) for output, gathered in self._outputs.items()}

    def discard(self, mark: Mark) -> None:
        """Leave the lines since `mark` out of the batch; no other group may have begun since.

        The lines added after this are of unacknowledged clients.
        """
        self._current.end(mark)
        self._current = _Group(NO_SESSION, 0, 1, self.mark())
        self._groups.append(self._current)
        self._is_ended = False

    def _switch(self, session: bytes, epoch: int, first: int, floor: int = 0, peer: int = 0) -> _Group:
        mark = self.mark()
        self._current.end(mark)
        self._current = _Group(session, epoch, first, mark, floor, peer)
        self._groups.append(self._current)
        self._is_ended = False
        return self._current

    def open(self, token: int, session: bytes, first: int) -> None:
        """Request a new epoch of a session. Raises LocalProtocolError for a number out of range."""
        if not 0 <= first <= LARGEST:
            raise LocalProtocolError(f"a session that begins at {first}")
        self._opens.append(Open(token, session, first))

    def build(self, number: int) -> Outgoing:
        """Return all gathered lines as one batch, and begin an empty one."""
        self._current.end(self.mark())
        nbytes = self.nbytes
        offsets = {output: gathered.offset for output, gathered in self._outputs.items()}
        lines = {output: gathered.joined() for output, gathered in self._outputs.items() if gathered.nbytes}
        tables, segments, runs = [], [], []
        magic, files = self._file_table()
        parts: list[bytes | memoryview] = [b""]
        inline_bytes = 0
        for group in self._groups:
            if group.is_empty:
                continue
            count = len(group.pieces)
            like: tuple[int, int, int, int] | None = None
            for index, (output, line_count, begin, size) in enumerate(group.pieces, 1):
                offset = offsets[output]
                if offset < 0:
                    offset = INLINE
                    parts.append(lines[output][begin : begin + size])
                    inline_bytes += size
                else:
                    offset += begin
                segments.append(SEGMENT_ENTRY.pack(output, line_count, size, 0, offset))
                if output == self._like:
                    like = (line_count, size, index, INLINE)
            if like is not None:
                count += 1
                segments.append(SEGMENT_ENTRY.pack(RECORDS, *like))
            numbers = (group.epoch, group.first, group.last, group.floor, group.peer)
            tables.append(GROUP_ENTRY.pack(group.session, *numbers, count, len(group.runs)))
            runs += [RUN_ENTRY.pack(*run) for run in group.runs]
        opens = [OPEN_ENTRY.pack(*request) for request in self._opens]
        table = b"".join((*opens, *tables, *segments, *runs, files))
        header = HEADER.pack(magic, len(table) + inline_bytes, number, self.generation, len(tables), len(opens))
        parts[0] = header + table
        shared = [data for output, data in lines.items() if offsets[output] >= 0]
        self._start()
        return Outgoing(parts, shared, len(header) + len(table) + nbytes)

    def _file_table(self) -> tuple[bytes, bytes]:
        """Return the magic of the batch, and the names of the files in it."""
        if not self._files:
            return MAGIC, b""
        names = [name.encode("utf-8", "surrogateescape") for _, name in self._files]
        entries = [
            FILE_ENTRY.pack(key[0], len(name), peer)
            for key, name, peer in zip(self._files, names, self._file_peers, strict=True)
        ]
        return MAGIC_WITH_FILES, b"".join((FILE_COUNT.pack(len(names)), *entries, *names))
