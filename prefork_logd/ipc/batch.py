"""Defines the form of batches, from a worker to the writer, and of the writer's answers.

Owns both as bytes. Does not know pipes, files or records. batch_builder.py makes batches, batch_reader.py reads them.

A batch holds finished lines, and has a number that grows by one. Its lines are in groups, in the order in which they
were made. A group is of unacknowledged clients, or of a session, with the range of record numbers of its lines (a range
may have no lines, if its records were filtered out, or dropped by the client). Lines for the stores have the output
RECORDS; in a session, `runs` are the numbers of their records. Little-endian:

    magic "PLB5" | body bytes u32 | number u64 | generation u32 | groups u32 | opens u32                28 bytes
    for each open:    token u64 | session 16 bytes | first u64
    for each group:   session 16 bytes | epoch u64 | first u64 | last u64 | floor u64 | peer u64
                      | segments u32 | runs u32
    for each segment: output u32 | lines u32 | bytes u32 | like u32 | offset u32
    for each run:     first u64 | count u64
    for each file:    output u32 | bytes u32 | peer u64, then the names of all of them; only with the magic "PLB7"
    then each segment's lines, except those that are `like` an earlier one of the group (its index from 1 on; 0: none)
    and those at an `offset` in the memory that both processes share (INLINE: none)

The magic is "PLB7" if lines are for files of outputs whose paths have fields. The number of these files, a u32, then
follows the runs. The output of such a segment is that of `file_output`; a file's name is its path, in UTF-8, below the
directory of the pattern (config/output_paths.py), and `peer` is the first one with lines for it (net/peers.py; 0: not
known). Without such files the magic is "PLB5".

`generation` is that of the configuration whose outputs are meant. An open requests a new epoch of a session.

The writer answers with messages of 48 bytes: kind u64 | session 16 bytes | three numbers u64. The first COMMITTED on a
new pipe has the number after which the worker resumes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MAGIC, MAGIC_WITH_FILES = b"PLB5", b"PLB7"
MAX_BODY_BYTES = 1 << 30
"""More than a worker ever sends: a larger number means that the pipe's bytes are corrupt."""
RECORDS = 0xFFFF_FFFF
"""The output of lines for the stores."""
NO_SESSION = bytes(16)
"""Stands for all unacknowledged clients."""

HEADER = struct.Struct("<4sIQIII")
OPEN_ENTRY = struct.Struct("<Q16sQ")
GROUP_ENTRY = struct.Struct("<16sQQQQQII")
SEGMENT_ENTRY = struct.Struct("<IIIII")
INLINE = 0xFFFF_FFFF
"""The offset of lines that are in the batch itself."""
RUN_ENTRY = struct.Struct("<QQ")
FILE_COUNT = struct.Struct("<I")
FILE_ENTRY = struct.Struct("<IIQ")
MOST_FILES = 1024
"""Files of outputs whose paths have fields in one batch; lines for further ones go to the file named OTHER."""
_SLOT_BITS = 16
_ANSWER = struct.Struct("<Q16sQQQ")
ANSWER_BYTES = _ANSWER.size

COMMITTED, OPENED, REFUSED = 1, 2, 3
"""Kinds of answers: (batch, 0, 0), (token, epoch, committed) of a session, (epoch, first, last) of a session."""


def file_output(output: int, index: int) -> int:
    """Return the output of lines for the file with this index in the batch, of the output in a slot."""
    return (index + 1) << _SLOT_BITS | output


def file_index(output: int) -> int:
    """Return the index of the file that a segment's output means; -1 for the one file of an output without fields."""
    return (output >> _SLOT_BITS) - 1


class Segment(NamedTuple):
    """The lines of one group for one output."""

    output: int
    lines: int
    data: memoryview
    file: str = ""
    """The path of the file below the pattern's directory; "" for an output without fields."""
    file_peer: int = 0
    """The first peer with lines for the file in the batch (net/peers.py); 0: none is known."""


class Group(NamedTuple):
    """The lines of one session, and the range of their record numbers."""

    session: bytes
    epoch: int
    first: int
    last: int
    segments: list[Segment]
    runs: list[tuple[int, int]]
    """(first, count) of the session's numbers whose lines are for RECORDS."""
    floor: int = 0
    """The first number that the client sends in this epoch."""
    peer: int = 0
    """The peer that the session counts for (net/peers.py)."""


class Open(NamedTuple):
    """A request for a new epoch: a session's client has connected to this worker."""

    token: int
    """Returned in the answer."""
    session: bytes
    first: int
    """The lowest number that the client still holds."""


class Batch(NamedTuple):
    """One batch as the writer receives it."""

    number: int
    generation: int
    opens: list[Open]
    groups: list[Group]
    nbytes: int
    """Size of all lines."""


class Answer(NamedTuple):
    """An answer of the writer."""

    kind: int
    session: bytes
    a: int
    b: int
    c: int


def committed(number: int) -> bytes:
    """Return the answer for a commit: every batch up to this number is committed."""
    return _ANSWER.pack(COMMITTED, NO_SESSION, number, 0, 0)


def opened(session: bytes, token: int, epoch: int, number: int) -> bytes:
    """Return the answer to an open: the new epoch, and the last committed number of the session."""
    return _ANSWER.pack(OPENED, session, token, epoch, number)


def refused(group: Group) -> bytes:
    """Return the answer for a refused group, whose range must not be acknowledged. COMMITTED comes later."""
    return _ANSWER.pack(REFUSED, group.session, group.epoch, group.first, group.last)


def read_answers(data: bytes) -> tuple[list[Answer], bytes]:
    """Return the whole answers in bytes from the writer, and the bytes of a partial one."""
    whole = len(data) // ANSWER_BYTES * ANSWER_BYTES
    return [Answer(*fields) for fields in _ANSWER.iter_unpack(data[:whole])], data[whole:]
