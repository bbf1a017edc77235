"""The limit: a program that receives and writes and does nothing else, in C, compiled when it is needed.

Owns the one rival that nothing can beat here: what the machine, its loopback and its page cache give. With no file to
write to it only receives, which shows how fast the generator itself is.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

_SOURCE = r"""
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static char buffer[256 * 1024];

static void fail(const char *what) { perror(what); exit(1); }

static void write_all(int file, const char *data, ssize_t size) {
    while (size > 0) {
        ssize_t written = write(file, data, (size_t)size);
        if (written < 0) fail("write");
        data += written;
        size -= written;
    }
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    int file = argc > 2 ? open(argv[2], O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, poll = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1]))};
    struct epoll_event event = {.events = EPOLLIN}, events[256];
    if ((argc > 2 && file < 0) || listener < 0 || poll < 0) fail("open");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) fail("listen");
    event.data.fd = listener;
    if (epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event)) fail("epoll_ctl");
    for (;;) {
        int ready = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int peer = accept(listener, NULL, NULL);
                if (peer < 0) continue;
                event.events = EPOLLIN;
                event.data.fd = peer;
                if (epoll_ctl(poll, EPOLL_CTL_ADD, peer, &event)) fail("epoll_ctl");
                continue;
            }
            ssize_t size = recv(fd, buffer, sizeof buffer, 0);
            if (size > 0) {
                if (file >= 0) write_all(file, buffer, size);
            } else if (size == 0 || (errno != EINTR && errno != EAGAIN)) {
                close(fd);
            }
        }
    }
}
"""


@functools.cache
def _build_directory() -> tempfile.TemporaryDirectory[str]:
    # The object removes the directory when the interpreter ends.
    return tempfile.TemporaryDirectory(prefix="prefork-logd-bench-")


@functools.cache
def program() -> Path | None:
    """Return the compiled program (arguments: port, file to append to), or None without a C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    source, binary = Path(_build_directory().name, "limit.c"), Path(_build_directory().name, "limit")
    source.write_text(_SOURCE)
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", binary, source], check=True)
    return binary
