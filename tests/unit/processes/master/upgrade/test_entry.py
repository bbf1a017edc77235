"""Newly installed code refuses a state that it cannot continue from, before anything is given up."""

from __future__ import annotations

import os

import msgspec
import pytest

from prefork_logd.errors import ProcessError
from prefork_logd.processes.master.upgrade import entry
from prefork_logd.processes.master.upgrade.state import FORMAT


def _file(data: bytes) -> int:
    fd = os.memfd_create("state", os.MFD_CLOEXEC)
    os.write(fd, data)
    return fd


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the running version's state cannot be read"),
        (b'{"format": "a"}', "the running version's state cannot be read"),
        (msgspec.json.encode({"format": FORMAT + 1}), f"format {FORMAT + 1}; this version reads format {FORMAT}"),
        (msgspec.json.encode({"format": FORMAT}), "the running version's state cannot be read"),
    ],
)
def test_a_state_that_cannot_be_read_is_refused(data: bytes, said: str) -> None:
    """With a sentence that `upgrade` prints."""
    with pytest.raises(ProcessError, match=said):
        entry.try_to_take_over(_file(data))
