"""The journal's checksum is zlib's CRC-32, whoever works it out."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefork_logd.journal.checksum import crc32
from tests.support.strategies import bounded

COMPILED = pytest.importorskip("prefork_logd.journal._crc", reason="the compiled core is not there")


@bounded
@given(st.binary(max_size=1000), st.integers(0, 2**32 - 1), st.integers(0, 40))
@example(b"", 7, 0)
@example(bytes(64), 0, 0)
@example(b"\xff" * 1000, 2**32 - 1, 3)
def test_it_is_zlibs(data: bytes, value: int, start: int) -> None:
    """Of any length, begun anywhere, and going on from any value."""
    if COMPILED.WORKS:
        assert COMPILED.crc32(data, value) == zlib.crc32(data, value)
        assert COMPILED.crc32(memoryview(data)[start:], value) == zlib.crc32(data[start:], value)


def test_any_length_and_any_split() -> None:
    """What is summed up in two steps is what it is in one."""
    data = os.urandom(700)
    for size in range(len(data)):
        assert crc32(data[:size]) == zlib.crc32(data[:size])
        assert crc32(data[size:], crc32(data[:size])) == zlib.crc32(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wanted", "module"), [("0", "zlib"), ("1", "prefork_logd.journal._crc"), ("", "prefork_logd.journal._crc")]
)
def test_the_environment_chooses(wanted: str, module: str) -> None:
    """As it does for the other cores, where the processor has a say, too."""
    done = subprocess.run(
        [sys.executable, "-c", "from prefork_logd.journal.checksum import crc32; print(crc32.__module__)"],
        env={**os.environ, "PREFORK_LOGD_NATIVE": wanted}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == (module if COMPILED.WORKS else "zlib")
