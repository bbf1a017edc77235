"""Gathers finished lines by output and session, and makes batches of them (batch.py has the form).

Owns the lines that are not in a batch yet. Knows no pipes, and not how lines are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from prefork_logd.errors import LocalProtocolError
from prefork_logd.ipc.batch import (
    GROUP_ENTRY,
    HEADER,
    INLINE,
    MAGIC,
    NO_SESSION,
    OPEN_ENTRY,
    RECORDS,
    RUN_ENTRY,
    SEGMENT_ENTRY,
    Open,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LARGEST = (1 << 64) - 1
"""The largest number that fits into a field of a batch."""


class Gathered(Protocol):
    """Finished lines for one output; the compiled core has its own."""

    @property
    def nbytes(self) -> int:
        """Bytes of all lines."""

    @property
    def count(self) -> int:
        """How many lines there are."""

    @property
    def place(self) -> int:
        """Where they begin in the memory that is shared with the writer; -1 if they do not lie in it."""

    def append(self, line: bytes) -> None:
        """Add one line, its newline included."""

    def joined(self) -> memoryview:
        """Return all lines, end to end; nothing is added from then on."""


class Lines:
    """The same in Python."""

    __slots__ = ("_lines", "count", "nbytes")

    place = -1

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
    """One batch as the worker sends it."""

    pieces: list[bytes | memoryview]
    """What goes into the pipe, in pieces that follow one another."""
    shared: list[memoryview]
    """Lines that the writer reads where they are: not to be let go before it has committed them."""
    nbytes: int
    """Of the pieces and of what is shared."""


Mark = dict[int, tuple[int, int]]
"""Output to (lines, bytes) gathered so far."""


class _Group:
    """What one session has among the lines that are gathered."""

    __slots__ = ("begins", "epoch", "first", "floor", "last", "peer", "pieces", "runs", "session")

    def __init__(self, session: bytes, epoch: int, first: int, begins: Mark, floor: int = 0, peer: int = 0) -> None:
        self.floor = floor
        self.peer = peer
        self.session = session
        self.epoch = epoch
        self.first = first
        self.last = first - 1
        self.begins = begins
        """Gathered before this group."""
        self.pieces: list[tuple[int, int, int, int]] = []
        """(output, lines, first byte, bytes), once another group has begun."""
        self.runs: list[tuple[int, int]] = []

    def end(self, ends: Mark) -> None:
        """Note which lines are this group's: those between its beginning and `ends`."""
        for output, (end_lines, end_nbytes) in ends.items():
            lines, nbytes = self.begins.get(output, (0, 0))
            if end_lines > lines:
                self.pieces.append((output, end_lines - lines, nbytes, end_nbytes - nbytes))

    @property
    def is_empty(self) -> bool:
        """Whether it has no lines, and stands for no numbers."""
        return not self.pieces and self.last < self.first


