"""Makes stored lines of a small shop: four services whose requests pass from one to another.

Owns the records that the tests of the page look for, and that its pictures show. The same arguments give the same
lines.
"""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from prefork_logd.records.record import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}


_TRACE = """Traceback (most recent call last):
  File "/srv/shop/venv/lib/python3.12/site-packages/django/core/handlers/base.py", line 197, in _get_response
    response = wrapped_callback(request, *callback_args, **callback_kwargs)
  File "/srv/shop/{module}.py", line {line}, in {function}
    work()
{kind}: {value}"""


class Kind(NamedTuple):
    """A place in the code that logs."""

    weight: int
    service: str
    name: str
    level: str
    template: str
    line: int
    function: str
    exc_text: str = ""


_TIMEOUT = """\
Traceback (most recent call last):
  File "/srv/billing/releases/42/billing/gateway.py", line 88, in charge
    answer = self.session.post(url, json=order.as_dict(), timeout=2.0)
  File "/srv/billing/venv/lib/python3.12/site-packages/requests/sessions.py", line 637, in post
    return self.request("POST", url, data=data, json=json, **kwargs)
  File "/srv/billing/venv/lib/python3.12/site-packages/requests/sessions.py", line 589, in request
    resp = self.send(prep, **send_kwargs)
  File "/srv/billing/venv/lib/python3.12/site-packages/requests/adapters.py", line 713, in send
    raise ReadTimeout(e, request=request)
requests.exceptions.ReadTimeout: HTTPSConnectionPool(host='pay.example.net', port=443): Read timed out.

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/srv/billing/releases/42/billing/tasks.py", line 31, in settle
    receipt = gateway.charge(order)
  File "/srv/billing/releases/42/billing/gateway.py", line 91, in charge
    raise GatewayTimeout(order.id) from error
billing.gateway.GatewayTimeout: order A-2207-118901"""
_KEY = """\
Traceback (most recent call last):
  File "/srv/shop/venv/lib/python3.12/site-packages/django/core/handlers/exception.py", line 55, in inner
    response = get_response(request)
  File "/srv/shop/venv/lib/python3.12/site-packages/django/core/handlers/base.py", line 197, in _get_response
    response = wrapped_callback(request, *callback_args, **callback_kwargs)
  File "/srv/shop/releases/118/shop/views/cart.py", line 23, in update
    cart.add(request.POST["sku"], int(request.POST["count"]))
KeyError: 'sku'"""

KINDS = (
    Kind(260, "shop-web", "shop.access", "INFO", "{method} {path} {status} in {ms:.0f} ms", 41, "log_request"),
    Kind(90, "shop-web", "shop.cart", "DEBUG", "cart {cart} has {count} items", 57, "load"),
    Kind(
        70, "shop-web", "shop.orders", "INFO", "order {order} accepted: {count} items, {total:.2f} EUR", 112, "checkout"
    ),
    Kind(60, "billing", "billing.gateway", "INFO", "charged {total:.2f} EUR for order {order}", 95, "charge"),
    Kind(14, "billing", "billing.gateway", "WARNING", "gateway slow: {ms:.0f} ms for order {order}", 84, "charge"),
    Kind(5, "billing", "billing.tasks", "ERROR", "order {order} could not be charged", 33, "settle", _TIMEOUT),
    Kind(40, "mailer", "mailer.queue", "INFO", "sent receipt of order {order} to customer {customer}", 29, "deliver"),
    Kind(6, "mailer", "mailer.smtp", "WARNING", "relay deferred the mail of order {order}: 451 try later", 71, "send"),
    Kind(4, "shop-web", "django.request", "ERROR", "Internal Server Error: {path}", 253, "log_response", _KEY),
    Kind(30, "stock-sync", "stock.sync", "DEBUG", "warehouse page {count} read, {cart} changed", 64, "read_page"),
    Kind(12, "stock-sync", "stock.sync", "WARNING", "item {customer} is low: {count} left", 81, "check"),
)
_CRITICAL = Kind(
    0, "billing", "billing.ledger", "CRITICAL", "ledger and gateway disagree by {total:.2f} EUR", 140, "close_day"
)
_PATHS = ("/", "/cart", "/checkout", "/items/ceramic-mug", "/items/desk-lamp", "/api/v1/orders", "/api/v1/stock")
_TENANTS = ("north", "south", "west")


def lines(count: int, start: float, step_s: float, seed: int = 7) -> Iterator[bytes]:
    """Yield `count` stored lines from `start` (seconds since 1970) on, about `step_s` seconds apart."""
    chance = random.Random(seed)
    weights = [kind.weight for kind in KINDS]
    trace = ""
    for number in range(count):
        kind = chance.choices(KINDS, weights)[0]
        # A bad quarter of an hour in each two: what a reader looks for.
        if (start + number * step_s) % 7200 < 900 and chance.random() < 0.25:
            kind = KINDS[chance.choice((4, 4, 5, 7))]
        if chance.random() < 0.00005:
            kind = _CRITICAL
        if not trace or chance.random() < 0.3:
            trace = f"{chance.getrandbits(128):032x}"
        yield line(kind, start + (number + chance.random()) * step_s, chance, trace)


class Failure(NamedTuple):
    """An exception that the shop raises again and again."""

    count: int
    service: str
    place: str
    """The module and the function."""
    error: str
    value: str
    """With `{n}` for a number that is never the same."""


