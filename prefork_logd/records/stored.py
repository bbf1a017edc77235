r"""Reads stored lines, for every part of the collector that reads a line back.

Owns the decision whether a line is a record, and the value of unusual tokens in it. Does not know files or databases.
Every line that the collector has written can be read; docs/record.md has the form. For lines that other programs wrote,
or that are damaged:

- A lone surrogate, such as `\udcff`, is read as its code point. A pair is one character.
- An integer of `extra` has any size. One of more than MOST_DIGITS digits, and a float beyond the largest one, count as
  infinite; the line keeps the digits. A larger integer in a field of 64 bits makes the line not a record.
- Of a key that occurs twice the last value counts. White space around tokens, and a carriage return at the end, do not
  count.
- Not a record: a line that is not UTF-8, begins with a byte order mark, is not JSON (NaN, a raw NUL or control
  character), is not an object, is nested deeper than MOST_DEPTH, has no `created`, or has a value of another type than
  its field.

Each function raises NotARecord, and no other exception.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any, Required, TypedDict

import msgspec
from msgspec import structs

from prefork_logd.errors import NotARecord
from prefork_logd.records.record import END_OF_TIME, INTEGER_FIELDS, Created, Integer, LoggedFields, Record

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_DEPTH = 250
"""Deepest nesting of a line, in objects and lists; our lines are at most 202 deep (inputs/pickles/budget.py)."""
MOST_DIGITS = 4300
"""Most digits of an integer: Python's own limit, as the time to read one grows with the square of its length."""

_SHALLOW_BYTES = 2 * MOST_DEPTH

NO_EXTRA = msgspec.Raw()


class Row(LoggedFields):
    """The fields of a stored line in their order; None for a missing one."""

    extra: msgspec.Raw = NO_EXTRA
    """The object as in the line, in UTF-8; empty if it is missing."""
    truncated: msgspec.Raw = NO_EXTRA
    """The list as in the line; likewise `exception`."""
    exception: msgspec.Raw = NO_EXTRA
    host: str | None = None
    service: str | None = None
    environment: str | None = None
    version: str | None = None
    peer_name: str | None = None
    peer: str | None = None
    received: Created = 0.0


FIELDS = Row.__struct_fields__
LIST_COLUMNS = ("truncated", "exception")
TEXT_COLUMNS = tuple(field.name for field in structs.fields(Row) if field.type == str | None)


_OWN_TYPES: dict[str, Any] = {
    "created": Required[Created],
    "received": Created,
    "extra": dict[str, Any],
    "truncated": list[str],
    "exception": list[dict[str, Any]],
}
_make_type: Any = TypedDict
_Fields = _make_type(
    "_Fields",
    {name: _OWN_TYPES.get(name, Integer if name in INTEGER_FIELDS else str) for name in FIELDS},
    total=False,
)
"""The type of the result of `read_fields`, which the decoder checks."""


class Source(msgspec.Struct, gc=False):
    """The fields of a stored line that the filters of outputs and stores use."""

    name: str | None = None
    levelno: Integer | None = None
    service: str | None = None
    environment: str | None = None


_decode_row = msgspec.json.Decoder(Row).decode
_decode_rows = msgspec.json.Decoder(list[Row]).decode
_decode_record = msgspec.json.Decoder(Record).decode
_decode_source = msgspec.json.Decoder(Source).decode
_decode_fields: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(_Fields).decode
_decode_any = msgspec.json.Decoder().decode

_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', re.DOTALL)
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair stays
    rb"|\\u([dD][89a-fA-F][0-9a-fA-F]{2}|007[fF])|\\.|\x7f",
    re.DOTALL,
)
_MARK = "\x7f"
_MARKED = re.compile("\x7f([0-9a-f]{4})")
_MARKED_RAW = re.compile(rb"\x7f([0-9a-f]{4})")


def split_lines(lines: bytes) -> list[bytes]:
    """Return the lines of a block, each with its newline; no other character ends a line."""
    if b"\r" not in lines:
        return lines.splitlines(keepends=True)
    *whole, rest = lines.split(b"\n")
    return [*(line + b"\n" for line in whole), *([rest] if rest else [])]


def read_row(line: bytes) -> Row:
    """Return one line, with or without its newline, as columns. Raises NotARecord."""
    try:
        row = _decode_row(line)
    except (ValueError, RecursionError) as error:
        row = _read_marked(line, error)
    _judge(line, row.extra, row.truncated, row.exception)
    return row


def read_rows(lines: bytes) -> list[Row]:
    """Return several lines, each of which ends in a newline, as columns.

    Raises NotARecord if one of them is not a record, or has lone surrogates; `read_row` finds out which.
    """
    # One call for all lines takes two thirds of the time of a call for each. No line contains a newline.
    try:
        found = _decode_rows(b"[%b]" % lines[:-1].replace(b"\n", b","))
    except (ValueError, RecursionError) as error:
        raise _refusal(error) from error
    for line, row in itertools.zip_longest(split_lines(lines), found):
        # Two lines that are records together only, such as `{"created":1` and `"x":1}`, are fewer rows than lines.
        if line is None or row is None:
            raise NotARecord("is not JSON by itself")
        _judge(line, row.extra, row.truncated, row.exception)
    return found


