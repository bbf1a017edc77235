"""Signs share links: one query with absolute times, read-only, until a day.

Owns their form and their key. Does not know requests. A link is a signed text (HMAC, RFC 2104), so nothing is stored
for it; a new key makes every link invalid.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from prefork_logd.stores.registry import choose_store, is_searchable
from prefork_logd.web.page_files import SECRET_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.config.settings import Settings
    from prefork_logd.web.page_files import PageFiles

KEY_FILE = "share.key"
PATH = "/share/"
"""A link is the page's URL, this, and the signed text."""
MOST_QUERY = 4000
"""Characters of a query: browsers and proxies take URLs of 8,000."""
_MOST_TEXT = 8192


@dataclass(frozen=True)
class Bounds:
    """The records that the reader of a share link sees; every query is combined with it."""

    q: str
    """In the query language."""
    since: str | None
    until: str | None
    """As "@" and seconds since 1970; None: no bound."""
    store: str | None
    expires: float
    """In seconds since 1970."""
    tz: str | None = None
    """Time zone of times in `q` without one; None: the server's."""


class _Signed(msgspec.Struct, array_like=True):
    expires: float
    q: str
    since: float | None
    until: float | None
    store: str | None = None
    tz: str | None = None


class Shares:
    """The share links of one collector."""

    def __init__(self, files: PageFiles, longest_s: float, clock: Callable[[], float] = time.time) -> None:
        """Allow links that are valid for up to `longest_s` seconds. Raises OSError."""
        self._files = files
        self._key = files.secret(KEY_FILE)
        self._version = files.version(KEY_FILE)
        self._longest_s = longest_s
        self._clock = clock

    def sign(
        self,
        q: str,
        since: float | None,
        until: float | None,
        lifetime_s: float | None = None,
        store: str | None = None,
        tz: str | None = None,
    ) -> tuple[str, float]:
        """Return the text of a link, and when it expires; `since` and `until` are seconds since 1970.

        `tz` is the time zone of times in `q` without one.

        Without `lifetime_s` it is valid as long as it may be. Raises ValueError with a sentence for the user.
        """
        if len(q) > MOST_QUERY:
            raise ValueError(f"the query has more than {MOST_QUERY:,} characters; write a shorter one")
        if lifetime_s is not None and not 0 < lifetime_s <= self._longest_s:
            raise ValueError(f"a link may be valid for {self._longest_s:g} s at most (web.share_lifetime)")
        expires = float(round(self._clock() + (lifetime_s or self._longest_s)))
        data = msgspec.json.encode(_Signed(expires, q, since, until, store, tz))
        return f"{_text(data)}.{_text(self._sign(data))}", expires

    def read(self, text: str) -> Bounds | None:
        """Return the bounds of a link; None if it was not signed here, or has expired."""
        data_text, _, signature = text.partition(".")
        if len(text) > _MOST_TEXT or not text.isascii():
            return None
        try:
            data = _data(data_text)
            if not hmac.compare_digest(self._sign(data), _data(signature)):
                return None
            signed = msgspec.json.decode(data, type=_Signed)
        except (binascii.Error, ValueError):
            return None
        if self._clock() >= signed.expires:
            return None
        return Bounds(signed.q, _time(signed.since), _time(signed.until), signed.store, signed.expires, signed.tz)

    def withdraw_all(self) -> None:
        """Make every link invalid, also for a page that runs. Raises OSError."""
        self._files.write(KEY_FILE, secrets.token_bytes(SECRET_BYTES))

    def _sign(self, data: bytes) -> bytes:
        version = self._files.version(KEY_FILE)
        if version != self._version:
            self._key, self._version = self._files.secret(KEY_FILE), version
        return hmac.digest(self._key, b"share:" + data, "sha256")


def store_of_link(settings: Settings, name: str | None) -> str | None:
    """Return the name of the store that a link is bound to; None if none can be searched.

    Raises StoreError for the name of a store that there is not.
    """
    if name is None and not any(map(is_searchable, settings.store)):
        return None
    return choose_store(settings, name).name


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else f"@{seconds:.6f}"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _data(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def parameters_of(bounds: Bounds) -> dict[str, Any]:
    """Return the parameters with which the page shows the records of a link."""
    # Without `since` the page searches the last hour.
    since = bounds.since or "all"
    given = {"q": bounds.q, "since": since, "until": bounds.until, "tz": bounds.tz, "store": bounds.store}
    return {name: value for name, value in given.items() if value}
