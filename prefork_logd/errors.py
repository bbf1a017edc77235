"""Defines every exception of the project, and the exit statuses.

    LogdError
      ConfigError            the configuration is wrong; carries every problem with its place and remedy
      ProtocolError
        LocalProtocolError   our own code broke the protocol's rules
        RemoteProtocolError  the peer did
      RecordRejected         one frame cannot be stored as a record; the connection lives on
        NotARecord           a line is not a stored record
      OutputError            an output file cannot be written just now
      StoreError             a store cannot be reached or used just now
        NoSuchStoreError     no store of this name is configured
        QueryTimeoutError    a query took longer than it may
        QueryMemoryError     a query needs more memory than it may have
        QueryCancelledError  a query was cancelled by its user
      ProcessError           a process cannot be started, found or ended

Only cli/ turns an exception into an exit status.
"""

from __future__ import annotations

import enum
import errno
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Reasons of a failed call that pass when there is room on the disk, or in the quota (errno(3))."""


class ExitStatus(enum.IntEnum):
    """Exit status of the command (docs/operating.md)."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_RUNNING = 3


class LogdError(Exception):
    """Root of the project's exceptions."""

    exit_status = ExitStatus.FAILURE


class Problem(NamedTuple):
    """One problem of a configuration."""

    place: str
    """File, line and key, such as ``prefork-logd.toml:7: server.workers``; a flag; or an environment variable."""
    message: str
    """The problem, and the remedy."""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class ConfigError(LogdError):
    """The configuration cannot be used; `problems` holds every reason, not just the first."""

    exit_status = ExitStatus.USAGE

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class ProtocolError(LogdError):
    """The rules of a wire protocol were broken."""


class LocalProtocolError(ProtocolError):
    """Our own code broke the rules: a bug, never the peer's fault."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rules: its connection must be closed. `reason` is a short stable code, for counting."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class RecordRejected(LogdError):  # noqa: N818 - a verdict on the peer's bytes, not an error of ours
    """A frame cannot be stored. `reason` is a short stable code, for counting; `detail` the place and the problem."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class NotARecord(RecordRejected, ValueError):  # noqa: N818 - a verdict, too
    """A line is not a stored record. The text is the reason, to be put after "the line"."""

    def __init__(self, detail: str) -> None:
        super().__init__("not-a-record", detail)

    def __str__(self) -> str:
        return self.detail


_REMEDIES = {
    errno.EACCES: "use the account that it belongs to, or root, or give this user the right",
    errno.EPERM: "use the account that it belongs to, or root",
    errno.ENOENT: "create it, or name another",
    errno.ENOTDIR: "name a path whose directories are directories",
    errno.EISDIR: "name a file",
    errno.EEXIST: "move away what is there",
    errno.ELOOP: "remove the link, or name a path without links",
    errno.ENOSPC: "make room (`df` and `df -i` show what is full)",
    errno.EDQUOT: "make room, or raise the quota",
    errno.EROFS: "mount the file system writable, or name another place",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit of open files (fs.file-max)",
    errno.ENOMEM: "free memory, or raise its limit",
    errno.EAGAIN: "end other processes, or raise the limit of processes (ulimit -u)",
    errno.EIO: "the disk or the terminal fails; see the kernel's log (dmesg)",
}
"""By error number, for the person whose command was refused."""

_COLLECTOR_REMEDIES = _REMEDIES | {
    errno.EACCES: "give the collector's user the right to write there, or name another path",
    errno.EPERM: "give the collector's user the right to change it (an attribute of chattr(1) may forbid that)",
    errno.ENOENT: "put its directory back, or name another path",
}
"""For people who find in a log that the collector was refused: it runs already, as a user of its own."""


def describe_refusal(error: OSError) -> str:
    """Return the reason of a refusal of the host and its remedy, such as "Disk quota exceeded; make room, ..."."""
    return f"{error.strerror or error}{remedy_for(error.errno)}"


def remedy_for(number: int | None) -> str:
    """Return the end of a sentence with the remedy for an error number, such as "; name a file"; empty for none."""
    return _ending(_REMEDIES, number)


def file_reason(number: int) -> str:
    """Return why a call of the collector about a file failed, by its errno(3), and the remedy if there is one."""
    return f"{os.strerror(number)}{_ending(_COLLECTOR_REMEDIES, number)}"


def file_problem(error: OSError) -> str:
    """Return the file of a failed call of the collector, if it is known, the reason and the remedy."""
    reason = f"{error.strerror or error}{_ending(_COLLECTOR_REMEDIES, error.errno)}"
    return f"{error.filename}: {reason}" if error.filename else reason


def _ending(remedies: Mapping[int, str], number: int | None) -> str:
    remedy = remedies.get(number or 0, "")
    return f"; {remedy}" if remedy else ""


class OutputError(LogdError):
    """An output's file cannot be opened, written, synced or renamed now; nothing of the attempt is left in it."""

    def __init__(self, path: str, operation: str, error: OSError) -> None:
        self.path = path
        self.operation = operation
        self.errno = error.errno
        self.reason = f"{error.strerror}{_ending(_COLLECTOR_REMEDIES, error.errno)}"
        """The reason and the remedy, without the path."""
        super().__init__(f"{path}: cannot {operation}: {self.reason}")


class StoreError(LogdError):
    """A store cannot be reached or used now; nothing of the attempt is in it. The text names store and reason."""


class NoSuchStoreError(StoreError):
    """No store of this name is configured."""

    exit_status = ExitStatus.USAGE

    def __init__(self, name: str, configured: Sequence[str]) -> None:
        super().__init__(f"store {name!r}: there is no such store; configured: {', '.join(configured) or 'none'}")


class QueryTimeoutError(StoreError):
    """A query took longer than its deadline."""

    def __init__(self, deadline_s: float) -> None:
        super().__init__(
            f"the query took longer than {deadline_s:g} s; ask for a shorter range of time, or for fewer records"
        )


class QueryMemoryError(StoreError):
    """A query needs more memory than it may have: it fails each time. The text says how to narrow it."""


def too_heavy(place: str, cause: str) -> str:
    """Return the text of a QueryMemoryError: the store, how to narrow the query, and the words of a library."""
    remedy = "ask for a shorter range of time, for fewer records, or for fields with shorter values"
    return f"{place}: the query needs more memory than a search may use; {remedy} ({cause})"


class QueryCancelledError(StoreError):
    """A query was cancelled by another thread."""

    def __init__(self) -> None:
        super().__init__("the query was cancelled")


class ProcessError(LogdError):
    """A process could not be started, found or ended."""

    def __init__(self, message: str, exit_status: ExitStatus = ExitStatus.FAILURE) -> None:
        self.exit_status = exit_status
        super().__init__(message)


MOST_WORDS = 400
"""Longest text shown of an unexpected error, in characters: it may hold a record."""


def describe_unexpected(error: BaseException) -> str:
    """Return an unexpected error and the place that raised it, in one line."""
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    words = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{words[:MOST_WORDS]}{place}"
