"""Reads JSON lines, one object a line, as python-json-logger, structlog and loguru write them.

Owns the limits of a line, its largest size, and the cost of reading it. Does not know sockets, clocks or names of
fields (records/imported_names.py). docs/inputs.md lists the names.

The first line must be a record, else the connection is closed. So a client of another protocol ends at its first line,
such as a browser that was made to send a request here with JSON in its body.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING

import msgspec

from prefork_logd.errors import NotARecord, RecordRejected
from prefork_logd.inputs.base import HEAD_KEPT, Event, Input, InputError, Terms, Texts, TooLarge
from prefork_logd.inputs.pickles.budget import DEFAULT_BUDGET, exceeded
from prefork_logd.records.imported import PADDING, parse
from prefork_logd.records.imported_names import LEADING, adopt, leading_to_fields

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self

    from prefork_logd.records.record import Record

MOST_LINES = 1000
"""Most lines taken in a `receive`: 256 KiB can hold many more empty ones."""
LARGEST_HONEST_LINE = 0x0FFF_FFFF
"""Bytes of a line that are passed over before the connection is closed."""
BOM = b"\xef\xbb\xbf"
_OURS = ("peer", "peer_name", "received")
"""Names of fields that the collector fills in: a client's values of these names go to `extra`."""
REST = "..."
"""The key in `extra` for the number of names that were left out."""
LONG_NUMBER, MOST_LONG_NUMBERS = 300, 100
"""Digits of a number that is slow to read (by the square of its length), and most of these in a line."""
_SHORT_NUMBER = 16
_LONG_NUMBER = re.compile(rb"\d{%d}" % LONG_NUMBER)
# Possessive repeats: others remember each of their steps, which takes 120 bytes of memory for each byte of a text.
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_NODE = re.compile(_STRING + r"|[,:\[{]", re.DOTALL)


def _member(deepest: int) -> str:
    """Return the pattern of an object's member with at most so many levels of brackets; its value is not checked."""
    inner = rf'[^"\[\]{{}}]++|{_STRING}'
    for _ in range(deepest):
        nested = rf"[\[{{](?:{inner})*+[\]}}]"
        inner = rf'[^"\[\]{{}}]++|{_STRING}|{nested}'
    value = rf'{_STRING}|[^ \t\r",:\[\]{{}}]++|{nested}'
    return rf"[ \t\r]*+(?P<name>{_STRING})[ \t\r]*+:[ \t\r]*+(?P<value>{value})[ \t\r]*+[,}}]"


_MEMBER = re.compile(_member(8).encode(), re.DOTALL)
_NAME = re.compile(_MEMBER.pattern.replace(b"?P<value>", b"?:"), re.DOTALL)
_MEMBERS = re.compile(rb"(?:%b)*+(?<=})" % _MEMBER.pattern, re.DOTALL)
_TELLING = frozenset(b'"%b"' % name.encode() for name in LEADING)


