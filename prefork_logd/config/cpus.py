"""Counts the processors that this process may use, by its affinity and the quota of its cgroups.

Owns the reading of both. Does not choose the number of workers.

A container's limit of CPU is a quota of its cgroup, which sched_getaffinity(2) does not show. With more workers than it
allows, the kernel stops all of them for a part of each period.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Mount(NamedTuple):
    """Where a hierarchy of cgroups is mounted (proc_pid_mountinfo(5))."""

    root: str
    """The cgroup that is seen at `place`."""
    place: str
    is_unified: bool


def usable() -> int:
    """Return the number of processors that this process may use, a quota rounded down, at least 1."""
    found = quota()
    cores = len(os.sched_getaffinity(0))
    return max(1, cores if found == math.inf else min(cores, math.floor(found)))


def quota(root: str = "/") -> float:
    """Return the smallest quota, in processors, of this process's cgroups and those above them; infinite for none.

    `root`: the directory that /proc and all mounts are below.
    """
    try:
        groups = Path(root, "proc/self/cgroup").read_text().splitlines()
        mounts = list(_mounts(Path(root, "proc/self/mountinfo").read_text().splitlines()))
    except OSError:
        return math.inf
    found = math.inf
    for line in groups:
        hierarchy, controllers, group = line.split(":", 2)
        is_unified = hierarchy == "0"
        if not is_unified and "cpu" not in controllers.split(","):
            continue
        for mount in mounts:
            if mount.is_unified is is_unified:
                place = Path(root, mount.place.lstrip("/"))
                found = min(found, *map(_quota_of, _directories(place, mount.root, group)))
    return found


def _mounts(lines: list[str]) -> Iterator[_Mount]:
    """Yield the mounts of cgroups version 2, and of version 1 with the CPU controller."""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        if kind[0] == "cgroup2" or "cpu" in kind[2].split(","):
            yield _Mount(_unescaped(fields[3]), _unescaped(fields[4]), kind[0] == "cgroup2")


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _directories(place: Path, root: str, group: str) -> list[Path]:
    """Return the directory of a cgroup and those of all above it that can be seen."""
    prefix = root.rstrip("/")
    # A cgroup outside of the mount (that of a namespace, or "/.." in one) counts as the mount itself.
    inside = group.removeprefix(prefix) if f"{group}/".startswith(f"{prefix}/") else ""
    parts = [part for part in inside.split("/") if part]
    if ".." in parts:
        parts = []
    return [place.joinpath(*parts[:count]) for count in range(len(parts) + 1)]


def _quota_of(directory: Path) -> float:
    """Return the quota of one cgroup in processors; infinite if it has none."""
    try:
        if (directory / "cpu.max").exists():
            quota_us, period_us = (directory / "cpu.max").read_text().split()
        else:
            quota_us = (directory / "cpu.cfs_quota_us").read_text().strip()
            period_us = (directory / "cpu.cfs_period_us").read_text().strip()
        if quota_us == "max" or int(quota_us) <= 0:
            return math.inf
        return int(quota_us) / int(period_us)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
