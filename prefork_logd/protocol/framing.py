r"""Length-prefixed frames, as logging.handlers.SocketHandler sends them.

Owns where a frame starts and ends and how large it may be. Knows no sockets, pickles, records or clocks.

A frame is a 4-byte big-endian length and that many bytes of pickle (Lib/logging/handlers.py, SocketHandler.makePickle).
Lengths fall in three classes: up to `max_bytes` a frame is delivered; up to `LARGEST_HONEST_FRAME` it is skipped
without being held, and reported; above that nobody logs one record, so the bytes are no frame at all: text (b"GET " is
1.2 GB), a TLS hello (b"\x16\x03\x01\x00" is 369 MB), or a length in the other byte order.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from prefork_logd.errors import RemoteProtocolError
from prefork_logd.protocol.frozen import FrozenFrames

HEADER_BYTES = 4
LARGEST_HONEST_FRAME = 0x0FFF_FFFF
"""Bytes; keeps every first byte from 0x10 up free: those begin other protocols, ours among them."""
HEAD_KEPT = 256
"""Bytes of a skipped frame that are kept, to tell what it was."""

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
)


class Oversize(NamedTuple):
    """A frame that was skipped because it is larger than the limit."""

    size: int
    """Bytes that its header announced."""
    head: bytes
    """Its first bytes, at most HEAD_KEPT."""


class FrameReader:
    """Turns the bytes of one connection into frames, whatever pieces they arrive in.

    Holds at most one unfinished frame, and of that only what has arrived.
    """

    __slots__ = ("_carry", "_head", "_max_bytes", "_skip_left", "_skip_size")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._carry: bytearray | None = None
        self._skip_left = 0
        self._skip_size = 0
        self._head = b""

    @property
    def pending(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._carry is not None or self._skip_left > 0

    @property
    def missing(self) -> int:
        """Bytes that the unfinished frame, or its header, still lacks, be it held or skipped; 0 if there is none."""
        if self._carry is None:
            return self._skip_left
        have = len(self._carry)
        return HEADER_BYTES - have if have < HEADER_BYTES else max(0, self._needed() - have)

    @property
    def held_bytes(self) -> int:
        """Bytes of the unfinished frame that are held."""
        return len(self._carry) if self._carry is not None else 0

    def limit(self, max_bytes: int) -> None:
        """Change the largest frame delivered, from the next header on."""
        self._max_bytes = max_bytes

    def receive(self, data: bytes) -> tuple[list[bytes], list[Oversize]]:
        """Take what was read; return the frames it completes, in order, and those it was found to skip.

        Raises NoFrameError, which holds what came before, when the bytes are no frame. The reader is then spent.
        """
        if self._carry is not None:
            self._carry += data
            if len(self._carry) < HEADER_BYTES or len(self._carry) < self._needed():
                return [], []
            data, self._carry = bytes(self._carry), None
        position = 0
        skipped: list[Oversize] = []
        if self._skip_left:
            position = self._skip(data, 0, skipped)
        frames: list[bytes] = []
        unpack_length = HEADER.unpack_from
        max_bytes, size = self._max_bytes, len(data)
        while size - position >= HEADER_BYTES:
            (length,) = unpack_length(data, position)
            if length > max_bytes:
                if length > LARGEST_HONEST_FRAME:
                    raise _no_frame(data[position : position + 64], length, frames, skipped)
                self._skip_left = self._skip_size = length
                position = self._skip(data, position + HEADER_BYTES, skipped)
                continue
            end = position + HEADER_BYTES + length
            if end > size:
                break
            frames.append(data[position + HEADER_BYTES : end])
            position = end
        if position < size:
            self._carry = bytearray(data[position:])
        return frames, skipped

    def freeze(self) -> FrozenFrames:
        """Return what another reader has to know to go on from here."""
        carry = bytes(self._carry) if self._carry is not None else None
        return FrozenFrames(self._max_bytes, carry, self._skip_left, self._skip_size, self._head)

    @classmethod
    def thaw(cls, frozen: FrozenFrames) -> FrameReader:
        """Return a reader that goes on where the frozen one stopped."""
        reader = cls(frozen.max_bytes)
        reader._carry = bytearray(frozen.carry) if frozen.carry is not None else None
        reader._skip_left, reader._skip_size, reader._head = frozen.skip_left, frozen.skip_size, frozen.head
        return reader

    def _needed(self) -> int:
        """Return the bytes that the carried frame is long, its header included; what is no frame needs no more."""
        (length,) = HEADER.unpack_from(self._carry or b"")
        return HEADER_BYTES + (length if length <= self._max_bytes else 0)

    def _skip(self, data: bytes, position: int, skipped: list[Oversize]) -> int:
        """Pass over what `data` holds of a frame that is too large; return where the next one begins."""
        take = min(self._skip_left, len(data) - position)
        if len(self._head) < HEAD_KEPT:
            self._head += data[position : position + min(take, HEAD_KEPT - len(self._head))]
        self._skip_left -= take
        if self._skip_left == 0:
            skipped.append(Oversize(self._skip_size, self._head))
            self._head = b""
        return position + take


class NoFrameError(RemoteProtocolError):
    """The peer sends something other than frames; `head` is its first bytes, and `frames` and `skipped` came before."""

    def __init__(self, message: str, head: bytes, frames: list[bytes], skipped: list[Oversize]) -> None:
        super().__init__("no-frame", message)
        self.head = head
        self.frames = frames
        self.skipped = skipped


def _no_frame(head: bytes, length: int, frames: list[bytes], skipped: list[Oversize]) -> NoFrameError:
    (swapped,) = struct.unpack_from("<I", head)
    message = f"a frame of {length} bytes was announced, so these are no frames"
    for prefix, what in _STRANGERS:
        if head.startswith(prefix):
            message = f"this looks like {what}, not like SocketHandler's frames"
            break
    else:
        if swapped <= LARGEST_HONEST_FRAME:
            message = f"a frame of {length} bytes was announced (or {swapped} in little-endian)"
    return NoFrameError(message, head, frames, skipped)
