"""A service that logs numbered records through our handler until its standard input ends; Python 2.7 and 3.

    numbered.py HANDLERS_FILE ADDRESS NAME PAUSE_S

Prints, at the end, how many it has logged and the handler's counters.
"""

from __future__ import print_function

import json
import logging
import os
import select
import sys


def load(path):
    """Import handlers.py from its file: an old Python need not have the package installed."""
    directory, name = os.path.split(path)
    sys.path.insert(0, directory)
    return __import__(name[:-3])


def main():
    handlers = load(sys.argv[1])
    address, name, pause_s = sys.argv[2], sys.argv[3], float(sys.argv[4])
    host, _, port = address.rpartition(":")
    handler = handlers.SocketHandler(host, int(port), limit_bytes=64 << 20, overflow="block", block_timeout=60)
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    print("ready")
    sys.stdout.flush()
    count = 0
    while not select.select([sys.stdin], [], [], pause_s)[0]:
        logger.info("%s-%07d", name, count)
        count += 1
    handler.flush()
    print(json.dumps({"count": count, "counters": handler.counters()}))
    sys.stdout.flush()
    sys.stdin.readline()
    os._exit(0)


if __name__ == "__main__":
    main()
