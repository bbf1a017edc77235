"""A service that logs numbered records through our handler; Python 2.7 and 3.

    numbered.py HANDLERS_FILE ADDRESS NAME PAUSE_S

At the line "cut" on its standard input it loses its connection. At any other it pauses, waits until all is
acknowledged, and prints how many it has logged and the handler's counters. At the line "go" after that it goes on; at
anything else it ends.
"""

from __future__ import print_function

import json
import logging
import os
import select
import socket
import sys
import time

PATIENCE_S = 30


def load(path):
    """Import handlers.py from its file: an old Python need not have the package installed."""
    directory, name = os.path.split(path)
    sys.path.insert(0, directory)
    return __import__(name[:-3])


def read_line():
    """Read a line and not a byte more: select() knows nothing of what a file object has in its buffer."""
    line = b""
    while not line.endswith(b"\n"):
        octet = os.read(0, 1)
        if not octet:
            break
        line += octet
    return line


def main():
    handlers = load(sys.argv[1])
    address, name, pause_s = sys.argv[2], sys.argv[3], float(sys.argv[4])
    host, _, port = address.rpartition(":")
    # Without the fallback: a collector that is killed or stopped before its first WELCOME is no plain receiver.
    handler = handlers.SocketHandler(
        host, int(port), limit_bytes=64 << 20, overflow="block", block_timeout=60, fallback=False
    )
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    print("ready")
    sys.stdout.flush()
    count = 0
    while True:
        while not select.select([sys.stdin], [], [], pause_s)[0]:
            logger.info("%s-%07d", name, count)
            count += 1
        if read_line() == b"cut\n":
            try:  # noqa: SIM105 - contextlib has no suppress in Python 2.7
                handler.sock.shutdown(socket.SHUT_RDWR)
            except (AttributeError, socket.error):
                pass  # it has none just now
            continue
        give_up = time.time() + PATIENCE_S
        while not handler.flush(PATIENCE_S) and time.time() < give_up:
            time.sleep(0.05)
        print(json.dumps({"count": count, "counters": handler.counters()}))
        sys.stdout.flush()
        if read_line() != b"go\n":
            os._exit(0)


if __name__ == "__main__":
    main()
