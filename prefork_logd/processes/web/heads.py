"""Bounds the lines and the length of the head of a request and of its trailers, and the chunks of its body.

Does not know requests (server.py), or when a head is read (turns.py).

h11 needs up to 40 ms for a head of 32 KiB with 8,000 lines, and 8 ms for one long line. Its own bound holds for a head
whose end has not come: asyncio may receive 256 KiB at once, which would take 0.2 s. It needs some 50 microseconds for a
chunk, however small that is: a megabyte of chunks of one byte would stop the page for 10 s.
"""

from __future__ import annotations

import re
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
_BLANK_LINE = re.compile(rb"\n\r?\n")
_LAST_CHUNK = re.compile(rb"[\r\n]*0+[ \t]*(?:;[^\n]*)?\r?(?=\n)")
"""What stands before the trailers of a body, from the end of the chunk before it."""


class BoundedHeads(h11.Connection):
    """The server's side of a connection, which refuses heads and trailers that are too large, and too many chunks."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MOST_HEAD_BYTES)
        self._chunks = 0
        """Chunks of the present body so far."""
        self._is_between_chunks = self._has_last_chunk = False

    def next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | Event:
        """Return the next event.

        Raises h11.RemoteProtocolError for a head or trailers that are too large, before they are read, and for too many
        chunks.
        """
        if self.their_state is h11.IDLE:
            self._chunks, self._is_between_chunks, self._has_last_chunk = 0, False, False
            _check_lines(self.trailing_data[0])
        elif self._is_between_chunks:
            self._check_trailers(self.trailing_data[0])
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._is_between_chunks = any(name == b"transfer-encoding" for name, _ in event.headers)
        elif isinstance(event, h11.Data):
            self._is_between_chunks = event.chunk_end
            self._chunks += event.chunk_start
            if self._chunks > MOST_CHUNKS:
                raise h11.RemoteProtocolError("too many chunks", _CONTENT_TOO_LARGE)
        elif isinstance(event, h11.EndOfMessage):
            self._is_between_chunks = False
        return event

    def _check_trailers(self, received: bytes) -> None:
        last = None if self._has_last_chunk else _LAST_CHUNK.match(received)
        if last is not None:
            self._has_last_chunk = True
            _check_lines(received[last.end() :])
        elif self._has_last_chunk:
            _check_lines(b"\n" + received)


def _check_lines(received: bytes) -> None:
    """Raise h11.RemoteProtocolError if a head, or as much of one as has come, is too large."""
    end = _BLANK_LINE.search(received, 0, MOST_HEAD_BYTES)
    if received.count(b"\n", 0, MOST_HEAD_BYTES if end is None else end.start()) > MOST_HEAD_LINES:
        raise h11.RemoteProtocolError("too many header lines", _TOO_LARGE)
    if end is None and len(received) > MOST_HEAD_BYTES:
        raise h11.RemoteProtocolError("the header lines are too long", _TOO_LARGE)