class BatchBuilder:
    """Gathers finished lines by output, and notes which are whose, until they are worth a batch.

    The lines of one output are end to end, whoever's they are: a group has a piece of them. A session that is named
    again, with others' lines in between, has another group.
    """

    def __init__(
        self, generation: int, records_like: int | None = None, new_lines: Callable[[], Gathered] = Lines
    ) -> None:
        """Gather for a configuration; the lines for RECORDS are those of the output `records_like`, if one is named.

        They are then not to be added: they are in the batch once, and come out of it twice.
        """
        self.generation = generation
        self._like = records_like
        self._new_lines = new_lines
        self._start()

    def _start(self) -> None:
        self._outputs: dict[int, Gathered] = {}
        self._sinks: tuple[Gathered, ...] = ()
        self._current = _Group(NO_SESSION, 0, 1, {})
        self._is_ended = False
        """What is added next is of clients that are not acknowledged, whatever the current group is."""
        self._groups = [self._current]
        self._latest: dict[bytes, _Group] = {}
        self._opens: list[Open] = []

    @property
    def nbytes(self) -> int:
        """Bytes of all lines gathered."""
        return sum([gathered.nbytes for gathered in self._outputs.values()])

    def __len__(self) -> int:
        """Return how many bytes of lines are gathered, or 1 if there is something else to say."""
        return self.nbytes or bool(self._latest or self._opens)

    def _gathered(self, output: int) -> Gathered:
        if self._is_ended:
            self._switch(NO_SESSION, 0, 1)
        gathered = self._outputs.get(output)
        if gathered is None:
            gathered = self._outputs[output] = self._new_lines()
        return gathered

    def add(self, output: int, line: bytes) -> None:
        """Add one line, its newline included, for an output: of the session that `begin` named last."""
        self._gathered(output).append(line)

    def extend(self, output: int, lines: bytes, count: int) -> None:
        """Add several lines, end to end, in the same way; only for a builder whose `new_lines` is Lines."""
        self._gathered(output).extend(lines, count)  # type: ignore[attr-defined]  # the compiled core's have no use for it

    def sinks(self, outputs: Sequence[int]) -> tuple[Gathered, ...]:
        """Return where to add lines for these outputs (the same ones each time), until the next `begin` or `build`."""
        if self._is_ended:
            self._switch(NO_SESSION, 0, 1)
        if not self._sinks:
            self._sinks = tuple(self._gathered(output) for output in outputs)
        return self._sinks

    def run(self, first: int, count: int) -> None:
        """Say that the lines for RECORDS, since the last call, stand for these numbers of the session."""
        runs = self._current.runs
        if count <= 0:
            return
        if runs and sum(runs[-1]) == first:
            runs[-1] = (runs[-1][0], runs[-1][1] + count)
        else:
            runs.append((first, count))

    def begin(self, session: bytes, epoch: int, first: int, last: int, floor: int = 0, peer: int = 0) -> None:
        """Say that the lines added from here on are those of a session's records from `first` to `last`.

        In this epoch its client sends from `floor` on, and counts for `peer`.
        Within one batch, the ranges of one epoch have to follow one another. Raises LocalProtocolError if they do not.
        The range may grow by `advance`, and be empty until then.
        """
        group = self._latest.get(session)
        if not (0 <= first <= LARGEST and first - 1 <= last <= LARGEST):
            # Refused here, where it costs one connection: in `build` it would cost everybody's lines.
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
        """Say that the lines added are those of `count` more records of the session."""
        self._current.last += count

    def has_other_epoch(self, session: bytes, epoch: int) -> bool:
        """Tell whether this batch has lines of the session from an older connection: they are to be sent first."""
        group = self._latest.get(session)
        return group is not None and group.epoch != epoch

    def end(self) -> None:
        """Say that the lines added from here on are of clients that are not acknowledged."""
        self._is_ended = self._current.session != NO_SESSION

    def mark(self) -> Mark:
        """Return how much is gathered now, for `discard`."""
        return {output: (gathered.count, gathered.nbytes) for output, gathered in self._outputs.items()}

    def discard(self, mark: Mark) -> None:
        """Leave out of the batch the lines added since `mark`, which no other group has begun in between.

        What is added next is of clients that are not acknowledged.
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
        """Ask for a new epoch of a session. Raises LocalProtocolError for a number that is none."""
        if not 0 <= first <= LARGEST:
            raise LocalProtocolError(f"a session that begins at {first}")
        self._opens.append(Open(token, session, first))

    def build(self, number: int) -> Outgoing:
        """Return everything gathered as one batch, and start afresh."""
        self._current.end(self.mark())
        nbytes = self.nbytes
        places = {output: gathered.place for output, gathered in self._outputs.items()}
        lines = {output: gathered.joined() for output, gathered in self._outputs.items() if gathered.nbytes}
        tables, segments, runs = [], [], []
        parts: list[bytes | memoryview] = [b""]
        inline_bytes = 0
        for group in self._groups:
            if group.is_empty:
                continue
            count = len(group.pieces)
            like: tuple[int, int, int, int] | None = None
            for index, (output, line_count, begin, size) in enumerate(group.pieces, 1):
                place = places[output]
                if place < 0:
                    place = INLINE
                    parts.append(lines[output][begin : begin + size])
                    inline_bytes += size
                else:
                    place += begin
                segments.append(SEGMENT_ENTRY.pack(output, line_count, size, 0, place))
                if output == self._like:
                    like = (line_count, size, index, INLINE)
            if like is not None:
                count += 1
                segments.append(SEGMENT_ENTRY.pack(RECORDS, *like))
            numbers = (group.epoch, group.first, group.last, group.floor, group.peer)
            tables.append(GROUP_ENTRY.pack(group.session, *numbers, count, len(group.runs)))
            runs += [RUN_ENTRY.pack(*run) for run in group.runs]
        opens = [OPEN_ENTRY.pack(*request) for request in self._opens]
        table = b"".join((*opens, *tables, *segments, *runs))
        header = HEADER.pack(MAGIC, len(table) + inline_bytes, number, self.generation, len(tables), len(opens))
        parts[0] = header + table
        shared = [data for output, data in lines.items() if places[output] >= 0]
        self._start()
        return Outgoing(parts, shared, len(header) + len(table) + nbytes)
