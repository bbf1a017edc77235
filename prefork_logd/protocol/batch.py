"""What a worker sends to the writer, and the writer to a worker.

Owns the form of both. Knows no pipes, files or records.

A batch is finished lines under a number that grows by one. Its lines are in groups, in the order in which they were
made: of clients that are not acknowledged, or of a session, with the range of record numbers that its lines stand for
(a range may have no lines: filtered, or dropped by the client). Lines for the stores have the place RECORDS; of a
session, `runs` say which of its numbers they stand for. Little-endian:

    magic "PLB5" | body bytes u32 | number u64 | generation u32 | groups u32 | opens u32                28 bytes
    for each open:    token u64 | session 16 bytes | first u64
    for each group:   session 16 bytes | epoch u64 | first u64 | last u64 | floor u64 | peer u64
                      | segments u32 | runs u32
    for each segment: output u32 | lines u32 | bytes u32 | like u32 | place u32
    for each run:     first u64 | count u64
    then each segment's lines, but for those that are `like` an earlier one of the group (its index from 1 on; 0: none)
    and those that lie at a `place` of the memory that both processes share (INLINE: they do not)

`generation` says which configuration's outputs are meant. An open asks for a new epoch of a session.

The writer answers with messages of 48 bytes: kind u64 | session 16 bytes | three numbers u64. The first COMMIT on a new
pipe tells where to resume.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple, Protocol

from prefork_logd.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

MAGIC = b"PLB5"
MAX_BODY_BYTES = 1 << 30
"""Above anything a worker makes: a larger number means that the pipe is out of step."""
RECORDS = 0xFFFF_FFFF
"""The place of the lines that are for the stores."""
NO_SESSION = bytes(16)
"""Stands for all clients that are not acknowledged."""

POOLED_BYTES = 393_216
"""Of a body that is read into memory used before: a little above what a worker sends at once."""
SMALL_BYTES = 16_384
"""A body up to this size has memory of its own, which costs less than the size of a pooled one."""
POOLED = 16
"""Buffers kept by each reader."""

LARGEST = (1 << 64) - 1
"""The largest number that fits into a field of a batch."""

_HEADER = struct.Struct("<4sIQIII")
_OPEN = struct.Struct("<Q16sQ")
_GROUP = struct.Struct("<16sQQQQQII")
_SEGMENT = struct.Struct("<IIIII")
INLINE = 0xFFFF_FFFF
"""Stands for no place."""
_RUN = struct.Struct("<QQ")
_ANSWER = struct.Struct("<Q16sQQQ")
ANSWER_BYTES = _ANSWER.size

COMMITTED, OPENED, REFUSED = 1, 2, 3
"""Kinds of answers: (batch, 0, 0), (token, epoch, committed) of a session, (epoch, first, last) of a session."""


class Segment(NamedTuple):
    """The lines of one group for one output."""

    output: int
    lines: int
    data: memoryview


class Group(NamedTuple):
    """The lines of one session, and the numbers of the records they stand for."""

    session: bytes
    epoch: int
    first: int
    last: int
    segments: list[Segment]
    runs: list[tuple[int, int]]
    """(first, count) of the session's numbers that the lines for RECORDS stand for."""
    floor: int = 0
    """From which number on the client sends in this epoch."""
    peer: int = 0
    """Whom the session counts for (net/peers.py)."""


class Open(NamedTuple):
    """A session's client has come to this worker."""

    token: int
    """For the answer."""
    session: bytes
    first: int
    """Lowest number that the client still holds."""


class Batch(NamedTuple):
    """One batch as the writer receives it."""

    number: int
    generation: int
    opens: list[Open]
    groups: list[Group]
    nbytes: int
    """Of all lines."""


class Answer(NamedTuple):
    """What the writer says."""

    kind: int
    session: bytes
    a: int
    b: int
    c: int


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
                segments.append(_SEGMENT.pack(output, line_count, size, 0, place))
                if output == self._like:
                    like = (line_count, size, index, INLINE)
            if like is not None:
                count += 1
                segments.append(_SEGMENT.pack(RECORDS, *like))
            numbers = (group.epoch, group.first, group.last, group.floor, group.peer)
            tables.append(_GROUP.pack(group.session, *numbers, count, len(group.runs)))
            runs += [_RUN.pack(*run) for run in group.runs]
        opens = [_OPEN.pack(*request) for request in self._opens]
        table = b"".join((*opens, *tables, *segments, *runs))
        header = _HEADER.pack(MAGIC, len(table) + inline_bytes, number, self.generation, len(tables), len(opens))
        parts[0] = header + table
        shared = [data for output, data in lines.items() if places[output] >= 0]
        self._start()
        return Outgoing(parts, shared, len(header) + len(table) + nbytes)


class Shared(Protocol):
    """Memory that another process makes lines in."""

    def __getitem__(self, place: slice, /) -> memoryview:
        """Return the bytes of a range, fewer where the memory ends."""


