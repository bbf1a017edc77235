"""A batch is read as it was built, whatever the pipe does with its bytes; a damaged one is an error."""

from __future__ import annotations

import tracemalloc

import pytest

from prefork_logd.errors import LocalProtocolError
from prefork_logd.ipc.batch import GROUP_ENTRY, HEADER, MAGIC, MAX_BODY_BYTES, SEGMENT_ENTRY, Batch
from prefork_logd.ipc.batch_builder import BatchBuilder
from prefork_logd.ipc.batch_reader import POOLED_BYTES, BatchReader
from tests.support.batches import read

SHARED = b"0123456789"


def test_batches_that_wait_for_a_commit_take_no_more_memory_than_they_need() -> None:
    """A flood of HELLOs, each a batch of its own, held 384 KiB each until the next commit."""
    reader = BatchReader()
    tracemalloc.start()
    try:
        batches = []
        for number in range(1, 301):
            builder = BatchBuilder(1)
            builder.open(number, b"s" * 16, 1)
            data = b"".join(builder.build(number).pieces)
            while data:
                want = reader.want()
                want[:], data = data[: len(want)], data[len(want) :]
                batches.append(reader.filled(len(want)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(len(batch.opens) for batch in batches if batch is not None) == 300
    assert held < 1 << 20


def test_a_pipe_out_of_step_is_noticed_at_once() -> None:
    """Bytes that are no header are not taken for a length."""
    reader = BatchReader()
    want = reader.want()
    want[:] = b"x" * len(want)
    with pytest.raises(LocalProtocolError, match="unexpected bytes"):
        reader.filled(len(want))


@pytest.mark.parametrize(
    "change",
    [(28 + 64 + 8, 1, "after its batch"), (28 + 56, 1, "ends"), (28 + 60, 1, "ends"), (28 + 64 + 12, 1, "is like")],
)
def test_tables_that_do_not_fit_are_an_error(change: tuple[int, int, str]) -> None:
    """A batch that contradicts itself becomes no wrong line."""
    place, value, message = change
    builder = BatchBuilder(1)
    builder.add(1, b"line\n")
    data = bytearray(b"".join(builder.build(1).pieces))
    data[place] += value
    with pytest.raises(LocalProtocolError, match=message):
        read(bytes(data), [1000])


def made(segments: list[tuple[int, int, int, int, int]], tail: bytes = b"", *, count: int | None = None) -> bytes:
    """Return a batch of one group with this table of segments; `count` is the number that it claims."""
    group = GROUP_ENTRY.pack(bytes(16), 0, 1, 0, 0, 0, len(segments) if count is None else count, 0)
    body = group + b"".join(SEGMENT_ENTRY.pack(*segment) for segment in segments) + tail
    return HEADER.pack(MAGIC, len(body), 1, 1, 1, 0) + body


def take(data: bytes, shared: bytes = SHARED) -> Batch | None:
    """Return the batch of some bytes, read as one piece where the reader lets them."""
    reader, batch = BatchReader(memoryview(shared)), None
    while data:
        want = reader.want()
        piece, data = data[: len(want)], data[len(want) :]
        want[: len(piece)] = piece
        batch = reader.filled(len(piece))
    return batch


def test_lines_are_found_in_the_shared_memory() -> None:
    """Beside others that are in the batch, and those that are like earlier ones."""
    batch = take(made([(1, 1, 4, 0, 2), (2, 1, 3, 0, 0xFFFF_FFFF), (3, 1, 4, 1, 0xFFFF_FFFF)], b"abc"))
    assert batch is not None
    (group,) = batch.groups
    assert [(output, lines, bytes(data)) for output, lines, data, *_ in group.segments] == [
        (1, 1, b"2345"),
        (2, 1, b"abc"),
        (3, 1, b"2345"),
    ]
    assert batch.nbytes == 11


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (made([(1, 1, 4, 0, 7)]), "after the shared memory"),
        (made([(1, 1, 4, 0, 1000)]), "after the shared memory"),
        (made([(1, 1, 4, 0, 0xFFFF_FFFF)], b"abc"), "after its batch"),
        (made([(1, 1, 4, 2, 0xFFFF_FFFF)]), "like segment 2"),
        (made([(1, 1, 4, 0, 0), (2, 1, 5, 1, 0)]), "like segment 1"),
        (made([(1, 1, 4, 0, 0)], count=2), "within its tables"),
        (made([(1, 1, 4, 0, 0)], count=1 << 31), "within its tables"),
        (made([(1, 1, 4, 0, 0)], b"x" * 7, count=2), "within its tables"),
        (made([(1, 1, 2, 0, 0xFFFF_FFFF)], b"abc"), "has 1 byte after its last line"),
        (HEADER.pack(MAGIC, 3, 1, 1, 0, 0) + b"abc", "has 3 bytes after its last line"),
        (HEADER.pack(MAGIC, 0, 1, 1, 1, 0), "within its tables"),
        (HEADER.pack(MAGIC, 0, 1, 1, 0, 1), "within its tables"),
        (HEADER.pack(MAGIC, 0, 1, 1, 0xFFFF_FFFF, 0xFFFF_FFFF), "within its tables"),
        (HEADER.pack(MAGIC, MAX_BODY_BYTES + 1, 1, 1, 0, 0), "unexpected bytes"),
        (HEADER.pack(b"PLB4", 0, 1, 1, 0, 0), "unexpected bytes"),
    ],
)
def test_a_batch_that_contradicts_itself_has_no_line(data: bytes, message: str) -> None:
    """It is one error, whichever number is wrong, and no line is left out in silence."""
    with pytest.raises(LocalProtocolError, match=message):
        take(data)


