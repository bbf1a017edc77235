"""A service of any Python from 2.7 on that emits typical records through one handler, and tells what that cost.

`python _emitter.py HANDLER PORT [AUTHORITY]`, HANDLER being "stdlib" or "prefork-logd", which speaks TLS if the file of an
authority is given. Each line of input, "RECORDS PER_SECOND" (0: as fast as it goes), is a round; each line of output is its JSON: CPU seconds of the whole process, of all its threads,
user and system, from the first record to the last acknowledgement, and what the wall clock says.

The records of a round are made before it begins: only what the handler does is measured. They are the calls of
_records.py, without the texts that Python 2 would have to decode.
"""

from __future__ import division, print_function

import gc
import json
import logging
import logging.handlers
import os
import resource
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from prefork_logd.handlers import SocketHandler

HOST = "127.0.0.1"
CALLS = (
    (
        "shop.orders.checkout", logging.INFO, "order %s accepted for customer %d, %d items, total %.2f EUR, paid by %s",
        ("A-2207-118834", 884213, 4, 129.95, "card"),
        {"request_id": "5f0c9a8e2b7d4c11", "tenant": "north-europe", "elapsed_ms": 48.25},
    ),
    (
        "shop.web.access", logging.INFO, '%s "%s %s HTTP/1.1" %d %d',
        ("10.20.4.117", "GET", "/api/v2/catalogue/items?category=garden&page=3", 200, 18442),
        {"request_id": "b81d77c0e95f4a02", "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:131.0)"},
    ),
    (
        "shop.db.pool", logging.DEBUG, "connection %d checked out after %.3f s, %d of %d in use", (17, 0.004, 12, 40),
        {"pool": "primary", "waiters": 0},
    ),
    (
        "shop.payments.gateway", logging.WARNING, "gateway %s answered %d after %.2f s, retry %d of %d for payment %s",
        ("acquirer-2", 503, 2.51, 1, 3, "p_7781203"),
        {"request_id": "77aa10bc3df24d5e", "tenant": "north-europe", "idempotent": True},
    ),
)
ERROR_EVERY = 32
PAUSE_S = 0.01


def failing(depth):
    if depth:
        failing(depth - 1)
    raise EnvironmentError(28, "No space left on device", "/srv/shop/invoices/A-2207-118901.pdf")


def make(number):
    name, levelno, message, args, extra = CALLS[number % len(CALLS)]
    exc_info = None
    if number % ERROR_EVERY == ERROR_EVERY - 1:
        levelno = logging.ERROR
        try:
            failing(3)
        except EnvironmentError:
            exc_info = sys.exc_info()
    path = "/srv/shop/releases/current/%s.py" % name.replace(".", "/")
    return logging.getLogger(name).makeRecord(
        name, levelno, path, 40 + number % 100, message, args, exc_info, "handle", extra
    )


def cpu_s():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def emit(handler, records, per_second):
    """Emit them in bursts of PAUSE_S, or all at once."""
    if not per_second:
        for record in records:
            handler.handle(record)
        return
    burst = max(1, int(per_second * PAUSE_S))
    begin = time.time()
    for first in range(0, len(records), burst):
        time.sleep(max(0.0, begin + first / per_second - time.time()))
        for record in records[first : first + burst]:
            handler.handle(record)


def main(kind, port, authority=None):
    ours = kind == "prefork-logd"
    if authority is not None:
        handler = SocketHandler("localhost", port, tls_ca=authority)
    else:
        handler = SocketHandler(HOST, port) if ours else logging.handlers.SocketHandler(HOST, port)
    handler.handle(make(0))
    while True:
        line = sys.stdin.readline()
        if not line:
            break
        count, per_second = line.split()
        records = [make(number) for number in range(int(count))]
        gc.collect()
        begin, used = time.time(), cpu_s()
        emit(handler, records, float(per_second))
        emitted_s, emitting_cpu_s = time.time() - begin, cpu_s() - used
        whole = not ours or handler.flush(30)
        counters = handler.counters() if ours else {}
        print(json.dumps({
            "cpu_s": cpu_s() - used, "emitting_cpu_s": emitting_cpu_s, "emitted_s": emitted_s,
            "whole": bool(whole and not counters.get("dropped") and not counters.get("plain")),
        }))
        sys.stdout.flush()
        del records
    handler.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
