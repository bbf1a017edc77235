"""Describes the activity of a process that does not answer, from /proc.

Owns the wording. Sends nothing to the process.
"""

from __future__ import annotations

from pathlib import Path

from prefork_logd.system.running import proc_is_ours

_DOING = {
    "T": "stopped by a signal; kill -CONT {pid} continues it",
    "t": "stopped by a debugger",
    "D": "waits for a disk or a network file system",
    "R": "busy",
    "Z": "has ended",
}


def describe(pid: int) -> str:
    """Return the activity of a process (proc_pid_stat(5)); empty if /proc does not show it."""
    letter = _state(pid)
    if not letter:
        return ""
    return _DOING.get(letter, f"waits{_place(pid)}").format(pid=pid)


def describe_family(pid: int) -> str:
    """Return a phrase for each process of a collector whose master does not answer, the master first."""
    if pid <= 0 or not proc_is_ours():
        return "its processes cannot be seen from here"
    family = [("master", pid), *((_name(child), child) for child in _children(pid))]
    return "; ".join(f"{name} (pid {member}): {describe(member) or 'has ended'}" for name, member in family)


def _state(pid: int) -> str:
    try:
        # The name, in parentheses, may contain any character.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _place(pid: int) -> str:
    """Return the kernel function in which a process sleeps, or the usual wait for events; empty if not known."""
    try:
        place = Path(f"/proc/{pid}/wchan").read_text(errors="replace")
    except OSError:
        return ""
    if place in ("", "0"):
        # The kernel hides it from other users (proc_pid_wchan(5)).
        return ""
    return f" in {place}" if place not in ("ep_poll", "do_epoll_wait") else " for events"


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _name(pid: int) -> str:
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].decode(errors="replace").strip()
    except OSError:
        return "a process"
    return title.removeprefix("prefork-logd: ") if title.startswith("prefork-logd: ") else "a process"
