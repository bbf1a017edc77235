r"""Renders a record as one line: JSON, text by a template, or the entry of a rejected frame.

Owns the characters that a line may hold. Whatever a client sent, a line is valid UTF-8, ends in its only record
separator, and has no character that a terminal, an editor or a line reader would interpret. Does not know files or
clocks.

JSON is written by msgspec's encoder (RFC 8259, UTF-8, shortest floats), with every character of `UNSAFE` as \uXXXX.
In text the same characters, and the backslash, are escaped so that `unescape` gets the original back.
"""

from __future__ import annotations

import functools
import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec

from prefork_logd.records.record import SENDER_FIELDS, Record, rfc3339
from prefork_logd.records.values import TRUNCATED, cut_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_FIRST_BYTES = 256

UNSAFE = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
"""The inside of a character class: C0, DEL, C1 with NEL, bidirectional controls, LS and PS, BOM, lone surrogates."""

_UNSAFE_UTF8 = re.compile(
    rb"\x7f|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]|\xef\xbb\xbf"
)
"""UNSAFE in UTF-8, without what JSON escapes anyway. Lead bytes are matched, so no match starts inside a character."""
_DEL, _DEL_MARKED = "\x7f", "\x7f007f"
_BACKSLASH_MARKED = "\x7f005c"

# Looking for them among all characters takes a tenth of the start of a process.
_UNSAFE_CHARACTERS = [
    chr(code)
    for first, last in re.findall("(.)(?:-(.))?", UNSAFE, re.DOTALL)
    for code in range(ord(first), ord(last or first) + 1)
]
_JSON_ESCAPES = {ord(one): f"\\u{ord(one):04x}" for one in _UNSAFE_CHARACTERS if ord(one) >= 0x7F}

_encode: Callable[[object], bytes] = msgspec.json.Encoder().encode


def render_json(record: Record) -> bytes:
    """Return the record as a line of JSON; empty or missing fields are left out. Never raises."""
    try:
        line = _encode(record)
    except UnicodeEncodeError:
        return encode_marked(_without_empty(record))
    if b':""' in line:  # Only between tokens: within a string the quotes are escaped.
        line = _encode(_without_empty(record))
    if b"\x7f" in line or not line.isascii():
        line = escape_json(line)
    return line + b"\n"


def _without_empty(record: Record) -> dict[str, Any]:
    """Return the fields that are not empty; 0 is not empty."""
    values = {name: getattr(record, name) for name in Record.__struct_fields__}
    return {name: value for name, value in values.items() if value is not None and value not in ("", {}, [])}


def render_values(value: dict[str, Any]) -> bytes:
    """Return a line of JSON for a dict of plain values, spelled as `render_json` does. Never raises.

    A value may be msgspec.Raw, which is written unchanged.
    """
    try:
        line = _encode(value)
    except UnicodeEncodeError:
        return encode_marked(value)
    return escape_json(line) + b"\n"


def encode_marked_in_python(value: dict[str, Any]) -> bytes:
    r"""Do what `render_values` does for text with lone surrogates, which the encoder refuses.

    They are passed to the encoder as a backslash and the rest of their JSON escape. A backslash or DEL of the text is
    passed as DEL and its number, so that no mark is ambiguous. The encoder doubles the backslashes of the former.
    """
    line = _encode(_marked(value)).replace(b"\\\\", b"\\")
    for marked, escape in ((_BACKSLASH_MARKED, b"\\\\"), (_DEL_MARKED, b"\\u007f")):
        line = line.replace(marked.encode(), escape)
    return escape_json(line) + b"\n"


def _marked(value: Any) -> Any:
    if isinstance(value, str):
        if _DEL in value:
            value = value.replace(_DEL, _DEL_MARKED)
        if "\\" in value:
            value = value.replace("\\", _BACKSLASH_MARKED)
        # The only characters of a str that UTF-8 lacks are lone surrogates.
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, msgspec.Raw):
        data = bytes(value).replace(_DEL.encode(), _DEL_MARKED.encode())
        return msgspec.Raw(data.replace(b"\\\\", _BACKSLASH_MARKED.encode()))
    if isinstance(value, list):
        return [_marked(item) for item in value]
    if isinstance(value, dict):
        return {str(_marked(key)): _marked(item) for key, item in value.items()}
    return value


