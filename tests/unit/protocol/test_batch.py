"""A batch arrives as it was built, whatever the pipe does with its bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.errors import LocalProtocolError
from prefork_logd.protocol.batch import Batch, BatchBuilder, BatchReader, encode_commit, last_commit

LINES = st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=40)), max_size=30)


def read(data: bytes, sizes: list[int]) -> list[Batch]:
    reader = BatchReader()
    batches = []
    position = 0
    for size in [*sizes, len(data)] * (len(data) + 1):
        if position == len(data):
            break
        want = reader.want()
        piece = data[position : position + max(1, min(size, len(want)))]
        want[: len(piece)] = piece
        position += len(piece)
        batch = reader.filled(len(piece))
        if batch is not None:
            batches.append(batch)
    assert not reader.pending
    return batches


@given(st.lists(LINES, min_size=1, max_size=4), st.lists(st.integers(1, 50), min_size=1, max_size=10))
def test_batches_come_back_whatever_the_reads(batches: list[list[tuple[int, bytes]]], sizes: list[int]) -> None:
    """Lines keep their output and order, numbers and generation theirs."""
    data = b""
    for number, lines in enumerate(batches, 1):
        builder = BatchBuilder(generation=7)
        for output, line in lines:
            builder.add(output, line)
        assert builder.nbytes == sum(len(line) for _, line in lines)
        data += builder.build(number)
        assert builder.nbytes == 0
    for number, (batch, lines) in enumerate(zip(read(data, sizes), batches, strict=True), 1):
        assert (batch.number, batch.generation) == (number, 7)
        assert {segment.output: (segment.lines, bytes(segment.data)) for segment in batch.segments} == {
            output: (
                sum(1 for place, _ in lines if place == output),
                b"".join(line for place, line in lines if place == output),
            )
            for output, _ in lines
        }


def test_a_pipe_out_of_step_is_noticed_at_once() -> None:
    """Bytes that are no header are not taken for a length."""
    reader = BatchReader()
    reader.want()[:] = b"x" * len(reader.want())
    with pytest.raises(LocalProtocolError, match="out of step"):
        reader.filled(24)


def test_a_segment_cannot_reach_beyond_its_batch() -> None:
    """A table that does not fit the body is an error, not a wrong line."""
    builder = BatchBuilder(1)
    builder.add(1, b"line\n")
    data = bytearray(builder.build(1))
    data[24 + 8] += 1
    with pytest.raises(LocalProtocolError, match="after its batch"):
        read(bytes(data), [1000])


@given(st.lists(st.integers(0, 2**64 - 1), max_size=6), st.integers(0, 7))
def test_the_last_whole_commit_counts(numbers: list[int], cut: int) -> None:
    """Of many commits read at once the last says everything; the rest of a torn one is kept."""
    data = b"".join(map(encode_commit, numbers))
    number, rest = last_commit(data + b"x" * cut)
    assert number == (numbers[-1] if numbers else None)
    assert rest == b"x" * cut
