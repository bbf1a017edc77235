"""Reads JSON lines, one object a line, as python-json-logger, structlog and loguru write them.

Owns where a line begins and ends, and its largest size. Does not know sockets, clocks or the content of a line
(json_records.py).

The first line must be a record, else the connection is closed. So a client of another protocol ends at its first line,
such as a browser that was made to send a request here with JSON in its body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from prefork_logd.config.values import format_count
from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.base import HEAD_KEPT, Event, Input, InputError, Terms, Texts
from prefork_logd.inputs.cut_lines import LARGEST_HONEST_LINE, LineExcerpt
from prefork_logd.inputs.json_records import BOM, decode_line
from prefork_logd.records.imported import PADDING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from prefork_logd.records.record import Record

MOST_LINES = 1000
"""Most lines taken in a `receive`: 256 KiB can hold many more empty ones."""


class JsonLinesInput(Input):
    """Turns the bytes of one connection, in pieces of any size, into lines.

    Holds at most one unfinished line, of a line that is too large its beginning and its end.
    """

    __slots__ = ("_carry", "_excerpt", "_is_known", "_max_bytes", "left")

    tag = "json"
    noun = "line"

    def __init__(self, terms: Terms) -> None:
        self._max_bytes = terms.max_record_bytes
        self._carry = bytearray()
        self._excerpt: LineExcerpt | None = None
        """The line above the limit that is being received."""
        self._is_known = False
        """Whether the first line was a record."""
        self.left = 0

    @property
    def pending(self) -> bool:
        """Whether a line is half received."""
        return bool(self._carry) or self._excerpt is not None

    @property
    def held_bytes(self) -> int:
        """Bytes of the unfinished line that are held."""
        return len(self._carry) if self._excerpt is None else self._excerpt.held_bytes

    def limit(self, max_record_bytes: int) -> None:
        """Change the largest line taken, without its end."""
        self._max_bytes = max_record_bytes

    def receive(self, data: bytes | memoryview) -> list[Event]:
        """Take received bytes; return the lines they complete, in order, and those that are too large.

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
        held = self._carry if self._excerpt is None else self._excerpt.tail
        if bytes(held[-HEAD_KEPT:]).rstrip(PADDING).endswith(b"}"):
            self._end_line(b"", events)
        return events

    def _end_line(self, line: bytes, events: list[Event]) -> None:
        """Take the end of a line; its beginning is held."""
        if self._excerpt is not None:
            self._extend(self._excerpt, line, events)
            self._end_excerpt(self._excerpt, events)
            return
        if self._carry:
            line = bytes(self._carry) + line
            self._carry = bytearray()
        else:
            line = line.lstrip(PADDING)
        # The CR of CR LF is not part of the line.
        if len(line) - line.endswith(b"\r") > self._max_bytes:
            excerpt = LineExcerpt.begin_line(self._max_bytes)
            self._extend(excerpt, line, events)
            self._end_excerpt(excerpt, events)
        elif line.strip(PADDING):
            if not self._is_known:
                self._learn(lambda: decode_line(line, "", 0.0), line, events)
            if events and isinstance(last := events[-1], Texts):
                last.bodies.append(line)
            else:
                events.append(Texts([line], decode_line))

    def _end_excerpt(self, excerpt: LineExcerpt, events: list[Event]) -> None:
        """Take a line that is too large, as far as it was kept."""
        self._excerpt = None
        event = excerpt.end()
        if not self._is_known:
            if event.decode is None:
                raise _no_lines(event.head, "is longer than limits.max_record_bytes", events)
            decode = event.decode
            self._learn(lambda: decode("", 0.0), event.head, events)
        events.append(event)

    def _learn(self, decode: Callable[[], Record], head: bytes, events: list[Event]) -> None:
        """Raise InputError if the first line is not a record."""
        try:
            decode()
        except RecordRejected as error:
            raise _no_lines(head, error.detail, events) from None
        self._is_known = True

    def _hold(self, piece: bytes, events: list[Event]) -> None:
        """Keep a piece of a line that has no end yet, as far as there is room."""
        if self._excerpt is not None:
            self._extend(self._excerpt, piece, events)
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
            self._excerpt = LineExcerpt.begin_line(self._max_bytes)
            self._extend(self._excerpt, carry, events)

    def _extend(self, excerpt: LineExcerpt, piece: bytes, events: list[Event]) -> None:
        """Add a piece to a line that is too large."""
        excerpt.take(memoryview(piece))
        if not excerpt.left:
            message = f"a line has no end after {format_count(excerpt.size, 'byte')}"
            raise InputError("no-json-lines", message, excerpt.head[:64], events)

    def dump_state(self) -> bytes:
        """Return the state that another process needs to continue from here."""
        skipped, head = (0, b"") if (one := self._excerpt) is None else (one.size - one.left, one.head)
        state = _State(self._max_bytes, bytes(self._carry), skipped, head, self._is_known, self._excerpt)
        return msgspec.msgpack.encode(state)

    @classmethod
    def load_state(cls, state: bytes, terms: Terms) -> Self:
        """Return an input that continues from a dumped state. Raises ValueError for an invalid state."""
        found = msgspec.msgpack.decode(state, type=_State)
        lines = cls(terms._replace(max_record_bytes=found.max_bytes))
        lines._carry = bytearray(found.carry)
        lines._is_known = found.is_known
        lines._excerpt = found.excerpt
        if found.skipped and found.excerpt is None:
            # Of a version that keeps only the head of such a line.
            size = LARGEST_HONEST_LINE + 1
            lines._excerpt = LineExcerpt(size, max(1, size - found.skipped), 0, found.head)
        return lines


class _State(msgspec.Struct, frozen=True):
    """A JsonLinesInput, in the middle of a line or between two."""

    max_bytes: int
    carry: bytes
    skipped: int
    """Bytes so far of the line that is too large, for versions without `excerpt`; 0: there is none."""
    head: bytes
    is_known: bool
    excerpt: LineExcerpt | None = None


def _no_lines(head: bytes, why: str, events: list[Event]) -> InputError:
    message = f"these are not JSON lines: the first one {why}"
    return InputError("no-json-lines", message, head[:64], events)
