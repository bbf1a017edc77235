"""Defines the form of batches, from a worker to the writer, and of the writer's answers.

Owns the layout of both as bytes. Knows no pipes, files or records. Batches are made by batch_builder.py and read by
batch_reader.py.

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
from typing import NamedTuple

MAGIC = b"PLB5"
MAX_BODY_BYTES = 1 << 30
"""Above anything a worker makes: a larger number means that the pipe is out of step."""
RECORDS = 0xFFFF_FFFF
"""The place of the lines that are for the stores."""
NO_SESSION = bytes(16)
"""Stands for all clients that are not acknowledged."""

HEADER = struct.Struct("<4sIQIII")
OPEN_ENTRY = struct.Struct("<Q16sQ")
GROUP_ENTRY = struct.Struct("<16sQQQQQII")
SEGMENT_ENTRY = struct.Struct("<IIIII")
INLINE = 0xFFFF_FFFF
"""Stands for no place."""
RUN_ENTRY = struct.Struct("<QQ")
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
