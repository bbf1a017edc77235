"""Finds who has really sent a request that came through a reverse proxy.

Believes headers of trusted proxies only (web.trusted_proxies). Does not know users.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from prefork_logd.config.web import network_of

if TYPE_CHECKING:
    from starlette.types import Scope

    from prefork_logd.config.web import WebSettings

UNIX = "unix"
"""Stands for the peers of Unix sockets, which have no address."""
_MOST_HOPS = 20


class Proxies:
    """The trusted proxies."""

    def __init__(self, settings: WebSettings) -> None:
        self._networks = [network for text in settings.trusted_proxies if (network := network_of(text)) is not None]
        self._trusts_unix = UNIX in settings.trusted_proxies
        self._header = settings.proxy_header

    def trusts(self, address: str) -> bool:
        """Tell whether an address, or UNIX, is that of a trusted proxy."""
        if address == UNIX:
            return self._trusts_unix
        try:
            number = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(number, "ipv4_mapped", None) or number
        return any(mapped in network for network in self._networks if network.version == mapped.version)

    def client(self, scope: Scope) -> str:
        """Return the address from which a request came: the last one that no trusted proxy has."""
        address = peer(scope)
        hops = ",".join(Headers(scope=scope).getlist("x-forwarded-for")).split(",")
        for hop in reversed(hops[-_MOST_HOPS:]):
            if not self.trusts(address) or not hop.strip():
                break
            address = hop.strip()[:64]
        return address

    def is_secure(self, scope: Scope) -> bool:
        """Tell whether the browser has sent a request over TLS."""
        if scope["scheme"] == "https":
            return True
        forwarded = Headers(scope=scope).getlist("x-forwarded-proto")
        return self.trusts(peer(scope)) and [one.strip().lower() for one in forwarded] == ["https"]

    def user(self, scope: Scope) -> str:
        """Return the user whom a trusted proxy has authenticated; empty for none.

        A header that comes twice is not believed: one of them may be the client's.
        """
        if not self._header or not self.trusts(peer(scope)):
            return ""
        named = Headers(scope=scope).getlist(self._header.lower())
        return named[0].strip()[:200] if len(named) == 1 else ""


def peer(scope: Scope) -> str:
    """Return the address of a connection's other end."""
    client = scope.get("client")
    return str(client[0]) if client else UNIX
