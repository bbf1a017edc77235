"""A line of JSON that somebody else wrote, as the line that this collector would have written.

Owns what becomes of fields that are not ours. Knows no files. For what is imported: lines of our own need none of this.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

from prefork_logd.records.record import END_OF_TIME, INTEGER_FIELDS, TEXT_FIELDS, make_record
from prefork_logd.records.render import render_json

_MAX_LINE_BYTES = 67_108_864
_LOG_RECORD = TEXT_FIELDS | INTEGER_FIELDS


def canonical(line: bytes, now: float) -> bytes:
    """Return the stored line for an object with a `message` (or `msg`) or a `created`; what is not ours is in `extra`.

    `created` is taken from `time` when it is missing, and is else `received`, and that is `now`, seconds since 1970.
    Raises ValueError when the line is no such object.
    """
    if len(line) > _MAX_LINE_BYTES:
        raise ValueError(f"is longer than {_MAX_LINE_BYTES} bytes")
    try:
        document = json.loads(line.decode("utf-8", "surrogatepass"), parse_constant=_constant)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError("is no JSON object")  # noqa: TRY004 - a verdict on the line
    if document.keys().isdisjoint({"message", "msg", "created"}):
        raise ValueError("has neither a message nor a time: is this a log record?")
    received = _time(document.pop("received", None))
    stamp = _stamp(document.get("time"))
    created = _time(document.get("created"))
    if stamp is not None:
        del document["time"]
    if created is None:
        created = stamp
    if received is None:
        received = created if created is not None else now
    attributes: dict[str, Any] = {key: document.pop(key) for key in tuple(document) if key in _LOG_RECORD}
    attributes["msg"] = document.pop("message", None) if "message" in document else document.pop("msg", None)
    if created is not None:
        attributes["created"] = created
        document.pop("created", None)
    peer = document.pop("peer", "")
    extra = document.pop("extra", {})
    record = make_record(attributes, peer if isinstance(peer, str) else json.dumps(peer), received)
    record.extra = {**(extra if isinstance(extra, dict) else {"extra": extra}), **document, **record.extra}
    return render_json(_finite(record))


def _constant(name: str) -> str:
    return {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}[name]


def _time(value: Any) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < END_OF_TIME:
        return float(value)
    return None


def _stamp(value: Any) -> float | None:
    if not isinstance(value, str):
        return None
    try:
        return _time(dt.datetime.fromisoformat(value).timestamp())
    except (ValueError, OverflowError):
        return None


def _finite(record: Any) -> Any:
    """Return the record with the texts "inf" and "-inf" for what JSON can write and not hold, such as 1e999."""
    record.extra = _replaced(record.extra)
    return record


def _replaced(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _replaced(item) for key, item in value.items()}
    return [_replaced(item) for item in value] if isinstance(value, list) else value
