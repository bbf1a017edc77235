"""Sockets are bound where they should be, and errors name the address and the remedy."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from prefork_logd.errors import ProcessError
from prefork_logd.net.acceptor import MOST_A_TURN, Acceptor
from prefork_logd.net.listener import bind_all, close_all, describe
from prefork_logd.net.load_balance import AcceptShare, Load
from prefork_logd.net.loop import Loop
from prefork_logd.system.systemd import inherited

ROOT = Path(__file__).resolve().parents[3]


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
    with pytest.raises(ProcessError, match=r"cannot listen on .*stop what listens there") as caught:
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
    with pytest.raises(ProcessError, match="no socket"):
        bind_all([f"unix:{path}"])
    assert path.read_text() == "data"


@pytest.mark.parametrize(
    ("address", "said"), [("no.such.host.invalid:1", "cannot listen on"), ("192.0.2.1:0", "address")]
)
def test_an_address_of_another_host_is_named(address: str, said: str) -> None:
    """What cannot be listened on here is said with the address."""
    with pytest.raises(ProcessError, match=said):
        bind_all([address])


def test_no_activation_without_its_pid() -> None:
    """Variables meant for another process are not obeyed."""
    assert inherited({}) == []
    assert inherited({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == []


def test_a_bad_activation_is_explained() -> None:
    """What was passed and cannot be listened on is an error and not silence."""
    with pytest.raises(ProcessError, match="no number"):
        inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"})


def test_sockets_of_systemd_activation_are_taken() -> None:
    """LISTEN_FDS from descriptor 3 on, meant for this pid."""
    code = (
        "import os, socket\n"
        "from prefork_logd.net.listener import describe\nfrom prefork_logd.system.systemd import inherited\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2')\n"
        "sockets = inherited()\n"
        "print(*map(describe, sockets))\n"
        "os.close(4); os.open('/dev/null', 0)\n"
        "try: inherited()\n"
        "except Exception as error: print(error)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = first.getsockname()[1], second.getsockname()[1]
        # The shell puts them where systemd would.
        script = f'exec 3<&{first.fileno()} 4<&{second.fileno()}; exec "$0" -c "$1"'
        done = subprocess.run(
            ["bash", "-c", script, sys.executable, code],
            pass_fds=(first.fileno(), second.fileno()), capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    listening, complaint = done.stdout.splitlines()
    assert listening == f"127.0.0.1:{ports[0]} 127.0.0.1:{ports[1]}"
    assert "descriptor 4" in complaint


class _Server:
    """An acceptor whose limits a test sets."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.sockets = bind_all(["127.0.0.1:0"])
        self.admitted: list[int] = []
        self.reported: list[int | None] = []
        self.others = 0
        share = AcceptShare(1, self._loads, 1000, 1000)
        self.acceptor = Acceptor(self.loop, self.sockets[0], self._admit, share, self._report)

    def _loads(self) -> list[Load]:
        return [Load(1, len(self.admitted), len(self.admitted)), Load(2, self.others, 0)]

    def _admit(self, fd: int, peer: str) -> None:
        assert peer.startswith("127.0.0.1:")
        self.admitted.append(fd)

    def _report(self, error: OSError) -> None:
        self.reported.append(error.errno)

    def close(self) -> None:
        for fd in self.admitted:
            os.close(fd)
        self.acceptor.close()
        self.loop.close()


def test_who_waits_is_taken_in_the_end_though_another_was_emptier() -> None:
    """An edge comes once; a worker that left somebody waiting looks again by itself."""
    server = _Server()
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(20)]
    while len(server.admitted) < 20:
        server.loop.turn(1)
    for client in clients:
        client.close()
    server.close()


def test_one_turn_takes_only_a_few() -> None:
    """A burst is left to workers that are a little late; those that wait are taken turn by turn."""
    server = _Server()
    server.others = 500
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(3 * MOST_A_TURN)]
    server.loop.turn(1)
    assert len(server.admitted) == MOST_A_TURN
    while len(server.admitted) < len(clients):
        server.loop.turn(1)
    for client in clients:
        client.close()
    server.close()


def test_draining_takes_everyone_who_has_connected() -> None:
    """What waits in the backlog at a stop has already sent something."""
    server = _Server()
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(20)]
    server.acceptor.take_queue()
    server.acceptor.close()
    assert len(server.admitted) == 20
    for fd in server.admitted:
        os.close(fd)
    for client in clients:
        client.close()
    server.loop.close()


def test_running_out_of_descriptors_neither_spins_nor_forgets() -> None:
    """While there is none the loop sleeps; when there is one again, who waited is taken."""
    import resource

    server = _Server()
    server.others = 500
    client = socket.create_connection(server.sockets[0].getsockname())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    spare: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                spare.append(os.dup(0))
        turns = 0
        while not server.reported:
            server.loop.turn(1)
            turns += 1
        assert turns == 1
        assert server.reported == [errno.EMFILE]
        os.close(spare.pop())
        server.acceptor.look()
        assert len(server.admitted) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in spare:
            os.close(fd)
    client.close()
    server.close()
