"""A block or header is read as it was written, at its own place, or not at all."""

from __future__ import annotations

import pytest

from prefork_logd.journal import record_block
from prefork_logd.journal.record_block import (
    BLOCK_BYTES,
    HEADER_BYTES,
    Entry,
    Header,
    block_end,
    block_size,
    decode_block,
    decode_header,
    encode_block,
    encode_header,
    size_of,
)

SESSION = b"s" * 16
RUNS = ((1, 2), (9, 1))
LINES = b"one\ntwo\nthree\n"
SEGMENT, PLACE = 100, 64
LARGEST = (1 << 64) - 1


def test_a_header_comes_back_or_is_refused() -> None:
    """A damaged one is no header."""
    header = Header(b"j" * 16, 1, 2, 3)
    data = encode_header(header)
    assert decode_header(data) == header
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(ValueError, match=r"damaged|version"):
            decode_header(bytes(changed))


@pytest.mark.parametrize("length", range(HEADER_BYTES))
def test_a_part_of_a_header_is_none(length: int) -> None:
    """A writer that died while it made the segment leaves one."""
    with pytest.raises(ValueError, match="ends within its header"):
        decode_header(encode_header(Header(b"j" * 16, 1, 2, 3))[:length])


def test_a_header_of_a_later_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is whole, and not for this program: other words than for a damaged one."""
    with monkeypatch.context() as patch:
        patch.setattr(record_block, "VERSION", 2)
        data = encode_header(Header(b"j" * 16, LARGEST, LARGEST, LARGEST))
        assert decode_header(data).first == LARGEST
    with pytest.raises(ValueError, match="version 2 is not supported"):
        decode_header(data)


def whole(first: int = 7, count: int = 3, chunks: tuple[bytes, ...] = (LINES[:5], b"", LINES[5:])) -> bytes:
    """Return a block for the place PLACE of the segment SEGMENT."""
    return encode_block(SEGMENT, PLACE, first, count, 5, SESSION, RUNS, chunks) + b"".join(chunks)


def test_a_block_comes_back_from_its_place() -> None:
    """In the middle of other bytes, with the end of it in the file."""
    data = b"before" + whole() + b"after"
    entry = decode_block(memoryview(data), 6, SEGMENT, PLACE)
    assert entry == Entry(7, 3, 5, SESSION, RUNS, LINES, PLACE + len(whole()))
    assert block_size(data, 6) == len(whole()) == size_of(2, len(LINES))
    assert block_end(whole()[:BLOCK_BYTES]) == 10


def test_the_smallest_and_the_largest_numbers_of_a_block() -> None:
    """No runs and no lines; every number of 64 bits."""
    data = encode_block(LARGEST, LARGEST, LARGEST, LARGEST, LARGEST, bytes(16), (), ())
    entry = decode_block(memoryview(data), 0, LARGEST, LARGEST)
    assert entry is not None
    assert (entry.first, entry.records, entry.time_ns, entry.runs, entry.lines) == (LARGEST, LARGEST, LARGEST, (), b"")
    assert block_end(data) == 2 * LARGEST


def test_a_block_that_was_copied_is_none() -> None:
    """To another position of its file, or to another file."""
    data = memoryview(whole())
    assert decode_block(data, 0, SEGMENT, PLACE + 1) is None
    assert decode_block(data, 0, SEGMENT + 1, PLACE) is None


def test_every_changed_bit_costs_the_block() -> None:
    """Also one of its sizes, which then lead elsewhere."""
    data = whole() + bytes(64)
    for place in range(len(whole())):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            assert decode_block(memoryview(changed), 0, SEGMENT, PLACE) is None


def test_a_part_of_a_block_is_none() -> None:
    """Its size is known as soon as its head is whole."""
    data = whole()
    for length in range(len(data)):
        assert decode_block(memoryview(data)[:length], 0, SEGMENT, PLACE) is None
        assert block_size(data[:length], 0) == (len(data) if length >= BLOCK_BYTES else 0)
    assert block_size(b"x" * BLOCK_BYTES, 0) == 0
    assert block_size(data, 1) == 0
    assert block_size(data, len(data)) == 0
