"""A service that logs numbered records through our handler, or the stdlib's; Python 2.7 and 3.

    numbered.py HANDLERS ADDRESS NAME PAUSE_S [plain | OPTION=VALUE...]

HANDLERS is the folder of the handler's package. Each OPTION is an argument of the handler, such as service=shop or
tls_ca=/etc/ca.pem. Each 20th record is an error with a traceback if there is the word "errors", too.

At the line "cut" on its standard input it loses its connection. At any other it pauses, waits until all is
acknowledged, and prints how many it has logged and the handler's counters. At the line "go" after that it goes on; at
anything else it ends.

With "plain" it uses the stdlib's handler. That cannot wait for acknowledgements: at a pause it closes its connection,
and goes on with another one, a name of its own (NAMEx0, NAMEx1...) and numbers from 0 on. It is never cut.
"""

from __future__ import print_function

import json
import logging
import logging.handlers
import os
import select
import socket
import sys
import time

PATIENCE_S = 30


def load(path):
    """Import the handler's package from its folder: an old Python need not have the collector installed."""
    directory, name = os.path.split(path)
    sys.path.append(directory)  # behind the rest: beside the folder are modules with names of the standard library
    return __import__(name)


def read_line():
    """Read a line and not a byte more: select() knows nothing of what a file object has in its buffer."""
    line = b""
    while not line.endswith(b"\n"):
        octet = os.read(0, 1)
        if not octet:
            break
        line += octet
    return line


class Acknowledged(object):
    """Logs through our handler."""

    def __init__(self, host, port, name, **options):
        handlers = load(sys.argv[1])
        self.name = name
        # Without the fallback: a collector that is killed or stopped before its first WELCOME is no plain receiver.
        self.handler = handlers.SocketHandler(
            host, port, limit_bytes=64 << 20, overflow="block", block_timeout=60, fallback=False, **options
        )
        self.go_on = lambda: None

    def cut(self):
        """Lose the connection."""
        try:  # noqa: SIM105 - contextlib has no suppress in Python 2.7
            self.handler.sock.shutdown(socket.SHUT_RDWR)
        except (AttributeError, socket.error):
            pass  # it has none just now

    def rest(self):
        """Wait until all is acknowledged; return the handler's counters."""
        give_up = time.time() + PATIENCE_S
        while not self.handler.flush(PATIENCE_S) and time.time() < give_up:
            time.sleep(0.05)
        return self.handler.counters()


class Plain(object):
    """Logs through the stdlib's handler."""

    def __init__(self, host, port, name):
        logging.raiseExceptions = False
        self.handler = logging.handlers.SocketHandler(host, port)
        self._name = name
        self._life = -1
        self.cut = lambda: None
        self.go_on()

    def go_on(self):
        """Connect, and be another service."""
        self._life += 1
        self.name = "%sx%d" % (self._name, self._life)
        while self.handler.sock is None:
            self.handler.retryTime = None
            self.handler.createSocket()
            time.sleep(0 if self.handler.sock else 0.01)

    def rest(self):
        """Close the connection: what was sent can be read to its end."""
        self.handler.acquire()
        try:
            if self.handler.sock is not None:
                self.handler.sock.close()
                self.handler.sock = None
        finally:
            self.handler.release()
        return {}


def log_error(logger, name, count):
    """Log a numbered error of one of two kinds."""
    try:
        raise (KeyError if count % 3 else ValueError)(count)
    except LookupError:
        logger.exception("%s-%07d", name, count)
    except ValueError:
        logger.warning("%s-%07d", name, count, exc_info=True)


def main():
    address, name, pause_s = sys.argv[2], sys.argv[3], float(sys.argv[4])
    host, _, port = address.rpartition(":")
    options = dict(word.split("=", 1) for word in sys.argv[5:] if "=" in word)
    every = 20 if "errors" in sys.argv[5:] else 0
    service = (Plain if "plain" in sys.argv[5:] else Acknowledged)(host, int(port), name, **options)
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.addHandler(service.handler)
    print("ready")
    sys.stdout.flush()
    count = 0
    while True:
        while not select.select([sys.stdin], [], [], pause_s)[0]:
            if every and count % every == every - 1:
                log_error(logger, service.name, count)
            else:
                logger.info("%s-%07d", service.name, count)
            count += 1
        if read_line() == b"cut\n":
            service.cut()
            continue
        counters = service.rest()
        print(json.dumps({"name": service.name, "count": count, "counters": counters}))
        sys.stdout.flush()
        if read_line() != b"go\n":
            os._exit(0)
        service.go_on()
        if service.name != name:
            count = 0


if __name__ == "__main__":
    main()
