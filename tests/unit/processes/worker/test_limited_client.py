"""A limit is for the connections that it names, and each of them uses the budget of one client."""

from __future__ import annotations

from typing import Any

import pytest

from prefork_logd.config.client_limits import ClientLimitSettings
from prefork_logd.ipc.scoreboard import LimitField
from prefork_logd.processes.worker.limited_client import Client, Match, describe_rates
from prefork_logd.records.sender import Sender


class _Connection:
    """The facts about a connection."""

    fd = 7

    def __init__(
        self, peer: str = "10.0.0.1:5", service: str = "", peer_name: str = "", *, session: bytes = b"s" * 16
    ) -> None:
        self.peer, self.peer_name, self.session = peer, peer_name, session
        self._sender = Sender(service=service)

    def find_sender(self) -> Sender:
        return self._sender


def client(**settings: Any) -> tuple[Client[Any], memoryview]:
    """Return a client of a limit, and the limit's counters."""
    counters = memoryview(bytearray(8 * len(LimitField))).cast("Q")
    return Client(ClientLimitSettings(**settings), counters, "10.0.0.1", 1, -1, 0.0), counters


@pytest.mark.parametrize(
    ("limit", "one", "holds"),
    [
        ({}, _Connection(), True),
        ({"peers": ("10.0.0.0/8",)}, _Connection(), True),
        ({"peers": ("10.0.0.0/8",)}, _Connection("11.0.0.1:5"), False),
        ({"peers": ("10.0.0.0/8",)}, _Connection("unix:pid=1,uid=0"), False),
        ({"peers": ("unix",)}, _Connection("unix:pid=1,uid=0"), True),
        ({"peers": ("unix",)}, _Connection(), False),
        ({"services": ("shop",)}, _Connection(service="shop"), True),
        ({"services": ("shop",)}, _Connection(service="pay"), False),
        ({"services": ("shop",)}, _Connection(service="shop", session=b""), False),
        ({"per": "service"}, _Connection(service="pay"), True),
        ({"per": "service"}, _Connection(service="pay", session=b""), False),
        ({"peer_names": ("web-1",)}, _Connection(peer_name="web-1"), True),
        ({"peer_names": ("web-1",)}, _Connection(peer_name="web-2"), False),
        ({"per": "peer_name"}, _Connection(peer_name="web-2"), True),
        ({"per": "peer_name"}, _Connection(), False),
    ],
)
def test_a_limit_names_its_connections(limit: dict[str, Any], one: _Connection, *, holds: bool) -> None:
    """By address, service and certificate; a service is known once the session has begun."""
    assert Match(ClientLimitSettings(**limit)).holds(one) is holds


@pytest.mark.parametrize(
    ("per", "name"),
    [
        ("address", "10.0.0.1"),
        ("service", "shop"),
        ("peer_name", "web-1"),
        ("connection", "10.0.0.1:5 (descriptor 7)"),
        ("limit", "all clients"),
    ],
)
def test_a_connection_uses_the_budget_of_a_client(per: str, name: str) -> None:
    """One for each address, service, certificate or connection, or one for all."""
    match = Match(ClientLimitSettings(per=per))  # type: ignore[arg-type]
    assert match.client_of(_Connection(service="shop", peer_name="web-1")) == name


def test_the_time_of_all_waiting_connections_is_counted() -> None:
    """Together, as long as each waits; one that waits no more is not counted on."""
    made, counters = client(records_per_second=1)
    first, second = _Connection(), _Connection()
    made.begin_wait(first, 10.0)
    made.begin_wait(second, 11.0)
    made.end_wait(first, 13.0)
    made.end_wait(first, 14.0)
    made.end_wait(second, 14.0)
    assert counters[LimitField.WAITED_US] == 6_000_000
    assert counters[LimitField.WAITS] == 2


def test_the_end_is_summed_up() -> None:
    """What was dropped and who waited since the beginning, and nothing from before it."""
    made, counters = client(records_per_second=1)
    made.note_dropped(5)
    made.begin_beyond(100.0)
    assert counters[LimitField.LIMITED] == 1
    assert made.end_beyond() == "nothing dropped"
    made.begin_beyond(200.0)
    made.note_dropped(3)
    made.begin_wait(_Connection(), 201.0)
    made.count_waiting(203.0)
    assert made.end_beyond() == "3 records dropped; its connections waited 2.0 s in all"
    assert (counters[LimitField.LIMITED], counters[LimitField.DROPPED]) == (0, 8)


def test_a_name_that_a_client_chooses_is_escaped() -> None:
    """Addresses are not chosen."""
    assert client()[0].shown == "10.0.0.1"
    chosen, _ = client(per="service")
    chosen.name = "a\x1b[31m"
    assert chosen.shown == r"'a\x1b[31m'"


def test_rates_are_named() -> None:
    """Those that are limited."""
    limit = ClientLimitSettings(records_per_second=10, bytes_per_second=1.5)
    assert describe_rates(limit) == "10 records a second or 1.5 bytes a second"
    assert describe_rates(ClientLimitSettings(bytes_per_second=5)) == "5 bytes a second"
