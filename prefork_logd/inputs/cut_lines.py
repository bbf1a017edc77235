"""Keeps the beginning and the end of a JSON line that is too large, and reads the record of them.

Owns the way such a line is made whole: in a text that has the missing middle the two parts are joined with a mark
between them. Elsewhere the lists and objects at the end of the beginning are closed, and the members of the record
that are whole in the end are added. Does not know sockets or the largest size of a line.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.errors import NotARecord, RecordRejected
from prefork_logd.inputs.excerpt import Excerpt
from prefork_logd.inputs.json_records import BOM, BRACKETS, STRING, decode_line
from prefork_logd.records.imported import PADDING, parse
from prefork_logd.records.record import TEXT_FIELDS
from prefork_logd.records.values import REST

if TYPE_CHECKING:
    from prefork_logd.inputs.base import TooLarge
    from prefork_logd.records.record import Record

LARGEST_HONEST_LINE = 0x0FFF_FFFF
"""Bytes of a line that are taken before the connection is closed."""
_MOST_PATH_CHARACTERS = 250
_TEXT = re.compile(rb'(?:[^"\\]++|\\.)*+(?:(")|(\\)?)', re.DOTALL)
"""The inside of a text: up to the quote that ends it, or to the end of the data, where a backslash may be the last."""
_WHOLE_ESCAPES = re.compile(rb"(?:[^\\]++|\\u[0-9A-Fa-f]{4}|\\[^u])*+", re.DOTALL)
_ESCAPE_END = re.compile(rb"(?:u[0-9A-Fa-f]{4}|.)?", re.DOTALL)
_COMMA = re.compile(rb'(?:[^",\[\]{}]++|%b)*+,' % STRING, re.DOTALL)
_NAME = re.compile(rb"[ \t\r]*+(%b)[ \t\r]*+:[ \t\r]*+" % STRING, re.DOTALL)
_BEFORE_OPEN_TEXT = re.compile(rb'[^"]*+(?:%b[^"]*+)*+' % STRING, re.DOTALL)
_CLOSERS = bytes.maketrans(b"[{", b"]}")


class LineExcerpt(Excerpt):
    """A line above the limit, as far as it has arrived."""

    leaves_text: bool = False
    """Whether the middle has a quote without a backslash: if a text begins before the middle, it ends there."""
    is_escaped: bool | None = None
    """Whether the middle ends in a backslash that belongs to the next character; None: nothing is passed over yet."""

    @classmethod
    def begin_line(cls, max_bytes: int) -> LineExcerpt:
        """Return the excerpt of a line, which keeps `max_bytes` (at least two)."""
        return cls.begin(LARGEST_HONEST_LINE + 1, max_bytes)

    def end(self) -> TooLarge:
        """Return the event of the line, of which nothing is left."""
        self.size -= self.left
        self.left = 0
        self.trim_tail(1)
        event = self.to_event(0)
        if not event.body:
            return event
        cut = _Cut(event.body[: event.hole], event.body[event.hole :], event.size - len(event.body))
        decode = functools.partial(decode_cut_line, cut, self.leaves_text, bool(self.is_escaped))
        return event._replace(decode=decode)

    def pass_over(self, data: bytes) -> None:
        """Look for the end of a text in bytes of the middle."""
        if self.is_escaped is None:
            self.is_escaped = (len(self.body) - len(self.body.rstrip(b"\\"))) % 2 == 1
        start = int(self.is_escaped and bool(data))
        if not self.leaves_text:
            found = _TEXT.match(data, start)
            self.leaves_text = found is not None and found[1] is not None
        backslashes = len(data) - max(start, len(data.rstrip(b"\\")))
        if data:
            self.is_escaped = backslashes % 2 == 1


class _Cut(NamedTuple):
    """A line of which the middle is missing."""

    head: bytes
    tail: bytes
    missing: int
    """Bytes of the middle."""


class _Head(NamedTuple):
    """The beginning of a line, and what is open at its end."""

    opened: bytes
    """The brackets that are not closed yet."""
    name: bytes
    """The JSON of the record's name that has the last value; empty: its name is not whole."""
    whole: int
    """Offset after the last value that is whole, or the bracket before the first one."""
    text: int
    """Offset of the quote of the text that has no end; -1: there is none."""
    is_value: bool
    """Whether that text is a value, not a name."""


def decode_cut_line(cut: _Cut, leaves_text: bool, is_escaped: bool, peer: str, received_s: float) -> Record:
    """Return the record of a line that lacks its middle, with the path of the value that was cut.

    `leaves_text` and `is_escaped` are those of its LineExcerpt. Raises RecordRejected as `decode_line` does.
    """
    cut = cut._replace(head=cut.head.lstrip(PADDING).removeprefix(BOM))
    try:
        head = _read_head(cut.head)
    except NotARecord as error:
        raise RecordRejected("not-json", str(error)) from None
    paths = []
    if head.text >= 0 and not leaves_text:
        line, mark = _join_text(cut, is_escaped)
    else:
        line, mark = _close(cut, head, is_escaped)
        paths.append("extra")
    record = decode_line(line, peer, received_s)
    if head.name and (head.text >= 0 or len(head.opened) > 1):
        paths.insert(0, _path_of(record, head.name, mark))
    elif head.text >= 0:
        # The name of an attribute was cut.
        paths.append("extra")
    record.truncated = list(dict.fromkeys([*record.truncated, *paths]))
    return record


