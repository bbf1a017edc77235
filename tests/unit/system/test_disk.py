"""Files and directories made safe on the disk."""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path

import pytest

from prefork_logd.system import disk
from prefork_logd.system.disk import cut_torn_line, replace_file, sync_directory


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    """It is an error unless the caller has no use for its names any more."""
    with pytest.raises(FileNotFoundError):
        sync_directory(tmp_path / "none")
    assert sync_directory(str(tmp_path / "none"), missing_ok=True) is None


def test_a_directory_is_synced_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One fsync, on the directory; no descriptor stays open, also after an error."""
    synced: list[str] = []

    def fsync(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        if error:
            raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "fsync", fsync)
    gc.collect()  # what earlier tests have left open is closed now, and not in between
    before = len([*Path("/proc/self/fd").iterdir()])
    error = 0
    sync_directory(tmp_path)
    error = errno.EINVAL
    sync_directory(tmp_path)
    error = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        sync_directory(tmp_path)
    assert synced == [str(tmp_path)] * 3
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_a_file_is_replaced(tmp_path: Path) -> None:
    """With all of the new content, a mode, and nothing left beside it."""
    path = tmp_path / "identity"
    for content in (b"old and longer", b"new"):
        replace_file(path, content, 0o600)
        assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_file_that_cannot_be_replaced_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A disk that is full, or fails to sync, costs the new content only; the next attempt may work."""
    path = tmp_path / "identity"
    replace_file(path, b"old")

    def fail(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if call == "fsync":
            patch.setattr(os, "fsync", fail)
            target, content = path, b"new"
        else:
            target, content = Path("/dev") / "full", b"new"
            patch.setattr(Path, "with_name", lambda self, _: self)
        with pytest.raises(OSError, match="No space left"):
            replace_file(target, content)
    assert path.read_bytes() == b"old"
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, rename, directory: a power loss between any two leaves the old file or the new one."""
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd: int) -> None:
        calls.append(f"sync {Path(f'/proc/self/fd/{fd}').readlink().name}")
        fsync(fd)

    def noted_rename(source: object, target: object, **flags: object) -> None:
        calls.append("rename")
        rename(str(source), str(target))

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    replace_file(tmp_path / "identity", b"new")
    assert calls == ["sync identity.new", "rename", f"sync {tmp_path.name}"]


@pytest.mark.parametrize(
    ("content", "torn_bytes"),
    [
        (b"", 0),
        (b"a\n", 0),
        (b"a\nb", 1),
        (b"no newline", 10),
        (b"a\n" + b"\0" * 5000, 5000),
        (b"a\n" + b"x" * (3 * disk.BLOCK_BYTES), 3 * disk.BLOCK_BYTES),
        (b"\n" + b"x" * (disk.BLOCK_BYTES - 1), disk.BLOCK_BYTES - 1),
        (b"\n" + b"x" * disk.BLOCK_BYTES, disk.BLOCK_BYTES),
    ],
)
def test_a_torn_line_is_cut(tmp_path: Path, content: bytes, torn_bytes: int) -> None:
    """All that follows the last newline goes, also across blocks, and is counted."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with path.open("r+b") as file:
        assert cut_torn_line(file.fileno()) == torn_bytes
    assert path.read_bytes() == content[: len(content) - torn_bytes]


def test_only_regular_files_are_cut() -> None:
    """A device has no last line."""
    fd = os.open("/dev/null", os.O_RDWR)
    try:
        with pytest.raises(OSError, match="neither a file"):
            cut_torn_line(fd)
    finally:
        os.close(fd)
