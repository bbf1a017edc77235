"""Makes requests to the HTTP API of a page, and words its refusals.

Owns the address, the token and the form of errors. Does not know any call.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlencode, urlsplit

from prefork_logd import __version__
from prefork_logd.config.web import is_loopback
from prefork_logd.errors import ProcessError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TIMEOUT_S = 3700.0
"""Longer than any answer of the API takes."""
_PREFIX = "/api/v1"
_PIECE_BYTES = 1 << 18
_MOST_ERROR_BYTES = 65_536
_LOCALTIME = Path("/etc/localtime")
UNIX = ("unix:", "http+unix://")
"""Begin the address of a page on a Unix socket; behind the second the path is percent-encoded."""


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a page that listens on a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._socket_path = path

    def connect(self) -> None:
        """Connect. Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._socket_path)


class ApiConnection:
    """A page, by its URL or by the path of its Unix socket."""

    def __init__(self, url: str, token: str) -> None:
        """Send requests with an API token; empty for none. Raises ValueError with a sentence for the user."""
        self._token = token
        self.socket_path = _socket_path(url)
        """Path of the page's Unix socket; empty for a URL."""
        self.is_exposed = False
        """Whether the token goes through a network unencrypted."""
        if self.socket_path:
            self._host, self._port, self._path, self._is_secure = "localhost", None, "", False
            return
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(
                f"{url!r:.200} is not the address of a page; write one such as https://logs.example.org "
                "or unix:/run/prefork-logd/page.sock"
            )
        if parts.username is not None or parts.password is not None:
            raise ValueError("the address holds a password; leave it out, and give a token with --token-file")
        try:
            self._port = parts.port
        except ValueError:
            raise ValueError(f"{url!r:.200} has a port that is not one; write a number up to 65535") from None
        self._host, self._path, self._is_secure = parts.hostname, parts.path.rstrip("/"), parts.scheme == "https"
        self.is_exposed = bool(token) and not self._is_secure and not is_loopback(parts.hostname)

    @contextmanager
    def open(self, path: str, parameters: Mapping[str, Any]) -> Iterator[http.client.HTTPResponse]:
        """Give the answer to a GET of a call. Raises StoreError, ProcessError, ValueError for a refusal."""
        given = {name: value for name, value in parameters.items() if value not in (None, "")}
        target = f"{self._path}{_PREFIX}{path}?{urlencode(given, doseq=True, errors='surrogatepass')}"
        with closing(self._connect()) as connection:
            try:
                connection.request("GET", target, headers=self._headers())
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                remedy = "check the address, and that the collector runs there"
                raise StoreError(f"{self}: no answer: {_reason(error)}; {remedy}") from error
            with response:
                if response.status != http.HTTPStatus.OK:
                    raise self._refusal(response)
                yield response

    def get(self, path: str, parameters: Mapping[str, Any]) -> Any:
        """Return the JSON value that a call answers. Raises as `open` does."""
        return json.loads(self.read(path, parameters))

    def read(self, path: str, parameters: Mapping[str, Any]) -> bytes:
        """Return the bytes that a call answers. Raises as `open` does."""
        with self.open(path, parameters) as response:
            try:
                return response.read()
            except (OSError, http.client.HTTPException) as error:
                raise self._broken(error) from error

    def lines_of(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        """Yield the lines of an answer as they come. Raises StoreError if it ends early.

        Not by `readline`, which takes the end of a broken chunked answer for that of the answer.
        """
        rest = b""
        try:
            while piece := response.read1(_PIECE_BYTES):
                *lines, rest = (rest + piece).split(b"\n")
                yield from (line + b"\n" for line in lines)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from error
        if rest:
            yield rest

    def _broken(self, error: Exception) -> StoreError:
        return StoreError(f"{self}: the answer ended early: {_reason(error)}")

    def __str__(self) -> str:
        if self.socket_path:
            return f"unix:{self.socket_path}"
        port = f":{self._port}" if self._port else ""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._is_secure else 'http'}://{host}{port}{self._path}"

    def _connect(self) -> http.client.HTTPConnection:
        if self.socket_path:
            return _UnixConnection(self.socket_path, TIMEOUT_S)
        if self._is_secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)

    def _headers(self) -> dict[str, str]:
        found = {"User-Agent": f"prefork-logd/{__version__}", "Accept-Encoding": "identity"}
        return {**found, "Authorization": f"Bearer {self._token}"} if self._token else found

    def _refusal(self, response: http.client.HTTPResponse) -> Exception:
        """Return the error for an answer that is one."""
        body = response.read(_MOST_ERROR_BYTES)
        try:
            message = str(json.loads(body)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            return ProcessError(f"{self}: answers with status {response.status}; is it the address of a page?")
        if response.status == http.HTTPStatus.BAD_REQUEST:
            return ValueError(message)
        if response.status == http.HTTPStatus.UNAUTHORIZED:
            return ProcessError(f"{self}: {message}; give the token with --token-file or PREFORK_LOGD_TOKEN")
        if response.status in (http.HTTPStatus.FORBIDDEN, http.HTTPStatus.MISDIRECTED_REQUEST):
            return ProcessError(f"{self}: {message}")
        return StoreError(f"{self}: {message}")


def _socket_path(url: str) -> str:
    """Return the path of the Unix socket that an address names; empty for another address. Raises ValueError."""
    short, encoded = UNIX
    if url.startswith(encoded):
        path = unquote(url.removeprefix(encoded), errors="surrogateescape").rstrip("/")
    elif url.startswith(short):
        path = url.removeprefix(short)
    else:
        return ""
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"{url!r:.200} has no absolute path of a socket; write unix:/run/prefork-logd/page.sock")
    return path


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); SSL_CERT_FILE names another authority"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def local_zone() -> str | None:
    """Return the name of this host's time zone, for times in a query; None if it has no known name."""
    named = os.environ.get("TZ", "").removeprefix(":")
    found = named or str(_LOCALTIME.resolve()).partition("/zoneinfo/")[2]
    if found and time.tzname[0]:
        return found.removeprefix("posix/")
    return None
