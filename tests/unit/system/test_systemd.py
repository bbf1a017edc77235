"""Sockets of systemd activation are taken, and nothing else is; notifications reach systemd, and disturb nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from prefork_logd.errors import ProcessError
from prefork_logd.system.log import LOGGER
from prefork_logd.system.systemd import Notifier, inherited
from tests.support.service_manager import FakeServiceManager

ROOT = Path(__file__).resolve().parents[3]


def test_no_activation_without_its_pid() -> None:
    """Variables meant for another process are not obeyed."""
    assert inherited({}) == []
    assert inherited({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == []


def test_a_bad_activation_is_explained() -> None:
    """What was passed and cannot be listened on is an error and not silence."""
    with pytest.raises(ProcessError, match="not a number"):
        inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"})


@pytest.mark.slow
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


def test_a_notification_has_a_line_for_each_assignment(tmp_path: Path) -> None:
    """A newline in a value cannot make an assignment of its own."""
    with FakeServiceManager(tmp_path / "notify") as systemd:
        Notifier(systemd.environment).send(READY=1, STATUS="one\nSTOPPING=1")
        assert systemd.take() == [{"READY": "1", "STATUS": "one STOPPING=1"}]


def test_an_abstract_socket() -> None:
    """`@` stands for the zero byte (unix(7))."""
    name = f"prefork-logd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).send(READY=1)
        sock.settimeout(5)
        assert sock.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("more", "watchdog_s"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "2500000"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "own"}, 2.5),
        ({"WATCHDOG_USEC": "2500000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_the_watchdog_of_this_process_only(more: dict[str, str], watchdog_s: float) -> None:
    """The rule of sd_watchdog_enabled(3)."""
    own = {name: str(os.getpid()) if value == "own" else value for name, value in more.items()}
    assert Notifier({"NOTIFY_SOCKET": "/run/nowhere", **own}).watchdog_s == watchdog_s
    assert Notifier(own).watchdog_s == 0.0


def test_a_lost_service_manager_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The collector goes on, without a line for each notification."""
    LOGGER.propagate = True
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    for _ in range(3):
        notifier.send(READY=1)
    assert [record.getMessage() for record in caplog.records] == [
        "cannot notify systemd through NOTIFY_SOCKET: No such file or directory"
    ]
    assert not Notifier({"NOTIFY_SOCKET": "relative"}).is_wanted
