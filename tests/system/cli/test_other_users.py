"""Another user of the host gets nothing from a collector but an error that names the place and the remedy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.accounts import NEEDS_ROOT
from tests.support.harness import Collector, frames

if TYPE_CHECKING:
    from collections.abc import Callable

    Maker = Callable[..., Collector]

ROOT = Path(__file__).resolve().parents[3]
OTHER = 54321
"""A user that no account has."""
pytestmark = NEEDS_ROOT
CONNECT = """
import socket, sys
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
except OSError as error:
    sys.exit(type(error).__name__)
"""


def as_other(collector: Collector, *line: str, group: int = OTHER) -> subprocess.CompletedProcess[str]:
    """Run Python as the other user, in one group: unless given in none of root's."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *line],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=env,
        cwd="/",
        user=OTHER,
        group=group,
        extra_groups=[],
    )


@pytest.fixture(scope="module", autouse=True)
def interpreter_for_others() -> None:
    """Skip the tests where the interpreter is in a directory of this user alone, such as pyenv's of root."""
    try:
        subprocess.run([sys.executable, "-c", ""], check=True, cwd="/", user=OTHER, group=OTHER, extra_groups=[])
    except PermissionError:
        pytest.skip(f"no other user may run {sys.executable}")


@pytest.fixture
def shown(make_collector: Maker) -> Collector:
    """Return a running collector with a record, whose state directory every user may enter and list."""
    collector = make_collector("", "--workers", "1", default_store=True)
    collector.start()
    with collector.connect() as sock:
        sock.sendall(frames(["kept"]))
        collector.wait_for_records(1)
    for directory in (collector.state_dir, *collector.state_dir.parents):
        if directory.stat().st_mode & 0o005 != 0o005:
            directory.chmod(directory.stat().st_mode | 0o055)
    return collector


def test_the_control_socket_refuses_another_user(shown: Collector) -> None:
    """By its mode, in a directory that does not; the collector goes on."""
    done = as_other(shown, "-c", CONNECT, str(shown.state_dir / "control.sock"))
    assert (done.returncode, done.stderr) == (1, "PermissionError\n")
    assert shown.status()["records"] == 1


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (("status",), "prefork-logd.pid"),
        (("stop",), "prefork-logd.pid"),
        (("reload",), "prefork-logd.pid"),
        (("upgrade",), "prefork-logd.pid"),
        (("workers", "3"), "prefork-logd.pid"),
        (("start",), "prefork-logd.pid"),
        (("restart",), "prefork-logd.pid"),
        (("run", "--bind", "127.0.0.1:0"), ""),
        (("send", "x"), "prefork-logd.pid"),
        (("query",), "records"),
        (("sql", "SELECT 1 FROM records"), "records"),
        (("tail",), "journal/position"),
        (("errors",), "groups.db"),
        (("web", "token", "x"), "page/tokens.lock"),
        (("web", "share", "x"), "page/share.key"),
    ],
)
def test_each_verb_names_the_place_and_the_account(shown: Collector, line: tuple[str, ...], place: str) -> None:
    """No verb acts, and none ends as if there were nothing."""
    before = shown.status()
    done = as_other(shown, "-m", "prefork_logd", *line, "--state-dir", str(shown.state_dir))
    assert (done.returncode, done.stdout) == (1, ""), done
    assert str(shown.state_dir / place) in done.stderr
    assert re.search(r"use that account|use the account that it belongs to, or root", done.stderr), done.stderr
    after = shown.status()
    assert [child["pid"] for child in after["children"]] == [child["pid"] for child in before["children"]]


def test_a_member_of_the_group_tails_the_output(shown: Collector) -> None:
    """The journal is for the collector's account alone; the sentence names it and the file that is read."""
    done = as_other(shown, "-m", "prefork_logd", "tail", "--state-dir", str(shown.state_dir), group=os.getgid())
    assert done.returncode == 0, done
    assert done.stdout.endswith(" kept\n")
    position, output = shown.state_dir / "journal/position", shown.state_dir / "records.jsonl"
    assert done.stderr == f"prefork-logd: {position}: Permission denied; reading {output}\n"
