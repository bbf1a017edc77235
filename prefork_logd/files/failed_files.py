"""Names, counts and removes the files of an output that could not be synced.

    all.jsonl                                     the current file
    all.jsonl.failed-1796008571100866712          an earlier one: a sync of it failed; it holds committed records

The number is the time at which it was put aside, in nanoseconds since 1970. No record in these files is removed that
the bounds of the output would keep; so their number is bounded by refusing to make another one. Does not know why a
sync fails.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

MOST_FILES = 100
"""Files of one output file; a disk that fails this often needs somebody who looks at it."""
NAME = re.compile(r"(.+)\.failed-[0-9]{1,20}", re.DOTALL)


class FailedFile(NamedTuple):
    """One file that could not be synced."""

    written_s: float
    """When it was written last, in seconds since 1970."""
    path: str


def find(path: str) -> list[FailedFile]:
    """Return the files that were put aside from `path`, the one written first at the beginning. Raises OSError."""
    directory, name = os.path.split(path)
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            match = NAME.fullmatch(entry.name)
            if match is None or match[1] != name:
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                found.append(FailedFile(status.st_mtime, entry.path))
    return sorted(found)


def name_for(path: str, wall_ns: int) -> str:
    """Return the name under which a file is put aside. Raises OSError if there are MOST_FILES of them already."""
    if len(find(path)) >= MOST_FILES:
        raise OSError(
            errno.EMFILE,
            f"{MOST_FILES} files {path}.failed-* have been left by failed syncs; look after the disk, then move or "
            "remove these files",
        )
    return f"{path}.failed-{wall_ns}"


def remove_until(path: str, written_s: float) -> list[str]:
    """Remove the files that were written last at `written_s` or before; return their paths. Raises OSError."""
    removed = [one.path for one in find(path) if one.written_s <= written_s]
    for old in removed:
        Path(old).unlink(missing_ok=True)
    return removed
