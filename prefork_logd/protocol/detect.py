"""Which protocol a connection speaks, told from its first byte.

Owns the table of protocols that share a port. Knows no sockets.

No stdlib frame begins with a byte above 0x0f (framing.LARGEST_HONEST_FRAME), so any protocol whose first byte is larger
can share the port with SocketHandler; a connection pays for the choice once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from prefork_logd.protocol.framing import FrameReader, Oversize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Receiver(Protocol):
    """What every protocol offers to the connection that carries it."""

    @property
    def pending(self) -> bool:
        """Whether a record has begun and not ended: its deadline runs."""

    @property
    def held_bytes(self) -> int:
        """Bytes held until more arrive."""

    def limit(self, max_bytes: int) -> None:
        """Change the largest record taken."""

    def receive(self, data: bytes) -> tuple[list[bytes], list[Oversize]]:
        """Take what was read; return whole frames, and those skipped. Raises RemoteProtocolError."""


PROTOCOLS: Mapping[int, Callable[[int], Receiver]] = {}
"""First byte on the wire to protocol, for those other than SocketHandler's frames."""


def choose(data: bytes, max_bytes: int) -> Receiver:
    """Return the receiver for a connection whose first bytes are `data` (one or more)."""
    return PROTOCOLS.get(data[0], FrameReader)(max_bytes)
