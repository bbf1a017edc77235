"""Runs handler_client.py on an interpreter from which a system's missing parts are taken: `crippled.py SYSTEM ...`.

"windows": no fork, no file locks, no Unix sockets, no poll(). "macos": no event of a closed peer, no TCP_KEEPIDLE.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from pathlib import Path

MISSING = {
    "windows": {
        os: ["fork", "register_at_fork", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"],
        socket: ["AF_UNIX", "MSG_NOSIGNAL", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT"],
        select: ["poll", "epoll", "POLLIN", "POLLRDHUP"],
    },
    "macos": {socket: ["MSG_NOSIGNAL", "TCP_KEEPIDLE"], select: ["epoll", "POLLRDHUP"]},
}
PLATFORMS = {"windows": "win32", "macos": "darwin"}


def main() -> None:
    """Take the parts away, then be the script."""
    import logging.config  # noqa: F401 - before the platform has another name, as ssl
    import runpy
    import ssl  # noqa: F401

    system = sys.argv.pop(1)
    for module, names in MISSING[system].items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    if system == "windows":
        sys.modules["fcntl"] = None  # type: ignore[assignment]
    sys.platform = PLATFORMS[system]
    runpy.run_path(str(Path(__file__).with_name("handler_client.py")), run_name="__main__")


if __name__ == "__main__":
    main()