class JsonLinesInput(Input):
    """Turns the bytes of one connection, in pieces of any size, into lines.

    Holds at most one unfinished line.
    """

    __slots__ = ("_carry", "_head", "_is_known", "_max_bytes", "_skipped", "left")

    tag = "json"
    noun = "line"

    def __init__(self, terms: Terms) -> None:
        self._max_bytes = terms.max_record_bytes
        self._carry = bytearray()
        self._skipped = 0
        """Bytes of the current line that were passed over because it is too large; 0: it is held."""
        self._head = b""
        self._is_known = False
        """Whether the first line was a record."""
        self.left = 0

    @property
    def pending(self) -> bool:
        """Whether a line is half received."""
        return bool(self._carry or self._skipped)

    @property
    def held_bytes(self) -> int:
        """Bytes of the unfinished line that are held."""
        return len(self._carry)

    def limit(self, max_record_bytes: int) -> None:
        """Change the largest line taken, without its end."""
        self._max_bytes = max_record_bytes

    def receive(self, data: bytes | memoryview) -> list[Event]:
        """Take received bytes; return the lines they complete, in order, and those that were skipped.

        Empty lines are passed over. Raises InputError if the first line is not a record, or a line has no end.
        """
        events: list[Event] = []
        data = bytes(data)
        if not self.pending:
            # Between two lines: a million empty ones are passed over at once, and blanks begin no line.
            data = data.lstrip(PADDING)
        *lines, rest = data.split(b"\n", MOST_LINES)
        for line in lines:
            self._end_line(line, events)
        self.left = len(rest) if len(lines) == MOST_LINES else 0
        if not self.left:
            self._hold(rest, events)
        return events

    def finish(self) -> list[Event]:
        """Take a last line that has no end, if it is a complete object."""
        events: list[Event] = []
        if bytes(self._carry[-HEAD_KEPT:]).rstrip(PADDING).endswith(b"}"):
            self._end_line(b"", events)
        return events

    def _end_line(self, line: bytes, events: list[Event]) -> None:
        """Take the end of a line; its beginning is held, or was passed over."""
        if self._skipped:
            self._skip(line, events)
            events.append(TooLarge(0, self._skipped, self._head))
            self._skipped, self._head = 0, b""
            return
        if self._carry:
            line = bytes(self._carry) + line
            self._carry = bytearray()
        # The CR of CR LF is not part of the line.
        size = len(line) - line.endswith(b"\r")
        if size > self._max_bytes:
            if not self._is_known:
                raise _no_lines(line, "is longer than limits.max_record_bytes", events)
            events.append(TooLarge(0, size, line[:HEAD_KEPT]))
        elif line.strip(PADDING):
            if not self._is_known:
                self._learn(line, events)
            if events and isinstance(last := events[-1], Texts):
                last.bodies.append(line)
            else:
                events.append(Texts([line], decode_line))

    def _learn(self, line: bytes, events: list[Event]) -> None:
        """Raise InputError if the first line is not a record."""
        try:
            decode_line(line, "", 0.0)
        except RecordRejected as error:
            raise _no_lines(line, error.detail, events) from None
        self._is_known = True

    def _hold(self, piece: bytes, events: list[Event]) -> None:
        """Keep a piece of a line that has no end yet, or pass over it."""
        if self._skipped:
            self._skip(piece, events)
            return
        self._carry += piece if self._carry else piece.lstrip(PADDING)
        if not self._is_known:
            start = bytes(self._carry[:64]).lstrip(PADDING)
            begin = start.removeprefix(BOM).lstrip(PADDING)
            if begin and begin[:1] != b"{" and not BOM.startswith(start):
                raise _no_lines(bytes(self._carry[:64]), "is not a JSON object", events)
        # One more byte may be the CR of the line's end.
        if len(self._carry) > self._max_bytes + 1:
            carry, self._carry = bytes(self._carry), bytearray()
            if not self._is_known:
                raise _no_lines(carry, "is longer than limits.max_record_bytes", events)
            self._skip(carry, events)

    def _skip(self, piece: bytes, events: list[Event]) -> None:
        self._head += piece[: HEAD_KEPT - len(self._head)]
        self._skipped += len(piece)
        if self._skipped > LARGEST_HONEST_LINE:
            message = f"a line has no end after {self._skipped} bytes"
            raise InputError("no-json-lines", message, self._head[:64], events)

    def dump_state(self) -> bytes:
        """Return the state that another process needs to continue from here."""
        state = _State(self._max_bytes, bytes(self._carry), self._skipped, self._head, self._is_known)
        return msgspec.msgpack.encode(state)

    @classmethod
    def load_state(cls, state: bytes, terms: Terms) -> Self:
        """Return an input that continues from a dumped state. Raises ValueError for an invalid state."""
        found = msgspec.msgpack.decode(state, type=_State)
        lines = cls(terms._replace(max_record_bytes=found.max_bytes))
        lines._carry = bytearray(found.carry)
        lines._skipped, lines._head, lines._is_known = found.skipped, found.head, found.is_known
        return lines


class _State(msgspec.Struct, frozen=True):
    """A JsonLinesInput, in the middle of a line or between two."""

    max_bytes: int
    carry: bytes
    skipped: int
    head: bytes
    is_known: bool


def _no_lines(head: bytes, why: str, events: list[Event]) -> InputError:
    message = f"these are not JSON lines: the first one {why}"
    return InputError("no-json-lines", message, head[:64], events)


