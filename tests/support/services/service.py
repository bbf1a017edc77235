# ruff: noqa: C402, C405, DTZ001, PLW0603, PYI024, TRY301 - for Python 2.7
"""A service that logs through the standard library, on any Python from 2.7 on, and says what it has logged.

    python service.py HOST PORT HOW

HOW is "plain" or "dictConfig"; with the port "unix" HOST is the path of a socket. What should be stored is printed as a
JSON list, made from the LogRecords themselves and, for values that JSON has not, from the table `values`.
"""

from __future__ import absolute_import, print_function, unicode_literals

import collections
import datetime as dt
import decimal
import fractions
import json
import logging
import logging.config
import logging.handlers
import sys
import uuid

FIELDS = (
    "created",
    "name",
    "levelno",
    "levelname",
    "pathname",
    "filename",
    "module",
    "lineno",
    "funcName",
    "process",
    "processName",
    "thread",
    "threadName",
    "taskName",
    "stack_info",
)
IS_PYTHON_3 = sys.version_info >= (3,)


class Order(object):
    def __init__(self, number, status):
        self.number = number
        self.status = status


class OldStyle:
    def __init__(self):
        self.colour = "red"


class ShopError(Exception):
    def __init__(self, message, code):
        Exception.__init__(self, message)
        self.code = code


class Label(str):
    __slots__ = ()


Point = collections.namedtuple(str("Point"), str("x y"))


def helper():
    pass


def opaque(name, **rest):
    """Return how an object of a class that the collector does not have is stored."""
    return dict({"__class__": "__main__." + name}, **rest)


def enumerated(member, path, stored):
    """Return what is stored of an own enumeration's member: early versions of 3.11 pickle its name, not its value."""
    return {"__name__": path} if member.__reduce_ex__(1)[0] is getattr else stored


def values():
    """Yield (attribute, value, what is stored of it)."""
    plain = [
        ("text", 'Gr\u00fc\u00dfe, \u65e5\u672c \U0001f389 "quoted" \\ \t\n'),
        ("empty_text", ""),
        ("nothing", None),
        ("yes", True),
        ("no", False),
        ("integer", -7),
        ("large", 2**80),
        ("fraction", 0.1),
        ("tiny", 5e-324),
        ("array", [1, "two", [3.0, None]]),
        ("object", {"a": {"b": [{}]}, "": 0}),
    ]
    for name, value in plain:
        yield name, value, value
    moment = dt.datetime(2026, 2, 28, 13, 14, 15, 161718)
    number = uuid.UUID("12345678-1234-5678-1234-567812345678")
    members = frozenset(["a", "b", "c"])
    yield "not_a_number", float("nan"), "nan"
    yield "infinite", float("-inf"), "-inf"
    yield "pair", (1, (2, "three")), [1, [2, "three"]]
    yield "numbered", {1: "one", 2.5: "more", None: "none"}, {"1": "one", "2.5": "more", "None": "none"}
    yield "octets", bytearray(b"ab\x00\xff\\"), "ab\\x00\\xff\\\\"
    yield "amount", decimal.Decimal("12.50"), "12.50"
    yield "third", fractions.Fraction(1, 3), "1/3"
    yield "impedance", complex(1, -2), "(1-2j)"
    yield "moment", moment, moment.isoformat()
    yield "day", moment.date(), "2026-02-28"
    yield "hour", moment.time(), moment.time().isoformat()
    yield "whole_hour", dt.time(8), "08:00:00"
    yield "span", dt.timedelta(1, 30, 500000), 86430.5
    yield "identity", number, str(number)
    yield "set", set([3]), [3]
    yield "frozen", members, list(members)
    yield "no_members", set(), []
    yield "queue", collections.deque([1, 2], 5), [1, 2]
    yield "ordered", collections.OrderedDict([("z", 1), ("a", [2])]), {"z": 1, "a": [2]}
    yield "grouped", collections.defaultdict(list, {"a": [1]}), {"a": [1]}
    yield "counted", collections.Counter("aab"), {"a": 2, "b": 1}
    yield "error", ValueError(str("bad"), 3), "ValueError('bad', 3)"
    yield "missing", KeyError(str("key")), "KeyError('key')"
    yield "order", Order(7, "new"), opaque("Order", state={"number": 7, "status": "new"})
    yield "orders", [Order(8, None)], [opaque("Order", state={"number": 8, "status": None})]
    yield "old", OldStyle(), opaque("OldStyle", state={"colour": "red"})
    yield "point", Point(1, "y"), opaque("Point", args=[1, "y"])
    yield "shop_error", ShopError(str("closed"), 4), opaque("ShopError", args=["closed"], state={"code": 4})
    yield "label", Label(str("tag")), "tag"
    yield "class", Order, {"__name__": "__main__.Order"}
    yield "function", helper, {"__name__": "__main__.helper"}
    if IS_PYTHON_3:
        for row in values_of_python_3(moment):
            yield row
    else:
        yield "octet_text", "Gr\u00fc\u00dfe".encode("utf-8"), "Gr\u00fc\u00dfe"
        yield "long", long(5), 5  # noqa: F821


