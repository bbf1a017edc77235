"""Sockets of systemd activation are taken, and nothing else is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from prefork_logd.errors import ProcessError
from prefork_logd.system.systemd import inherited

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
