"""Forks a process of the collector, with the test as its master."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import msgspec

from prefork_logd.ipc.channel import Channel
from prefork_logd.ipc.messages import AnyMessage

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


MEMORY_BYTES = 64 << 30
"""For a child with a limit of memory: it inherits what the tests before it have left in this process, and a master is
small."""


class ForkedProcess:
    """A child, and the master's end of its channel."""

    def __init__(self, run: Callable[[socket.socket], int]) -> None:
        """Fork; the child calls `run` with its end of the channel, and ends with the status that this returns."""
        self.ours, theirs = Channel.pair()
        self.ours.settimeout(20)
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            status = 99
            try:
                self.ours.close()
                status = run(theirs)
            finally:
                os._exit(status)
        theirs.close()

    def receive(self) -> AnyMessage:
        """Return the next message of the child."""
        found: Any = msgspec.json.decode(self.ours.recv(65_536), type=AnyMessage)
        return found

    def send(self, message: AnyMessage) -> None:
        """Send the child a message."""
        self.ours.send(msgspec.json.encode(message))

    def has_ended(self) -> bool:
        """Return whether the child has ended; `status` is then its exit status."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self.status = os.waitstatus_to_exitcode(status)
        return bool(pid)

    def close(self) -> None:
        """Kill the child if it still runs."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.ours.close()
