"""Makes disks that fail on demand: a small file system for one test, and a library that makes writes fail."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


TO_THE_LAST_BYTE = "[limits]\nmin_free_bytes = 0\n"
"""Configuration of a collector that fills its disk: by default clients wait before."""


class Disk:
    """A small tmpfs that can be filled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def mount(self, options: str) -> None:
        """Mount it; skip the test if that is not permitted."""
        self.path.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")

    def remount(self, options: str) -> None:
        """Change its mount options, such as "ro"."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)

    def try_remount(self, options: str) -> bool:
        """Change its mount options; return whether that worked: "ro" fails while a file is open for writing."""
        command = ["mount", "-o", f"remount,{options}", str(self.path)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def fill(self, leave_bytes: int = 0) -> None:
        """Fill it, and leave at most so many bytes free."""
        with self._filler.open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(65_536))
        size = self._filler.stat().st_size
        with self._filler.open("rb+") as filler:
            filler.truncate(size - leave_bytes)

    def free(self) -> None:
        """Remove the file that fills it."""
        self._filler.unlink(missing_ok=True)

    def unmount(self) -> None:
        """Unmount it."""
        # Lazily, so that a test that fails with an open file does not leave the mount to all later tests.
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


@contextlib.contextmanager
def mounted(path: Path, options: str) -> Iterator[Disk]:
    """Mount a small file system for as long as the block lasts."""
    disk = Disk(path)
    disk.mount(options)
    try:
        yield disk
    finally:
        disk.unmount()


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* The word in the file $FAULT_FILE says what becomes of writes to regular files, and of syncs; no file: nothing.
   $SYNC_US: the longest that a sync takes. */
static int fault(int fd, char *word, size_t size) {
    struct stat status;
    if (fstat(fd, &status) || !S_ISREG(status.st_mode)) return 0;
    const char *path = getenv("FAULT_FILE");
    int control = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (control < 0) return 0;
    ssize_t length = read(control, word, size - 1);
    close(control);
    word[length > 0 ? length : 0] = 0;
    return length > 0;
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    static ssize_t (*real)(int, const struct iovec *, int);
    static unsigned turn;
    char word[16];
    if (!real) real = dlsym(RTLD_NEXT, "writev");
    if (!fault(fd, word, sizeof word)) return real(fd, pieces, count);
    if (!strcmp(word, "EIO")) { errno = EIO; return -1; }
    if (!strcmp(word, "EROFS")) { errno = EROFS; return -1; }
    if (!strcmp(word, "EDQUOT")) { errno = EDQUOT; return -1; }
    if (!strcmp(word, "EINTR") && turn++ % 2) { errno = EINTR; return -1; }
    if (!strcmp(word, "short") || !strcmp(word, "torn")) {
        /* A part of what was asked for, never the same; "torn": and the disk fails after it. */
        turn = turn * 1103515245u + 12345u;
        if (!strcmp(word, "torn") && turn & 0x10000) { errno = EIO; return -1; }
        struct iovec first = pieces[0];
        if (first.iov_len > 1) first.iov_len = 1 + (turn >> 8) % (first.iov_len - 1);
        return real(fd, &first, 1);
    }
    return real(fd, pieces, count);
}

int fdatasync(int fd) {
    static int (*real)(int);
    static unsigned turn;
    char word[16];
    const char *slow = getenv("SYNC_US");
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    /* A real disk takes its time, and who is killed is then often in the middle of a commit. */
    if (slow) usleep(rand() % atoi(slow));
    /* One that works, one that fails, and so on: of the output and of the journal, by turns. */
    if (fault(fd, word, sizeof word) && !strcmp(word, "sync") && ++turn % 3 == 2) { errno = EIO; return -1; }
    return real(fd);
}
"""


def build_shim(directory: Path) -> Path:
    """Compile the library that makes writes fail; skip the test where there is no compiler."""
    return build(directory, "faults", SHIM)


def build(directory: Path, name: str, source: str) -> Path:
    """Compile a library to be preloaded; skip the test where there is no compiler."""
    path = directory / f"{name}.c"
    path.write_text(source)
    library = directory / f"{name}.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(path), "-ldl"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no gcc here to build the failing disk with")
    assert done.returncode == 0, done.stderr
    return library
