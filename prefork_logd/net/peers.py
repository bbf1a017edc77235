"""Maps a connection's address to the peer for which it counts in fair sharing, and to the host of its records.

Owns the numbers that stand for peers. Does not know connections.

A peer is an address of IPv4, a network of 64 bits of IPv6 (one host may use all of its addresses), or a user on a Unix
socket.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import zlib

_V4, _UNIX, _OTHER = 1 << 32, 2 << 32, 3 << 32
"""No IPv6 network in use has one of these numbers."""


def peer_key(peer: str) -> int:
    """Return the number, of 64 bits, that stands for the peer of a connection, from its text by listener.peer_text."""
    if peer.startswith("unix:"):
        uid = peer.rpartition("uid=")[2]
        return _UNIX | (int(uid) & 0xFFFF_FFFF) if uid.lstrip("-").isdigit() else _UNIX
    return _address_key(peer.rpartition(":")[0])


def peer_host(peer: str) -> str:
    """Return the host of a peer, from its text by listener.peer_text: its address; ours for one on a Unix socket."""
    return _own_host() if peer.startswith("unix:") else peer.rpartition(":")[0].strip("[]")


@functools.lru_cache(maxsize=4096)
def peer_address(peer: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address of a peer, from its text by listener.peer_text; None for one on a Unix socket."""
    try:
        return ipaddress.ip_address(peer.rpartition(":")[0].strip("[]").partition("%")[0])
    except ValueError:
        return None


def peer_client(peer: str) -> str:
    """Return the peer for which a connection counts, as a text: an address, a network of 64 bits, or a user."""
    address = peer_address(peer)
    if address is None:
        return f"unix:uid={peer.rpartition('uid=')[2]}"
    return str(address) if address.version == 4 else str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


@functools.lru_cache(maxsize=1)
def _own_host() -> str:
    return socket.gethostname()


@functools.lru_cache(maxsize=4096)
def _address_key(host: str) -> int:
    host = host.strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _OTHER | zlib.crc32(host.encode(errors="replace"))
    return _V4 | int(address) if address.version == 4 else int(address) >> 64
