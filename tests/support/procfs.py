"""Reads memory, CPU time, descriptors and timers of processes and connections from the kernel (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
KEEPALIVE_TIMER = 2
"""Of the timers in /proc/net/tcp: "another timer (e.g. delayed ack or keepalive)"."""


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def own_bytes(pid: int) -> int:
    """Return the resident anonymous memory of a process (RssAnon)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    return 0


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def descriptors(pid: int) -> int:
    """Return the number of descriptors of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def tcp_timer(local_port: int, remote_port: int) -> tuple[int, float]:
    """Return (kind, seconds left) of the timer of an IPv4 connection's end."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = [int(fields[column].rpartition(":")[2], 16) for column in (1, 2)]
        if ports == [local_port, remote_port]:
            kind, left = fields[5].split(":")
            return int(kind, 16), int(left, 16) / _TICKS_PER_S
    raise LookupError(f"no connection from port {local_port} to {remote_port}")