def decode_line(line: bytes, peer: str, received_s: float) -> Record:
    """Return the record of a line; its time is `received_s` if the line has none.

    Raises RecordRejected for a line that is not an object, or has neither a message nor a time.
    """
    line = line.strip(PADDING).removeprefix(BOM)
    left_out = 0
    try:
        if _is_wide(line):
            document, left_out = _shallow(line)
        else:
            document = parse(line)
    except NotARecord as error:
        raise RecordRejected("not-json", str(error)) from None
    beside = {name: document.pop(name) for name in _OURS if name in document}
    adopted = adopt(document, received_s, beside)
    if adopted is None:
        raise RecordRejected("not-a-record", "has neither a message nor a time")
    record = adopted.record
    record.peer, record.received = peer, received_s
    if left_out:
        record.extra[REST] = left_out
        record.truncated = ["extra"]
    return record


def _is_wide(line: bytes) -> bool:
    """Tell whether a line has more values than a frame of its length may have, or too many that are slow to read."""
    most = DEFAULT_BUDGET.nodes_for(len(line))
    if len(line) > MOST_LONG_NUMBERS * LONG_NUMBER and len(_LONG_NUMBER.findall(line)) > MOST_LONG_NUMBERS:
        return True
    if line.count(b",") + line.count(b":") + line.count(b"[") + line.count(b"{") <= most:
        return False
    # Texts may contain any number of these characters.
    count = 0
    for match in _NODE.finditer(line.decode("latin-1")):
        count += match[0][0] != '"'
        if count > most:
            return True
    return False


def _shallow(line: bytes) -> tuple[dict[str, Any], int]:
    """Return the object of a line, with its lists, objects and long numbers as the unread text of their JSON.

    Of too many names the first ones are kept, and those that may lead to a field; their rest is counted.
    Raises RecordRejected for too many levels of brackets, and NotARecord.
    """
    most = DEFAULT_BUDGET.nodes_for(len(line))
    try:
        values = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        # What msgspec refuses may be NaN, octets that are not UTF-8 or control characters, which other lines may have.
        if line.count(b"[") + line.count(b"{") > most or line.count(b'":') > most:
            return _shallow_odd(line, most)
        lenient = parse(line, most_depth=1)
        kept = _kept_names(lenient, most)
        return {key: lenient[key] for key in kept}, len(lenient) - len(kept)
    document: dict[str, Any] = {}
    for key in _kept_names(values, most):
        value = bytes(values[key])
        if len(value) < _SHORT_NUMBER and value.isdigit():
            document[key] = int(value)
            continue
        is_dear = value[:1] in (b"[", b"{") or (len(value) > LONG_NUMBER and value[:1] != b'"')
        document[key] = value.decode("utf-8", "surrogateescape") if is_dear else parse(b'{"":' + value + b"}")[""]
    return document, len(values) - len(document)


def _shallow_odd(line: bytes, most: int) -> tuple[dict[str, Any], int]:
    """Return what `_shallow` returns, for a line with too many values, of which msgspec refuses one.

    The members that are left out are counted, and not read. Raises RecordRejected if the object's end is not found, as
    a value is nested too deeply, and NotARecord.
    """
    whole = _MEMBERS.match(line, 1)
    if whole is None:
        raise exceeded("values")
    if len(line) > whole.end():
        raise NotARecord("is not JSON: it goes on after its end")
    names = _NAME.findall(line, 1)
    first = most // 8 if 2 * len(names) > most else len(names)
    is_kept = bytearray(b"\1" * first + bytes(len(names) - first))
    telling = set(map(bytes.lower, names[first:])) & _TELLING
    for index in range(first, len(names)) if telling else ():
        name = names[index].lower()
        if name in telling:
            telling.remove(name)
            is_kept[index] = True
    kept = []
    for member in itertools.compress(_MEMBER.finditer(line, 1), is_kept):
        value = member["value"]
        if value[:1] in (b"[", b"{"):
            value = json.dumps(value.decode("utf-8", "surrogateescape")).encode()
        kept.append(member["name"] + b":" + value)
    return parse(b"{" + b",".join(kept) + b"}"), len(names) - len(kept)


def _kept_names(values: Mapping[str, Any], most: int) -> list[str]:
    """Return the names of an object, or if they are more than half of `most`, some of them."""
    names = list(values)
    if 2 * len(names) <= most:
        return names
    first = most // 8
    telling = {key.lower(): key for key in reversed(leading_to_fields(names[first:]))}
    return [*names[:first], *reversed(telling.values())]
