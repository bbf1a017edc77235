"""A change in a directory ends the wait, with or without inotify."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from prefork_logd.system import inotify
from prefork_logd.system.inotify import DirectoryWatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Return the two ends of a pipe: to read from, and to write to."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue


@pytest.fixture
def long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for changes so long that a test that needs them to come fails."""
    monkeypatch.setattr(inotify, "LOOK_ANYWAY_S", 30.0)


def waited_s(watch: DirectoryWatch) -> float:
    """Return how long a wait took."""
    began_s = time.monotonic()
    watch.wait()
    return time.monotonic() - began_s


@pytest.mark.usefixtures("long_wait")
def test_what_has_changed_since_the_watch_began_ends_the_wait(tmp_path: Path, pipe: tuple[int, int]) -> None:
    """A file that is written, made, or moved there; each change once."""
    file = tmp_path / "a"
    file.touch()
    with DirectoryWatch(tmp_path, pipe[1]) as watch:
        file.write_bytes(b"x")
        assert waited_s(watch) < 15
        (tmp_path / "b").touch()
        assert waited_s(watch) < 15
        file.rename(tmp_path / "c")
        assert waited_s(watch) < 15


def test_without_a_change_the_wait_ends_anyway(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory may have been replaced; a watch is put on the one that is there now."""
    monkeypatch.setattr(inotify, "LOOK_ANYWAY_S", 0.01)
    directory = tmp_path / "d"
    directory.mkdir()
    with DirectoryWatch(directory, pipe[1]) as watch:
        directory.rename(tmp_path / "old")
        directory.mkdir()
        watch.wait()
        monkeypatch.setattr(inotify, "LOOK_ANYWAY_S", 30.0)
        growing = threading.Timer(0.05, (directory / "x").touch)
        growing.start()
        assert waited_s(watch) < 15
        growing.join()


@pytest.mark.usefixtures("long_wait")
def test_a_reader_that_has_gone_is_an_error(tmp_path: Path, pipe: tuple[int, int]) -> None:
    """Also if nothing changes."""
    with DirectoryWatch(tmp_path, pipe[1]) as watch:
        os.close(pipe[0])
        with pytest.raises(BrokenPipeError):
            watch.wait()


def test_a_directory_that_is_missing_is_looked_for_again(tmp_path: Path, pipe: tuple[int, int]) -> None:
    """A few times a second."""
    with DirectoryWatch(tmp_path / "missing", pipe[1]) as watch:
        assert waited_s(watch) >= inotify.POLL_S * 0.9
