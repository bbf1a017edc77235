"""Declares the settings of `[[limit]]`: how much a client may send, and how many connections it may have.

Owns their types, defaults, bounds and help. Does not know how a limit is kept (processes/worker/client_limits.py).
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from prefork_logd.config.values import TimedSettings, durations, is_a_second

if TYPE_CHECKING:
    from collections.abc import Iterator

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_LIMITS = 64
"""Most tables of this kind: each is compared with every new connection."""


class ClientLimitSettings(TimedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on what one client may cost. Every limit that matches a client applies to it.

    All workers together keep a limit ([operating](operating.md#limits-on-clients)).
    """

    DURATIONS = durations(burst=None)

    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_.-]*\Z",
            examples=["batch"],
            description='Its name in the log and in `rejected.jsonl`, unique. Empty: "limit-1" and so on.',
        ),
    ] = ""
    services: Annotated[
        tuple[str, ...],
        Meta(
            description="Clients it is for, by the service that a client of a session names; empty: all. A client of "
            "plain frames or JSON lines does not name one."
        ),
    ] = ()
    peers: Annotated[
        tuple[str, ...],
        Meta(
            description='Clients it is for, by address: "10.0.0.7", a network such as "10.0.0.0/8", or "unix" for '
            "Unix sockets; empty: all."
        ),
    ] = ()
    peer_names: Annotated[
        tuple[str, ...],
        Meta(description="Clients it is for, by the name in the client's verified TLS certificate; empty: all."),
    ] = ()
    per: Annotated[
        Literal["address", "service", "peer_name", "connection", "limit"],
        Meta(
            description='Clients that share one budget. "address": those of one address (IPv6: one network of 64 bits; '
            'a Unix socket: one user); "service" and "peer_name": those with the same one; "connection": each '
            'connection has its own; "limit": all that match.',
        ),
    ] = "address"
    connections: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Most connections that have sent data; 0: no limit. Above it, a client of a session is "
            "answered BUSY and comes back later; other clients wait unread.",
        ),
    ] = 0
    records_per_second: Annotated[
        float,
        Meta(ge=0, le=1_000_000_000, description="Most records a second, on average; 0: no limit."),
    ] = 0
    bytes_per_second: Annotated[
        float,
        Meta(ge=0, le=1_000_000_000_000, description="Most bytes of records a second, on average; 0: no limit."),
    ] = 0
    burst: Annotated[
        str,
        Meta(description="What a client may send at once after a pause: the records and bytes of this time."),
    ] = "5s"
    memory: Annotated[
        int,
        Meta(
            ge=0,
            le=1 << 40,
            description="Most bytes of half-received and waiting records that one worker holds for the client; above "
            "it the connection with the most is closed. 0: no limit besides that of all clients.",
        ),
    ] = 0
    action: Annotated[
        Literal["wait", "drop"],
        Meta(
            description='What happens to records beyond a rate. "wait": the connection is not read until the rate '
            'allows it, so the client waits and nothing is lost; "drop": they are dropped and counted.',
        ),
    ] = "wait"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        for peer in self.peers:
            try:
                read_peer(peer)
            except ValueError as error:
                yield "peers", str(error)
        for key in ("services", "peer_names"):
            if not all(getattr(self, key)):
                yield key, "holds an empty name; leave the list empty for all clients"
        yield from self.duration_problems("burst", is_a_second, 'must be one second or more, such as "5s"')
        has_rate = bool(self.records_per_second or self.bytes_per_second)
        if not (has_rate or self.connections or self.memory):
            yield "", "limits nothing; set connections, records_per_second, bytes_per_second or memory"
        if self.action == "drop" and not has_rate:
            yield "action", '"drop" is for records_per_second and bytes_per_second; set one of them'
        if self.per == "connection" and self.connections:
            yield "connections", 'cannot be used with per = "connection"; choose another value for per'

    @property
    def burst_s(self) -> float:
        """`burst` in seconds."""
        return self.seconds("burst")

    @property
    def needs_service(self) -> bool:
        """Whether the limit is for clients that have named a service."""
        return bool(self.services) or self.per == "service"

    @property
    def needs_peer_name(self) -> bool:
        """Whether the limit is for clients with a verified certificate."""
        return bool(self.peer_names) or self.per == "peer_name"


def read_peer(peer: str) -> Network | None:
    """Return the network that an entry of `peers` names; None for "unix". Raises ValueError with a sentence."""
    if peer == "unix":
        return None
    try:
        network = ipaddress.ip_network(peer)
    except ValueError as error:
        remedy = "write an address, a network such as 10.0.0.0/8, or unix"
        why = "has bits beyond its prefix" if "host bits" in str(error) else "is not an address"
        raise ValueError(f"{peer!r} {why}; {remedy}") from None
    if network.version == 6 and (inner := network[0].ipv4_mapped) is not None and network.prefixlen >= 96:
        raise ValueError(f"{peer!r} never matches; write the address of IPv4, {inner}/{network.prefixlen - 96}")
    return network
