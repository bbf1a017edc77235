import logging
import pickle
import sys

import pytest
from hypothesis import given

from prefork_logd.inputs.pickles.decode import decode
from prefork_logd.records.record import END_OF_TIME, INTEGER_MAX, Record, _fit, make_record, rfc3339
from tests.support import strategies

PEER, RECEIVED = "192.0.2.7:40000", 1_795_404_250.5
SENT = {
    "name": "shop.views", "msg": "order A-17 paid", "args": None, "levelname": "INFO", "levelno": 20,
    "pathname": "/srv/shop/views.py", "filename": "views.py", "module": "views", "exc_info": None, "exc_text": None,
    "stack_info": None, "lineno": 42, "funcName": "checkout", "created": 1_795_404_245.125, "msecs": 125.0,
    "relativeCreated": 1234.5, "thread": 140_000_000_000_000, "threadName": "MainThread", "processName": "MainProcess",
    "process": 4242, "taskName": None,
}  # fmt: skip


def _made(**changes):
    return make_record(SENT | changes, PEER, RECEIVED)


def test_fields_are_the_contract():
    """The stored fields, in their order."""
    assert Record.__struct_fields__ == (
        "created", "time", "name", "levelno", "levelname", "message", "msg", "pathname", "filename", "module", "lineno",
        "funcName", "process", "processName", "thread", "threadName", "taskName", "exc_text", "stack_info", "extra",
        "truncated", "exception", "host", "service", "environment", "version", "peer_name", "peer",
        "received",
    )  # fmt: skip


def test_record_of_the_standard_library():
    """Every attribute is in its field, none is in extra, and what follows from others is gone."""
    record = _made(request_id="r1", user={"id": 7})
    assert record == Record(
        created=1_795_404_245.125, time="2026-11-23T03:24:05.125000Z", name="shop.views", levelno=20, levelname="INFO",
        message="order A-17 paid", pathname="/srv/shop/views.py", filename="views.py", module="views", lineno=42,
        funcName="checkout", process=4242, processName="MainProcess", thread=140_000_000_000_000,
        threadName="MainThread", extra={"request_id": "r1", "user": {"id": 7}}, peer=PEER, received=RECEIVED,
    )  # fmt: skip


def test_every_attribute_of_logrecord_is_known():
    """A record made by this Python's logging leaves nothing in extra."""
    try:
        raise ValueError("x")  # noqa: TRY301 - an exception to log
    except ValueError:
        made = logging.LogRecord("n", 30, "p.py", 1, "m %s", ("a",), sys.exc_info(), "f", "stack")
    made.getMessage()
    handler = logging.handlers.SocketHandler("localhost", 1) if hasattr(logging, "handlers") else None
    attributes = dict(made.__dict__, msg="m a", args=None, exc_info=None, asctime="2026", message="m a")
    if handler:
        handler.close()
    record = make_record(decode(pickle.dumps(attributes, 1)), PEER, RECEIVED)
    assert record.extra == {}
    assert (record.message, record.stack_info, record.levelno) == ("m a", "stack", 30)


@pytest.mark.parametrize("name", ["time", "peer", "received", "extra", "levelno2", "", "__class__", "\udcff"])
@pytest.mark.parametrize("value", ["text", 7, None, {"k": 1}, 1.5, ""])
def test_client_cannot_set_our_own_fields(name, value):
    """An attribute with the name of one of our fields is extra like any other, null and empty ones too."""
    record = _made(**{name: value})
    assert record.extra == (value if name == "extra" and isinstance(value, dict) else {name: value})
    assert (record.peer, record.received, record.time) == (PEER, RECEIVED, "2026-11-23T03:24:05.125000Z")


@pytest.mark.parametrize(
    ("name", "value", "fitted"),
    [
        ("created", None, RECEIVED), ("created", "nan", RECEIVED), ("created", 1e308, RECEIVED),
        ("created", -1.0, RECEIVED), ("created", END_OF_TIME, RECEIVED), ("created", "soon", RECEIVED),
        ("created", True, RECEIVED), ("created", 1 << 8_000, RECEIVED), ("created", 0, 0.0), ("created", 17, 17.0),
        ("levelno", None, None), ("levelno", "nan", None), ("levelno", "20", 20), ("levelno", "-5", -5),
        ("levelno", "-", None), ("levelno", "9" * 19, INTEGER_MAX), ("levelno", True, 1), ("levelno", 20.0, 20),
        ("levelno", -5, -5), ("levelno", 1 << 8_000, INTEGER_MAX), ("lineno", (1 << 64) - 1, INTEGER_MAX),
        ("lineno", -(1 << 64), -INTEGER_MAX - 1), ("process", [1], None),
        ("levelno", {"__class__": "shop.Level", "args": [2]}, 2),
        ("levelno", {"__class__": "http.HTTPStatus", "name": "OK", "value": 200}, 200),
        ("levelno", {"__class__": "shop.Level", "args": ["x", 2]}, None),
        ("levelno", {"__class__": "shop.Level", "args": [[]]}, None), ("levelno", {}, None),
        ("name", None, None), ("name", 7, "7"), ("name", "", ""), ("name", True, "true"),
        ("name", ["a", "é"], '["a", "é"]'),
        ("threadName", {"__class__": "shop.LazyStr", "args": ["lazy"]}, "lazy"),
        ("threadName", {"__class__": "shop.Point", "args": [1, 2]}, '{"__class__": "shop.Point", "args": [1, 2]}'),
        ("exc_text", ["line"], '["line"]'), ("stack_info", 7, "7"), ("taskName", 1.5, "1.5"),
        ("funcName", "\udcff", "\udcff"),
    ],
)  # fmt: skip
def test_value_that_does_not_fit_is_replaced_and_kept(name, value, fitted):
    """The field has the nearest value that it can hold, or none, and extra has the original unless nothing was lost."""
    record = _made(**{name: value})
    assert getattr(record, name) == fitted
    assert type(getattr(record, name)) is type(fitted)
    lost = value is not None and not (type(fitted) is type(value) and fitted == value) and value not in (0, 17)
    assert record.extra == ({name: value} if lost else {})


