"""Real disks, small enough to be filled."""

import contextlib
import gc
import os
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """Return a function that mounts a tmpfs with the given options and returns its path; all are unmounted after."""
    mounted = []

    def mount(options):
        path = tmp_path / f"disk{len(mounted)}"
        path.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture(autouse=True)
def _nothing_is_left():
    """Every test ends with the descriptors and children it began with: an earlier one may have left some."""
    before, children = {path.name for path in Path("/proc/self/fd").iterdir()}, _children()
    yield
    gc.collect()
    assert {path.name for path in Path("/proc/self/fd").iterdir()} <= before
    assert _children() <= children


def _children():
    """Return the numbers of the children of this process, of those that have ended and nobody waited for, too."""
    own, found = os.getpid(), set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # Behind the name in parentheses, which may have any characters: state, and number of the parent (proc(5)).
            if int(path.read_text().rpartition(")")[2].split()[1]) == own:
                found.add(path.parent.name)
    return found
