"""Connections are accepted as long as there is room, of one address and in total."""

from __future__ import annotations

import contextlib
import gc
import socket

import pytest

from prefork_logd.processes.web.listener import LEAST_OF_ONE, Admission, Listener, client_of


def test_one_address_has_half_of_the_room() -> None:
    """What is given back can be taken again."""
    admission = Admission(20)
    assert [admission.take("a") for _ in range(11)] == [True] * 10 + [False]
    assert [admission.take("b") for _ in range(10)] == [True] * 10
    assert not admission.take("c")
    admission.give_back("a")
    assert not admission.take("b")
    assert admission.take("c")


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_connection_counts_until_its_end(is_forgotten: bool) -> None:
    """By a close, or because nobody refers to it any more; one above the bound is closed."""
    with contextlib.ExitStack() as resources:
        listening = resources.enter_context(Listener(socket.create_server(("127.0.0.1", 0)), Admission(LEAST_OF_ONE)))
        clients = [socket.create_connection(listening.getsockname(), timeout=10) for _ in range(LEAST_OF_ONE + 2)]
        for client in clients:
            resources.enter_context(client)
        accepted = [listening.accept()[0] for _ in range(LEAST_OF_ONE)]
        with pytest.raises(BlockingIOError):
            listening.accept()
        assert clients[LEAST_OF_ONE].recv(1) == b""
        last = accepted.pop()
        if is_forgotten:
            last.detach()
            del last
            gc.collect()
        else:
            last.close()
            last.close()
        accepted.append(listening.accept()[0])
        for one in accepted:
            one.close()


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
