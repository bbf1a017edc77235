r"""A stored record as typed columns, and back as the line it was.

Owns what becomes of a record's JSON line on its way into a database and out of it, also for the values that a database
cannot hold. Knows no database.

A line is what `records.render` writes, byte for byte, so that `render(decode(line)) == line`. The hostile values in it
are lone surrogates in text (`\udcff` in JSON), which no UTF-8 holds; NUL characters; integers of any size, which are in
`extra` alone; and floats, whose spelling in `extra` is kept because `extra` is never taken apart.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from prefork_logd.records.record import Created, Integer, rfc3339
from prefork_logd.records.render import render_values

NO_EXTRA = msgspec.Raw()


class Row(msgspec.Struct, omit_defaults=True, gc=False):
    """The fields of a stored line in their order; None stands for one that is not in it."""

    created: Created
    time: str = ""
    name: str | None = None
    levelno: Integer | None = None
    levelname: str | None = None
    message: str | None = None
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
    extra: msgspec.Raw = NO_EXTRA
    """The object as it stands in the line, in UTF-8; empty when there is none."""
    peer: str | None = None
    received: Annotated[float, Meta(ge=0)] = 0.0


FIELDS = Row.__struct_fields__
COLUMNS = tuple(name for name in FIELDS if name != "time")
"""What a table has columns for: `time` follows from `created`."""
TEXT_COLUMNS = tuple(name for name in COLUMNS if Row.__annotations__[name] == "str | None")

_decode = msgspec.json.Decoder(Row).decode
_decode_all = msgspec.json.Decoder(list[Row]).decode
_SURROGATE = re.compile(rb"\\u(d[89a-f][0-9a-f]{2}|007f)|\\.")
_MARK = "\x7f"
_MARKED = re.compile("\x7f([0-9a-f]{4})")
_MARKED_RAW = re.compile(rb"\x7f([0-9a-f]{4})")


def decode_lines(lines: bytes) -> list[Row]:
    r"""Return the rows of several lines, each of which ends in a newline.

    Raises ValueError when one of them is no stored record or holds lone surrogates; `decode` tells which.
    """
    # One call for all is half again as fast as one for each. A newline never stands within a line.
    return _decode_all(b"[%b]" % lines[:-1].replace(b"\n", b","))


def decode(line: bytes) -> Row:
    r"""Return the row of one line, with or without its newline. Raises ValueError when it is no stored record."""
    try:
        return _decode(line)
    except msgspec.DecodeError:
        if rb"\ud" not in line:
            raise
    # The decoder refuses lone surrogates. They go through it as DEL and four hexadecimal digits, and a DEL, which
    # otherwise stands in a line as its escape alone, in the same way.
    row = _decode(_SURROGATE.sub(lambda match: b"\x7f" + match[1] if match[1] else match[0], line))
    for name in (*TEXT_COLUMNS, "time"):
        text = getattr(row, name)
        if text and _MARK in text:
            setattr(row, name, _MARKED.sub(lambda match: chr(int(match[1], 16)), text))
    if b"\x7f" in bytes(row.extra):
        row.extra = msgspec.Raw(_MARKED_RAW.sub(rb"\\u\1", bytes(row.extra)))
    return row


def render(row: Row) -> bytes:
    """Return the line of a row, newline included; `time` is made from `created`."""
    values = {name: value for name in FIELDS if (value := getattr(row, name)) is not None and value != ""}
    if not row.received:
        del values["received"]
    if not bytes(row.extra):
        del values["extra"]
    values["time"] = rfc3339(row.created)
    return render_values({name: values[name] for name in FIELDS if name in values})


# What a database cannot hold


def to_octets(text: str) -> bytes:
    """Return a text with lone surrogates as octets: UTF-8, with the surrogates encoded as other characters are."""
    return text.encode("utf-8", "surrogatepass")


def from_octets(octets: bytes) -> str:
    """Return what `to_octets` was given."""
    return octets.decode("utf-8", "surrogatepass")


_FOREIGN_TEXT = re.compile("[\0\ud800-\udfff]")
_FOREIGN_ESCAPE = re.compile(rb"\\u(d[89a-f][0-9a-f]{2}|0000)|\\.")
_INEXACT = re.compile(rb"[eE-](?:(?<=\d.)[+-]?\d|0(?:\.0+)?(?![.\d]))")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


# PostgreSQL's text and jsonb hold no NUL and no lone surrogates, and the numbers of jsonb no exponents and no -0. A
# line with any of them has to be kept besides, as octets.


def has_foreign_escape(lines: bytes) -> bool:
    """Tell whether there may be a NUL or a lone surrogate in one line or in many."""
    return rb"\u" in lines and (rb"\u0000" in lines or rb"\ud" in lines)


def has_inexact_number(extra: bytes) -> bool:
    """Tell whether jsonb might spell a number of this JSON in another way."""
    if _INEXACT.search(extra) is None:
        return False
    # Dates and hexadecimal ids look alike: those are in strings, which are left out of the second look.
    return _INEXACT.search(_STRING.sub(b'""', extra)) is not None


def postgresql_text(text: str) -> str:
    """Return the nearest text that PostgreSQL holds: U+FFFD in the place of NUL and of lone surrogates."""
    return _FOREIGN_TEXT.sub("\ufffd", text)


def postgresql_json(extra: bytes) -> bytes:
    """Return the nearest JSON that jsonb holds, as `postgresql_text` does for text."""
    return _FOREIGN_ESCAPE.sub(lambda match: rb"\ufffd" if match[1] else match[0], extra)
