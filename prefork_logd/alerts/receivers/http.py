"""Posts a body to an address by HTTP/1.1, within a time, and follows redirects that are safe.

Owns the connection, its bounds and the check of addresses. Does not know notices.

The first address is the operator's word, also a private one. A redirect comes from outside: it leads to no private,
loopback or link-local address, unless that is allowed, so that a receiver cannot make the collector speak with hosts
that only it can reach (CWE-918). The address that was checked is the one that is connected to. Only 307 and 308 are
followed: the others would turn the POST into a GET (RFC 9110, 15.4).
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import ipaddress
import ssl
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

from prefork_logd import __version__
from prefork_logd.alerts.receivers.connecting import connect
from prefork_logd.alerts.receivers.ending import ending
from prefork_logd.alerts.receivers.failures import MOST_ANSWER_BYTES, SendError, shown
from prefork_logd.config.receivers import url_problem

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

MOST_REDIRECTS = 3
MOST_RETRY_AFTER_S = 3_600.0
_FOLLOWED = (307, 308)
_BUSY = (408, 425, 429)
"""Statuses by which a receiver asks for another attempt, besides 5xx."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_SPECIAL = (ipaddress.ip_network("3fff::/20"), ipaddress.ip_network("192.0.0.0/24"))
"""Special addresses (RFC 9637, RFC 6890) that a Python may take for global ones."""


class Answer(NamedTuple):
    """What the receiver has answered."""

    status: int
    reason: str
    location: str
    retry_after: str
    body: bytes
    """Its beginning, unless the status is one of success."""


def post(url: str, body: bytes, headers: Mapping[str, str], timeout_s: float, *, allow_private: bool) -> str:
    """Post a body; return the status of the answer as text. Raises SendError, also for an answer that is a failure.

    `headers` with the name Authorization are not sent to another host. The time covers everything, also redirects.
    """
    ends_s = time.monotonic() + timeout_s
    origin = urlsplit(url)
    target = origin
    for _ in range(MOST_REDIRECTS + 1):
        is_origin = (target.scheme, target.netloc) == (origin.scheme, origin.netloc)
        allowed = is_origin or allow_private
        kept = {name: text for name, text in headers.items() if is_origin or name != "Authorization"}
        answer = _post_once(target, body, kept, ends_s, allow_private=allowed)
        if answer.status not in _FOLLOWED:
            return _judged(answer)
        target = _redirected(target, answer.location)
    raise SendError(f"redirects more than {MOST_REDIRECTS} times")


def _judged(answer: Answer) -> str:
    status = f"{answer.status} {shown(answer.reason.encode())}".strip()
    if 200 <= answer.status < 300:
        return status
    if 300 <= answer.status < 400:
        raise SendError(f"{status}: the address has moved; write the new one", is_refusal=True)
    what = f"{status}: {text}" if (text := shown(answer.body)) else status
    is_busy = answer.status >= 500 or answer.status in _BUSY
    raise SendError(what, retry_after_s=_retry_after_s(answer.retry_after), is_refusal=not is_busy)


def _retry_after_s(text: str) -> float:
    """Return the seconds of a Retry-After (RFC 9110, 10.2.3), at most an hour; 0 for one that cannot be read."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MOST_RETRY_AFTER_S)
    try:
        seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), MOST_RETRY_AFTER_S)


def _redirected(target: SplitResult, location: str) -> SplitResult:
    try:
        found = urljoin(target.geturl(), location)
        parts = urlsplit(found)
    except ValueError:
        raise SendError("redirects to something that is not an address") from None
    if not location or url_problem(found):
        raise SendError("redirects to something that is not an address")
    if target.scheme == "https" and parts.scheme != "https":
        raise SendError(f"redirects from https to http ({parts.hostname}), which is not followed")
    return parts


def _post_once(
    target: SplitResult, body: bytes, headers: Mapping[str, str], ends_s: float, *, allow_private: bool
) -> Answer:
    host = target.hostname or ""
    port = target.port or (443 if target.scheme == "https" else 80)
    path = f"{target.path or '/'}{f'?{target.query}' if target.query else ''}"
    sent = {"User-Agent": f"prefork-logd/{__version__}", "Connection": "close", **headers}
    check = (lambda _: None) if allow_private else _refuse_private
    connection = http.client.HTTPConnection(host, port)
    connection.default_port = 443 if target.scheme == "https" else 80  # for the header Host
    try:
        with (
            contextlib.closing(connect(host, port, ends_s, check)) as plain,
            ending(plain, ends_s),
        ):
            connection.sock = _secured(plain, host) if target.scheme == "https" else plain
            with contextlib.closing(connection):
                connection.request("POST", path, body, sent)
                response = connection.getresponse()
                is_good = 200 <= response.status < 300
                # A receiver may send a body for ever, or leave the connection open: the status is the answer.
                return Answer(
                    response.status,
                    response.reason,
                    response.getheader("Location", ""),
                    response.getheader("Retry-After", ""),
                    b"" if is_good else _beginning(response),
                )
    except ssl.SSLCertVerificationError as error:
        raise SendError(f"{host}: its certificate is not trusted ({error.verify_message})") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= ends_s:
            raise SendError(f"{host}: no answer in time") from error
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise SendError(f"{host}: {shown(why.encode())}") from error


def _beginning(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(MOST_ANSWER_BYTES)
    except (OSError, http.client.HTTPException, ValueError):
        return b""


def _refuse_private(address: str) -> None:
    if is_private(address):
        raise SendError(f"redirects to a private address, {address}, which is not followed (allow_private)")


def is_private(address: str) -> bool:
    """Tell whether an IP address is not one of the public internet."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)
        if inner is not None:
            return is_private(str(inner))
        if found not in _GLOBAL_UNICAST:
            return True
    return any(found in network for network in _SPECIAL) or not found.is_global or found.is_multicast


def _secured(plain: socket.socket, host: str) -> ssl.SSLSocket:
    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
