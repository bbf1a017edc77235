"""Hides passwords in connection strings and URLs that people will read.

A connection string that libpq does not accept, or that has a value in an unexpected place, is not shown at all: any
part of it may be a password (an `@` or `%` that was not escaped, a key that was mistyped).
"""

from __future__ import annotations

import re

HIDDEN = "***"
_SECRET = (
    "password",
    "sslpassword",
    "passfile",
    "sslkey",
    "oauth_client_secret",
    "scram_client_key",
    "scram_server_key",
)
_URL_PASSWORD = re.compile(r"(://[^/?@:]*:).*@|((?:^|[?&])(?:ssl)?password=)[^&]*")
_PLAIN = re.compile(r"[\w./,:+-]*")
_FORMS = {
    "host": re.compile(r"[A-Za-z0-9_./,:-]*"),
    "hostaddr": re.compile(r"[0-9A-Fa-f.:,]*"),
    "port": re.compile(r"[0-9]{0,5}(,[0-9]{0,5})*"),
    "options": re.compile(r"[\w\s=.,/:-]*"),
    "application_name": re.compile(r"[\w\s./,:-]*"),
}


def redacted_url(url: str) -> str:
    """Return the URL of a server with *** in the place of a password."""
    return _URL_PASSWORD.sub(lambda match: f"{match[1]}{HIDDEN}@" if match[1] else f"{match[2]}{HIDDEN}", url)


def redacted_address(url: str) -> str:
    """Return an address with *** in the place of its path and query: whoever knows them may post there."""
    head, scheme, rest = url.rpartition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    return f"{head}{scheme}{host}" if host == rest.rstrip("/") else f"{head}{scheme}{host}/{HIDDEN}"


def redacted_dsn(dsn: str) -> str:
    """Return a connection string without its passwords, as key = value pairs; *** if a part of it is unexpected."""
    values = _parse(dsn)
    if values is None:
        return HIDDEN
    from psycopg import conninfo

    return conninfo.make_conninfo("", **{key: HIDDEN if key in _SECRET else value for key, value in values.items()})


def is_clear(dsn: str) -> bool:
    """Tell whether every part of a connection string is where it should be, so that errors may name parts of it."""
    return _parse(dsn) is not None


def _parse(dsn: str) -> dict[str, str] | None:
    try:
        from psycopg import ProgrammingError, conninfo
    except ImportError:
        return None if dsn else {}
    try:
        values = {key: str(value) for key, value in conninfo.conninfo_to_dict(dsn).items() if value is not None}
    except ProgrammingError:
        return None
    for key, value in values.items():
        if key not in _SECRET and not _FORMS.get(key, _PLAIN).fullmatch(value):
            return None
    return values
