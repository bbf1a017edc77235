"""Calls functions of the C library that the os module lacks, by ctypes.

Owns their numbers and argument types. Does not know the purpose of a call.
"""

from __future__ import annotations

import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)

IOV_MAX = 1024
"""Most buffers of one writev(2) or pwritev(2): UIO_MAXIOV of Linux, the same since 2.2."""

IN_MODIFY, IN_MOVED_TO, IN_CREATE = 0x2, 0x80, 0x100
"""Events of inotify(7)."""

_PR_SET_PDEATHSIG = 1
_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_STATX_BYTES = 256
_BIRTH_OFFSET = 80
_M_ARENA_MAX = -8
_SYNC_FILE_RANGE_WRITE = 2
_CLONE_NEWNS = 0x20000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x8, 0x1000, 0x4000, 0x40000


def birth_s(path: str) -> float | None:
    """Return when a file was created, in seconds since 1970 (statx(2)); None if the file system does not record it.

    os.statx comes with Python 3.15. Raises OSError if the file is missing.
    """
    statx = getattr(_libc, "statx", None)
    if statx is None:  # No statx: glibc before 2.28, musl before 1.2.5.
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


def unshare_mounts() -> None:
    """Give this process mounts of its own, which no other one sees (mount_namespaces(7)). Raises OSError.

    os.unshare comes with Python 3.12.
    """
    _require(_libc.unshare(_CLONE_NEWNS))
    _mount(b"none", "/", None, _MS_REC | _MS_PRIVATE)


def mount_tmpfs(target: str, options: str) -> None:
    """Mount an empty file system in memory on a directory (tmpfs(5)). Raises OSError."""
    _mount(b"tmpfs", target, b"tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options.encode())


def bind_mount(fd: int, target: str) -> None:
    """Mount the directory of a descriptor on another one (mount(2)). Raises OSError."""
    _mount(b"/proc/self/fd/%d" % fd, target, None, _MS_BIND)


def _mount(source: bytes, target: str, kind: bytes | None, flags: int, options: bytes | None = None) -> None:
    _require(_libc.mount(source, os.fsencode(target), kind, ctypes.c_ulong(flags), options))


def _require(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def signal_on_parent_death(number: int) -> None:
    """Have the kernel send this process a signal when its parent dies (PR_SET_PDEATHSIG, prctl(2)).

    More exactly: when the thread that forked it ends. If the parent is dead already, no signal is sent.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def alarm_on_signal(number: int) -> None:
    """Make alarm(2) itself the handler of a signal: SIGALRM follows after as many seconds as the signal's number.

    No Python code runs then, so it works in a process that hangs in a call.
    """
    # An address has 64 bits: ctypes would pass an int.
    _libc.signal.argtypes, _libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    _libc.signal(number, ctypes.cast(_libc.alarm, ctypes.c_void_p))


def inotify_init() -> int:
    """Return the descriptor of a new inotify(7) instance, non-blocking; -1 if that fails."""
    return int(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def inotify_add_watch(fd: int, path: bytes, events: int) -> bool:
    """Watch a path; return whether that worked. Watching a path again only changes its events."""
    return int(_libc.inotify_add_watch(fd, path, events)) >= 0


def start_writing(fd: int) -> None:
    """Let the disk begin to write the changed pages of a file (sync_file_range(2)). The next sync reports errors."""
    call = getattr(_libc, "sync_file_range", None)
    if call is not None:
        call(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)


def limit_arenas(most: int) -> None:
    """Let the threads of this process allocate from so many arenas (mallopt(3)); each keeps memory for itself.

    Call it before there are threads. Does nothing without glibc.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, most)


def trim_memory() -> None:
    """Give free memory back to the kernel (malloc_trim(3)). Does nothing without glibc."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)
