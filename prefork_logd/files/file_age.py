"""Finds out how old a file is.

Owns the choice between the file system's record of its creation and the time of the last write.
"""

from __future__ import annotations

import os

from prefork_logd.system import libc


def age_s(path: str, wall_s: float) -> float:
    """Return the seconds since the file was created, by the file system's own record and the wall clock; at least 0.

    Without that record (NFS, old tmpfs) these are the seconds since the last write, which is never more than the age.
    Raises OSError if the file is missing.
    """
    birth_s = libc.birth_s(path)
    return max(0.0, wall_s - (os.stat(path).st_mtime if birth_s is None else birth_s))  # noqa: PTH116 - beside statx(2)
