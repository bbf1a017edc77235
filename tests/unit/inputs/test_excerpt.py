"""Of a record that is too large the beginning and the end are kept, whatever pieces it arrives in."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.inputs.base import HEAD_KEPT, TooLarge
from prefork_logd.inputs.excerpt import TAIL_BYTES, Excerpt
from tests.support import wire


@given(
    st.integers(1, 750).map(lambda quarter: 4 * quarter),
    st.integers(1, 9000),
    st.lists(st.integers(1, 2000), max_size=20),
)
def test_any_pieces_give_the_same(largest: int, more: int, sizes: list[int]) -> None:
    """Also if the excerpt moves to another process between them; bytes after the record are left."""
    body = random.Random(largest + more).randbytes(largest + more)
    data = memoryview(body + b"next")
    excerpt = Excerpt.begin(len(body), largest)
    for size in [*sizes, len(data)]:
        data = data[excerpt.take(data[:size]) :]
        assert excerpt.held_bytes <= 2 * largest
        excerpt = msgspec.msgpack.decode(msgspec.msgpack.encode(excerpt), type=Excerpt)
    assert (excerpt.left, bytes(data)) == (0, b"next")
    kept, hole = wire.kept_of(body, largest)
    assert excerpt.to_event(7) == TooLarge(7, len(body), body[:HEAD_KEPT], kept, hole)


def test_the_end_is_at_most_64_kib() -> None:
    body = bytes(range(256)) * 40_000
    excerpt = Excerpt.begin(len(body), 1 << 20)
    assert excerpt.take(memoryview(body)) == len(body)
    event = excerpt.to_event(0)
    assert (len(event.body), event.hole) == (1 << 20, (1 << 20) - TAIL_BYTES)
    assert event.body == body[: event.hole] + body[-TAIL_BYTES:]


def test_nothing_is_kept_without_room() -> None:
    """Of a repeated record; only its head is."""
    excerpt = Excerpt(1000, 1000, 0)
    assert excerpt.take(memoryview(bytes(2000))) == 1000
    assert (excerpt.held_bytes, excerpt.to_event(3)) == (0, TooLarge(3, 1000, bytes(HEAD_KEPT)))