class BatchReader:
    """Turns the bytes of one worker's pipe into batches without copying them: it says where to read the next bytes to.

    The buffer that `want` returns is to be filled from its start, and `filled` told how far.
    """

    def __init__(self, shared: Shared | None = None) -> None:
        """Read batches of a worker that may leave lines in `shared`."""
        self._shared: Shared = shared if shared is not None else memoryview(b"")
        self._free: list[memoryview] = []
        self._used: list[memoryview] = []
        self._start()

    def _start(self) -> None:
        self._buffer = memoryview(bytearray(_HEADER.size))
        self._have = 0
        self._header: tuple[int, int, int, int] | None = None

    @property
    def pending(self) -> bool:
        """Whether a batch has begun and not ended."""
        return self._have > 0 or self._header is not None

    def want(self) -> memoryview:
        """Return where the next bytes go; never empty."""
        return self._buffer[self._have :]

    def filled(self, nbytes: int) -> Batch | None:
        """Take note of bytes read into `want()`; return the batch if they end one.

        Raises LocalProtocolError when they are no batch: the pipe is then of no more use.
        """
        self._have += nbytes
        if self._have < len(self._buffer):
            return None
        if self._header is None:
            magic, body_bytes, number, generation, groups, opens = _HEADER.unpack(self._buffer)
            if magic != MAGIC or body_bytes > MAX_BODY_BYTES:
                raise LocalProtocolError(f"a worker's pipe is out of step at {self._buffer.hex()}")
            self._header = (number, generation, groups, opens)
            self._buffer = self._room(body_bytes)
            self._have = 0
            if body_bytes:
                return None
        batch = _read_body(self._buffer, self._shared, *self._header)
        self._start()
        return batch

    def _room(self, nbytes: int) -> memoryview:
        """Return a buffer for a body: new memory costs more than reading into it does."""
        if not SMALL_BYTES < nbytes <= POOLED_BYTES:
            return memoryview(bytearray(nbytes))
        whole = self._free.pop() if self._free else memoryview(bytearray(POOLED_BYTES))
        self._used.append(whole)
        return whole[:nbytes]

    def done_with(self) -> None:
        """Let the memory of every batch that was returned be used again: nobody looks at one any more."""
        busy = [self._used.pop()] if self._header is not None and self._used else []
        self._free = [*self._used, *self._free][:POOLED]
        self._used = busy


def _read_body(
    body: memoryview, shared: Shared, number: int, generation: int, group_count: int, open_count: int
) -> Batch:
    """Return the batch that a body holds. Raises LocalProtocolError."""
    try:
        opens = [Open(*_OPEN.unpack_from(body, _OPEN.size * index)) for index in range(open_count)]
        groups_at = _OPEN.size * open_count
        heads = [_GROUP.unpack_from(body, groups_at + _GROUP.size * index) for index in range(group_count)]
        segments_at = groups_at + _GROUP.size * group_count
        runs_at = segments_at + _SEGMENT.size * sum(head[6] for head in heads)
        data_at = runs_at + _RUN.size * sum(head[7] for head in heads)
        groups = []
        for session, epoch, first, last, floor, peer, segment_count, run_count in heads:
            end = segments_at + _SEGMENT.size * segment_count
            segments, data_at = _segments(body, shared, _SEGMENT.iter_unpack(body[segments_at:end]), data_at)
            segments_at = end
            runs = [_RUN.unpack_from(body, runs_at + _RUN.size * index) for index in range(run_count)]
            runs_at += _RUN.size * run_count
            groups.append(Group(session, epoch, first, last, segments, runs, floor, peer))
    except struct.error as error:
        raise LocalProtocolError(f"a batch of {len(body)} bytes ends within its tables") from error
    lines_bytes = sum(len(segment.data) for group in groups for segment in group.segments)
    return Batch(number, generation, opens, groups, lines_bytes)


def _segments(
    body: memoryview, shared: Shared, table: Iterable[tuple[int, int, int, int, int]], position: int
) -> tuple[list[Segment], int]:
    """Return the segments of one group, and where the lines of the next one begin. Raises LocalProtocolError."""
    segments: list[Segment] = []
    for output, lines, nbytes, like, place in table:
        if like:
            if like > len(segments) or len(segments[like - 1].data) != nbytes:
                raise LocalProtocolError(f"segment {len(segments) + 1} of a group is like segment {like}")
            segments.append(Segment(output, lines, segments[like - 1].data))
            continue
        if place != INLINE:
            data = shared[place : place + nbytes]
            if len(data) != nbytes:
                raise LocalProtocolError(f"a segment of {nbytes} bytes ends after the shared memory")
            segments.append(Segment(output, lines, data))
            continue
        if position + nbytes > len(body):
            raise LocalProtocolError(f"a segment of {nbytes} bytes ends after its batch")
        segments.append(Segment(output, lines, body[position : position + nbytes]))
        position += nbytes
    return segments, position


def committed(number: int) -> bytes:
    """Return the answer that says: every batch up to this one is committed."""
    return _ANSWER.pack(COMMITTED, NO_SESSION, number, 0, 0)


def opened(session: bytes, token: int, epoch: int, number: int) -> bytes:
    """Return the answer to an open: the epoch to send under, and the number that is committed."""
    return _ANSWER.pack(OPENED, session, token, epoch, number)


def refused(group: Group) -> bytes:
    """Return the answer that says: this range was left out, and is not to be acknowledged. COMMITTED comes later."""
    return _ANSWER.pack(REFUSED, group.session, group.epoch, group.first, group.last)


def read_answers(data: bytes) -> tuple[list[Answer], bytes]:
    """Return the whole answers in what was read from the writer, and the bytes of an unfinished one."""
    whole = len(data) // ANSWER_BYTES * ANSWER_BYTES
    return [Answer(*fields) for fields in _ANSWER.iter_unpack(data[:whole])], data[whole:]
