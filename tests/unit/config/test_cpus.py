"""`workers = "auto"` goes by what may be used, not by what is there."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

import pytest

from prefork_logd.config import cpus
from prefork_logd.config.load import loads

V2 = "25 30 0:22 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "25 30 0:22 {root} /sys/fs/cgroup/cpu rw shared:4 - cgroup cgroup rw,cpu,cpuacct\n"
OTHER = "26 30 0:23 / /sys/fs/cgroup/memory rw shared:5 - cgroup cgroup rw,memory\n"


def make_host(root: Path, group: str, mounts: str, files: dict[str, str]) -> str:
    """Make the files of a host below a directory, and return it."""
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(group)
    (root / "proc" / "self" / "mountinfo").write_text("24 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts)
    for name, text in files.items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("group", "mounts", "files", "expected"),
    [
        # Version 2: its own, "max", one above it, the smallest of several, a container's namespace, a part of the tree.
        ("0::/a/b\n", V2.format(root="/"), {"a/b/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", V2.format(root="/"), {"a/b/cpu.max": "max 100000\n"}, math.inf),
        ("0::/a/b\n", V2.format(root="/"), {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2),
        ("0::/a/b\n", V2.format(root="/"), {"a/b/cpu.max": "50000 10000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", V2.format(root="/"), {"cpu.max": "400000 100000\n"}, 4),
        ("0::/../x\n", V2.format(root="/"), {"cpu.max": "100000 100000\n"}, 1),
        ("0::/pod/c\n", V2.format(root="/pod"), {"c/cpu.max": "100000 50000\n"}, 2),
        ("0::/podium\n", V2.format(root="/pod"), {"cpu.max": "100000 50000\n"}, 2),
        # Version 1, also beside an empty version 2 (a hybrid), and with other controllers.
        ("4:cpu,cpuacct:/a\n0::/\n", V1.format(root="/") + V2.format(root="/"), {
            "cpu/a/cpu.cfs_quota_us": "250000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 2.5),
        ("4:cpu,cpuacct:/a\n", V1.format(root="/"), {
            "cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, math.inf),
        ("4:cpu,cpuacct:/d/1\n", V1.format(root="/d/1"), {
            "cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ("5:memory:/a\n", OTHER, {"memory/a/cpu.cfs_quota_us": "1\n", "memory/a/cpu.cfs_period_us": "1\n"}, math.inf),
        # What cannot be read limits nothing.
        ("0::/a\n", V2.format(root="/"), {"a/cpu.max": "garbage\n"}, math.inf),
        ("0::/a\n", V2.format(root="/"), {"a/cpu.max": "100000 0\n"}, math.inf),
        ("0::/a\n", "", {}, math.inf),
    ],
)  # fmt: skip
def test_the_smallest_quota_counts(
    tmp_path: Path, group: str, mounts: str, files: dict[str, str], expected: float
) -> None:
    """Of the cgroup and all above it, in both versions, as far as they can be seen."""
    assert cpus.quota(make_host(tmp_path, group, mounts, files)) == expected


def test_a_host_without_cgroups(tmp_path: Path) -> None:
    """No quota can be found, and none is made up."""
    assert cpus.quota(str(tmp_path)) == math.inf


@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1.9, 1), (2.0, 2), (3.0, 3), (64.0, 4), (math.inf, 4)])
def test_automatic_workers_go_by_the_quota(monkeypatch: pytest.MonkeyPatch, quota: float, expected: int) -> None:
    """Rounded down, at least one, and never more than the cores of the affinity mask."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5})
    monkeypatch.setattr(cpus, "quota", lambda: quota)
    assert loads("", "", {"state_dir": "/state"}).server.worker_count == expected


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/sys/fs/cgroup/cpu/cgroup.procs", os.W_OK), reason="no cgroup can be made here")
def test_a_quota_of_this_very_host() -> None:
    """Of a cgroup that a process is really in."""
    group = Path(f"/sys/fs/cgroup/cpu/prefork-logd-test-{os.getpid()}")
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text("100000")
    except OSError:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip("no cgroup can be made here")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            (group / "cgroup.procs").write_text("0")
            status = 0 if cpus.usable() == 1 else 2
        finally:
            os._exit(status)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    group.rmdir()
    assert ended == 0
