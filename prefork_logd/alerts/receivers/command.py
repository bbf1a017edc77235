"""Runs a command for a notice, without a shell, within a time.

Owns the environment and the end of the command. Does not know incidents.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

import msgspec

from prefork_logd.alerts.receivers.failures import MOST_ANSWER_BYTES, SendError, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork_logd.alerts.notices import Notice
    from prefork_logd.config.receivers import CommandSettings

KEPT = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""Variables of the collector's environment that a command gets; others may be secrets of other receivers."""
_PIECE_BYTES = 65_536


def send(settings: CommandSettings, notice: Notice) -> str:
    """Run the command with the notice as JSON on its stdin; return the beginning of its output. Raises SendError.

    A status other than 0 is a failure. At the end, or after `timeout`, the whole process group is ended.
    """
    program = settings.command[0]
    with tempfile.TemporaryFile() as stdin:
        stdin.write(msgspec.json.encode(notice) + b"\n")
        stdin.seek(0)
        try:
            process = subprocess.Popen(  # noqa: S603 - the command is the configuration's
                settings.command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_environment(os.environ, notice),
                cwd="/",
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise SendError(f"{program}: cannot be run: {getattr(error, 'strerror', None) or error}") from None
    try:
        output = _read(process, time.monotonic() + settings.timeout_s)
    finally:
        # The leader is a zombie at least, until `wait`: its group cannot be another one's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
        process.stdout.close()  # type: ignore[union-attr]  # it is a pipe
    if output is None:
        raise SendError(f"{program}: did not end within {settings.timeout}")
    text = shown(output)
    if status:
        how = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
        raise SendError(f"{program}: {how}{f': {text}' if text else ''}")
    return text or "done"


def _environment(own: Mapping[str, str], notice: Notice) -> dict[str, str]:
    given = {"ALERT": notice.alert, "KIND": notice.kind, "STATE": notice.state, "ID": notice.id, "TITLE": notice.title}
    ours = {f"PREFORK_LOGD_{name}": text.replace("\0", " ") for name, text in given.items()}
    return {name: own[name] for name in KEPT if name in own} | ours


def _read(process: subprocess.Popen[bytes], ends_s: float) -> bytes | None:
    """Return the beginning of the output once the command has ended; None if it has not in time.

    All of the output is read, so that the command never waits for us. A child that it leaves may hold the pipe.
    """
    pipe = process.stdout.fileno()  # type: ignore[union-attr]  # it is a pipe
    os.set_blocking(pipe, False)
    output = b""
    ended = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(pipe, select.POLLIN)
        while (left_s := ends_s - time.monotonic()) > 0:
            ready = dict(poll.poll(1000 * left_s))
            if pipe in ready:
                piece = os.read(pipe, _PIECE_BYTES)
                output += piece[: MOST_ANSWER_BYTES - len(output)]
                if not piece:
                    poll.unregister(pipe)
            # A child that it leaves may write for ever: one more piece of the output is enough.
            if ended in ready:
                return output
        return None
    finally:
        os.close(ended)
