"""Frames come out whole, whatever pieces their bytes arrive in."""

from __future__ import annotations

import itertools
import random
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.inputs.base import HEAD_KEPT, Terms, TooLarge
from prefork_logd.inputs.frames import LARGEST_HONEST_FRAME, FrameInput, NoFrameError
from tests.support import corpus, wire
from tests.support.frame_inputs import MAX_FRAME, feed, framed, frames_and_skipped, frames_of

STREAMS = {payload.name: payload.data for payload in corpus.load() if payload.category == "stream"}


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({min(place, len(data)) for place in places}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def test_many_frames_in_one_read_come_out_in_order() -> None:
    """One read may hold any number of frames."""
    bodies = [b"a" * n for n in range(50)]
    reader = frames_of(MAX_FRAME)
    assert frames_and_skipped(reader.receive(framed(*bodies))) == (bodies, [])
    assert not reader.pending


@given(st.lists(st.binary(max_size=60), max_size=12), st.lists(st.integers(0, 800), max_size=20))
def test_any_split_gives_the_same_frames(bodies: list[bytes], places: list[int]) -> None:
    """Where the network cuts makes no difference."""
    reader = frames_of(MAX_FRAME)
    assert feed(reader, cut(framed(*bodies), places)) == (bodies, [])
    assert not reader.pending
    assert reader.held_bytes == 0


def too_large(body: bytes, largest: int = MAX_FRAME) -> TooLarge:
    """Return the event of a body above the limit."""
    return TooLarge(0, len(body), body[:HEAD_KEPT], *wire.kept_of(body, largest))


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=6), st.lists(st.integers(0, 9000), max_size=30))
def test_oversize_frames_are_passed_over_whatever_the_split(sizes: list[int], places: list[int]) -> None:
    """A frame above the limit is reported with its beginning and its end, and those around it are kept."""
    bodies = [random.Random(index).randbytes(size) for index, size in enumerate(sizes)]
    frames, skipped = feed(frames_of(MAX_FRAME), cut(framed(*bodies), places))
    assert frames == [body for body in bodies if len(body) <= MAX_FRAME]
    assert skipped == [too_large(body) for body in bodies if len(body) > MAX_FRAME]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(STREAMS))
def test_streams_give_the_same_whole_and_byte_by_byte(name: str) -> None:
    """Every stream of the corpus means the same whole, byte by byte, and with bytes after it."""
    data = STREAMS[name]

    def outcome(pieces: list[bytes]) -> tuple[list[bytes], bool]:
        reader, frames = frames_of(1 << 20), []
        for piece in pieces:
            try:
                frames += frames_and_skipped(reader.receive(piece))[0]
            except NoFrameError as error:
                return frames + frames_and_skipped(error.events)[0], True
        return frames, False

    whole = outcome([data])
    assert outcome([data[index : index + 1] for index in range(len(data))]) == whole
    if not whole[1]:
        frames, violated = outcome([data, b"\x00\x00"])
        assert frames[: len(whole[0])] == whole[0]
        assert not violated


def test_the_middle_of_an_oversize_frame_is_not_held() -> None:
    """However much arrives; what is held is counted."""
    reader = frames_of(1 << 20)
    reader.receive(struct.pack(">I", 50_000_000))
    for _ in range(100):
        reader.receive(b"x" * 100_000)
        assert reader.held_bytes < (1 << 20) + 400_000
    assert reader.pending
    assert reader.held_bytes > 900_000


def test_an_oversize_frame_moves_to_another_process() -> None:
    """With what was kept of it; of a version that keeps nothing, only the first bytes come."""
    body = random.Random(1).randbytes(5_000)
    data = framed(body, b"next")
    for place in (2, 100, 900, 1_500, 4_900, 5_004):
        reader = frames_of(MAX_FRAME)
        events = list(reader.receive(data[:place]))
        moved = FrameInput.load_state(reader.dump_state(), Terms(MAX_FRAME))
        assert moved.held_bytes == reader.held_bytes
        events += moved.receive(data[place:])
        assert frames_and_skipped(events) == ([b"next"], [too_large(body)])
    state = {"max_bytes": MAX_FRAME, "carry": None, "skip_left": 3, "skip_size": 2_000, "head": b"h"}
    older = FrameInput.load_state(msgspec.msgpack.encode(state), Terms(MAX_FRAME))
    assert frames_and_skipped(older.receive(b"abc")) == ([], [TooLarge(0, 2_000, b"habc")])


def test_what_arrived_of_a_frame_is_all_that_is_held() -> None:
    """An announced length allocates nothing."""
    reader = frames_of(LARGEST_HONEST_FRAME)
    reader.receive(struct.pack(">I", LARGEST_HONEST_FRAME) + b"x")
    assert reader.held_bytes == 5


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"GET / HTTP/1.1\r\n", "HTTP request"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS handshake"),
        (b"SSH-2.0-OpenSSH", "SSH client"),
        (b'{"message": "x"}', "JSON lines"),
        (b"\xff\xff\xff\xffAAAA", "4,294,967,295 bytes"),
        (b"\x80\x00\x00\x00AAAA", "2,147,483,648 bytes"),
        (struct.pack("<I", 500) + b"x" * 500, "500 in little-endian"),
    ],
)
def test_what_is_no_frame_is_named(head: bytes, said: str) -> None:
    """The error tells what the bytes look like, and hands over the good frames before them."""
    with pytest.raises(NoFrameError, match=said) as caught:
        frames_of(MAX_FRAME).receive(framed(b"good") + head)
    assert frames_and_skipped(caught.value.events)[0] == [b"good"]
    assert caught.value.head == head[:64]


def test_no_split_hides_what_is_no_frame() -> None:
    """A header that arrives in pieces is judged when it is whole."""
    reader = frames_of(MAX_FRAME)
    assert reader.receive(b"GE") == []
    with pytest.raises(NoFrameError):
        reader.receive(b"T / HTTP")


def test_a_new_limit_holds_from_the_next_header_on() -> None:
    """Reload may change the limit while a frame is half received."""
    reader = frames_of(MAX_FRAME)
    data = framed(b"x" * 900, b"y" * 900)
    reader.receive(data[:100])
    reader.limit(2000)
    assert frames_and_skipped(reader.receive(data[100:]))[0] == [b"x" * 900, b"y" * 900]
    reader.limit(100)
    assert frames_and_skipped(reader.receive(framed(b"z" * 101)))[1] == [too_large(b"z" * 101, 100)]


def test_frames_skipped_before_bytes_that_are_none_are_told() -> None:
    """The error holds what was skipped in the same read, so that it is counted all the same."""
    reader = frames_of(10)
    with pytest.raises(NoFrameError) as caught:
        reader.receive(struct.pack(">I", 11) + b"x" * 11 + struct.pack(">I", 2) + b"ok" + b"GET /")
    assert frames_and_skipped(caught.value.events)[1] == [too_large(b"x" * 11, 10)]
    assert frames_and_skipped(caught.value.events)[0] == [b"ok"]
