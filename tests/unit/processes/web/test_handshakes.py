"""TLS handshakes take turns: those of one address delay nobody else for long."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import contextlib
import importlib
import socket
import ssl
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from prefork_logd.processes.web import handshakes, server, turns
from prefork_logd.processes.web.handshakes import Entrance, PacedHandshake
from prefork_logd.processes.web.turns import Turns
from tests.support.certificates import SLOW, make_certificate
from tests.support.page_app import App
from tests.support.page_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANY = 40


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return the paths of a certificate and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


def client_hello() -> bytes:
    """Return the first message of a client, which costs it nothing to send again."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    output = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), output).do_handshake()
    return output.read()


class Echo(asyncio.Protocol):
    """A protocol behind TLS that sends back what it gets."""

    transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        assert self.transport is not None
        self.transport.write(data)


class Counted(PacedHandshake):
    """A handshake that is counted while its connection is open."""

    count = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it."""
        Counted.count += 1
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count it no more."""
        Counted.count -= 1
        super().connection_lost(exc)


def entrance(context: ssl.SSLContext, shared: Turns, application: Echo) -> Entrance:
    """Return the protocol of a new connection."""
    loop = asyncio.get_running_loop()
    return Entrance(lambda: Counted(loop, application, context, shared), shared)


async def all_have_ended() -> None:
    """Wait until no connection is open, and the event loop has closed them."""
    while Counted.count:  # noqa: ASYNC110 - asyncio has no event for it
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)


@contextlib.contextmanager
def attackers(port: int, count: int, address: str = "127.0.0.2") -> Iterator[list[socket.socket]]:
    """Give connections of one address."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 20, (address, 0))) for _ in range(count)
        ]


def answered(socks: list[socket.socket]) -> int:
    """Return how many connections have an answer."""
    count = 0
    for sock in socks:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            count += bool(sock.recv(1, socket.MSG_PEEK))
    return count


@pytest.mark.slow
def test_a_visitor_waits_for_few_handshakes_of_another_address(
    certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step of a handshake is done in a turn, and the addresses alternate; whole requests come through."""
    monkeypatch.setattr(turns, "TURN_S", 1e-9)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    trust = ssl.create_default_context(cafile=certificate[0])
    trust.check_hostname = False

    async def main() -> None:
        loop, shared = asyncio.get_running_loop(), Turns()
        server = await loop.create_server(lambda: entrance(context, shared, Echo()), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        hello = client_hello()
        with attackers(port, MANY) as socks:
            for sock in socks:
                sock.sendall(hello)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
            behind = MANY - answered(socks)
            writer.write(b"hello" * 20_000)
            assert await reader.readexactly(100_000) == b"hello" * 20_000
            writer.close()
        server.close()
        await all_have_ended()
        assert behind > MANY // 2

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.slow
def test_the_page_is_served_while_handshakes_are_attacked(tmp_path: Path) -> None:
    """A visitor's answer comes before most of the handshakes that another address has begun earlier."""
    certificate = make_certificate(tmp_path, kind=SLOW)
    toml = f'[web]\nmax_connections = 400\ncertificate = "{certificate[0]}"\nkey = "{certificate[1]}"'
    trust = ssl.create_default_context(cafile=certificate[0])
    with serving(tmp_path, toml, App) as served, served.client(verify=trust) as client:
        assert client.get("/").text == "done"
        hello = client_hello()
        with attackers(int(served.url.rpartition(":")[2]), 190) as socks:
            # The event loop rests meanwhile, so that all of them have sent something in its next turn.
            served.call(lambda: [sock.sendall(hello) for sock in socks])
            with served.client(verify=trust) as visitor:
                assert visitor.get("/").text == "done"
            assert answered(socks) < len(socks) // 2
        # Behind the handshakes of its address.
        late = httpx.HTTPTransport(verify=trust, local_address="127.0.0.2")
        with httpx.Client(base_url=served.url, transport=late, timeout=20) as last:
            assert last.get("/").text == "done"


@pytest.mark.slow
def test_a_handshake_that_is_not_completed_ends(certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time, also if it waits for a turn; garbage ends it at once."""
    monkeypatch.setattr(handshakes, "HANDSHAKE_S", 0.05)
    monkeypatch.setattr(turns, "TURN_S", 1e-9)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)

    async def main() -> None:
        loop, shared, made = asyncio.get_running_loop(), Turns(), list[Echo]()

        def make() -> Entrance:
            made.append(Echo())
            return entrance(context, shared, made[-1])

        server = await loop.create_server(make, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for sent in (b"", client_hello(), client_hello()[:20], b"GET / HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            writer.close()
        server.close()
        await all_have_ended()
        assert [one.transport for one in made] == [None] * 4

    asyncio.run(asyncio.wait_for(main(), 60))


def test_only_public_methods_of_asyncio_are_overridden() -> None:
    """Of a class that is not documented: a newer Python may change what is private."""
    names = {name for name in vars(PacedHandshake) if not name.startswith("__")}
    theirs = {name for base in PacedHandshake.__mro__[1:] for name in vars(base)}
    assert names & theirs <= {"connection_made", "connection_lost", "buffer_updated", "max_size"}
    assert issubclass(PacedHandshake, asyncio.BufferedProtocol)


class WithoutBuffer(asyncio.Protocol):
    """A base that is given its bytes."""


class WithOtherArguments(asyncio.BufferedProtocol):
    """A base that is made in another way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, context: ssl.SSLContext) -> None:
        raise NotImplementedError


@pytest.mark.slow
@pytest.mark.parametrize("base", [None, WithoutBuffer, WithOtherArguments])
def test_the_page_is_served_with_a_python_that_has_another_class(
    base: type | None, tmp_path: Path, certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In asyncio's own way."""
    name = handshakes.__name__
    with monkeypatch.context() as other:
        if base is None:
            other.delattr(asyncio.sslproto, "SSLProtocol")
        else:
            other.setattr(asyncio.sslproto, "SSLProtocol", base)
        other.delitem(sys.modules, name)
        with pytest.raises(ImportError):
            importlib.import_module(name)
    monkeypatch.setattr(server, "handshakes", None)
    toml = f'[web]\ncertificate = "{certificate[0]}"\nkey = "{certificate[1]}"'
    trust = ssl.create_default_context(cafile=certificate[0])
    with serving(tmp_path, toml, App) as served, served.client(verify=trust) as client:
        assert client.get("/").text == "done"