def test_a_header_alone_is_a_batch() -> None:
    """One without lines, sessions or requests."""
    assert take(HEADER.pack(MAGIC, 0, 7, 3, 0, 0)) == Batch(7, 3, [], [], 0)


def test_a_half_read_batch_is_pending() -> None:
    """From its first byte to its last."""
    reader = BatchReader()
    assert not reader.pending
    data = made([(1, 1, 3, 0, 0xFFFF_FFFF)], b"abc")
    for index, byte in enumerate(data):
        reader.want()[0] = byte
        batch = reader.filled(1)
        assert reader.pending is (index < len(data) - 1)
        assert (batch is not None) is (index == len(data) - 1)


def test_the_memory_of_a_batch_is_used_again_only_when_it_is_done_with() -> None:
    """A batch that waits for its commit keeps its lines, while the next one is half read."""
    reader = BatchReader()
    lines = [bytes([65 + index]) * 100_000 for index in range(4)]

    def feed(data: bytes) -> Batch | None:
        batch = None
        while data:
            want = reader.want()
            piece, data = data[: len(want)], data[len(want) :]
            want[: len(piece)] = piece
            batch = reader.filled(len(piece))
        return batch

    def whole(line: bytes) -> bytes:
        return made([(1, 1, len(line), 0, 0xFFFF_FFFF)], line)

    first, second = feed(whole(lines[0])), feed(whole(lines[1]))
    assert first is not None
    assert second is not None
    assert [bytes(batch.groups[0].segments[0].data) for batch in (first, second)] == lines[:2]
    assert feed(whole(lines[2])[:50_000]) is None
    reader.done_with()
    third = feed(whole(lines[2])[50_000:])
    fourth = feed(whole(lines[3]))
    assert third is not None
    assert fourth is not None
    assert [bytes(batch.groups[0].segments[0].data) for batch in (third, fourth)] == lines[2:]


def test_a_body_larger_than_a_pooled_buffer_is_read() -> None:
    """Whatever its size."""
    for size in (POOLED_BYTES - 84, POOLED_BYTES, POOLED_BYTES + 1):
        batch = take(made([(1, 1, size, 0, 0xFFFF_FFFF)], b"x" * size))
        assert batch is not None
        assert batch.nbytes == size


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"", "ends within its tables"),
        (b"\x01\0\0\0", "ends within its tables"),
        (b"\0\0\0\0", "ends after its batch"),
        (b"\x01\0\0\0\x02\0\0\0\x01\0\0\0" + bytes(8) + b"a", "is for file 4 of 1"),
        (b"\x01\0\0\0\x02\0\0\0\x01\0\0\0" + bytes(8) + b"\xff", None),
    ],
)
def test_a_table_of_files_that_is_wrong(table: bytes, message: str | None) -> None:
    """The pipe's bytes are corrupt then; a name may have any bytes."""
    index = 5 if message and "file 4" in message else 1
    segments = SEGMENT_ENTRY.pack(index << 16 | 2, 1, 5, 0, 0xFFFF_FFFF)
    group = GROUP_ENTRY.pack(bytes(16), 0, 1, 0, 0, 0, 1, 0)
    body = group + segments + table + (b"" if message and "after its batch" in message else b"line\n")
    data = HEADER.pack(b"PLB7", len(body), 1, 1, 1, 0) + body
    if message is None:
        batch = take(data)
        assert batch is not None
        assert [(one.output, one.file) for one in batch.groups[0].segments] == [(2, "\udcff")]
        return
    with pytest.raises(LocalProtocolError, match=message):
        take(data)
