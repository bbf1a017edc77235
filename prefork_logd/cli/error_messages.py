"""Turns the exception that ended a command into sentences and an exit status.

Distinguishes refusals of the host (permission, room, memory, a package) from bugs. Prints nothing, and does not know
any verb.
"""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

import click

from prefork_logd.cli.standard_streams import ReaderGoneError
from prefork_logd.errors import ConfigError, ExitStatus, LogdError, describe_refusal
from prefork_logd.system.log import describe_bug

if TYPE_CHECKING:
    from collections.abc import Sequence

_BUGS = frozenset({errno.EBADF, errno.EFAULT, errno.EINVAL, errno.ENOTSOCK, errno.EDOM})
"""Errors of a system call that was made wrongly: bugs of the program, not refusals of the host."""


def explain(error: BaseException) -> tuple[Sequence[str], int]:
    """Return the sentences for an error that ended a command, and the exit status; the sentences may be none."""
    match error:
        case click.Abort() | KeyboardInterrupt():
            return (), 128 + signal.SIGINT
        case ReaderGoneError():
            # The reader has closed the pipe; shells show the same status for a program that SIGPIPE ends.
            return (), 128 + signal.SIGPIPE
        case ConfigError():
            return [str(problem) for problem in error.problems], error.exit_status
        case LogdError():
            return [str(error)], error.exit_status
        case MemoryError():
            return ["there is not enough memory; free some, or raise its limit"], ExitStatus.FAILURE
        case ImportError() if not (error.name or "prefork_logd").startswith("prefork_logd"):
            package = f"the package {error.name!r} cannot be imported ({error})"
            return [f"{package}; install prefork-logd with its dependencies: pip install prefork-logd"], 1
        case UnicodeEncodeError():
            text = ascii(error.object[error.start : error.end])
            remedy = "set LC_ALL=C.UTF-8, or PYTHONUTF8=1"
            return [f"this locale's encoding ({error.encoding}) cannot express {text}; {remedy}"], ExitStatus.FAILURE
        case OSError() if error.errno is not None and error.errno not in _BUGS:
            return [_refusal(error)], ExitStatus.FAILURE
    return [describe_bug(error)], ExitStatus.FAILURE


def _refusal(error: OSError) -> str:
    """Return the sentence for a refusal of the host."""
    what = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "the operating system refuses"
    return f"{what}: {describe_refusal(error)}"