FAILURES = (
    Failure(412, "shop-web", "orders.checkout", "OutOfStock", "item {n} is sold out"),
    Failure(180, "stock-sync", "sync.read_page", "json.decoder.JSONDecodeError", "Expecting value: line 1 column {n}"),
    Failure(61, "billing", "ledger.close_day", "AssertionError", "ledger and gateway disagree by {n} EUR"),
    Failure(47, "shop-web", "cart.update", "KeyError", "'sku'"),
    Failure(19, "mailer", "smtp.send", "smtplib.SMTPServerDisconnected", "Connection unexpectedly closed"),
    Failure(8, "gateway", "auth.verify", "ExpiredSignatureError", "Signature has expired"),
    Failure(3, "shop-web", "search.rank", "ZeroDivisionError", "division by zero"),
)
_FAILED = """\
Traceback (most recent call last):
  File "/srv/{package}/venv/lib/python3.12/site-packages/{package}_kit/runner.py", line 88, in run
    return self.call(job)
  File "/srv/{package}/releases/118/{package}/{module}.py", line {line}, in {function}
    result = self._apply(job)
{error}: {value}"""


def failures(end: float, span_s: float, seed: int = 7) -> Iterator[bytes]:
    """Yield a stored line of each failure, in the order of their times: most of them shortly before the end."""
    chance = random.Random(seed)
    found = []
    for index, failure in enumerate(FAILURES):
        module, _, function = failure.place.partition(".")
        package = failure.service.partition("-")[0]
        kind = Kind(0, failure.service, f"{package}.{module}", "ERROR", "", 40 + 7 * index, function)
        for _ in range(failure.count):
            record = record_of(kind, end - 1 - span_s * chance.random() ** (1 + index % 3), f"{function} failed")
            record["exc_text"] = _FAILED.format(
                package=package,
                module=module,
                line=kind.line + chance.choice((0, 0, 0, 4)),
                function=function,
                error=failure.error,
                value=failure.value.format(n=chance.randrange(1, 1000)),
            )
            extra = {"tenant": chance.choice(_TENANTS), "trace_id": f"{chance.getrandbits(128):032x}"}
            found.append(record | {"process": 2107, "version": chance.choice(("42.0", "42.1")), "extra": extra})
    found.sort(key=lambda record: float(record["created"]))
    yield from map(render, found)


def line(kind: Kind, created: float, chance: random.Random, trace: str) -> bytes:
    """Return one stored line."""
    status = chance.choices((200, 204, 302, 404, 500), (80, 8, 6, 4, 2))[0]
    values = {
        "method": chance.choice(("GET", "GET", "GET", "POST")),
        "path": chance.choice(_PATHS),
        "status": status,
        "ms": chance.lognormvariate(3.2, 0.8),
        "cart": f"{chance.getrandbits(24):06x}",
        "count": chance.randrange(1, 9),
        "order": f"A-2207-{chance.randrange(100_000, 999_999)}",
        "customer": chance.randrange(10_000, 99_999),
        "total": chance.uniform(4, 400),
    }
    record = record_of(kind, created, kind.template.format(**values))
    record["process"] = 2100 + 7 * (hash_of(kind.service) % 9) + chance.randrange(3)
    record["extra"] = {
        "trace_id": trace,
        "tenant": chance.choice(_TENANTS),
        "duration_ms": round(values["ms"], 3),
        "request": {"method": values["method"], "path": values["path"], "status": status},
    }
    return render(record)


def hash_of(text: str) -> int:
    """Return a number for a text, the same in each process."""
    return sum(text.encode())


def record_of(kind: Kind, created: float, message: str) -> dict[str, Any]:
    """Return the fields of a record without `process` and `extra`."""
    package, _, module = kind.name.rpartition(".")
    # As the collector writes it: a time in another form takes the way of odd lines, which Python judges one by one.
    time = rfc3339(created)
    return {
        "created": created,
        "time": time,
        "name": kind.name,
        "levelno": LEVELS[kind.level],
        "levelname": kind.level,
        "message": message,
        "pathname": f"/srv/{package}/{module}.py",
        "filename": f"{module}.py",
        "module": module,
        "lineno": kind.line,
        "funcName": kind.function,
        "process": 0,
        "processName": "MainProcess",
        "thread": 140_289_444_486_016 + hash_of(kind.name),
        "threadName": "MainThread",
        **({"exc_text": kind.exc_text} if kind.exc_text else {}),
        "extra": {},
        "host": f"node-{1 + hash_of(kind.service) % 3}",
        "service": kind.service,
        "environment": "production",
        "version": "42.1",
        "peer": "10.0.0.7:40112",
        "received": created + 0.004,
    }


def error(
    kind: str, value: str = "it broke", *, module: str = "orders", line: int = 17, **fields: Any
) -> dict[str, Any]:
    """Return a record of an exception that is raised in a function of its own."""
    place = Kind(1, "shop", f"shop.{module}", "ERROR", "", line, "work")
    record = record_of(place, time.time(), "failed")
    record["exc_text"] = _TRACE.format(module=module, line=line, function=f"do_{kind.lower()}", kind=kind, value=value)
    return record | {"process": 1, "version": "2.4"} | fields


def render(record: dict[str, Any]) -> bytes:
    """Return a record as a stored line."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
