"""Declares the headers that keep a browser from harm, and refuses requests for foreign host names.

Owns the policy of content, and the names under which the page may be reached. Does not know users.

A page of an attacker can let its own host name lead to a loopback address (DNS rebinding). The browser then sends the
attacker's name in `Host`, so only known names are answered.
"""

from __future__ import annotations

import ipaddress
import re
from email.utils import formatdate
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

from prefork_logd.config.values import split_address
from prefork_logd.config.web import is_loopback
from prefork_logd.web.refusal import refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from prefork_logd.config.web import WebSettings

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_NOT_KEPT = "no-store"
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,255}))(?::\d{1,5})?")
"""No other sign: a `/` in it would change the path of URLs that are made of it."""


def make_safe(message: Message) -> None:
    """Add the headers to the first message of an answer."""
    headers = MutableHeaders(scope=message)
    for name, value in HEADERS.items():
        headers[name] = value
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.setdefault("Cache-Control", _NOT_KEPT)
    headers.setdefault("Date", formatdate(usegmt=True))


class KnownHosts:
    """The application for known host names."""

    def __init__(self, application: ASGIApp, settings: WebSettings) -> None:
        self._application = application
        self._names = HostNames(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) != 1 or not self._names.has(hosts[0]):
            shown = "".join(char for char in "".join(hosts)[:100] if char.isalnum() or char in ".-:[]")
            sentence = f"this page does not answer for the host name {shown!r}; add it to web.hosts if it is yours"
            await refusal(scope["path"], 421, sentence)(scope, receive, send)
            return
        await self._application(scope, receive, send)


class HostNames:
    """The names under which the page may be reached, in any case and with any port."""

    def __init__(self, settings: WebSettings) -> None:
        places = [split_address(address) for address in settings.bind]
        bound = [place[0] for place in places if not isinstance(place, str)]
        self._names = {name.strip("[]").rstrip(".").lower() for name in (*bound, *settings.hosts)}
        # An address cannot be rebound; only names can.
        self._takes_addresses = any(_is_wildcard(host) for host in bound)

    def has(self, host: str) -> bool:
        """Tell whether a value of the header `Host` names the page."""
        name = host_name(host)
        if not name:
            return False
        return name in self._names or is_loopback(name) or (self._takes_addresses and _is_address(name))


def host_name(host: str) -> str:
    """Return the name in a value of the header `Host`, without brackets and port; empty if it is malformed."""
    match = _HOST.fullmatch(host)
    return (match[1] or match[2]).rstrip(".").lower() if match is not None else ""


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
