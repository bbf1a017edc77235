"""What counts as one peer."""

from __future__ import annotations

import socket

import pytest

from prefork_logd.net.peers import peer_address, peer_client, peer_host, peer_key


def test_an_address_is_a_peer_whatever_the_port() -> None:
    """IPv4: the address; IPv6: its network, of which a host may have every address; Unix: the user."""
    alike = [
        ("127.0.0.1:1", "127.0.0.1:65535"),
        ("[2001:db8:1:2::1]:1", "[2001:db8:1:2:ffff::9]:2"),
        ("[fe80::1%eth0]:1", "[fe80::2%eth0]:1"),
        ("unix:pid=1,uid=0", "unix:pid=2,uid=0"),
    ]
    keys = [{peer_key(peer) for peer in peers} for peers in alike]
    assert [len(found) for found in keys] == [1, 1, 1, 1]
    others = ["127.0.0.2:1", "[2001:db8:1:3::1]:1", "unix:pid=1,uid=1", "stream S", "[::]:1"]
    assert len(set().union(*keys, (peer_key(peer) for peer in others))) == 9
    assert all(0 <= peer_key(peer) < 1 << 64 for peer in [*others, "unix:pid=0,uid=-1", "255.255.255.255:0"])


@pytest.mark.parametrize(
    ("peer", "client", "host"),
    [
        ("192.0.2.7:5", "192.0.2.7", "192.0.2.7"),
        ("[2001:db8:1:2:ffff::9]:5", "2001:db8:1:2::/64", "2001:db8:1:2:ffff::9"),
        ("[fe80::1%eth0]:5", "fe80::/64", "fe80::1%eth0"),
        ("unix:pid=7,uid=1000", "unix:uid=1000", socket.gethostname()),
    ],
)
def test_a_peer_counts_for_a_client_on_a_host(peer: str, client: str, host: str) -> None:
    """IPv6: for its network; a process on a Unix socket: for its user, on this host."""
    assert peer_client(peer) == client
    assert peer_host(peer) == host
    assert (peer_address(peer) is None) is peer.startswith("unix:")
