"""Declares the settings of `[web]`, the page in the browser, and of `[[web.user]]`, those who may log in there.

Owns their types, defaults, bounds and help, and the form of a password's hash. Opens no socket, and does not hash.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from msgspec import Meta

from prefork_logd.config.values import (
    TableSettings,
    TimedSettings,
    address_problems,
    durations,
    is_positive,
    split_address,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_ADDRESS = "127.0.0.1:9021"
"""The page's address by default. If another program has it, the collector runs without the page."""
MAX_USERS = 1000
USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
NAME_FORM = "1 to 64 letters, digits and . _ @ + -, the first a letter or digit"
_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})?)*\.?")
_SCRYPT = re.compile(r"scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")


class ScryptHash(NamedTuple):
    """A password's hash by scrypt (RFC 7914), with its parameters."""

    log_n: int
    """The base-2 logarithm of scrypt's cost N."""
    r: int
    p: int
    salt: bytes
    key: bytes


def parse_hash(text: str) -> ScryptHash:
    """Read "scrypt$ln=15,r=8,p=1$SALT$KEY". Raises ValueError with a sentence for the user.

    The bounds keep the cost of a log-in below 256 MiB and about a second.
    """
    match = _SCRYPT.fullmatch(text)
    remedy = "make one with: prefork-logd web user NAME"
    if match is None:
        raise ValueError(f'is not a hash of the form "scrypt$ln=15,r=8,p=1$SALT$KEY"; {remedy}')
    log_n, r, p = int(match[1]), int(match[2]), int(match[3])
    if not (10 <= log_n <= 18 and 1 <= r <= 16 and 1 <= p <= 4 and log_n + r.bit_length() <= 22):
        raise ValueError(f"has parameters out of range: ln 10 to 18, r 1 to 16, p 1 to 4; {remedy}")
    try:
        salt, key = (base64.b64decode(part + "=" * (-len(part) % 4), validate=True) for part in match.group(4, 5))
    except binascii.Error:
        raise ValueError(f"holds a salt or a key that is not Base64; {remedy}") from None
    if not (16 <= len(salt) <= 64 and 32 <= len(key) <= 64):
        raise ValueError(f"needs a salt of 16 to 64 bytes and a key of 32 to 64; {remedy}")
    return ScryptHash(log_n, r, p, salt, key)


