"""Connections are accepted as long as there is room, of one address and in total."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from typing import TYPE_CHECKING

import pytest

from prefork_logd.processes.web.listener import AT_ONCE, LEAST_OF_ONE, Admission, Listener, client_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_one_address_has_half_of_the_room() -> None:
    """What is given back can be taken again."""
    admission = Admission(20)
    assert [admission.take("a") for _ in range(11)] == [True] * 10 + [False]
    assert [admission.take("b") for _ in range(10)] == [True] * 10
    assert not admission.take("c")
    admission.give_back("a")
    assert not admission.take("b")
    assert admission.take("c")


@contextlib.contextmanager
def listener(most: int) -> Iterator[tuple[Listener, Callable[[int], list[socket.socket]]]]:
    """Give a listener, and a function that makes connections to it."""
    with contextlib.ExitStack() as resources:
        listening = resources.enter_context(Listener(socket.create_server(("127.0.0.1", 0)), Admission(most)))

        def connect(count: int) -> list[socket.socket]:
            place = listening.getsockname()
            return [resources.enter_context(socket.create_connection(place, timeout=10)) for _ in range(count)]

        yield listening, connect


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_connection_counts_until_its_end(is_forgotten: bool) -> None:
    """By a close, or because nobody refers to it any more; those above the bound are closed."""

    async def main() -> None:
        with listener(LEAST_OF_ONE) as (listening, connect):
            clients = connect(LEAST_OF_ONE + 2)
            accepted = [listening.accept()[0] for _ in range(LEAST_OF_ONE)]
            with pytest.raises(BlockingIOError):
                listening.accept()
            assert [client.recv(1) for client in clients[LEAST_OF_ONE:]] == [b"", b""]
            last = accepted.pop()
            if is_forgotten:
                last.detach()
                del last
                gc.collect()
            else:
                last.close()
                last.close()
            connect(1)
            accepted.append(listening.accept()[0])
            for one in accepted:
                one.close()

    asyncio.run(main())


@pytest.mark.parametrize("most", [100, LEAST_OF_ONE])
def test_few_connections_are_accepted_in_a_turn(most: int) -> None:
    """Also of those that are closed for lack of room: the rest follows in the next turn of the event loop."""

    async def main() -> None:
        with listener(most) as (listening, connect):
            clients = connect(AT_ONCE + 2)
            accepted = []
            for _ in range(2):
                with contextlib.suppress(BlockingIOError):
                    while True:
                        accepted.append(listening.accept()[0])
                assert len(accepted) == min(AT_ONCE, most)
            if most < AT_ONCE:
                assert clients[AT_ONCE - 1].recv(1) == b""
            await asyncio.sleep(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    accepted.append(listening.accept()[0])
            assert len(accepted) == min(AT_ONCE + 2, most)
            for one in accepted:
                one.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("address", "client"),
    [
        (("10.0.0.1", 5), "10.0.0.1"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1"),
        (("2001:db8:0:1::7", 5, 0, 0), "2001:db8:0:1::/64"),
        (("fe80::1%eth0", 5, 0, 3), "fe80::/64"),
        ("", "unix"),
        (None, "unix"),
    ],
)
def test_a_host_counts_once(address: object, client: str) -> None:
    """However many of the addresses of its network of IPv6 it uses."""
    assert client_of(address) == client
