r"""A record as one line: JSON, text after a template, or a rejected frame's entry.

Owns what a line may hold. Whatever a client sent, a line is valid UTF-8, ends in its only record separator, and holds
no character that a terminal, an editor or a line reader would act upon. Knows no files and no clocks.

JSON is what msgspec's encoder writes (RFC 8259, UTF-8, shortest floats), with every character of `UNSAFE` as \uXXXX.
In text the same characters, and the backslash, are escaped so that `unescape` gets the original back.
"""

from __future__ import annotations

import functools
import json
import re
import time
from typing import TYPE_CHECKING, Any

import msgspec

from prefork_logd.records.record import Record, rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.records.budget import Plain

MAX_FIRST_BYTES = 256

UNSAFE = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
"""Inside of a character class: C0, DEL, C1 with NEL, bidirectional controls, LS and PS, BOM, lone surrogates."""

_UNSAFE_UTF8 = re.compile(
    rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]|\xef\xbb\xbf"
)
"""UNSAFE in UTF-8, without what JSON escapes anyway. Lead bytes are matched, so no match starts inside a character."""
_MARK = "\x7f"
_MARKED = re.compile(rb"\x7f([0-9a-f]{4})")
_NEEDS_MARK = re.compile("[\x7f\ud800-\udfff]")

_encode: Callable[[object], bytes] = msgspec.json.Encoder().encode


def render_json(record: Record) -> bytes:
    """Return the record as a line of JSON; fields that are empty or were not sent are left out. Never raises."""
    try:
        line = _encode(record)
    except UnicodeEncodeError:
        return _encode_marked(_without_empty(record))
    if b':""' in line:  # only ever between tokens: within a string the quotes are escaped
        line = _encode(_without_empty(record))
    if b"\x7f" in line or not line.isascii():
        line = _UNSAFE_UTF8.sub(_json_escape, line)
    return line + b"\n"


def _without_empty(record: Record) -> dict[str, Any]:
    """Return the fields that hold something; a 0 does."""
    values = {name: getattr(record, name) for name in Record.__struct_fields__}
    return {name: value for name, value in values.items() if value is not None and value not in ("", {})}


def render_values(value: dict[str, Any]) -> bytes:
    """Return a line of JSON for a dict of plain values, spelled as `render_json` does. Never raises.

    A value may be msgspec.Raw, which stands in the line as it is.
    """
    try:
        line = _encode(value)
    except UnicodeEncodeError:
        return _encode_marked(value)
    return _UNSAFE_UTF8.sub(_json_escape, line) + b"\n"


def _encode_marked(value: dict[str, Any]) -> bytes:
    """Do what `render_values` does for text with lone surrogates, which the encoder refuses.

    They go through it as DEL and four hexadecimal digits; a DEL, which it leaves as it is, goes the same way, so the
    mark is never mistaken. One escape at the end makes both what they are in JSON.
    """
    line = _MARKED.sub(rb"\\u\1", _encode(_marked(value)))
    return _UNSAFE_UTF8.sub(_json_escape, line) + b"\n"


def _marked(value: Plain) -> Plain:
    if isinstance(value, str):
        return _NEEDS_MARK.sub(lambda match: f"{_MARK}{ord(match[0]):04x}", value)
    if isinstance(value, list):
        return [_marked(item) for item in value]
    if isinstance(value, dict):
        return {str(_marked(key)): _marked(item) for key, item in value.items()}
    return value


