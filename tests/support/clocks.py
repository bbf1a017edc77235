"""Builds a library that shifts the wall clock of one process and its children, and not its monotonic clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.disks import build

if TYPE_CHECKING:
    from pathlib import Path

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The number in the file $CLOCK_FILE is added to the wall clock's seconds; no file: nothing. */
static long shift(void) {
    char text[32];
    const char *path = getenv("CLOCK_FILE");
    int control = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (control < 0) return 0;
    ssize_t length = read(control, text, sizeof text - 1);
    close(control);
    text[length > 0 ? length : 0] = 0;
    return atol(text);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return failed;
}

time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place) *place = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict place, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    place->tv_sec = now.tv_sec;
    place->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


def build_shim(directory: Path) -> Path:
    """Compile the library; skip the test where there is no compiler."""
    return build(directory, "clock", SHIM)