def read_record(line: bytes) -> Record:
    """Return one line, with or without its newline, as a record with its `extra` taken apart. Raises NotARecord."""
    try:
        record = _decode_record(line)
    except (ValueError, RecursionError):
        pass
    else:
        if 0 <= record.received < END_OF_TIME:
            if len(line) > _SHALLOW_BYTES:
                _judge_depth(line)
            return record
    row = read_row(line)
    values: dict[str, Any] = {name: getattr(row, name) for name in FIELDS}
    lists = {name: read_list(bytes(values[name])) for name in LIST_COLUMNS}
    return Record(**values | {"extra": read_extra(bytes(row.extra)), "peer": row.peer or "", **lists})


def read_fields(line: bytes) -> dict[str, Any]:
    """Return the fields present in a line, `extra` as a dict, for query's Filters. Raises NotARecord."""
    try:
        found = _decode_fields(line)
    except (ValueError, RecursionError):
        record = read_record(line)
        return {name: value for name in FIELDS if (value := getattr(record, name)) not in (None, "", {}, [])}
    if len(line) > _SHALLOW_BYTES:
        _judge_depth(line)
    return found


def read_source(line: bytes) -> tuple[str, int, str, str]:
    """Return logger, level, service and environment of one line; "" and 0 for a missing one. Raises NotARecord.

    Checks as little of the line as possible: reading all of it afterwards may still raise NotARecord.
    """
    try:
        source = _decode_source(line)
    except (ValueError, RecursionError):
        row = read_row(line)
        source = Source(row.name, row.levelno, row.service, row.environment)
    return source.name or "", source.levelno or 0, source.service or "", source.environment or ""


def read_extra(extra: bytes) -> dict[str, Any]:
    """Return the `extra` of a Row, which may be empty, as values. Raises NotARecord."""
    if not extra:
        return {}
    found = _read_json(extra)
    if not isinstance(found, dict):
        raise NotARecord("has an `extra` that is not an object")
    return found


def read_list(value: bytes) -> list[Any]:
    """Return one of the LIST_COLUMNS of a Row, which may be empty, as values. Raises NotARecord."""
    found = _read_json(value) if value else []
    if not isinstance(found, list):
        raise NotARecord("has a `truncated` or `exception` that is not a list")
    return found


def _read_json(value: bytes) -> Any:
    try:
        return _decode_any(value)
    except (ValueError, RecursionError):
        try:
            return json.loads(value, parse_int=_integer, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise _refusal(error) from error


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= MOST_DIGITS else float(digits)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _read_marked(line: bytes, error: Exception) -> Row:
    """Read a line that the decoder has refused, because of lone surrogates.

    They are passed to the decoder as DEL and four hexadecimal digits, and so is a DEL.
    """
    if rb"\ud" not in line and rb"\uD" not in line:
        raise _refusal(error) from error
    try:
        row = _decode_row(_ESCAPE.sub(_to_mark, line))
    except (ValueError, RecursionError) as problem:
        raise _refusal(problem) from problem
    for name in (*TEXT_COLUMNS, "time"):
        text = getattr(row, name)
        if text and _MARK in text:
            setattr(row, name, _MARKED.sub(lambda match: chr(int(match[1], 16)), text))
    for name in ("extra", *LIST_COLUMNS):
        value = bytes(getattr(row, name))
        if b"\x7f" in value:
            setattr(row, name, msgspec.Raw(_MARKED_RAW.sub(rb"\\u\1", value)))
    return row


def _to_mark(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return b"\x7f" + match[1].lower()
    return b"\x7f007f" if match[0] == b"\x7f" else match[0]


def _judge(line: bytes, extra: msgspec.Raw, truncated: msgspec.Raw, exception: msgspec.Raw) -> None:
    """Check a line for problems in these fields, which the decoder of msgspec does not read. Raises NotARecord."""
    if extra is not NO_EXTRA:
        octets = bytes(extra)
        if octets[:1] != b"{":
            raise NotARecord("has an `extra` that is not an object")
        _judge_text(octets)
    if truncated is not NO_EXTRA or exception is not NO_EXTRA:
        _judge_lists(bytes(truncated), bytes(exception))
    if len(line) > _SHALLOW_BYTES:
        _judge_depth(line)


def _judge_text(octets: bytes) -> None:
    if not octets.isascii():
        try:
            octets.decode()
        except UnicodeDecodeError as error:
            raise _refusal(error) from error


def _judge_lists(truncated: bytes, exception: bytes) -> None:
    for value, kind, name in ((truncated, str, "truncated"), (exception, dict, "exception")):
        _judge_text(value)
        if not all(isinstance(item, kind) for item in read_list(value)):
            raise NotARecord(f"has an item of `{name}` that is of another type")


def _judge_depth(line: bytes) -> None:
    # Each container takes at least two bytes, and most lines have few bytes after the first inner one.
    start, lists = line.find(b"{", 1), line.find(b"[")
    if 0 <= lists < start or start < 0:
        start = lists
    if start < 0 or len(line) - start < _SHALLOW_BYTES or line.count(b"{") + line.count(b"[") <= MOST_DEPTH:
        return
    depth = 0
    for match in _BRACKET.finditer(line):
        token = match[0]
        if token in b"[{":
            depth += 1
            if depth > MOST_DEPTH:
                raise NotARecord(f"is nested more than {MOST_DEPTH} deep")
        elif token in b"]}":
            depth -= 1


def _refusal(error: Exception) -> NotARecord:
    if isinstance(error, NotARecord):
        return error
    if isinstance(error, RecursionError):
        return NotARecord(f"is nested more than {MOST_DEPTH} deep")
    if isinstance(error, UnicodeDecodeError):
        return NotARecord(f"is not UTF-8: {error.reason} at byte {error.start}")
    return NotARecord(str(error))
