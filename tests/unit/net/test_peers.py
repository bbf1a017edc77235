"""What counts as one peer."""

from __future__ import annotations

from prefork_logd.net.peers import peer_key


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
