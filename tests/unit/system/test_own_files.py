"""The collector's own files: only regular files, with their modes, and never through a link."""

from __future__ import annotations

import errno
import gc
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from prefork_logd.system.own_files import open_lock, open_log, open_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAYS = pytest.mark.parametrize("way", [open_lock, open_log, open_to_read])


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    """Whatever is refused is closed."""
    gc.collect()  # What other tests have left would be closed meanwhile.
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as short as it gets
    yield
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@WAYS
@pytest.mark.parametrize("target", ["file", "nothing", "directory"])
def test_a_link_is_not_followed(tmp_path: Path, way: Callable[[Path], int], target: str) -> None:
    """Wherever it leads; what it leads to stays as it is, or stays missing."""
    (tmp_path / "file").write_text("precious")
    (tmp_path / "file").chmod(0o644)
    (tmp_path / "directory").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / target)
    with pytest.raises(OSError, match="it is a link, which is neither read nor written") as caught:
        way(link)
    assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, str(link))
    assert (tmp_path / "file").read_text() == "precious"
    assert mode(tmp_path / "file") == 0o644
    assert not (tmp_path / "nothing").exists()


@WAYS
def test_a_fifo_is_refused_at_once(tmp_path: Path, way: Callable[[Path], int]) -> None:
    """Without waiting for its other end."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="it is not a regular file"):
        way(tmp_path / "fifo")


@WAYS
def test_a_socket_or_directory_is_no_file(tmp_path: Path, way: Callable[[Path], int]) -> None:
    """Each is an OSError with its path."""
    (tmp_path / "directory").mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        for name in ("directory", "socket"):
            with pytest.raises(OSError, match=str(tmp_path / name)):
                way(tmp_path / name)


def test_only_a_reader_needs_a_file(tmp_path: Path) -> None:
    """The others make one that is missing."""
    with pytest.raises(FileNotFoundError):
        open_to_read(tmp_path / "none")
    for way in (open_lock, open_log):
        os.close(way(tmp_path / way.__name__))
        os.close(open_to_read(tmp_path / way.__name__))


@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_a_lock_is_for_its_owner(tmp_path: Path, mask: int) -> None:
    """A user who could open it could hold it. A mode that is too wide, or too narrow, is put right."""
    path = tmp_path / "lock"
    before = os.umask(mask)
    try:
        os.close(open_lock(path))
    finally:
        os.umask(before)
    assert mode(path) == 0o600
    path.write_text("4711")
    for wrong in (0o644, 0o666, 0o400):
        path.chmod(wrong)
        if wrong & 0o200 or os.geteuid() == 0:
            os.close(open_lock(path))
            assert mode(path) == 0o600
    assert path.read_text() == "4711"


def test_the_log_is_not_for_everybody_whatever_the_umask(tmp_path: Path) -> None:
    """A new one gets our mode; one that exists keeps the mode of its administrator, but for writing by others."""
    for number, mask in enumerate((0, 0o022, 0o077)):
        before = os.umask(mask)
        try:
            os.close(open_log(tmp_path / str(number)))
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / str(number)).stat().st_mode) == 0o640
    for mode, kept in ((0o644, 0o644), (0o666, 0o664)):
        (tmp_path / "0").chmod(mode)
        os.close(open_log(tmp_path / "0"))
        assert stat.S_IMODE((tmp_path / "0").stat().st_mode) == kept


def test_the_log_is_appended_to(tmp_path: Path) -> None:
    """What is there stays."""
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    fd = open_log(path)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"two\n")
    os.close(fd)
    assert path.read_bytes() == b"one\ntwo\n"


@WAYS
def test_no_child_inherits_it(tmp_path: Path, way: Callable[[Path], int]) -> None:
    """A program that is started later cannot hold the lock, or write to the log."""
    (tmp_path / "file").touch()
    fd = way(tmp_path / "file")
    assert not os.get_inheritable(fd)
    os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories away")
@WAYS
def test_another_name_of_a_file_of_root_is_refused_in_a_users_directory(
    tmp_path: Path, way: Callable[[Path], int]
) -> None:
    """The user may have made the hard link. In a directory of root's only root can have done so."""
    (tmp_path / "root").write_text("precious")
    home = tmp_path / "home"
    home.mkdir()
    (home / "file").hardlink_to(tmp_path / "root")
    os.close(way(home / "file"))
    os.chown(home, 65_534, 65_534)
    with pytest.raises(OSError, match="another name of a file of root"):
        way(home / "file")
    assert (tmp_path / "root").read_text() == "precious"
