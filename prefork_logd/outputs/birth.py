"""How old a file is, as far as anything still tells.

Owns statx(2), which the os module does not offer before Python 3.15. Used once for each file opened.
"""

from __future__ import annotations

import ctypes
import os
import struct

_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_STATX_BYTES = 256
_BIRTH_OFFSET = 80


def age_s(path: str, wall_s: float) -> float:
    """Return the seconds since the file was created, by the file system's own record and the wall clock; never below 0.

    Where creation is not recorded (NFS, old tmpfs), the seconds since the last write: less than the age, never more.
    Raises OSError if there is no such file.
    """
    birth_s = _birth_s(path)
    return max(0.0, wall_s - (os.stat(path).st_mtime if birth_s is None else birth_s))  # noqa: PTH116 - beside statx


def _birth_s(path: str) -> float | None:
    statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)
    if statx is None:
        return None
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        failed = statx(fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, buffer)
    finally:
        os.close(fd)
    mask = struct.unpack_from("=I", buffer)[0]
    if failed or not mask & _STATX_BTIME:
        return None
    seconds, nanoseconds = struct.unpack_from("=qI", buffer, _BIRTH_OFFSET)
    return float(seconds + nanoseconds / 1e9)
