"""Says what a process that gives no answer is doing, as far as /proc knows.

Owns the words. Sends nothing and asks no process.
"""

from __future__ import annotations

from pathlib import Path

from prefork_logd.system.running import proc_is_ours

_DOING = {
    "T": "stopped by a signal; kill -CONT {pid} lets it go on",
    "t": "stopped by a debugger",
    "D": "waits for a disk or a network file system",
    "R": "busy",
    "Z": "has ended",
}


def describe(pid: int) -> str:
    """Return what a process is doing (proc_pid_stat(5)); empty if it cannot be seen from here."""
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
        # The name, in parentheses, may hold anything.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _place(pid: int) -> str:
    """Return where in the kernel a process sleeps, if that is known: the usual wait for events is no place."""
    try:
        place = Path(f"/proc/{pid}/wchan").read_text(errors="replace")
    except OSError:
        return ""
    return f" in {place}" if place not in ("", "0", "ep_poll", "do_epoll_wait") else " for events"


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
