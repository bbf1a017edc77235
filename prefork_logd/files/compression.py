"""Compresses one rotated file in a child process of its own.

Owns the child from fork to exit, and the order of its steps: the original is removed only after the compressed file is
complete, synced and named. It can be killed at any step and run again. Does not know settings or other files.

    1. lock the original           a second compressor of the same file gives up (EAGAIN)
    2. write X.gz.tmp, sync it     with the mode, owner and time of the original
    3. rename it to X.gz, sync the directory
    4. remove the original
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
import signal
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from prefork_logd.errors import file_reason
from prefork_logd.files.rotated_files import SUFFIXES, TEMPORARY
from prefork_logd.system.disk import sync_directory, write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE_BYTES = 256 * 1024
NICENESS = 19
GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS
UNEXPECTED = 255
"""Exit status of a child for an unexpected error; 0 is success, any other status the errno of an OSError."""


def start(source: str, method: str) -> int:
    """Fork a child that compresses `source` with `method`, "gzip" or "zstd"; return its pid.

    Only for a process without threads. Raises OSError if fork(2) fails.
    """
    # Until its handlers are reset, a signal to the child would wake up the parent: they share the wake-up descriptor.
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _run(source, method, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return pid


def explain(wait_status: int) -> str | None:
    """Return the reason why a child failed, from its status of waitpid(2); None if it succeeded."""
    status = os.waitstatus_to_exitcode(wait_status)
    if status < 0:
        return f"its compressor was ended by signal {-status}"
    if status == UNEXPECTED:
        return "its compressor failed unexpectedly"
    if status == errno.EEXIST:
        return "its compressed file exists already, with other content; remove or rename one of the two"
    return file_reason(status) if status else None


def compress(source: str, method: str, go_on: Callable[[], bool]) -> None:
    """Replace `source` by its compressed form; do nothing if it is gone.

    `go_on` is called before each piece; if it returns False, InterruptedError is raised. Raises OSError if the
    compressed file exists with other content (EEXIST), and for every error of the disk.
    """
    target = Path(source + SUFFIXES[method])
    try:
        read_fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    with os.fdopen(read_fd, "rb", buffering=0) as reader:
        fcntl.flock(reader, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(read_fd).st_nlink:
            return
        if not target.exists():
            _write(_pieces(reader, go_on), os.fstat(read_fd), target, method)
        elif not _holds(target, method, _pieces(reader, go_on), go_on):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        sync_directory(target.parent, missing_ok=True)
        Path(source).unlink()


def _run(source: str, method: str, parent: int) -> None:
    """Run as the child; never return."""
    status = UNEXPECTED
    try:
        _detach_from_parent()
        compress(source, method, lambda: os.getppid() == parent)
        status = 0
    except OSError as error:
        status = error.errno if error.errno and 0 < error.errno < UNEXPECTED else UNEXPECTED
    finally:
        os._exit(status)


def _detach_from_parent() -> None:
    """Release the parent's signal handlers and descriptors; keep memory, standard streams and working directory."""
    from setproctitle import setproctitle  # noqa: PLC0415 - only the child pays for it

    gc.disable()  # A collection would write to, and so copy, every page shared with the parent.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    setproctitle("prefork-logd: compressor")
    os.nice(NICENESS)


def _pieces(reader: BinaryIO, go_on: Callable[[], bool]) -> Iterator[bytes]:
    while piece := reader.read(PIECE_BYTES):
        if not go_on():
            raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))
        yield piece


def _compressor(method: str) -> Any:
    if method == "gzip":
        return zlib.compressobj(wbits=GZIP_WINDOW_BITS)
    import zstandard

    return zstandard.ZstdCompressor(write_checksum=True).compressobj()


def _decompressor(method: str) -> tuple[Any, type[Exception]]:
    """Return the function that decompresses, and the exceptions that it raises."""
    if method == "gzip":
        return zlib.decompressobj(wbits=GZIP_WINDOW_BITS), zlib.error
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError


def _write(pieces: Iterator[bytes], original: os.stat_result, target: Path, method: str) -> None:
    temporary = Path(f"{target}{TEMPORARY}")
    temporary.unlink(missing_ok=True)
    compressor = _compressor(method)
    try:
        with temporary.open("xb", buffering=0) as writer:
            os.fchmod(writer.fileno(), 0o600)  # Readable only by us until it has its owner.
            for piece in pieces:
                write_all(writer.fileno(), compressor.compress(piece))
            write_all(writer.fileno(), compressor.flush())
            _copy_attributes(writer.fileno(), original)
            os.fsync(writer.fileno())
        temporary.rename(target)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _copy_attributes(fd: int, original: os.stat_result) -> None:
    with contextlib.suppress(PermissionError):
        os.fchown(fd, original.st_uid, original.st_gid)
    os.fchmod(fd, original.st_mode & 0o777)
    os.utime(fd, ns=(original.st_atime_ns, original.st_mtime_ns))


def _holds(target: Path, method: str, pieces: Iterator[bytes], go_on: Callable[[], bool]) -> bool:
    """Tell whether the compressed file holds exactly these pieces, as after a crash between steps 3 and 4."""
    import hashlib  # noqa: PLC0415 - only the child pays for it

    expected, found = hashlib.blake2b(), hashlib.blake2b()
    for piece in pieces:
        expected.update(piece)
    decompressor, broken = _decompressor(method)
    with target.open("rb", buffering=0) as reader:
        try:
            for piece in _pieces(reader, go_on):
                found.update(decompressor.decompress(piece))
        except broken:
            return False
    return bool(decompressor.eof) and found.digest() == expected.digest()
