"""Which protocol a connection speaks, told from its first byte.

Owns the table of protocols that share a port. Knows no sockets.

No stdlib frame begins with a byte above 0x0f (framing.LARGEST_HONEST_FRAME), so any protocol whose first byte is larger
can share the port with SocketHandler; a connection pays for the choice once.
"""

from __future__ import annotations

from typing import Protocol

from prefork_logd.protocol.framing import FrameReader
from prefork_logd.protocol.messages import FIRST_BYTE
from prefork_logd.protocol.session import ServerSession

BATCH_BYTES = 1 << 20
"""What a client may put into one batch, on top of the largest record."""


class Receiver(Protocol):
    """What every protocol offers to the connection that carries it, besides its own `receive`."""

    @property
    def pending(self) -> bool:
        """Whether a record has begun and not ended: its deadline runs."""

    @property
    def held_bytes(self) -> int:
        """Bytes held until more arrive."""

    def limit(self, max_bytes: int) -> None:
        """Change the largest record taken."""


def choose(data: bytes | memoryview, max_record_bytes: int) -> FrameReader | ServerSession:
    """Return the receiver for a connection whose first bytes are `data` (one or more)."""
    if data[0] == FIRST_BYTE:
        return ServerSession(max_record_bytes, max_record_bytes + BATCH_BYTES)
    return FrameReader(max_record_bytes)
