"""Makes a library under which every change below a directory fails on demand, as on a disk that fails as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.disks import build

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
/* $FAULT_FILE has EROFS or EIO: calls that change files below $FAULT_ROOT fail so; with EIO those that read, too. */
static int fault(void) {
    char word[16];
    const char *path = getenv("FAULT_FILE");
    int fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY|O_CLOEXEC, 0) : -1;
    if (fd < 0) return 0;
    ssize_t n = syscall(SYS_read, fd, word, 15);
    syscall(SYS_close, fd);
    word[n > 0 ? n : 0] = 0;
    if (!strncmp(word, "EROFS", 5)) return EROFS;
    if (!strncmp(word, "EIO", 3)) return EIO;
    return 0;
}
static int below(const char *p) {
    const char *root = getenv("FAULT_ROOT");
    return root && !strncmp(p, root, strlen(root));
}
static int fdfault(int fd) {
    struct stat st; char link[64], target[4096];
    if (fstat(fd, &st) || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))) return 0;
    sprintf(link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, target, sizeof target - 1);
    if (n <= 0) return 0;
    target[n] = 0;
    return below(target) ? fault() : 0;
}
static int pathfault(int dir, const char *p) {
    char full[8192], link[64];
    if (p[0] != '/') {
        if (dir == AT_FDCWD) { if (!getcwd(full, 4096)) return 0; }
        else {
            sprintf(link, "/proc/self/fd/%d", dir);
            ssize_t n = readlink(link, full, 4096);
            if (n <= 0) return 0;
            full[n] = 0;
        }
        strcat(full, "/"); strncat(full, p, 4000);
        return below(full) ? fault() : 0;
    }
    return below(p) ? fault() : 0;
}
#define REAL(name, ret, ...) static ret (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)
#define FD(name, ret, args, call, ...) ret name args { REAL(#name, ret, __VA_ARGS__); \
    int e = fdfault(fd); if (e) { errno = e; return -1; } return real call; }
#define FDR(name, ret, args, call, ...) ret name args { REAL(#name, ret, __VA_ARGS__); \
    int e = fdfault(fd); if (e == EIO) { errno = e; return -1; } return real call; }
FD(write, ssize_t, (int fd, const void *b, size_t n), (fd, b, n), int, const void *, size_t)
FD(pwrite, ssize_t, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o), int, const void *, size_t, off_t)
FD(pwrite64, ssize_t, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o), int, const void *, size_t, off64_t)
FD(writev, ssize_t, (int fd, const struct iovec *b, int n), (fd, b, n), int, const struct iovec *, int)
FD(ftruncate, int, (int fd, off_t n), (fd, n), int, off_t)
FD(ftruncate64, int, (int fd, off64_t n), (fd, n), int, off64_t)
FD(fallocate, int, (int fd, int m, off_t o, off_t n), (fd, m, o, n), int, int, off_t, off_t)
FD(fallocate64, int, (int fd, int m, off64_t o, off64_t n), (fd, m, o, n), int, int, off64_t, off64_t)
FD(fchmod, int, (int fd, mode_t m), (fd, m), int, mode_t)
FDR(fsync, int, (int fd), (fd), int)
FDR(fdatasync, int, (int fd), (fd), int)
FDR(read, ssize_t, (int fd, void *b, size_t n), (fd, b, n), int, void *, size_t)
FDR(pread, ssize_t, (int fd, void *b, size_t n, off_t o), (fd, b, n, o), int, void *, size_t, off_t)
FDR(pread64, ssize_t, (int fd, void *b, size_t n, off64_t o), (fd, b, n, o), int, void *, size_t, off64_t)
#define PATH(name, args, call, dir, p, ...) int name args { REAL(#name, int, __VA_ARGS__); \
    int e = pathfault(dir, p); if (e) { errno = e; return -1; } return real call; }
PATH(rename, (const char *a, const char *b), (a, b), AT_FDCWD, b, const char *, const char *)
PATH(renameat, (int d, const char *a, int f, const char *b), (d, a, f, b), f, b, int, const char *, int, const char *)
PATH(unlink, (const char *a), (a), AT_FDCWD, a, const char *)
PATH(unlinkat, (int d, const char *a, int f), (d, a, f), d, a, int, const char *, int)
PATH(mkdir, (const char *a, mode_t m), (a, m), AT_FDCWD, a, const char *, mode_t)
PATH(mkdirat, (int d, const char *a, mode_t m), (d, a, m), d, a, int, const char *, mode_t)
PATH(link, (const char *a, const char *b), (a, b), AT_FDCWD, b, const char *, const char *)
PATH(linkat, (int d, const char *a, int f, const char *b, int g), (d, a, f, b, g),
    f, b, int, const char *, int, const char *, int)
#define OPENER(name) int name(const char *p, int flags, ...) { \
    REAL(#name, int, const char *, int, ...); va_list l; va_start(l, flags); \
    mode_t m = va_arg(l, int); va_end(l); \
    int e = pathfault(AT_FDCWD, p); if (e == EIO || (e == EROFS && (flags & (O_CREAT|O_ACCMODE)))) { \
        errno = e; return -1; } return real(p, flags, m); }
#define OPENERAT(name) int name(int d, const char *p, int flags, ...) { \
    REAL(#name, int, int, const char *, int, ...); va_list l; va_start(l, flags); \
    mode_t m = va_arg(l, int); va_end(l); \
    int e = pathfault(d, p); if (e == EIO || (e == EROFS && (flags & (O_CREAT|O_ACCMODE)))) { \
        errno = e; return -1; } return real(d, p, flags, m); }
OPENER(open) OPENER(open64) OPENERAT(openat) OPENERAT(openat64)
"""


class DeadDisk:
    """A directory on a disk that fails as a whole, for the processes with the environment `env`."""

    def __init__(self, directory: Path, below: Path) -> None:
        """Make files in `directory`; those `below` another one can fail. Skips the test without a compiler."""
        self._control = directory / "fault"
        library = build(directory, "dead_disk", SOURCE)
        self.env = {"LD_PRELOAD": str(library), "FAULT_FILE": str(self._control), "FAULT_ROOT": f"{below}/"}

    def fail(self, error: str) -> None:
        """Let calls fail with "EROFS" or "EIO" from now on."""
        self._control.write_text(error)

    def work(self) -> None:
        """Let calls work again."""
        self._control.unlink()
