"""Sockets are bound where they should be, and errors name the address and the remedy."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from prefork_logd.errors import ProcessError
from prefork_logd.net.listener import bind_all, close_all, describe, peer_text


def test_every_kind_of_address_is_bound(tmp_path: Path) -> None:
    """TCP over IPv4 and IPv6 and a path, several at once, port 0 picking one."""
    sockets = bind_all(["127.0.0.1:0", "[::1]:0", f"unix:{tmp_path}/deep/er/sock"])
    bound = [describe(sock) for sock in sockets]
    assert bound[0].startswith("127.0.0.1:")
    assert not bound[0].endswith(":0")
    assert bound[1].startswith("[::1]:")
    assert bound[2] == f"unix:{tmp_path}/deep/er/sock"
    assert (tmp_path / "deep/er/sock").stat().st_mode & 0o777 == 0o666
    close_all(sockets)
    assert not (tmp_path / "deep/er/sock").exists()


def test_a_name_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Localhost is listened on wherever it leads."""
    sockets = bind_all(["localhost:0"])
    assert {sock.family for sock in sockets} <= {socket.AF_INET, socket.AF_INET6}
    close_all(sockets)


def test_a_client_of_ipv4_has_its_own_address_on_a_socket_for_both() -> None:
    """Systemd passes such sockets; limits and fair shares go by the address of the client."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        for address, text in (("127.0.0.1", "127.0.0.1:{}"), ("::1", "[::1]:{}")):
            with socket.create_connection((address, port)) as client:
                accepted, place = server.accept()
                with accepted:
                    assert peer_text(accepted, place) == text.format(client.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "text"),
    [("::ffff:192.0.2.7", "192.0.2.7:5"), ("::ffff:1:2:3", "[::ffff:1:2:3]:5"), ("2001:db8::1", "[2001:db8::1]:5")],
)
def test_an_address_of_ipv6_is_in_brackets(host: str, text: str) -> None:
    """Also one that begins like a mapped address of IPv4."""
    with socket.socket(socket.AF_INET6) as sock:
        assert peer_text(sock, (host, 5, 0, 0)) == text


def test_accepted_sockets_inherit_keepalive() -> None:
    """A peer that vanished is noticed without a system call per connection."""
    sockets = bind_all(["127.0.0.1:0"])
    client = socket.create_connection(sockets[0].getsockname())
    sockets[0].setblocking(True)
    accepted, _ = sockets[0].accept()
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
    for sock in (client, accepted):
        sock.close()
    close_all(sockets)


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "unix:{path}"])
def test_an_address_in_use_is_named_with_a_remedy(tmp_path: Path, address: str) -> None:
    """A second listener is refused, and closes what it had bound before."""
    first = bind_all(["127.0.0.1:0", f"unix:{tmp_path}/sock"])
    taken = address.format(port=first[0].getsockname()[1], path=tmp_path / "sock")
    with pytest.raises(ProcessError, match=r"cannot listen on .*stop the program that listens there") as caught:
        bind_all([f"unix:{tmp_path}/other", taken])
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EADDRINUSE
    assert not (tmp_path / "other").exists()
    close_all(first)


def test_a_socket_left_by_a_dead_process_is_replaced(tmp_path: Path) -> None:
    """Nobody answers there, so it is in nobody's way."""
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    close_all(bind_all([f"unix:{path}"]))


def test_a_socket_that_nobody_accepts_from_is_left_alone(tmp_path: Path) -> None:
    """Its backlog is full, so connecting to it would wait for ever; it is somebody's all the same."""
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(ProcessError, match="another process listens there"):
            bind_all([f"unix:{path}"])
    assert path.exists()


def test_file_of_an_inherited_socket_is_not_removed(tmp_path: Path) -> None:
    """It belongs to systemd, which goes on listening there; only what was bound here is removed."""
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as inherited_one:
        inherited_one.bind(str(path))
        close_all([inherited_one])
    assert path.exists()
    path.unlink()
    bound = bind_all([f"unix:{path}"])
    assert path.exists()
    close_all(bound)
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """A wrong path must not cost somebody's file."""
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ProcessError, match="not a socket is in its place; remove it, or choose another path"):
        bind_all([f"unix:{path}"])
    assert path.read_text() == "data"


def test_a_path_that_no_socket_can_have(tmp_path: Path) -> None:
    """The longest one is named: it is shorter than that of a file."""
    with pytest.raises(ProcessError, match="too long; choose a path of at most 107 bytes"):
        bind_all([f"unix:{tmp_path}/{'x' * 120}"])


@pytest.mark.parametrize(
    ("address", "said"), [("no.such.host.invalid:1", "cannot listen on"), ("192.0.2.1:0", "address")]
)
def test_an_address_of_another_host_is_named(address: str, said: str) -> None:
    """What cannot be listened on here is said with the address."""
    with pytest.raises(ProcessError, match=said):
        bind_all([address])
