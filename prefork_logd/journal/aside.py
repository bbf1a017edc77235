"""Copies the end of a file into a file beside it, before recovery cuts off bytes that may be needed.

Owns that file's name and its end, and that nothing is cut before its copy is on the disk. Does not know the journal.

    shop.jsonl                       the file
    shop.cut-20261128-jsonl          bytes cut off its end on that day (UTC), by all recoveries

The name does not match patterns such as `shop.jsonl*` and `*.jsonl`: programs that collect log files by name must not
collect these lines, which may be stored a second time.

A directory keeps the MOST_FILES newest of these files, and all of the last KEPT_DAYS. Older ones are removed when
another is made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from pathlib import Path

from prefork_logd.config.values import format_count
from prefork_logd.system.disk import sync_directory, write_all
from prefork_logd.system.log import LOGGER

PIECE_BYTES = 1 << 20
MOST_FILES, KEPT_DAYS = 100, 30
_NAME = re.compile(r".+\.cut-(\d{8})(?:-[^.]*)?", re.DOTALL)
_DAY_S = 86_400


def _day_name(wall_s: float) -> str:
    return time.strftime("%Y%m%d", time.gmtime(max(0.0, wall_s)))


def name_beside(path: str, wall_s: float) -> str:
    """Return the path of the bytes that are cut off a file on a day."""
    real = Path(os.path.realpath(path))
    return str(real.with_name(f"{real.stem}.cut-{_day_name(wall_s)}{real.suffix.replace('.', '-')}"))


def copy_end(fd: int, start: int, size: int, path: str) -> str:
    """Copy the bytes from `start` to `size` of an open file to the end of the file beside `path`; return its name.

    They are on the disk when it returns. A copy left by a recovery that died after making it is not made again.
    Raises OSError; then nothing of the attempt is left.
    """
    name = name_beside(path, time.time())
    aside = os.open(name, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        status = os.fstat(aside)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.ENOTSUP, "it is not a file", name)
        before = status.st_size
        if not _ends_alike(fd, start, size, aside, before):
            os.fchmod(aside, stat.S_IMODE(os.fstat(fd).st_mode))
            try:
                _copy(fd, start, size, aside)
            except OSError:
                os.ftruncate(aside, before)
                raise
        os.fsync(aside)
        sync_directory(Path(name).parent)
    finally:
        os.close(aside)
    with contextlib.suppress(OSError):
        _remove_old(Path(name).parent)
    return name


def _remove_old(directory: Path) -> None:
    """Remove the oldest of these files. Raises OSError."""
    eldest = _day_name(time.time() - KEPT_DAYS * _DAY_S)
    with os.scandir(directory) as entries:
        found = [(match[1], entry.path) for entry in entries if (match := _NAME.fullmatch(entry.name))]
    for day, path in sorted(found)[:-MOST_FILES]:
        if day < eldest and stat.S_ISREG(os.lstat(path).st_mode):
            Path(path).unlink()
            LOGGER.warning(
                "%s: removed; of the files with bytes that recoveries have cut off, each directory keeps those of the "
                "last %s and the newest %d",
                *(path, format_count(KEPT_DAYS, "day"), MOST_FILES),
            )


def _ends_alike(fd: int, start: int, size: int, other: int, other_size: int) -> bool:
    """Tell whether another file ends with a part of this one."""
    shift = other_size - size
    if start + shift < 0:
        return False
    for position in range(start, size, PIECE_BYTES):
        nbytes = min(PIECE_BYTES, size - position)
        if os.pread(fd, nbytes, position) != os.pread(other, nbytes, position + shift):
            return False
    return True


def _copy(fd: int, start: int, size: int, to: int) -> None:
    position = start
    while position < size:
        piece = os.pread(fd, min(PIECE_BYTES, size - position), position)
        if not piece:
            raise OSError(errno.EIO, "it cannot be read back")
        position += len(piece)
        write_all(to, piece)
