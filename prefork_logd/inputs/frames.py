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

from prefork_logd.inputs import runs
from prefork_logd.inputs.base import HEAD_KEPT, Event, Input, InputError, Records, Terms, TooLarge

if TYPE_CHECKING:
    from typing import Self

HEADER_BYTES = 4
LARGEST_HONEST_FRAME = 0x0FFF_FFFF
"""In bytes. Every first byte from 0x10 up stays free for other protocols, such as our sessions."""

TAIL_BYTES = 65_536
"""Bytes that are kept of the end of a frame that is too large, or a quarter of the largest frame."""

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

    __slots__ = ("_body", "_body_bytes", "_carry", "_head", "_max_bytes", "_skip_left", "_skip_size", "_tail")

    tag = "frames"
    noun = "frame"

    def __init__(self, terms: Terms) -> None:
        self._max_bytes = terms.max_record_bytes
        self._carry: bytearray | None = None
        self._skip_left = 0
        self._skip_size = 0
        self._head = b""
        self._body_bytes = 0
        """Bytes that are kept of the beginning of the frame that is skipped; 0: only its head."""
        self._body = bytearray()
        self._tail = bytearray()
        """Its latest bytes, at least those of the end that is kept."""

    @property
    def pending(self) -> bool:
        """Whether a frame is half received."""
        return self._carry is not None or self._skip_left > 0

    @property
    def held_bytes(self) -> int:
        """Bytes of the unfinished frame that are held."""
        return len(self._carry) if self._carry is not None else len(self._body) + len(self._tail)

    def limit(self, max_record_bytes: int) -> None:
        """Change the largest frame delivered, from the next header on."""
        self._max_bytes = max_record_bytes

    def receive(self, data: bytes | memoryview) -> list[Event]:
        """Take received bytes; return the frames they complete, in order, and those that were skipped.

        Raises NoFrameError if the bytes are not a frame.
        """
        view = memoryview(data)
        if self._carry is None and not self._skip_left:
            # Nearly every read consists of complete frames only.
            end, count = runs.measure(view, 0, len(view), len(view), self._max_bytes)
            if end == len(view) and count:
                return [Records(0, [runs.Run(view, count)])]
        events: list[Event] = []
        while view:
            if self._carry is not None:
                view = self._fill(self._carry, view, events)
            elif self._skip_left:
                view = view[self._skip(view, 0, events) :]
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
        self._skip_left = self._skip_size = length
        self._body_bytes = max(1, self._max_bytes - min(TAIL_BYTES, self._max_bytes // 4))
        return self._skip(view, end + HEADER_BYTES, events)

    def _skip(self, view: memoryview, position: int, events: list[Event]) -> int:
        """Pass over the bytes of a frame that is too large; return where the next one begins."""
        take = min(self._skip_left, len(view) - position)
        end = position + take
        if len(self._head) < HEAD_KEPT:
            self._head += view[position : min(end, position + HEAD_KEPT - len(self._head))]
        if self._body_bytes:
            self._keep(view[position:end])
        self._skip_left -= take
        if self._skip_left == 0:
            tail = self._tail[-self._tail_bytes :]
            hole = len(self._body)
            events.append(TooLarge(0, self._skip_size, self._head, bytes(self._body + tail), hole))
            self._head = b""
            self._body, self._tail = bytearray(), bytearray()
        return end

    @property
    def _tail_bytes(self) -> int:
        """Bytes that are kept of the end: a third of the beginning, or less."""
        return max(1, min(TAIL_BYTES, self._body_bytes // 3))

    def _keep(self, data: memoryview) -> None:
        """Keep the beginning of a frame that is too large, and its latest bytes."""
        room = self._body_bytes - len(self._body)
        self._body += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 4 * self._tail_bytes:
            del self._tail[: -self._tail_bytes]

    def dump_state(self) -> bytes:
        """Return the state that another process needs to continue from here."""
        carry = bytes(self._carry) if self._carry is not None else None
        body, tail = bytes(self._body), bytes(self._tail)
        skip = self._skip_left, self._skip_size, self._head
        return msgspec.msgpack.encode(_State(self._max_bytes, carry, *skip, self._body_bytes, body, tail))

    @classmethod
    def load_state(cls, state: bytes, terms: Terms) -> Self:
        """Return an input that continues from a dumped state. Raises ValueError for an invalid state."""
        found = msgspec.msgpack.decode(state, type=_State)
        frames = cls(terms._replace(max_record_bytes=found.max_bytes))
        frames._carry = bytearray(found.carry) if found.carry is not None else None
        frames._skip_left, frames._skip_size, frames._head = found.skip_left, found.skip_size, found.head
        frames._body_bytes = found.body_bytes
        frames._body, frames._tail = bytearray(found.body), bytearray(found.tail)
        return frames


class _State(msgspec.Struct, frozen=True):
    """A FrameInput, in the middle of a frame or between two."""

    max_bytes: int
    carry: bytes | None
    skip_left: int
    skip_size: int
    head: bytes
    body_bytes: int = 0
    body: bytes = b""
    tail: bytes = b""


class NoFrameError(InputError):
    """The peer sends bytes that are not frames."""


def _no_frame(head: bytes, length: int, events: list[Event]) -> NoFrameError:
    (swapped,) = struct.unpack_from("<I", head)
    message = f"a frame of {length} bytes was announced, so these are not frames"
    for prefix, what in _STRANGERS:
        if head.startswith(prefix):
            message = f"this looks like {what}, not like SocketHandler's frames"
            break
    else:
        if swapped <= LARGEST_HONEST_FRAME:
            message = f"a frame of {length} bytes was announced (or {swapped} in little-endian)"
    return NoFrameError("no-frame", message, head, events)
