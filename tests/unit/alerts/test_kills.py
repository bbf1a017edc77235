"""The process is killed at every step: each incident is told, and told once but for an answer that was lost."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import prefork_logd.alerts
from tests.support.alerting import World, toml

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = str(Path(prefork_logd.alerts.__file__).parent)
POINTS = 80
"""Places at which the process is killed, spread evenly over all lines of the room that it runs."""
pytestmark = pytest.mark.slow


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Return the address of an HTTP server, a process of its own, and the file of the ids that it was sent."""
    log = tmp_path / "ids"
    log.touch()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        pid = os.fork()
        if pid == 0:
            _serve(listening, log)
    yield url, log
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _serve(listening: socket.socket, log: Path) -> None:
    """Answer requests until the process is killed; the id is in the file before the answer."""
    with log.open("ab", buffering=0) as file:
        while True:
            sock, _ = listening.accept()
            with sock:
                data = b""
                while b"\r\n\r\n" not in data:
                    piece = sock.recv(65_536)
                    if not piece:
                        break
                    data += piece
                for line in data.split(b"\r\n"):
                    if line.startswith(b"Idempotency-Key: "):
                        file.write(line.partition(b": ")[2] + b"\n")
                        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def _run(state_dir: Path, url: str, log: Path, kill_at: int) -> int:
    """Run an incident from its beginning to its end in a process, which is killed at a line; return the lines so far.

    What has happened before in this directory is gone on with.
    """
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(ours)
            lines = _live(state_dir, url, log, kill_at)
            os.write(theirs, str(lines).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return int(said or -1)


def _live(state_dir: Path, url: str, log: Path, kill_at: int) -> int:
    lines = 0

    def trace(frame: Any, event: str, _argument: Any) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(HERE):
            return None
        if event == "line":
            lines += 1
            if lines == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    world = World(state_dir, toml(url, 'query = "level>=error"'))
    told = log.read_text()
    if kill_at:
        threading.settrace(trace)
        sys.settrace(trace)
    if "-firing" not in told:
        world.log()
    world.turn(turns=1)
    world.records.lines.clear()
    world.turn(turns=2)
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]  # None is what it takes
    return lines


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_is_killed_at_any_line(tmp_path: Path, receiver: tuple[str, Path]) -> None:
    """Whatever was done before, the next process goes on from there."""
    url, log = receiver
    clean = tmp_path / "clean"
    clean.mkdir()
    lines = _run(clean, url, log, 1 << 60)
    assert lines > 500
    assert [one.partition("-")[2] for one in log.read_text().splitlines()] == ["firing", "resolved"]
    twice = 0
    for point in range(POINTS):
        state_dir = tmp_path / str(point)
        state_dir.mkdir()
        log.write_text("")
        assert _run(state_dir, url, log, 1 + point * lines // POINTS) == -1, "it was killed"
        _run(state_dir, url, log, 0)
        _run(state_dir, url, log, 0)
        found = Counter(log.read_text().splitlines())
        told = {one.partition("-")[2] for one in found}
        assert told >= {"firing", "resolved"}
        incidents = {one.partition("-")[0] for one in found}
        assert len(incidents) == 1, f"killed at line {point}: {found}"
        again = sum(found.values()) - len(found)
        assert again <= 1
        twice += again
    assert twice < POINTS / 4, "only an answer that is lost makes a notice come twice"
