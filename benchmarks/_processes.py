"""Processes under measurement: their tree, CPU time, memory and descriptors, and how they are started and ended.

Owns /proc and signals. Knows no server by name, no records and no sockets.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """Return the process and all its descendants that are alive."""
    found, ahead = [], [root]
    while ahead:
        pid = ahead.pop()
        try:
            threads = [entry.name for entry in Path(f"/proc/{pid}/task").iterdir()]
        except OSError:
            continue
        found.append(pid)
        for thread in threads if len(threads) < 64 else [str(pid)]:
            with contextlib.suppress(OSError):
                ahead.extend(map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split()))
    return found


def cpu_s(root: int) -> float:
    """Return the CPU seconds, user and system, of a tree so far, with those of children that it has waited for."""
    ticks = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15] if pid == root else fields[11:13]))
            if pid != root:
                ticks += sum(map(int, fields[13:15]))
    return ticks * _TICK_S


def machine_busy_s() -> float:
    """Return the CPU seconds that the whole machine has worked since it started, and those stolen from it."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) * _TICK_S


def memory_bytes(root: int, *, own: bool = False) -> int:
    """Return the proportional set size of a tree: what its processes share is counted once.

    `own` leaves out mapped files, which the kernel may take back from an idle process at any time.
    """
    total, wanted = 0, ("Pss_Anon:", "Pss_Shmem:") if own else ("Pss:",)
    for pid in tree(root):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(wanted):
                    total += int(line.split()[1]) * 1024
    return total


def descriptors(root: int) -> int:
    """Return how many descriptors a tree holds."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            total += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return total


def raise_descriptor_limit(wanted: int) -> None:
    """Let this process, and what it starts, open as many files as the hard limit allows.

    Raises SystemExit when that is fewer than `wanted`.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise SystemExit(f"needs {wanted} descriptors and the hard limit is {hard}: raise it with ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def wait_until(condition: Callable[[], object], timeout_s: float, step_s: float = 0.005) -> bool:
    """Tell whether the condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(step_s)
    return True


@dataclass
class Running:
    """A server that was started by `started`; its output goes to a log kept for complaints."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """The root of the tree."""
        return self.process.pid

    def check(self) -> None:
        """Raise RuntimeError with the end of its log if it has ended by itself."""
        status = self.process.poll()
        if status is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self.process.args!r} ended with {status}:\n{tail}")


@contextlib.contextmanager
def started(command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Run a server for the length of the block, then end its whole tree: SIGTERM first, SIGKILL after 15 s."""
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory, env=environment
        )
    try:
        yield Running(process, log)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> float:
    """End a process and every descendant that it had; return the seconds that it took to go."""
    family, begin = tree(process.pid), time.monotonic()
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    taken_s = time.monotonic() - begin
    # A descendant that outlives its root was ours as well; its name is not looked at, only the id noted before.
    for pid in family:
        if pid != process.pid and not wait_until(lambda pid=pid: not _alive(pid), 2):  # type: ignore[misc]
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return taken_s


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
