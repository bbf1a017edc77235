"""Keeps the tokens of API clients: names, roles and hashes.

Owns their file. The command line writes it; the page reads it again when it has changed. Does not know requests.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from prefork_logd.system.own_files import open_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_logd.web.page_files import PageFiles

FILE = "tokens.json"
_LOCK = "tokens.lock"
MOST = 1000
PREFIX = "plt_"
"""Begins every token, so that scanners for leaked secrets can find one."""
_BYTES = 32


class ApiToken(msgspec.Struct, frozen=True):
    """One token of an API client."""

    name: str
    role: str
    created: float
    expires: float | None
    """In seconds since 1970; None: never."""
    hash: str


class Tokens:
    """The tokens of one collector."""

    def __init__(self, files: PageFiles, clock: Callable[[], float] = time.time) -> None:
        self._files = files
        self._clock = clock
        self._version: tuple[int, int, int] | None = None
        self._by_hash: dict[str, ApiToken] = {}

    def find(self, token: str) -> ApiToken | None:
        """Return the entry of a token; None if it is unknown or too old. Raises OSError for a file that is unreadable.

        The token's hash is looked up, so the time of the look-up reveals nothing about other tokens.
        """
        version = self._files.version(FILE)
        if version != self._version:
            self._by_hash = {one.hash: one for one in self.all()}
            self._version = version
        found = self._by_hash.get(_hash(token))
        return found if found is not None and (found.expires is None or self._clock() < found.expires) else None

    def all(self) -> list[ApiToken]:
        """Return every token, the oldest first. Raises OSError."""
        try:
            return msgspec.json.decode(self._files.read(FILE) or b"[]", type=list[ApiToken])
        except msgspec.MsgspecError as error:
            raise OSError(0, f"is not a list of tokens: {error}; remove it", str(self._files.path(FILE))) from error

    def add(self, name: str, role: str, lifetime_s: float | None) -> str:
        """Return a new token. Raises ValueError with a sentence for the user, OSError."""
        with self._locked():
            kept = self.all()
            if any(one.name == name for one in kept):
                raise ValueError(f"there is a token {name!r} already; remove it first, or choose another name")
            if len(kept) >= MOST:
                raise ValueError(f"there are {MOST} tokens, which is the limit; remove some")
            token = PREFIX + secrets.token_urlsafe(_BYTES)
            now = self._clock()
            expires = None if lifetime_s is None else now + lifetime_s
            self._write([*kept, ApiToken(name, role, now, expires, _hash(token))])
        return token

    def remove(self, name: str) -> bool:
        """Remove a token; return whether there was one. Raises OSError."""
        with self._locked():
            kept = self.all()
            left = [one for one in kept if one.name != name]
            if len(left) < len(kept):
                self._write(left)
        return len(left) < len(kept)

    def _write(self, tokens: list[ApiToken]) -> None:
        self._files.write(FILE, msgspec.json.encode(tokens))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from changing the file."""
        if not self._files.directory.is_dir():
            self._files.write(FILE, b"[]")
        fd = open_lock(self._files.path(_LOCK))
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
