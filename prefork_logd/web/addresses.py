"""Writes the page's addresses as URLs for people.

Does not know sockets.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from prefork_logd.config.values import split_address

if TYPE_CHECKING:
    from collections.abc import Iterable


def page_urls(addresses: Iterable[str], scheme: str, token: str = "") -> list[str]:
    """Return the URL of each address, with a one-time token if there is one; a Unix socket is named as it is.

    A wildcard address is reached at the loopback of its family.
    """
    found = []
    for address in addresses:
        place = split_address(address)
        if isinstance(place, str):
            found.append(address)
            continue
        query = f"?token={token}" if token else ""
        found.append(f"{scheme}://{_reachable(place[0])}:{place[1]}/{query}")
    return list(dict.fromkeys(found))


def _reachable(host: str) -> str:
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return host
    if number.is_unspecified:
        return "127.0.0.1" if number.version == 4 else "[::1]"
    return host if number.version == 4 else f"[{host}]"
