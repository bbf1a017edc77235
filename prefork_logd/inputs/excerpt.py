"""Keeps the beginning and the end of a record that is too large to be held whole.

Owns how much is kept of each. Does not know protocols, pickles or sockets: an input finds where the record begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from prefork_logd.inputs.base import HEAD_KEPT, TooLarge

if TYPE_CHECKING:
    from typing import Self

TAIL_BYTES = 65_536
"""Bytes that are kept of the end of a record that is too large, or a quarter of the largest record."""


class Excerpt(msgspec.Struct):
    """A record of which the middle is passed over, as far as it has arrived."""

    size: int
    """Bytes of the whole record."""
    left: int
    """Number of them that have not arrived yet."""
    body_bytes: int
    """Bytes that are kept of the beginning; 0: only its head."""
    head: bytes = b""
    body: bytearray = msgspec.field(default_factory=bytearray)
    tail: bytearray = msgspec.field(default_factory=bytearray)
    """The latest bytes, at least those of the end that is kept."""

    @classmethod
    def begin(cls, size: int, max_bytes: int) -> Self:
        """Return the excerpt of a record of `size` bytes, which keeps `max_bytes` (at least two)."""
        return cls(size, size, max(1, max_bytes - min(TAIL_BYTES, max_bytes // 4)))

    @property
    def held_bytes(self) -> int:
        """Bytes that are held."""
        return len(self.body) + len(self.tail)

    def take(self, data: memoryview) -> int:
        """Take the record's next bytes from the beginning of `data`; return their number."""
        data = data[: self.left]
        if len(self.head) < HEAD_KEPT:
            self.head += data[: HEAD_KEPT - len(self.head)]
        if self.body_bytes:
            room = self.body_bytes - len(self.body)
            self.body += data[:room]
            self.tail += data[room:]
            self.trim_tail(4)
        self.left -= len(data)
        return len(data)

    def trim_tail(self, most: int) -> None:
        """Pass over what comes before the end that is kept, if there is more than `most` times of that end."""
        if len(self.tail) > most * self._tail_bytes:
            self.pass_over(bytes(self.tail[: -self._tail_bytes]))
            del self.tail[: -self._tail_bytes]

    def pass_over(self, data: bytes) -> None:
        """Take bytes of the middle, in order; a subclass may look at them."""

    def to_event(self, number: int) -> TooLarge:
        """Return the event of the record, once nothing of it is left; `number` is 0 without numbers."""
        return TooLarge(number, self.size, self.head, bytes(self.body + self.tail[-self._tail_bytes :]), len(self.body))

    @property
    def _tail_bytes(self) -> int:
        """Bytes that are kept of the end: a third of the beginning, or less."""
        return max(1, min(TAIL_BYTES, self.body_bytes // 3))
