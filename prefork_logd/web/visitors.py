"""Finds out who sends a request: a session's cookie, a proxy's header, an API token, or a share link.

Owns the cookies, and the order in which these count. Does not know routes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, BaseUser

from prefork_logd.web import one_time_token
from prefork_logd.web.page_files import PageFiles
from prefork_logd.web.proxies import Proxies
from prefork_logd.web.sessions import Sessions
from prefork_logd.web.shares import Bounds, Shares
from prefork_logd.web.tokens import Tokens
from prefork_logd.web.users import password_mark

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import HTTPConnection
    from starlette.responses import Response

    from prefork_logd.config.web import WebSettings
    from prefork_logd.web.sessions import Session

ADMIN, VIEWER = "admin", "viewer"
SCOPES = {ADMIN: ("view", "admin"), VIEWER: ("view",)}
LOCAL_USER = "local"
"""The name of somebody who came with the one-time token."""
_MOST_COOKIE = 4096


@dataclass(frozen=True)
class Visitor(BaseUser):
    """Somebody who is let in."""

    username: str
    role: str
    by: Literal["session", "proxy", "token", "share"]
    csrf: str = ""
    """The token for requests with side effects; empty if none is needed: no browser sends API tokens by itself."""
    bounds: Bounds | None = None
    """Of a share link."""

    @property
    def is_authenticated(self) -> bool:
        """True: others have no Visitor."""
        return True

    @property
    def display_name(self) -> str:
        """The name to show."""
        return self.username


class Visitors(AuthenticationBackend):
    """Everybody who is let in, and the ways in."""

    def __init__(self, settings: WebSettings, state_dir: Path, first_store: str | None = None) -> None:
        """Read the page's secrets in `state_dir`. Raises OSError if they can be neither read nor made.

        A share link that names no store is for `first_store` alone.
        """
        self._first_store = first_store
        self.settings = settings
        self.files = PageFiles(state_dir)
        one_time_token.current(self.files)
        self.sessions = Sessions(self.files, settings.session_lifetime_s)
        self.tokens = Tokens(self.files)
        self.shares = Shares(self.files, settings.share_lifetime_s)
        self.proxies = Proxies(settings)
        self._users = {user.name: user for user in settings.user}
        self._session_cookie = f"prefork_logd_session_{self.sessions.label}"
        self._share_cookie = f"prefork_logd_share_{self.sessions.label}"

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, Visitor] | None:
        """Return who sends a request, with the rights; None for a stranger.

        Raises AuthenticationError for a token that is not valid.
        """
        visitor = self._by_token(conn) or self._by_session(conn) or self._by_proxy(conn) or self._by_share(conn)
        return None if visitor is None else (AuthCredentials(SCOPES[visitor.role]), visitor)

    def _by_token(self, conn: HTTPConnection) -> Visitor | None:
        header = conn.headers.get("authorization", "")
        scheme, _, token = header.partition(" ")
        # A proxy may pass its own Basic credentials on.
        if scheme.lower() != "bearer":
            return None
        try:
            found = self.tokens.find(token.strip())
        except OSError as error:
            raise AuthenticationError(f"API tokens cannot be read: {error.filename}: {error.strerror}") from error
        if found is None:
            raise AuthenticationError(
                "this API token is unknown or too old; `prefork-logd web token NAME` makes one on the collector's host"
            )
        return Visitor(found.name, found.role, "token")

    def session_id(self, conn: HTTPConnection) -> str:
        """Return the id in the session's cookie; empty without."""
        return conn.cookies.get(self._session_cookie, "")[:_MOST_COOKIE]

    def _by_session(self, conn: HTTPConnection) -> Visitor | None:
        session_id = self.session_id(conn)
        session = self.sessions.find(session_id) if session_id else None
        role = self._role(session) if session is not None else ""
        return Visitor(session.user, role, "session", self.sessions.csrf(session_id)) if session and role else None

    def _role(self, session: Session) -> str:
        """Return the role of a session's user; empty if the user was removed, or has a new password."""
        if session.by == "token":
            return ADMIN
        user = self._users.get(session.user)
        return user.role if user is not None and password_mark(user) == session.mark else ""

    def _by_proxy(self, conn: HTTPConnection) -> Visitor | None:
        name = self.proxies.user(conn.scope)
        if not name:
            return None
        user = self._users.get(name)
        role = user.role if user is not None else self.settings.proxy_role
        return Visitor(name, role, "proxy", self.sessions.csrf(f"proxy:{name}"))

    def _by_share(self, conn: HTTPConnection) -> Visitor | None:
        bounds = self.shares.read(conn.cookies.get(self._share_cookie, ""))
        if bounds is None:
            return None
        return Visitor("share link", VIEWER, "share", bounds=replace(bounds, store=bounds.store or self._first_store))

    # Cookies

    def set_session(self, conn: HTTPConnection, response: Response, session_id: str) -> None:
        """Give a browser its session."""
        self._set(conn, response, self._session_cookie, session_id, int(self.settings.session_lifetime_s))

    def set_share(self, conn: HTTPConnection, response: Response, text: str, lifetime_s: float) -> None:
        """Let a browser see the records of a share link."""
        self._set(conn, response, self._share_cookie, text, int(lifetime_s))

    def forget(self, conn: HTTPConnection, response: Response) -> None:
        """Remove both cookies from a browser."""
        for name in (self._session_cookie, self._share_cookie):
            self._set(conn, response, name, "", 0)

    def _set(self, conn: HTTPConnection, response: Response, name: str, value: str, lifetime_s: int) -> None:
        secure = self.proxies.is_secure(conn.scope)
        response.set_cookie(name, value, max_age=lifetime_s, path="/", secure=secure, httponly=True, samesite="strict")
