"""Makes a stored record of the attributes that a client sent.

Owns the fields, their order and their types, and puts all other attributes into `extra`. Does not know pickles, files
or clocks. docs/record.md describes the result to users; tests/unit/records/test_fields.py compares every other
list of the fields with Record.
"""

from __future__ import annotations

import functools
import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from prefork_logd.records.values import TRUNCATED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork_logd.records.values import Plain

END_OF_TIME = 7_258_118_400.0
"""2200-01-01; a `created` from there on, or before 1970, is not accepted as a time of logging."""
INTEGER_MAX = (1 << 63) - 1
"""The range of integers that every store can hold."""

MAX_FITTED_MESSAGE = 65_536
MAX_FITTED_NAME = 1_024
"""Most characters of JSON for a value that is not a text: in the message, and in any other text field."""

Created = Annotated[float, Meta(ge=0, lt=END_OF_TIME)]
Integer = Annotated[int, Meta(ge=-INTEGER_MAX - 1, le=INTEGER_MAX)]


class LoggedFields(msgspec.Struct, omit_defaults=True, gc=False):
    """The fields of a stored line that come first, about the log record itself; None: not sent."""

    created: Created
    """Time of logging in seconds since 1970; time of arrival if the client sent no valid time."""
    time: str = ""
    """`created` in RFC 3339, UTC, microseconds."""
    name: str | None = None
    levelno: Integer | None = None
    levelname: str | None = None
    message: str | None = None
    msg: str | None = None
    """The message's template, if the record had arguments; our handler sends it."""
    pathname: str | None = None
    filename: str | None = None
    module: str | None = None
    lineno: Integer | None = None
    funcName: str | None = None  # noqa: N815 - LogRecord's own names, here and below
    process: Integer | None = None
    processName: str | None = None  # noqa: N815
    thread: Integer | None = None
    threadName: str | None = None  # noqa: N815
    taskName: str | None = None  # noqa: N815
    exc_text: str | None = None
    stack_info: str | None = None


class Record(LoggedFields, kw_only=True):
    """One log record as it is stored, fields in the order of the stored line; None: not sent."""

    extra: dict[str, Any] = {}
    """Every attribute that is not LogRecord's, and the original of one that did not fit, as plain values."""
    truncated: list[str] = []
    """Paths of the values that were cut, such as `extra.ids`."""
    exception: list[dict[str, Any]] = []
    """The exceptions as data, which our handler sends."""
    host: str | None = None
    """The sender's host: its name, or the client's address if the client does not send one."""
    service: str | None = None
    environment: str | None = None
    version: str | None = None
    peer_name: str | None = None
    """The client's name by its certificate, if it has sent one by TLS."""
    peer: str = ""
    """The client's address."""
    received: float = 0.0
    """Time at which the frame was complete, in seconds since 1970."""


msgspec.convert({"created": 0.0}, Record)  # Resolves the annotations, once and independent of clients.

INTEGER_FIELDS = frozenset({"levelno", "lineno", "process", "thread"})
SENDER_FIELDS = ("host", "service", "environment", "version")
"""Fields that hold who sent a record: the same in all records of a session (records/sender.py)."""
OUR_ATTRIBUTES = {
    "prefork_logd.msg": "msg",
    "prefork_logd.truncated": "truncated",
    "prefork_logd.exception": "exception",
}
"""Attributes that our handler adds to a record, and their fields."""
OWN_FIELDS = frozenset(
    {"created", "time", "message", "extra", "peer", "peer_name", "received", *OUR_ATTRIBUTES.values(), *SENDER_FIELDS}
)
"""Fields that are not copied from the attribute of the same name."""
TEXT_FIELDS = frozenset(Record.__struct_fields__) - INTEGER_FIELDS - OWN_FIELDS

TEXTS_OF_MESSAGES = ("event", "message", "msg")
"""Members of a message that is a dict, one of which is its text: those of structlog and of other JSON loggers."""

DERIVED = frozenset({"msecs", "relativeCreated", "asctime", "message"})
"""LogRecord attributes that derive from others; `message` is used if `msg` is missing."""
NOT_EXTRA = TEXT_FIELDS | INTEGER_FIELDS | DERIVED | {"created", "msg", "args", "exc_info", *OUR_ATTRIBUTES}


def make_record(attributes: Mapping[str, Plain], peer: str, received: float) -> Record:
    """Return the record of a LogRecord's attributes that came from `peer` at `received` (seconds since 1970).

    The message is `msg` as it was sent; it is never formatted again, and arguments that came with it are data.
    Never raises: a value that does not fit its field is replaced by the nearest one that does, or left out, and the
    original goes to `extra` under the same name.
    """
    message = attributes.get("msg")
    if type(message) is str and attributes.get("args") is None and attributes.get("exc_info") is None:
        try:
            record = msgspec.convert(attributes, Record)
        except (msgspec.ValidationError, UnicodeEncodeError):  # the latter for a key with a lone surrogate
            return _fit(attributes, peer, received)
        # Attributes that the client sent under the names of our own fields are in `extra` now.
        record.msg = record.host = record.service = record.environment = record.version = record.peer_name = None
        record.truncated, record.exception = [], []
        record.extra = {key: attributes[key] for key in attributes if key not in NOT_EXTRA}
        if isinstance(record.extra.get("extra"), dict):
            _unfold(record.extra, "extra", record.extra["extra"])
        record.message = message
        record.time = rfc3339(record.created)
        record.peer = peer
        record.received = received
        for name, field in OUR_ATTRIBUTES.items():
            if name in attributes:
                _take_ours(record, name, field, attributes[name])
        return record
    return _fit(attributes, peer, received)