@pytest.mark.parametrize("value", [None, [], {}, ""])
def test_empty_arguments_are_not_kept(value):
    """`args` of a formatted record is None; an empty tuple says as little."""
    assert _made(args=value).extra == {}


def test_message_is_never_formatted():
    """Arguments that do come along are data, whatever the message says."""
    record = _made(msg="%0999999999d %s", args=[1])
    assert record.message == "%0999999999d %s"
    assert record.extra == {"args": [1]}
    assert _made(msg="%*d", args={"a": 1}).extra == {"args": {"a": 1}}


def test_message_attribute_counts_when_there_is_no_msg():
    """Otherwise it is what msg says, formatted earlier."""
    assert _made(message="other").message == "order A-17 paid"
    assert _made(message="other").extra == {}
    assert _made(msg=None, message="other").message == "other"
    assert make_record({"message": "other"}, PEER, RECEIVED).message == "other"
    assert _made(msg=None).message is None
    record = _made(msg=["a"])
    assert (record.message, record.extra) == ('["a"]', {"msg": ["a"]})


def test_exc_info_that_came_along_is_data():
    """It should have been text by now."""
    assert _made(exc_info=1).extra == {"exc_info": 1}
    assert _made(exc_info=["a", "b", "c"]).extra == {"exc_info": ["a", "b", "c"]}


def test_nothing_but_the_peer_is_needed():
    """An empty dict is a record that was received."""
    record = make_record({}, PEER, RECEIVED)
    assert record == Record(created=RECEIVED, time=rfc3339(RECEIVED), peer=PEER, received=RECEIVED)


@pytest.mark.slow
@strategies.bounded
@given(strategies.attributes)
def test_short_way_gives_what_the_long_way_gives(attributes):
    """Any plain attributes make a record, the same one by either way."""
    record = make_record(attributes, PEER, RECEIVED)
    assert record == _fit(attributes, PEER, RECEIVED)
    assert 0 <= record.created < END_OF_TIME


@pytest.mark.parametrize(
    ("created", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (0.999_999_9, "1970-01-01T00:00:01.000000Z"),
        (1_795_404_245.125, "2026-11-23T03:24:05.125000Z"),
        (1_795_404_245.000_001, "2026-11-23T03:24:05.000001Z"),
        (951_782_400.5, "2000-02-29T00:00:00.500000Z"),
        (END_OF_TIME - 0.000_001, "2199-12-31T23:59:59.999999Z"),
    ],
)
def test_rfc3339(created, text):
    """UTC, microseconds, whatever the time zone here."""
    assert rfc3339(created) == text


@pytest.mark.parametrize(
    ("message", "text", "extra"),
    [
        ({"event": "paid", "order": 17}, "paid", {"order": 17}),
        ({"message": "paid", "event": None}, "paid", {"event": None}),
        ({"order": 17}, '{"order": 17}', {"msg": {"order": 17}}),
        ({"event": "paid", "x": 1, "y": 2}, "paid", {"y": 2, "msg": {"x": 1}}),
        ({"event": "paid", "msg": 1}, "paid", {"msg": 1}),
    ],
)
def test_message_that_is_a_dict(message, text, extra):
    """Its text is the message, and its other members are attributes; one whose name is taken stays in the dict."""
    made = _made(msg=message, x="taken")
    assert (made.message, made.extra) == (text, {"x": "taken", **extra})


@pytest.mark.parametrize("args", [None, (1,)])
def test_dict_called_extra_is_not_nested(args):
    """The members are attributes, as loguru means them; one whose name is taken stays in the dict."""
    made = _made(msg="m", args=args, order=1, extra={"user": "ada", "order": 2})
    made.extra.pop("args", None)
    assert made.extra == {"order": 1, "user": "ada", "extra": {"order": 2}}
    assert _made(msg="m", args=args, extra={}).extra.get("extra") is None
