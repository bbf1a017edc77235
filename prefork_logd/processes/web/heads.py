"""Bounds the lines and the length of the head of a request, and the chunks of its body.

Does not know requests (server.py), or when a head is read (turns.py).

h11 needs up to 40 ms for a head of 32 KiB with 8,000 lines, and 8 ms for one long line. It needs some 50 microseconds
for a chunk, however small that is: a megabyte of chunks of one byte would stop the page for 10 s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

if TYPE_CHECKING:
    from h11 import Event

MOST_HEAD_BYTES = 32_768
MOST_HEAD_LINES = 128
"""Lines of a head, those of a folded header (RFC 9112, section 5.2) included. Browsers send about 20."""
MOST_CHUNKS = 256
"""Chunks of a body (RFC 9112, section 7.1). Clients send a chunk for each buffer that they fill."""
_TOO_LARGE = 431
"""Request Header Fields Too Large (RFC 6585, section 5)."""
_CONTENT_TOO_LARGE = 413
"""Content Too Large (RFC 9110, section 15.5.14)."""


class BoundedHeads(h11.Connection):
    """The server's side of a connection, which refuses heads of too many lines and bodies of too many chunks."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MOST_HEAD_BYTES)
        self._chunks = 0
        """Chunks of the present body so far."""

    def next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | Event:
        """Return the next event.

        Raises h11.RemoteProtocolError for a head of too many lines, before it is read, and for too many chunks.
        """
        if self.their_state is h11.IDLE:
            received, _ = self.trailing_data
            if _lines_of_head(received) > MOST_HEAD_LINES:
                raise h11.RemoteProtocolError("too many header lines", _TOO_LARGE)
            self._chunks = 0
        event = super().next_event()
        if isinstance(event, h11.Data) and event.chunk_start:
            self._chunks += 1
            if self._chunks > MOST_CHUNKS:
                raise h11.RemoteProtocolError("too many chunks", _CONTENT_TOO_LARGE)
        return event


def _lines_of_head(received: bytes) -> int:
    """Return the number of lines in a head, or in as much of one as has come."""
    end = received.find(b"\n\r\n", 0, MOST_HEAD_BYTES)
    end = MOST_HEAD_BYTES if end < 0 else end
    blank = received.find(b"\n\n", 0, end)
    return received.count(b"\n", 0, end if blank < 0 else blank)