def _fit(attributes: Mapping[str, Plain], peer: str, received: float) -> Record:
    """Do what `make_record` does, for any attributes: the specification of its fast path.

    Longer than other functions: it has a case for each kind of field.
    """
    values: dict[str, Any] = {}
    extra: dict[str, Plain] = {}
    members: dict[str, Plain] = {}
    fitted: str | float | None
    has_message = attributes.get("msg") is not None
    for key, value in attributes.items():
        if key not in NOT_EXTRA:
            extra[key] = value
            continue
        if value is None or key in OUR_ATTRIBUTES:
            continue
        if key in TEXT_FIELDS:
            field, fitted = key, fit_text(value, MAX_FITTED_NAME)
        elif key in INTEGER_FIELDS:
            field, fitted = key, _fit_integer(value)
        elif key == "created":
            field, fitted = key, _fit_created(value)
        elif key == "msg" and isinstance(value, dict) and (text_key := _text_key(value)):
            values["message"] = value[text_key]
            members = {name: member for name, member in value.items() if name != text_key}
            continue
        elif key == "msg" or (key == "message" and not has_message):
            field, fitted = "message", fit_text(value, MAX_FITTED_MESSAGE)
        else:
            if key not in DERIVED and value not in ("", [], {}):
                extra[key] = value
            continue
        if fitted is not None:
            values[field] = fitted
        if fitted is not value and not (fitted == value and (key == "created" or type(fitted) is type(value))):
            extra[key] = value
    _unfold(extra, "msg", members)
    nested = extra.get("extra")
    if isinstance(nested, dict):
        _unfold(extra, "extra", nested)
    created = values.setdefault("created", received)
    record = Record(**values, time=rfc3339(created), extra=extra, peer=peer, received=received)
    for name, field in OUR_ATTRIBUTES.items():
        _take_ours(record, name, field, attributes.get(name))
    return record


def _text_key(message: dict[str, Plain]) -> str | None:
    """Return the key of the text of a message that is a dict; None if it has none."""
    return next((key for key in TEXTS_OF_MESSAGES if isinstance(message.get(key), str) and message[key]), None)


def _unfold(extra: dict[str, Plain], name: str, members: dict[str, Plain]) -> None:
    """Put a dict's members into `extra`; those whose name is taken stay in the dict, under its own name."""
    if extra.get(name) is members:
        del extra[name]
    taken = {key: value for key, value in members.items() if key in extra}
    for key, value in members.items():
        extra.setdefault(key, value)
    if taken:
        extra[name] = {**taken, name: extra[name]} if name in extra else taken


def _take_ours(record: Record, name: str, field: str, value: Plain) -> None:
    """Set the field of an attribute that our handler adds; a value of another form stays in `extra`."""
    if field == "msg" and isinstance(value, str):
        record.msg = value
    elif field == "truncated" and isinstance(value, list) and all(isinstance(one, str) for one in value):
        record.truncated = [one for one in value if isinstance(one, str)]
    elif field == "exception" and isinstance(value, list) and all(isinstance(one, dict) for one in value):
        record.exception = [one for one in value if isinstance(one, dict)]
    elif value is not None:
        record.extra[name] = value


def fit_text(value: Plain, longest: int) -> str:
    """Return the value as text: itself, the one argument of an object (a str subclass has it), else its JSON.

    JSON is cut after `longest` characters: the whole value is in `extra`, too.
    """
    if isinstance(value, dict) and value.keys() == {"__class__", "args"}:
        args = value["args"]
        if isinstance(args, list) and len(args) == 1 and not isinstance(args[0], (list, dict)):
            value = args[0]
    if isinstance(value, str):
        return value
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= longest else text[:longest] + TRUNCATED


def _fit_integer(value: Plain) -> int | None:
    """Return the nearest integer that a field can hold, from a number, a numeral, or an enumeration's member."""
    if isinstance(value, dict):
        args = value.get("args")
        value = value.get("value", args[0] if isinstance(args, list) and len(args) == 1 else None)
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.removeprefix("-").isdigit():
        value = int(value)
    if isinstance(value, (int, float)):
        return max(-INTEGER_MAX - 1, min(int(value), INTEGER_MAX))
    return None


def _fit_created(value: Plain) -> float | None:
    """Return a time between 1970 and 2200, or None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < END_OF_TIME:
        return float(value)
    return None


@functools.lru_cache(maxsize=16)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def rfc3339(created: float) -> str:
    """Return a time between 1970 and 2200, given in seconds since 1970, as RFC 3339 in UTC with microseconds."""
    second, microsecond = divmod(round(created * 1e6), 1_000_000)
    return f"{_second(second)}.{microsecond:06d}Z"