def values_of_python_3(moment):
    import enum
    import http
    import ipaddress
    import pathlib

    global Colour, Size, Item

    class Colour(enum.Enum):
        RED = "red"

    class Size(enum.IntEnum):
        LARGE = 3

    Colour.__qualname__, Size.__qualname__ = "Colour", "Size"
    east = dt.timezone(dt.timedelta(hours=5, minutes=30))
    status = http.HTTPStatus.NOT_FOUND
    yield "bytes", b"ab\x00\xff'\"", "ab\\x00\\xff'\""
    yield "no_bytes", b"", ""
    yield "moment_utc", moment.replace(tzinfo=dt.timezone.utc), "2026-02-28T13:14:15.161718+00:00"
    yield "moment_east", moment.replace(tzinfo=east), "2026-02-28T13:14:15.161718+05:30"
    yield "path", pathlib.Path("/srv/shop/a b"), "/srv/shop/a b"
    yield "pure_path", pathlib.PurePosixPath("rel/file.txt"), "rel/file.txt"
    yield "address", ipaddress.ip_address("192.0.2.1"), "192.0.2.1"
    yield "address_6", ipaddress.ip_address("2001:db8::1"), "2001:db8::1"
    yield "network", ipaddress.ip_network("192.0.2.0/24"), "192.0.2.0/24"
    yield "steps", range(0, 10, 2), "range(0, 10, 2)"
    yield "status", status, {"__class__": "http.HTTPStatus", "name": "NOT_FOUND", "value": 404}
    yield "colour", Colour.RED, enumerated(Colour.RED, "__main__.Colour.RED", opaque("Colour", args=["red"]))
    yield "size", Size.LARGE, enumerated(Size.LARGE, "__main__.Size.LARGE", opaque("Size", args=[3]))
    # Below protocol 3 a subclass of OSError is pickled as OSError.
    yield "gone", FileNotFoundError(2, "No such file"), "OSError(2, 'No such file')"
    if sys.version_info >= (3, 7):
        import dataclasses

        Item = dataclasses.make_dataclass("Item", ["sku", "price"])
        Item.__module__ = "__main__"
        yield "item", Item("x", 1.5), opaque("Item", state={"sku": "x", "price": 1.5})


class Expecting(logging.Handler):
    """Notes what should be stored of each record."""

    def __init__(self):
        logging.Handler.__init__(self)
        self.expected = []
        self.extra = {}

    def emit(self, record):
        wanted = dict((name, getattr(record, name, None)) for name in FIELDS)
        wanted["message"] = record.getMessage()
        if isinstance(wanted["message"], bytes):
            wanted["message"] = wanted["message"].decode("utf-8")
        if record.exc_info:
            wanted["exc_text"] = logging.Formatter().formatException(record.exc_info)
            if isinstance(wanted["exc_text"], bytes):
                wanted["exc_text"] = wanted["exc_text"].decode("utf-8")
        wanted["extra"], self.extra = self.extra, {}
        self.expected.append(wanted)


def set_up(host, port, how):
    if how == "plain":
        handler = logging.handlers.SocketHandler(host, port)
        logging.getLogger().addHandler(handler)
        logging.getLogger().setLevel(logging.DEBUG)
    else:
        logging.config.dictConfig(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "handlers": {"logd": {"class": "logging.handlers.SocketHandler", "host": host, "port": port}},
                "root": {"handlers": ["logd"], "level": "DEBUG"},
            }
        )
    expecting = Expecting()
    # First, for SocketHandler changes the record.
    logging.getLogger().handlers.insert(0, expecting)
    return expecting


def log_everything(expecting):
    logger = logging.getLogger("shop.checkout")
    logger.info("plain")
    logger.debug("with %s and %d and %r", "text", 7, 0.5)
    logger.warning("100% sure, no arguments")
    logger.error("Gr\u00fc\u00dfe \u65e5\u672c \U0001f389 line\nline\ttab \u202e \x1b[2J \x00 end")
    logger.critical("named %(who)s", {"who": "mapping"})
    logger.log(35, "between levels")
    logging.getLogger().info("from the root")
    logging.getLogger("caf\u00e9" if IS_PYTHON_3 else "cafe").info("")
    if not IS_PYTHON_3:
        logger.info("octets \u65e5\u672c".encode("utf-8"))
    try:
        raise ShopError(str("closed"), 4)
    except ShopError:
        logger.exception("failed for %s", Order)
    try:
        raise ValueError("Gr\u00fc\u00dfe" if IS_PYTHON_3 else "ascii")
    except ValueError:
        logger.warning("with exc_info", exc_info=True)
    if IS_PYTHON_3:
        logger.info("with a stack", stack_info=True)
    for name, value, stored in values():
        expecting.extra = {"v_" + name: stored, "constant": 1}
        logger.info("extra %s", name, extra={"v_" + name: value, "constant": 1})
    expecting.extra = dict(("v_" + name, stored) for name, _, stored in values())
    logger.info("all at once", extra=dict((str("v_" + name), value) for name, value, _ in values()))


def log_in_a_task():
    import asyncio

    namespace = {"logger": logging.getLogger("shop")}
    # As text, since Python 2 would not even compile it.
    exec("async def bill():\n    logger.info('in a task')\n", namespace)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(loop.create_task(namespace["bill"](), name="billing"))
    loop.close()


def main():
    host, port, how = sys.argv[1:]
    expecting = set_up(host, None if port == "unix" else int(port), how)
    log_everything(expecting)
    if sys.version_info >= (3, 8):
        log_in_a_task()
    logging.shutdown()
    print(json.dumps(expecting.expected))


if __name__ == "__main__":
    main()
