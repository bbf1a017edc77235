"""A connection to a receiver ends at its time, and is left alone before."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from prefork_logd.alerts.receivers.ending import ending

if TYPE_CHECKING:
    from collections.abc import Iterator

FAR_S = 3_600.0


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give both ends of a connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_receiver_that_goes_on_for_ever_is_cut_off(ends: tuple[socket.socket, socket.socket]) -> None:
    """Both directions end at the time, although a timeout of the socket would begin anew with each byte."""
    ours, theirs = ends
    ours.settimeout(FAR_S)
    theirs.sendall(b"a byte now and then")
    with ending(ours, time.monotonic() + 0.05):
        received = b"".join(iter(lambda: ours.recv(4), b""))
    assert received == b"a byte now and then"
    assert theirs.recv(1) == b""


def test_a_time_that_has_passed_ends_it_at_once(ends: tuple[socket.socket, socket.socket]) -> None:
    """The wait is never negative."""
    ours, _ = ends
    with ending(ours, time.monotonic() - 1.0):
        assert ours.recv(1) == b""


def test_a_connection_that_is_done_in_time_stays_open(ends: tuple[socket.socket, socket.socket]) -> None:
    """Neither the timer nor its copy of the descriptor is left."""
    ours, theirs = ends
    before = set(threading.enumerate())
    with ending(ours, time.monotonic() + FAR_S):
        (timer,) = set(threading.enumerate()) - before
    timer.join(60.0)
    assert not timer.is_alive()
    theirs.sendall(b"x")
    assert ours.recv(1) == b"x"
    ours.close()
    assert theirs.recv(1) == b"", "a copy is still open"


def test_it_ends_a_connection_whose_socket_gave_its_descriptor_away(ends: tuple[socket.socket, socket.socket]) -> None:
    """As TLS does."""
    ours, _ = ends
    with ending(ours, time.monotonic() + 0.05), socket.socket(fileno=ours.detach()) as wrapped:
        assert wrapped.recv(1) == b""
