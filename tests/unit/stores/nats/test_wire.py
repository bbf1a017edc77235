"""What a message says of itself, and what is not believed."""

from __future__ import annotations

import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.stores.nats import wire

JOURNAL = "0123456789abcdef0123456789abcdef"


@given(st.integers(0, 1 << 62), st.integers(1, 1 << 40), st.integers(0, 1 << 62))
def test_a_header_is_read_as_it_was_written(first: int, count: int, floor: int) -> None:
    """Round trip."""
    it = wire.Range(JOURNAL, first, first + count, min(floor, first), "zstd")
    assert wire.read_header({wire.HEADER: wire.header_of(it)}) == it


@pytest.mark.parametrize(
    "value",
    [
        "", "1", f"2 {JOURNAL} 0 1 0 none", f"1 {JOURNAL} 1 1 0 none", f"1 {JOURNAL} 2 1 0 none", "1 ABC 0 1 0 none",
        f"1 {JOURNAL} -1 1 0 none", f"1 {JOURNAL} 0 1 0 none more", f"1 {JOURNAL} 0 99999999999999999999 0 none",
    ],
)  # fmt: skip
def test_a_header_of_another_form_is_refused(value: str) -> None:
    """It is said why, and nothing else is raised."""
    with pytest.raises(wire.FormError):
        wire.read_header({wire.HEADER: value})


def test_a_message_of_somebody_else_is_refused() -> None:
    """The stream may hold what is none of ours."""
    with pytest.raises(wire.FormError, match="no Prefork-Logd header"):
        wire.read_header(None)


@given(st.text(max_size=200))
def test_every_logger_has_a_subject(name: str) -> None:
    """No name makes a subject that servers refuse, or that means another."""
    for token in wire.logger_tokens(name).split("."):
        assert token
        assert token.isascii()
        assert not set(token) & set(" \t\r\n*>.")


def test_a_logger_keeps_its_name() -> None:
    """Names as they are used stay as they are."""
    assert wire.logger_tokens("shop.views-2.check_out") == "shop.views-2.check_out"
    assert wire.logger_tokens("a..b") == "a._.b"


@pytest.mark.parametrize("encoding", ["none", "deflate", "zstd"])
def test_a_body_is_unpacked(encoding: str) -> None:
    """Round trip."""
    lines = b'{"message":"x"}\n' * 1000
    assert wire.unpack(wire.packer(encoding)(lines), encoding) == lines


@pytest.mark.parametrize("encoding", ["deflate", "zstd", "lzma"])
@given(body=st.binary(max_size=64))
def test_a_damaged_body_is_refused(encoding: str, body: bytes) -> None:
    """Whatever it is, it is said, and costs nothing."""
    with pytest.raises(wire.FormError):
        wire.unpack(body, encoding)


def test_a_body_that_is_cut_short_is_refused() -> None:
    """At every length."""
    body = zlib.compress(b"some lines\n" * 10)
    for length in range(len(body)):
        with pytest.raises(wire.FormError):
            wire.unpack(body[:length], "deflate")


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=20))
def test_runs_are_written_joined_and_read_back(steps: list[tuple[int, int]]) -> None:
    """Pieces that follow one another are one run; the numbers are the same."""
    at, pieces, numbers = 10, [], []
    for hole, count in steps:
        pieces.append((at + hole, count))
        numbers += range(at + hole, at + hole + count)
        at += hole + count
    value = wire.numbers_of(pieces)
    it = wire.Range(JOURNAL, 10, at + 1, 0, "none")
    runs = wire.read_numbers({wire.NUMBERS_HEADER: value}, it, len(numbers))
    assert [number for run in runs for number in run] == numbers
    assert all(left.stop < right.start for left, right in itertools.pairwise(runs))


@pytest.mark.parametrize("claim", ["0 4611686018427387904 0", "0 1 2", "0 1 99999999999999999999"])
def test_a_header_that_claims_too_much_is_refused(claim: str) -> None:
    """Before anything is built of it."""
    with pytest.raises(wire.FormError, match="claims"):
        wire.read_header({wire.HEADER: f"1 {JOURNAL} {claim} none"})


@pytest.mark.parametrize("value", [None, "0+2305843009213693952", "0+1,2+1000000000", "5+1"])
def test_numbers_and_lines_have_to_agree(value: str | None) -> None:
    """What a message claims is compared with what it has, and costs nothing."""
    it = wire.Range(JOURNAL, 0, 1 << 62, 0, "none")
    headers = {} if value is None else {wire.NUMBERS_HEADER: value}
    if value is None:
        it = it._replace(end=2)
    with pytest.raises(wire.FormError):
        wire.read_numbers(headers, it, 3)