def escape_json_in_python(line: bytes) -> bytes:
    """Return encoded JSON with every character of UNSAFE as its escape."""
    if _UNSAFE_UTF8.search(line) is None:
        return line
    return line.decode().translate(_JSON_ESCAPES).encode()


escape_json: Callable[[bytes], bytes] = escape_json_in_python
"""The function in use: this one, or the compiled one."""

encode_marked: Callable[[dict[str, Any]], bytes] = encode_marked_in_python


def render_rejected(peer: str, received: float, reason: str, detail: str, head: bytes, size: int) -> bytes:
    """Return the line of rejected.jsonl for a frame of `size` bytes that begins with `head`. Never raises."""
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


def render_gap(peer: str, received: float, client: str, count: int, detail: str) -> bytes:
    """Return the line of rejected.jsonl for `count` records that a client reports as dropped. Never raises."""
    return render_values(
        {
            "time": rfc3339(received),
            "received": received,
            "peer": peer,
            "reason": "gap",
            "detail": detail,
            "client": client,
            "count": count,
        }
    )


def _octet(octet: int) -> str:
    return "\\\\" if octet == 0x5C else chr(octet) if 0x20 <= octet < 0x7F else f"\\x{octet:02x}"


# Text

_DIRECTIVE = re.compile(r"%(?:(%)|\(([^()]+)\)([#0\- +]*\d{0,4}(?:\.\d{1,4})?)([diouxXeEfFgGcrsa]))")
_TEXT_ESCAPES = {
    **{ord(one): f"\\x{ord(one):02x}" if ord(one) < 0x100 else f"\\u{ord(one):04x}" for one in _UNSAFE_CHARACTERS},
    ord("\t"): "\t",
    ord("\n"): "\n",
}
_UNSAFE_TEXT = re.compile(f"[{UNSAFE}]".replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
_ESCAPED = re.compile(r"\n\t|\\(?:\\|x([0-9a-f]{2})|u([0-9a-f]{4}))")
MISSING = "-"


class TextTemplate:
    """A template in logging's own % style, rendered as by logging.Formatter, but safely.

    Names are the record's fields, `asctime`, `msecs`, and the keys of `extra`; a missing value is "-". A directive
    that does not fit its value shows the value as text. The traceback and the stack follow on lines of their own. Every
    line but the first starts with a tab.
    """

    def __init__(self, template: str) -> None:
        self.parts: list[str | tuple[str, str, str]] = []
        """Its parts: literal text, and directives as name, flags with width, and conversion."""
        end = 0
        for match in _DIRECTIVE.finditer(template):
            self.parts += [template[end : match.start()], "%" if match[1] else (match[2], match[3], match[4])]
            end = match.end()
        self.parts.append(template[end:])
        self._frame = "".join("%s" if isinstance(part, tuple) else part.replace("%", "%%") for part in self.parts)
        self._names = [part[0] for part in self.parts if isinstance(part, tuple)]
        self._repeats = len(set(self._names)) < len(self._names)
        self._directives = [part[1:] for part in self.parts if isinstance(part, tuple)]
        self._plain = all(directive == ("", "s") for directive in self._directives)
        self.padding = sum(int(one) for width, _ in self._directives for one in re.findall("[0-9]+", width))
        """Most characters that the directives add to their values."""

    def render(self, record: Record, most_bytes: int = sys.maxsize) -> bytes:
        """Return the record as text, its lines after the first starting with a tab. Never raises.

        If that and `padding` would exceed `most_bytes`, "<truncated>" replaces values that do not fit.
        """
        values: list[Any]
        longest = most_bytes + self.padding
        if self._repeats:
            found = {name: _lookup(record, name) for name in self._names}
            values = [found[name] for name in self._names]
            # Measured before it is made: the template may have the same value any number of times.
            if sum(len(value) for value in values if isinstance(value, str)) > longest:
                return self._render_cut(record, values, longest)
        else:
            values = [_lookup(record, name) for name in self._names]
        found_values = values
        if not self._plain:
            values = [_format(*directive, value) for directive, value in zip(self._directives, values, strict=True)]
        text = self._frame % tuple(values)
        for block in (record.exc_text, record.stack_info):
            if block:
                text = f"{text}{block}" if text.endswith("\n") else f"{text}\n{block}"
        if not text.isprintable() or "\\" in text:
            text = escape_text(text)
        line = text.encode() + b"\n"
        return line if len(line) <= longest else self._render_cut(record, found_values, longest)

    def _render_cut(self, record: Record, values: Sequence[Any], longest: int) -> bytes:
        """Return the text of a too large record, without the values of directives that do not fit."""
        line = b""
        left = iter(values)
        made: dict[tuple[str, str, str], bytes] = {}
        for part in self.parts:
            if isinstance(part, str):
                line += escape_inside(part).encode()
            else:
                _, width, conversion = part
                value = next(left)
                if part not in made:
                    made[part] = _that_fits(_format(width, conversion, value), longest)
                line += made[part] if len(made[part]) <= longest - len(line) else TRUNCATED.encode()
        for block in (record.exc_text, record.stack_info):
            if block:
                line += (b"" if line.endswith(b"\n\t") else b"\n\t") + _that_fits(block, longest - len(line))
        return (b"\\x09" + line[1:] if line.startswith(b"\t") else line) + b"\n"


def _that_fits(text: str, left: int) -> bytes:
    """Return a value's text for a line that has `left` bytes of room."""
    if len(text) <= left:
        escaped = escape_inside(text).encode()
        if len(escaped) <= left:
            return escaped
    if left < _LEAST_TEXT:
        return TRUNCATED.encode()
    return escape_inside(cut_text(text, left // _ESCAPE_BYTES)).encode()


_ESCAPE_BYTES = 6
"""The longest escape of a character."""
_LEAST_TEXT = 1_024
"""Room below which a text is left out as a whole."""


def _lookup(record: Record, name: str) -> Any:
    """Return the value of a template's name in this record."""
    if name == "asctime":
        return asctime(record.created)
    if name == "msecs":
        return _milliseconds(record.created)
    value = getattr(record, name) if name in Record.__struct_fields__ else None
    if value is None and (name in SENDER_FIELDS or name not in Record.__struct_fields__):
        value = record.extra.get(name, MISSING)
        if value is None:
            return "None"
    if value is None or value == []:
        return MISSING
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value


def _format(width: str, conversion: str, value: Any) -> str:
    """Return a value as its directive formats it; if that fails, as text of the directive's width."""
    try:
        return str(f"%{width}{conversion}" % value)
    except (TypeError, ValueError, OverflowError):
        return str(f"%{width.partition('.')[0]}s" % value)  # The precision of a number would cut the text.


def _milliseconds(created: float) -> int:
    return int((created - int(created)) * 1000)


@functools.lru_cache(maxsize=16)
def _local_second(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))


def asctime(created: float) -> str:
    """Return local time as logging.Formatter writes it: a comma before the milliseconds."""
    return f"{_local_second(int(created))},{_milliseconds(created):03d}"


def escape_text(text: str) -> str:
    """Escape text so that `unescape` restores it, and start every line but the first with a tab."""
    text = escape_inside(text)
    # The first line must not look like another record's continuation.
    return "\\x09" + text[1:] if text.startswith("\t") else text


def escape_inside_in_python(text: str) -> str:
    """Do the same for text that does not begin a line.

    Most texts need no other escapes than newlines and backslashes: replacing these is much faster than translating.
    """
    text = text.replace("\\", "\\\\")
    if _UNSAFE_TEXT.search(text) is not None:
        text = text.translate(_TEXT_ESCAPES)
    return text.replace("\n", "\n\t")


escape_inside: Callable[[str], str] = escape_inside_in_python
"""The function in use: this one, or the compiled one."""


def unescape(text: str) -> str:
    """Return the unescaped text of a record of a text output (its lines joined by newlines, without the last)."""
    return _ESCAPED.sub(_text_unescape, text)


def _text_unescape(match: re.Match[str]) -> str:
    digits = match[1] or match[2]
    if digits:
        return chr(int(digits, 16))
    return "\n" if match[0] == "\n\t" else "\\"
