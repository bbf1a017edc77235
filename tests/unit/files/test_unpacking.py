"""Files as they lie about give the lines that are in them, and say what is wrong with them."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_logd.errors import ProcessError
from prefork_logd.files import unpacking
from prefork_logd.files.unpacking import Unpacked

PATH = Path("old.jsonl")
TEN = [b'{"n":%d}\n' % number for number in range(10)]
WHOLE = b"".join(TEN)
LONG = b"".join(b'{"number":%d}\n' % number for number in range(100_000))


def read(octets: bytes, most: int = 1 << 26) -> tuple[list[bytes | None], str]:
    """Return the lines, and what was wrong."""
    unpacked = Unpacked(io.BytesIO(octets), PATH, most)
    return [*unpacked.lines()], unpacked.trouble


def zstd(octets: bytes) -> bytes:
    """Return one frame."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(octets)


@pytest.mark.slow
@pytest.mark.parametrize(
    "octets",
    [
        WHOLE,
        b"\xef\xbb\xbf" + WHOLE,
        b"\0" * 1_000_000 + WHOLE,
        WHOLE.decode().encode("utf-16"),
        b"\xfe\xff" + WHOLE.decode().encode("utf-16-be"),
        gzip.compress(WHOLE),
        gzip.compress(WHOLE[:37]) + gzip.compress(WHOLE[37:]),
        gzip.compress(WHOLE) + bytes(512),
        gzip.compress(b"\xef\xbb\xbf" + WHOLE),
        zstd(WHOLE),
        zstd(WHOLE[:37]) + zstd(WHOLE[37:]),
        zstd(b"") + zstd(WHOLE),
    ],
    ids=["plain", "bom", "nuls", "utf-16", "utf-16-be", "gzip", "members", "padded", "gzip with bom", "zstd", "frames",
         "empty frame"],
)  # fmt: skip
def test_lines_of_any_form(octets: bytes) -> None:
    """Whatever the name says: the first octets tell."""
    assert read(octets) == (TEN, "")


@pytest.mark.slow
@pytest.mark.parametrize("pack", [gzip.compress, zstd])
@pytest.mark.parametrize("harm", ["cut", "bit", "more"])
def test_damage_costs_what_is_behind_it(pack: object, harm: str) -> None:
    """What was read before is there, and the trouble is said."""
    packed = pack(LONG)  # type: ignore[operator]
    middle = len(packed) // 2
    if harm == "cut":
        octets, words = packed[:middle], "ends within its packed data"
    elif harm == "bit":
        octets, words = packed[:middle] + bytes(8) + packed[middle + 8 :], "is damaged in its packed data"
    else:
        octets, words = packed + b"something else", "has other data after its packed data"
    lines, trouble = read(octets)
    assert words in trouble
    same = 40_000 if harm == "bit" else len(lines) - 1  # a wrong octet may be noticed at the end alone
    assert len(lines) > same > 10_000
    assert lines[:same] == LONG.splitlines(keepends=True)[:same]


def test_a_file_that_cannot_be_read_on() -> None:
    """An error of the disk costs what is behind it."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            if not data:
                raise OSError(5, "Input/output error")
            return data

    unpacked = Unpacked(Broken(WHOLE), PATH, 100)
    assert [*unpacked.lines()] == TEN
    assert unpacked.trouble == "cannot be read further: Input/output error"


def test_utf16_that_ends_within_a_character() -> None:
    """The lines before are there."""
    lines, trouble = read(WHOLE.decode().encode("utf-16")[:-1])
    assert lines[:9] == TEN[:9]
    assert "UTF-16" in trouble


@pytest.mark.parametrize(("octets", "name"), [(b"BZh91AY", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"PK\3\4\0\0", "zip")])
def test_other_packings_are_named(octets: bytes, name: str) -> None:
    """Not taken for lines that are no records."""
    with pytest.raises(ProcessError, match=f"is packed by {name}; unpack it first"):
        Unpacked(io.BytesIO(octets), PATH, 100)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=8), st.integers(1, 30), st.integers(1, 9), st.booleans())
def test_lines_that_are_too_long(sizes: list[int], most: int, read_bytes: int, is_whole: bool) -> None:
    """Each costs itself, wherever the pieces end; the others are as they were."""
    lines = [b"x" * size + b"\n" for size in sizes]
    octets = b"".join(lines)
    if not is_whole:
        octets = octets[:-1]
        if lines:
            lines[-1] = lines[-1][:-1]
    before, unpacking.READ_BYTES = unpacking.READ_BYTES, read_bytes
    try:
        found, _ = read(octets, most)
    finally:
        unpacking.READ_BYTES = before
    wanted = [line for line in lines if line]
    assert len(found) == len(wanted)
    for line, whole in zip(found, wanted, strict=True):
        assert line == whole or (line is None and len(whole.rstrip(b"\n")) >= most)


@pytest.mark.slow
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_a_file_of_one_endless_line_takes_little_memory(pack: object) -> None:
    """It is passed over without being held."""
    octets = pack(b"x" * 50_000_000 + b"\n" + WHOLE)  # type: ignore[operator]
    tracemalloc.start()
    try:
        lines, _ = read(octets, 1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lines == [None, *TEN]
    assert peak < 8_000_000
