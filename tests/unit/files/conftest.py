"""Real disks, small enough to be filled."""

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
    """Every test ends with the descriptors and children it began with."""
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    yield
    gc.collect()
    assert {path.name for path in Path("/proc/self/fd").iterdir()} <= before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
