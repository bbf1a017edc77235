r"""Reads length-prefixed frames, which logging.handlers.SocketHandler sends.

Owns the limits of a frame and its largest size. Does not know sockets, pickles, records or clocks.

A frame is a 4-byte big-endian length and that many bytes of pickle (SocketHandler.makePickle of the standard library).
Lengths fall in three classes: up to `max_bytes` a frame is delivered; up to `LARGEST_HONEST_FRAME` it is reported with
its beginning and its end, which are held, and its middle is skipped; above that no client logs one record, so the bytes
are not a frame: text (b"GET " is 1.2 GB), a TLS hello (b"\x16\x03\x01\x00" is 369 MB), or a length in the other byte
order.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec

from prefork_logd.config.values import format_count
from prefork_logd.inputs import runs
from prefork_logd.inputs.base import Event, Input, InputError, Records, Terms
from prefork_logd.inputs.excerpt import Excerpt

if TYPE_CHECKING:
    from typing import Self

HEADER_BYTES = 4
LARGEST_HONEST_FRAME = 0x0FFF_FFFF
"""In bytes. Every first byte from 0x10 up stays free for other protocols, such as our sessions."""

HEADER = struct.Struct(">I")
_STRANGERS = (
    (b"GET ", "an HTTP request"),
    (b"POST", "an HTTP request"),
    (b"PUT ", "an HTTP request"),
    (b"HEAD", "an HTTP request"),
    (b"OPTI", "an HTTP request"),
    (b"PRI ", "an HTTP/2 request"),
    (b"SSH-", "an SSH client"),
    (b"\x16\x03", "a TLS handshake"),
    (b"<", "syslog lines"),
    (b"{", "JSON lines"),
    (b"\xf7\x50", "a session of prefork-logd's SocketHandler"),
)


class FrameInput(Input):
    """Turns the bytes of one connection, in pieces of any size, into runs of frames.

    Holds at most one unfinished frame, as far as it has arrived. Complete frames stay in the receive buffer.
    """

    __slots__ = ("_carry", "_excerpt", "_max_bytes")

    tag = "frames"
    noun = "frame"

    def __init__(self, terms: Terms) -> None:
        self._max_bytes = terms.max_record_bytes
        self._carry: bytearray | None = None
        self._excerpt: Excerpt | None = None
        """The frame above the limit that is being received."""

    @property
    def pending(self) -> bool:
        """Whether a frame is half received."""
        return self._carry is not None or self._excerpt is not None

    @property
    def held_bytes(self) -> int:
        """Bytes of the unfinished frame that are held."""
        if self._excerpt is not None:
            return self._excerpt.held_bytes
        return len(self._carry) if self._carry is not None else 0

    def limit(self, max_record_bytes: int) -> None:
        """Change the largest frame delivered, from the next header on."""
        self._max_bytes = max_record_bytes

    def receive(self, data: bytes | memoryview) -> list[Event]:
        """Take received bytes; return the frames they complete, in order, and those that were skipped.

        Raises NoFrameError if the bytes are not a frame.
        """
        view = memoryview(data)
        if self._carry is None and self._excerpt is None:
            # Nearly every read consists of complete frames only.
            end, count = runs.measure(view, 0, len(view), len(view), self._max_bytes)
            if end == len(view) and count:
                return [Records(0, [runs.Run(view, count)])]
        events: list[Event] = []
        while view:
            if self._carry is not None:
                view = self._fill(self._carry, view, events)
            elif self._excerpt is not None:
                view = view[self._skip(self._excerpt, view, events) :]
            else:
                view = view[self._take(view, events) :]
        return events

    def _fill(self, carry: bytearray, view: memoryview, events: list[Event]) -> memoryview:
        """Add to the unfinished frame, and take it once it is complete; return the bytes after it."""
        have = len(carry)
        missing = (HEADER_BYTES if have < HEADER_BYTES else self._needed(carry)) - have
        if missing > 0:
            carry += view[:missing]
            view = view[missing:]
        if len(carry) >= HEADER_BYTES and len(carry) >= self._needed(carry):
            # Its events must not change with the carry.
            whole, self._carry = memoryview(bytes(carry)), None
            self._take(whole, events)
        return view

    def _needed(self, carry: bytearray) -> int:
        """Return the length of the carried frame with its header; only of the header for a frame that is not held."""
        (length,) = HEADER.unpack_from(carry)
        return HEADER_BYTES + (length if length <= self._max_bytes else 0)

    def _take(self, view: memoryview, events: list[Event]) -> int:
        """Take the complete frames at the beginning, then keep or skip the next one; return the offset of the rest."""
        end, count = runs.measure(view, 0, len(view), len(view), self._max_bytes)
        if count:
            run = runs.Run(view[:end], count)
            if events and isinstance(last := events[-1], Records):
                last.runs.append(run)
            else:
                events.append(Records(0, [run]))
        if len(view) - end < HEADER_BYTES:
            if end < len(view):
                self._carry = bytearray(view[end:])
            return len(view)
        (length,) = HEADER.unpack_from(view, end)
        if length <= self._max_bytes:
            self._carry = bytearray(view[end:])
            return len(view)
        if length > LARGEST_HONEST_FRAME:
            raise _no_frame(bytes(view[end : end + 64]), length, events)
        self._excerpt = Excerpt.begin(length, self._max_bytes)
        return end + HEADER_BYTES

    def _skip(self, excerpt: Excerpt, view: memoryview, events: list[Event]) -> int:
        """Pass over the bytes of a frame that is too large; return their number."""
        taken = excerpt.take(view)
        if not excerpt.left:
            events.append(excerpt.to_event(0))
            self._excerpt = None
        return taken

    def dump_state(self) -> bytes:
        """Return the state that another process needs to continue from here."""
        carry = bytes(self._carry) if self._carry is not None else None
        state = _State(self._max_bytes, carry)
        if (skipped := self._excerpt) is not None:
            state.skip_left, state.skip_size, state.head = skipped.left, skipped.size, skipped.head
            state.body_bytes, state.body, state.tail = skipped.body_bytes, bytes(skipped.body), bytes(skipped.tail)
        return msgspec.msgpack.encode(state)

    @classmethod
    def load_state(cls, state: bytes, terms: Terms) -> Self:
        """Return an input that continues from a dumped state. Raises ValueError for an invalid state."""
        found = msgspec.msgpack.decode(state, type=_State)
        frames = cls(terms._replace(max_record_bytes=found.max_bytes))
        frames._carry = bytearray(found.carry) if found.carry is not None else None
        if found.skip_left:
            kept = bytearray(found.body), bytearray(found.tail)
            frames._excerpt = Excerpt(found.skip_size, found.skip_left, found.body_bytes, found.head, *kept)
        return frames


class _State(msgspec.Struct):
    """A FrameInput, in the middle of a frame or between two."""

    max_bytes: int
    carry: bytes | None
    skip_left: int = 0
    skip_size: int = 0
    head: bytes = b""
    body_bytes: int = 0
    body: bytes = b""
    tail: bytes = b""


class NoFrameError(InputError):
    """The peer sends bytes that are not frames."""


def _no_frame(head: bytes, length: int, events: list[Event]) -> NoFrameError:
    (swapped,) = struct.unpack_from("<I", head)
    message = f"a frame of {format_count(length, 'byte')} was announced, so these are not frames"
    for prefix, what in _STRANGERS:
        if head.startswith(prefix):
            message = f"this looks like {what}, not like SocketHandler's frames"
            break
    else:
        if swapped <= LARGEST_HONEST_FRAME:
            message = f"a frame of {format_count(length, 'byte')} was announced (or {swapped:,} in little-endian)"
    return NoFrameError("no-frame", message, head, events)
