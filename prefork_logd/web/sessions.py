"""Keeps the sessions of browsers: who logged in, how, and until when. They survive a restart of the page.

Owns their file, which holds hashes of the ids, and their number. Does not know cookies or passwords.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
import time
from typing import TYPE_CHECKING

import msgspec

from prefork_logd.errors import describe_unexpected
from prefork_logd.system.log import LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.web.page_files import PageFiles

FILE, KEY_FILE = "sessions.json", "session.key"
MOST_OF_A_USER = 50
"""Above it, a new session of a user takes the place of the oldest one."""
_ID_BYTES = 32


class Session(msgspec.Struct, frozen=True):
    """Somebody who has logged in from one browser."""

    user: str
    by: str
    """How: "token" or "password"."""
    mark: str
    """Of the password (users.password_mark); empty for a token."""
    created: float
    expires: float
    """In seconds since 1970."""


class Sessions:
    """The sessions of the page, by hashes of their ids: who reads the file cannot use them."""

    def __init__(self, files: PageFiles, lifetime_s: float, clock: Callable[[], float] = time.time) -> None:
        """Read the sessions of earlier processes. A file that cannot be read is as good as none. Raises OSError."""
        self._files = files
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._key = files.secret(KEY_FILE)
        self._sessions: dict[str, Session] = {}
        try:
            self._sessions = msgspec.json.decode(files.read(FILE) or b"{}", type=dict[str, Session])
        except (OSError, msgspec.MsgspecError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            LOGGER.warning("%s: cannot be read, so everybody has to log in again: %s", files.path(FILE), why)

    @property
    def label(self) -> str:
        """A short text that belongs to this collector: browsers send cookies to all ports of a host."""
        return hmac.digest(self._key, b"label", "sha256").hex()[:8]

    def begin(self, user: str, by: str, mark: str = "") -> str:
        """Return the id of a new session."""
        now = self._clock()
        self._sessions = {key: one for key, one in self._sessions.items() if one.expires > now}
        own = sorted((one.created, key) for key, one in self._sessions.items() if one.user == user)
        for _, key in own[: max(0, len(own) + 1 - MOST_OF_A_USER)]:
            del self._sessions[key]
        session_id = secrets.token_urlsafe(_ID_BYTES)
        self._sessions[_hash(session_id)] = Session(user, by, mark, now, now + self._lifetime_s)
        self._save()
        return session_id

    def find(self, session_id: str) -> Session | None:
        """Return the session of an id; None if there is none, or if it is over."""
        session = self._sessions.get(_hash(session_id))
        # A shorter lifetime of a new configuration holds for old sessions, too.
        now = self._clock()
        return (
            session if session is not None and now < min(session.expires, session.created + self._lifetime_s) else None
        )

    def end(self, session_id: str) -> None:
        """End a session."""
        if self._sessions.pop(_hash(session_id), None) is not None:
            self._save()

    def csrf(self, subject: str) -> str:
        """Return the token that requests with side effects show; it belongs to a session's id, or to a proxy's user."""
        return hmac.digest(self._key, f"csrf:{subject}".encode("utf-8", "surrogatepass"), "sha256").hex()

    def _save(self) -> None:
        try:
            self._files.write(FILE, msgspec.json.encode(self._sessions))
        except OSError as error:
            # An older file would have sessions that have ended. A full disk allows this.
            with contextlib.suppress(OSError):
                self._files.path(FILE).unlink()
            LOGGER.warning("sessions of the page are lost at its restart: %s", describe_unexpected(error))


def _hash(session_id: str) -> str:
    return hashlib.sha256(session_id.encode("utf-8", "surrogatepass")).hexdigest()