def _json_escape(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(match[0].decode())


def render_rejected(peer: str, received: float, reason: str, detail: str, head: bytes, size: int) -> bytes:
    """Return the line of rejected.jsonl for a frame of `size` bytes, of which `head` holds the first. Never raises."""
    first = "".join(map(_octet, head[:MAX_FIRST_BYTES]))
    return render_values(
        {
            "time": rfc3339(received),
            "received": received,
            "peer": peer,
            "reason": reason,
            "detail": detail,
            "size": size,
            "first_bytes": first,
        }
    )


def _octet(octet: int) -> str:
    return "\\\\" if octet == 0x5C else chr(octet) if 0x20 <= octet < 0x7F else f"\\x{octet:02x}"


# Text

_DIRECTIVE = re.compile(r"%(?:(%)|\(([^()]+)\)([#0\- +]*\d{0,4}(?:\.\d{1,4})?)([diouxXeEfFgGcrsa]))")
_UNSAFE_TEXT = re.compile(rf"[{UNSAFE}\\]".replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
_ESCAPED = re.compile(r"\n\t|\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4}))")
MISSING = "-"


class TextTemplate:
    """A template in logging's own % style, rendered as logging.Formatter would, safely.

    Names are the record's fields, `asctime` and `msecs`, and whatever `extra` holds; what a record has not is "-". A
    directive that does not fit its value shows the value as text. The traceback and the stack follow on lines of
    their own. Every line but the first starts with a tab.
    """

    def __init__(self, template: str) -> None:
        self.parts: list[str | tuple[str, str, str]] = []
        """What it consists of: literal text, and directives as name, flags with width, and conversion."""
        end = 0
        for match in _DIRECTIVE.finditer(template):
            self.parts += [template[end : match.start()], "%" if match[1] else (match[2], match[3], match[4])]
            end = match.end()
        self.parts.append(template[end:])
        self._frame = "".join("%s" if isinstance(part, tuple) else part.replace("%", "%%") for part in self.parts)
        self._names = [part[0] for part in self.parts if isinstance(part, tuple)]
        self._directives = [part[1:] for part in self.parts if isinstance(part, tuple)]
        self._plain = all(directive == ("", "s") for directive in self._directives)

    def render(self, record: Record) -> bytes:
        """Return the record as text, its lines after the first starting with a tab. Never raises."""
        values: list[Any] = [_lookup(record, name) for name in self._names]
        if not self._plain:
            values = [_format(*directive, value) for directive, value in zip(self._directives, values, strict=True)]
        text = self._frame % tuple(values)
        for block in (record.exc_text, record.stack_info):
            if block:
                text = f"{text}{block}" if text.endswith("\n") else f"{text}\n{block}"
        if not text.isprintable() or "\\" in text:
            text = escape_text(text)
        return text.encode() + b"\n"


def _lookup(record: Record, name: str) -> Any:
    """Return what a template's name stands for in this record."""
    if name == "asctime":
        return asctime(record.created)
    if name == "msecs":
        return _milliseconds(record.created)
    value = getattr(record, name, None) if name in Record.__struct_fields__ else record.extra.get(name, MISSING)
    if value is None:
        return MISSING if name in Record.__struct_fields__ else "None"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value


def _format(width: str, conversion: str, value: Any) -> str:
    """Return a value as a directive wants it, else, where it cannot be, as text of the directive's width."""
    try:
        return str(f"%{width}{conversion}" % value)
    except (TypeError, ValueError, OverflowError):
        return str(f"%{width.partition('.')[0]}s" % value)  # a number's precision would cut the text


def _milliseconds(created: float) -> int:
    return int((created - int(created)) * 1000)


@functools.lru_cache(maxsize=16)
def _local_second(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))


def asctime(created: float) -> str:
    """Return local time as logging.Formatter writes it: a comma before the milliseconds."""
    return f"{_local_second(int(created))},{_milliseconds(created):03d}"


def escape_text(text: str) -> str:
    """Escape what `unescape` takes back, and start every line but the first with a tab."""
    text = _UNSAFE_TEXT.sub(_text_escape, text)
    if text.startswith("\t"):  # the first line must not look like another record's continuation
        text = "\\x09" + text[1:]
    return text.replace("\n", "\n\t")


def _text_escape(match: re.Match[str]) -> str:
    character = ord(match[0])
    if match[0] == "\\":
        return "\\\\"
    return f"\\x{character:02x}" if character < 0x100 else f"\\u{character:04x}"


def unescape(text: str) -> str:
    """Return what a record of a text output (its lines joined by newlines, without the last) was before escaping."""
    return _ESCAPED.sub(_text_unescape, text)


def _text_unescape(match: re.Match[str]) -> str:
    digits = match[1] or match[2]
    if digits:
        return chr(int(digits, 16))
    return "\n" if match[0] == "\n\t" else "\\"