def _read_head(head: bytes) -> _Head:
    """Find what is open at the end of a line's beginning. Raises NotARecord."""
    opened, at, level = bytearray(), 0, 0
    while match := BRACKETS.match(head, at):
        at = match.end()
        if match[1]:
            opened += match[1]
        elif len(match[2]) < len(opened):
            del opened[-len(match[2]) :]
        else:
            raise NotARecord("is not JSON: it goes on after its end")
        if len(opened) == 1:
            level = at
    if not level or opened[:1] != b"{":
        raise NotARecord("is not a JSON object")
    name = _NAME.match(head, _after_commas(head, level))
    last = _after_commas(head, at)
    begun = _BEFORE_OPEN_TEXT.match(head, last)
    text = begun.end() if begun is not None and begun.end() < len(head) else -1
    start = last
    if opened[-1:] == b"{":
        key = _NAME.match(head, last)
        start = key.end() if key is not None else -1
    is_value = text >= 0 and start >= 0 and not head[start:text].strip(PADDING)
    return _Head(bytes(opened), name[1] if name else b"", max(at, last - 1), text, is_value)


def _after_commas(line: bytes, at: int) -> int:
    """Return the offset after the last comma that comes before the next bracket or the text without an end."""
    while match := _COMMA.match(line, at):
        at = match.end()
    return at


def _join_text(cut: _Cut, is_escaped: bool) -> tuple[bytes, bytes]:
    """Return a line whose middle lies within one text, and the mark in that text."""
    head, tail = _without_part(cut.head), cut.tail
    if is_escaped and (escape := _ESCAPE_END.match(tail)):
        tail = tail[escape.end() :]
    while tail and tail[0] & 0xC0 == 0x80 and len(cut.tail) - len(tail) < 9:
        tail = tail[1:]
    mark = b"... (%d bytes cut) ..." % (cut.missing + len(cut.head) - len(head) + len(cut.tail) - len(tail))
    return head + mark + tail, mark


def _without_part(head: bytes) -> bytes:
    """Return the beginning of a text without the part of an escape or of a character at its end."""
    backslash = head.rfind(b"\\", max(0, len(head) - 6))
    if backslash >= 0:
        # A backslash before it may make it a character of its own.
        start = len(head[:backslash].rstrip(b"\\"))
        whole = _WHOLE_ESCAPES.match(head, start)
        head = head[: whole.end()] if whole is not None else head
    for count in range(1, min(4, len(head) + 1)):
        octet = head[-count]
        if octet & 0xC0 == 0xC0:
            needed = 2 if octet < 0xE0 else 3 if octet < 0xF0 else 4
            return head[:-count] if count < needed else head
        if octet < 0x80:
            break
    return head


def _close(cut: _Cut, head: _Head, is_escaped: bool) -> tuple[bytes, bytes]:
    """Return a line whose middle holds the end of a value, and the mark of a text that was cut."""
    note = b"%d bytes cut" % cut.missing
    mark = b"... (%b) ..." % note
    closed = _without_part(cut.head) + mark + b'"' if head.is_value else cut.head[: head.whole]
    closed += head.opened[:0:-1].translate(_CLOSERS)
    tail = cut.tail[1:] if is_escaped else cut.tail
    members = [closed[1:].strip(PADDING), _whole_members(tail), b'"%b":"%b"' % (REST.encode(), note)]
    return b"{" + b",".join(filter(None, members)) + b"}", mark


def _whole_members(tail: bytes) -> bytes:
    """Return the members of the record that are whole in the end of a line; the end may begin within a text."""
    inside = _TEXT.match(tail)
    for start in (0, inside.end() if inside is not None and inside[1] else -1):
        members = _members_from(tail, start) if start >= 0 else b""
        if members:
            try:
                parse(b"{" + members + b"}")
            except NotARecord:
                continue
            return members
    return b""


def _members_from(tail: bytes, start: int) -> bytes:
    """Return what `_whole_members` does, if no text begins before `start`; the members may be no JSON."""
    tail = tail.rstrip(PADDING)
    depth, at = 0, start
    while match := BRACKETS.match(tail, at):
        at = match.end()
        depth -= len(match[1]) if match[1] else -len(match[2])
    if at < len(tail):
        return b""
    # The last bracket closes the record, so this is the depth at the start.
    at = start
    while depth > 0:
        if depth == 1 and (comma := _COMMA.match(tail, at)):
            return tail[comma.end() : -1]
        match = BRACKETS.match(tail, at)
        if match is None:
            break
        at = match.end()
        depth += len(match[1]) if match[1] else -len(match[2])
    return b""


def _path_of(record: Record, name: bytes, mark: bytes) -> str:
    """Return the path of the value that was cut: of the text with the mark, else of the value with the name."""
    shown = mark.decode()
    for field in ("message", *sorted(TEXT_FIELDS)):
        value = getattr(record, field)
        if isinstance(value, str) and shown in value:
            return field
    try:
        key = str(json.loads(name, strict=False))
    except ValueError:
        return "extra"
    return f"extra.{key[:_MOST_PATH_CHARACTERS]}" if key in record.extra else "extra"
