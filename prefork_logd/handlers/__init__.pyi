# Types of the public names, for type checkers: the modules run on Python 2.7, which has no annotations.

import logging
import logging.handlers
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

class SocketHandler(logging.handlers.SocketHandler):
    overflow: Literal["block", "drop_new", "drop_old", "spool"]
    limit_bytes: int
    block_timeout: float
    spool_dir: str | None
    spool_limit_bytes: int
    max_record_bytes: int
    retry_pause: float
    connect_timeout: float
    hello_timeout: float
    close_timeout: float
    fallback: bool
    default: Callable[[Any], object] | None
    def __init__(
        self,
        host: str | os.PathLike[str],
        port: int | str | None,
        key_id: str | bytes = "",
        key: str | bytes = "",
        overflow: Literal["block", "drop_new", "drop_old", "spool"] = "block",
        limit_bytes: int = ...,
        block_timeout: float = 1.0,
        spool_dir: str | os.PathLike[str] | None = None,
        spool_limit_bytes: int = ...,
        max_record_bytes: int = ...,
        retry_pause: float = 0.05,
        connect_timeout: float = 3.0,
        hello_timeout: float = 2.0,
        close_timeout: float = 5.0,
        fallback: bool = False,
        name: str | None = None,
        service: str | None = None,
        environment: str | None = None,
        version: str | None = None,
        fields: Mapping[str, object] | None = None,
        default: Callable[[Any], object] | None = None,
        tls: bool | None = None,
        tls_ca: str | os.PathLike[str] | None = None,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        tls_server_name: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None: ...
    def makeSocket(self, timeout: float = 1) -> socket.socket: ...
    def counters(self) -> dict[str, int]: ...
    def flush(self, timeout: float | None = None) -> bool: ...  # type: ignore[override]

class ProtocolError(ValueError): ...

class ClientProtocol:
    state: str
    heard: bool
    sent: int
    max_record_bytes: int
    max_batch_bytes: int
    def __init__(
        self,
        session: bytes,
        key_id: bytes = b"",
        key: bytes = b"",
        client: str = "",
        random: Callable[[int], bytes] = ...,
        sender: bytes = b"",
    ) -> None: ...
    def hello(self, first: int) -> bytes: ...
    def batch(self, first: int, pickles: list[bytes]) -> bytes: ...
    def one(self, number: int, data: bytes) -> bytes: ...
    def gap(self, first: int, count: int, oldest: float, newest: float, reason: str) -> bytes: ...
    def bye(self) -> bytes: ...
    def feed(self, data: bytes) -> list[tuple[Any, ...]]: ...

class Spool:
    directory: str
    session: bytes
    max_bytes: int
    bytes: int
    failure: OSError | None
    lost: bool
    @property
    def last(self) -> int: ...
    def append(self, number: int, created: float, data: Any) -> tuple[str, int] | None: ...
    def read(self, number: int, place: tuple[str, int] | None, max_bytes: int = ...) -> tuple[Iterable[Any], Any]: ...
    def forget(self, number: int) -> None: ...
    def look(self) -> None: ...
    def remove(self) -> None: ...
    def close(self) -> None: ...

def make_pickle(
    record: logging.LogRecord,
    formatter: logging.Formatter | None = None,
    max_bytes: int = ...,
    default: Callable[[Any], object] | None = None,
    is_short: bool = False,
) -> bytes: ...
