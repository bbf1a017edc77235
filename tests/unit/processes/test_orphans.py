"""Children of a dead master end, also those that are stopped or hang."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

_MASTER = """
import os, re, signal, sys, time
from prefork_logd.processes import orphans
orphans.END_SIGNAL = signal.SIGHUP  # one second instead of five
lifeline = orphans.Lifeline()

def child(work):
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if not pid:
        lifeline.hold()
        os.write(write_fd, b"x")
        work()
        os._exit(0)
    os.read(read_fd, 1)
    return pid

def stop():
    os.kill(os.getpid(), signal.SIGSTOP)
    os.write(1, b"went on")

stopped = child(stop)
child(lambda: re.match("(a+)+$", "a" * 64 + "b"))  # hangs in C, holding the GIL
os.waitpid(stopped, os.WUNTRACED)
{end}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "end",
    [
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.set_inheritable(lifeline.fd, True); os.execv('/bin/sh', ['sh', '-c', 'kill -9 $$'])",
    ],
    ids=["killed", "killed after an exec"],
)
def test_stopped_and_hung_children_end_with_their_master(end: str) -> None:
    """The stopped one goes on and ends by itself; the one that hangs in C is ended a bounded time later."""
    began_s = time.monotonic()
    # Its output ends when the last child has ended.
    done = subprocess.run(
        [sys.executable, "-c", _MASTER.format(end=end)], stdout=subprocess.PIPE, cwd=ROOT, timeout=20, check=False
    )
    assert done.stdout == b"went on"
    assert time.monotonic() - began_s < 5


@pytest.mark.slow
def test_a_child_forked_by_a_dying_master_ends() -> None:
    """The lifeline had been closed before the child held it, so no signal will come: the child sets its own end."""
    script = (
        "import os, signal, time\n"
        "from prefork_logd.processes import orphans\n"
        "lifeline = orphans.Lifeline()\n"
        "orphans.END_SIGNAL = signal.SIGHUP\n"
        "lifeline.hold()\n"
        "time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=20, check=False)
    assert done.returncode == -14