class WebUserSettings(TableSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody who may log in to the page. `prefork-logd web user NAME` adds one."""

    name: Annotated[str, Meta(description="Name to log in with; each name once.")] = ""
    password: Annotated[
        str,
        Meta(description="Hash of the password by scrypt, as `prefork-logd web user` makes it; never the password."),
    ] = ""
    role: Annotated[
        Literal["viewer", "admin"],
        Meta(
            description='"viewer" reads records and the state of the collector; "admin" also sees its configuration '
            "and rejected records, removes what others have saved, and changes groups of errors and alerts."
        ),
    ] = "viewer"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        if not USER_NAME.fullmatch(self.name):
            yield "name", f"needs {NAME_FORM}"
        try:
            parse_hash(self.password)
        except ValueError as error:
            yield "password", str(error)


class WebSettings(TimedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The page: search, live tail and the state of the collector in a browser, and its HTTP API."""

    DURATIONS = durations(deadline=None, longest_deadline=None, session_lifetime=None, share_lifetime=None)

    bind: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses of the page, as in server.bind; `bind = []`: no page. An address other than "
            "loopback or a Unix socket demands a `[[web.user]]` or `proxy_header`. If another program has the default "
            "address, the collector warns and runs without the page; any other address has to be free."
        ),
    ] = (DEFAULT_ADDRESS,)
    hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Names under which browsers reach the page, besides those of `bind` and loopback, such as "
            '"logs.example.org". Requests for other names are refused, which stops DNS rebinding.'
        ),
    ] = ()
    certificate: Annotated[
        str,
        Meta(description="File with the TLS certificate and its chain (PEM), relative to state_dir. Empty: no TLS."),
    ] = ""
    key: Annotated[
        str, Meta(description="File with the private key of `certificate` (PEM), relative to state_dir.")
    ] = ""
    proxy_header: Annotated[
        str,
        Meta(
            description="Header in which a reverse proxy names the user whom it has authenticated, such as "
            '"X-Forwarded-User"; believed from `trusted_proxies` only. Empty: none.'
        ),
    ] = ""
    proxy_role: Annotated[
        Literal["viewer", "admin"],
        Meta(description="Role of users whom the proxy names; one with a `[[web.user]]` has the role given there."),
    ] = "viewer"
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description='Addresses or networks of reverse proxies, and "unix" for the page\'s Unix sockets. From these '
            "`proxy_header`, X-Forwarded-For and X-Forwarded-Proto are believed."
        ),
    ] = ()
    searches: Annotated[
        int,
        Meta(ge=1, le=64, description="Searches that run at once; further ones wait a moment and are then refused."),
    ] = 2
    deadline: Annotated[str, Meta(description="Time that a search may take, if it does not ask for another.")] = "10s"
    longest_deadline: Annotated[str, Meta(description="Longest time that a search may ask for.")] = "60s"
    max_connections: Annotated[
        int,
        Meta(
            ge=8,
            le=100_000,
            description="Most connections of browsers and API clients; one address may hold half of them.",
        ),
    ] = 1000
    memory_bytes: Annotated[
        int,
        Meta(
            ge=256 << 20,
            le=1 << 40,
            description="Most memory of the page's process; a request that needs more fails.",
        ),
    ] = 1 << 30
    session_lifetime: Annotated[str, Meta(description="Time after which a browser has to log in again.")] = "7d"
    share_lifetime: Annotated[str, Meta(description="Longest time for which a share link is valid.")] = "30d"
    user: Annotated[tuple[WebUserSettings, ...], Meta(description="The tables `[[web.user]]`.")] = ()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        for sentence in address_problems(self.bind):
            yield "bind", sentence
        for host in self.hosts:
            if not _is_host(host):
                yield "hosts", f'{host!r:.100} is not a host name; write it without a port, such as "logs.example.org"'
        if bool(self.certificate) != bool(self.key):
            yield "certificate" if self.key else "key", "is missing; TLS needs both files"
        if self.proxy_header and not _HEADER_NAME.fullmatch(self.proxy_header):
            yield "proxy_header", 'is not the name of a header; write one such as "X-Forwarded-User"'
        if self.proxy_header and not self.trusted_proxies:
            yield "trusted_proxies", "is empty, so everybody could send proxy_header; name the proxy's address"
        for proxy in self.trusted_proxies:
            if proxy != "unix" and network_of(proxy) is None:
                yield "trusted_proxies", f'{proxy!r:.100} is not an address, a network such as "10.0.0.0/8", or "unix"'
        for key in self.DURATIONS:
            yield from self.duration_problems(key, is_positive, 'must be longer than 0, such as "10s"')

    @property
    def deadline_s(self) -> float:
        """`deadline` in seconds, at most `longest_deadline`."""
        return min(self.seconds("deadline"), self.longest_deadline_s)

    @property
    def longest_deadline_s(self) -> float:
        """`longest_deadline` in seconds."""
        return self.seconds("longest_deadline")

    @property
    def session_lifetime_s(self) -> float:
        """`session_lifetime` in seconds."""
        return self.seconds("session_lifetime")

    @property
    def share_lifetime_s(self) -> float:
        """`share_lifetime` in seconds."""
        return self.seconds("share_lifetime")

    @property
    def is_by_default(self) -> bool:
        """Whether the page is where an empty configuration puts it."""
        return self.bind == (DEFAULT_ADDRESS,)

    @property
    def is_public(self) -> bool:
        """Whether other hosts can reach an address of the page."""
        return any(not is_local(address) for address in self.bind)

    @property
    def scheme(self) -> str:
        """The scheme of the page's own URLs."""
        return "https" if self.certificate else "http"


def is_local(address: str) -> bool:
    """Tell whether only this host can reach an address; also True for one that cannot be read."""
    try:
        place = split_address(address)
    except ValueError:
        return True
    return isinstance(place, str) or is_loopback(place[0])


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address, without brackets, is this host's loopback."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def network_of(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Return the network that an address or a network such as "10.0.0.0/8" stands for; None for another text."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _is_host(host: str) -> bool:
    if len(host) <= 253 and _HOST_NAME.fullmatch(host):
        return True
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
