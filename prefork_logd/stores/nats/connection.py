"""Connects to NATS servers, with the configured credentials and certificates.

Owns the text of servers' errors. Does not know streams, records or journals (stream.py has the stream). The rest of the
collector is not asynchronous: `Connection.run` runs one coroutine to its end.

A lost connection is not repaired but replaced, so that its user checks the stream first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prefork_logd.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from prefork_logd.config.nats import NatsServers

_T = TypeVar("_T")

FIRST_TRY_S = 1.0
"""How long to wait for a first answer of JetStream before the question is repeated."""
RETRY_S = 0.1
"""The pause between the two tries of a server. Few tries, because the caller tries again later."""
CLOSE_S, GIVE_UP_S = 2.0, 0.2
"""How long a connection may take to close, and how long one that was never made."""
OLDEST_VERSION = (2, 10)
"""The oldest usable server: older ones lack metadata of streams, which hold the number of partitions."""
LEAST_PAYLOAD = 16_384
"""The least max_payload of the servers that a store accepts, in bytes."""


class Connection:
    """One connection, from `open` until it is lost or closed, with an event loop of its own or that of its user."""

    def __init__(self, settings: NatsServers, client_name: str, timeout_s: float) -> None:
        self._settings = settings
        self._name = client_name
        self.timeout_s = timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._stream: JetStreamContext | None = None
        self.max_payload = 0
        """The servers' max_payload in bytes, as of the last connection."""
        self.trouble: asyncio.Future[Exception]
        """The first error of a server or the connection since `connect`."""

    @property
    def where(self) -> str:
        """The servers, for messages."""
        return ", ".join(self._settings.servers)

    @property
    def client(self) -> Client:
        """NATS's own client. Raises StoreError when the connection is lost."""
        if self._client is None or not self._client.is_connected:
            raise StoreError(f"{self.where}: the connection is lost{self._reason()}")
        return self._client

    @property
    def stream(self) -> JetStreamContext:
        """JetStream, over this connection. Raises StoreError when the connection is lost."""
        client = self.client
        if self._stream is None:
            # One context for all: each has a subscription for acknowledgements, which is never ended.
            self._stream = client.jetstream(timeout=self.timeout_s, publish_async_max_pending=1 << 20)
        return self._stream

    async def ask(self, question: Callable[[JetStreamContext], Awaitable[_T]]) -> _T:
        """Return the result of a function of JetStream, which must be safe to call twice.

        A stream or consumer without a leader never answers a request, even after it gets one: after a server has
        failed, or right after it was made. The request is therefore repeated until `timeout_s` have passed.
        """
        end_s = asyncio.get_running_loop().time() + self.timeout_s
        try_s = min(FIRST_TRY_S, self.timeout_s)
        while True:
            try:
                return await question(self.client.jetstream(timeout=try_s))
            except TimeoutError:
                left_s = end_s - asyncio.get_running_loop().time()
                if left_s <= 0:
                    raise
                try_s = max(0.1, min(2 * try_s, left_s))

    @property
    def _last_error(self) -> Exception | None:
        return self.trouble.result() if self.trouble.done() else None

    def _reason(self) -> str:
        return f": {describe(self._last_error)}" if self._last_error is not None else ""

    def open(self) -> None:
        """Connect, with an event loop that belongs to this connection. Raises StoreError."""
        self._loop = asyncio.new_event_loop()
        self.run(self.connect())

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Return the result of a coroutine. Raises StoreError for every error of the servers."""
        if self._loop is None:
            work.close()
            raise StoreError(f"{self.where}: not connected")
        return self._loop.run_until_complete(translated(work, self.where))

    async def connect(self) -> None:
        """Connect. Raises StoreError, also for servers that are too old."""
        client = await self._reach()
        self._client = client
        self.max_payload = client.max_payload
        version = str(client._server_info.get("version", ""))  # noqa: SLF001 - the client has no public name for it
        if is_too_old(version):
            await self.disconnect()
            raise StoreError(
                f"{self.where}: nats-server {version} is too old: it has no metadata of streams; upgrade it to "
                f"{'.'.join(map(str, OLDEST_VERSION))} or newer"
            )

    async def _reach(self) -> Client:
        """Return a connected client, with TLS if the settings ask for it. Raises StoreError."""
        import nats.aio.client

        trouble = self.trouble = asyncio.get_running_loop().create_future()

        async def note(error: Exception) -> None:
            if not trouble.done():
                trouble.set_result(error)

        client, is_private = nats.aio.client.Client(), None
        try:
            options = self._options()
            if "tls" in options:
                client, is_private = _insisting_on_tls()
            async with asyncio.timeout(self.timeout_s):
                await client.connect(
                    servers=list(self._settings.servers),
                    name=self._name,
                    error_cb=note,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    connect_timeout=max(1, int(self.timeout_s)),
                    ping_interval=20,
                    pending_size=64 << 20,
                    **options,
                )
        except (OSError, ValueError, TimeoutError, ssl.SSLError, nats.errors.Error) as error:
            # Bounded, because after a failed TLS handshake it would wait for ever.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(GIVE_UP_S):
                    await client.close()
            reason = self._last_error if isinstance(error, (nats.errors.NoServersError, TimeoutError)) else error
            raise StoreError(f"{self.where}: cannot connect: {self._explain(reason or error)}") from error
        if is_private is not None and not is_private():
            await client.close()
            raise StoreError(f"{self.where}: this version of nats-py cannot enforce TLS")
        return client

    def _explain(self, error: Exception) -> str:
        """Return the text of an error; for an authentication error with the credential and its file."""
        text = describe(error)
        return f"{text}: the server does not accept {self._identity()}" if "authorization" in text.lower() else text

    def _identity(self) -> str:
        """Return the credential's name and file, without a secret."""
        settings = self._settings
        if settings.user:
            return f"user {settings.user!r} with what is in {settings.password_file} (user, password_file)"
        for key in ("token_file", "nkey_file", "credentials_file"):
            if getattr(settings, key):
                return f"what is in {getattr(settings, key)} ({key})"
        return "a client without credentials: set user and password_file, token_file, nkey_file or credentials_file"

    @property
    def is_clustered(self) -> bool:
        """Whether the connected server is in a cluster."""
        return bool(self.client._server_info.get("cluster"))  # noqa: SLF001 - the client has no public name for it

    def _options(self) -> dict[str, Any]:
        """Return the client's options for credentials and TLS. Raises OSError or ValueError."""
        settings = self._settings
        # The client's annotations ask for int, its code takes any number of seconds.
        options: dict[str, Any] = {"reconnect_time_wait": RETRY_S}
        if settings.user:
            options |= {"user": settings.user, "password": _secret(settings.password_file)}
        if settings.token_file:
            options["token"] = _secret(settings.token_file)
        if settings.nkey_file:
            options["nkeys_seed"] = settings.nkey_file
        if settings.credentials_file:
            options["user_credentials"] = settings.credentials_file
        if settings.tls_ca_file or settings.tls_cert_file or any(url.startswith("tls:") for url in settings.servers):
            context = ssl.create_default_context(cafile=settings.tls_ca_file or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if settings.tls_cert_file:
                context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
            options["tls"] = context
            if settings.tls_hostname:
                options["tls_hostname"] = settings.tls_hostname
        return options

    async def disconnect(self) -> None:
        """Close the connection; never raises."""
        client, self._client, self._stream = self._client, None, None
        if client is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CLOSE_S):
                    await client.close()

    def close(self) -> None:
        """Close the connection and its event loop; never raises."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        loop.run_until_complete(self.disconnect())
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.close()


def is_too_old(version: str) -> bool:
    """Return whether a server of this version is too old; an unknown form of version counts as new enough."""
    match = re.match(r"v?(\d{1,6})\.(\d{1,6})", version)
    return match is not None and (int(match[1]), int(match[2])) < OLDEST_VERSION


def _insisting_on_tls() -> tuple[Client, Callable[[], bool]]:
    """Return a client that sends no secret without TLS, and a function that returns whether TLS was checked.

    The NATS client itself goes on without TLS, despite its options, if the server (or an attacker in its place) does
    not ask for TLS.
    """
    import nats.aio.client

    asked: list[bool] = []

    class Insisting(nats.aio.client.Client):
        def _connect_command(self) -> bytes:
            # The first message after the TLS handshake; it has the password.
            asked.append(bool(self._server_info.get("tls_required")))
            if not asked[-1]:
                raise nats.errors.Error("the server does not ask for TLS, which the settings require")
            return super()._connect_command()  # type: ignore[no-any-return, no-untyped-call, unused-ignore]

    return Insisting(), lambda: bool(asked) and asked[-1]


def _secret(path: str) -> str:
    return Path(path).read_text().strip()


def describe(error: BaseException) -> str:
    """Return the text of an error of the client or of a server."""
    text = getattr(error, "description", None) or getattr(error, "strerror", None) or str(error)
    if type(error).__name__ in {"ServiceUnavailableError", "NoRespondersError"} and not getattr(error, "code", None):
        return "no answer from JetStream: the servers have none (jetstream {} in their configuration), or no leader yet"
    text = str(text).removeprefix("nats: ").strip("'")
    if isinstance(error, OSError) and "Connect call failed" in text:
        # asyncio's text names the address that was tried last, so each try of several servers would have its own line.
        numbers = re.findall(r"\[Errno (\d+)\]", text)
        return os.strerror(error.errno or int(numbers[0])) if error.errno or numbers else text
    return text or type(error).__name__


async def translated(work: Coroutine[Any, Any, _T], where: str) -> _T:
    """Return the result of `work`; turn each error of the client and of the servers at `where` into StoreError."""
    import nats.errors

    try:
        return await work
    except StoreError:
        raise
    except TimeoutError as error:
        raise StoreError(f"{where}: no answer in time") from error
    except (OSError, nats.errors.Error) as error:
        code = getattr(error, "code", None)
        number = f" ({code})" if code else ""
        raise StoreError(f"{where}: {describe(error)}{number}") from error


def check_limits(connection: Connection) -> None:
    """Raise StoreError if the servers' largest message is too small for records."""
    most = connection.client.max_payload
    if most < LEAST_PAYLOAD:
        raise StoreError(
            f"{connection.where}: max_payload is {most} in the servers' configuration, and a record needs up to "
            f"{LEAST_PAYLOAD} and more; raise it, best to 1MB or above"
        )
