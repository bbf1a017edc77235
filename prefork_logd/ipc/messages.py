"""Defines the messages between the master and its children.

Owns their form. Knows nothing of their delivery (control.py), and of the work that they lead to.

Processes of two versions exchange them during an upgrade. So each kind is known by its tag, not by the name of its
class, and fields are only added, with defaults.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Message(msgspec.Struct, frozen=True):
    """Base of all messages. Each has a tag of its own, which does not change when its class is renamed."""

    @property
    def latest_only(self) -> bool:
        """Whether a newer message of this kind replaces this one while it waits to be sent."""
        return False


class Attach(Message, frozen=True, tag="attach"):
    """To a worker: your pipes to the writer. To the writer: the pipes of this worker.

    Descriptors: batches, commits; for the writer also the memory that the worker makes its lines in, if it has some.
    """

    worker: int
    """Spawn id of the worker (children.py)."""


class WakeupFd(Message, frozen=True, tag="wakeup-fd"):
    """To the writer: how to wake the shipper of the store at a place. Descriptor: an eventfd(2)."""

    place: int


class Configure(Message, frozen=True, tag="configure"):
    """To a child: take this configuration. Descriptor: a file that holds a Configuration."""


class Reopen(Message, frozen=True, tag="reopen"):
    """To the writer: reopen every output. To all: reopen the collector's own log."""

    number: int

    @property
    def latest_only(self) -> bool:
        """True: reopening once serves any number of signals."""
        return True


class Retire(Message, frozen=True, tag="retire"):
    """To a worker: accept no more, and end with the last connection.

    To the writer: end, for another takes its place; what is not committed stays with the workers.
    """


class HandOver(Message, frozen=True, tag="hand-over"):
    """To a worker: hand connections over. Descriptors: a socket to each worker that takes some."""

    loads: tuple[int, ...]
    """How many connections each of them holds."""
    count: int = -1
    """How many to hand over; -1 for all."""


class TakeOver(Message, frozen=True, tag="take-over"):
    """To a worker: take connections over. Descriptor: a socket to the worker that hands them over."""


class HandedOver(Message, frozen=True, tag="handed-over"):
    """From a worker: it has handed over what could be."""

    left: int
    """Connections that it still holds."""
    problem: str = ""


class Ping(Message, frozen=True, tag="ping"):
    """To a worker: answer at once. Connections are moved only between workers that do."""


class Pong(Message, frozen=True, tag="pong"):
    """From a worker: the answer to a Ping."""


class Drain(Message, frozen=True, tag="drain"):
    """To a child: finish and end. A worker reads what clients have sent first, unless it is to be fast."""

    fast: bool


class Ready(Message, frozen=True, tag="ready"):
    """From a child: it is at work, or cannot be because of a problem."""

    problem: str = ""


class Configured(Message, frozen=True, tag="configured"):
    """From a child: the configuration of this generation was taken."""

    generation: int
    problems: tuple[str, ...] = ()


class Settled(Message, frozen=True, tag="settled"):
    """From a worker: none of its lines was made under a configuration older than this generation, and waits."""

    generation: int


class StatusReport(Message, frozen=True, tag="status-report"):
    """From a shipper or a source: its problem, empty if there is none, and the details of its store or stream."""

    problem: str
    details: dict[str, Any] = {}

    @property
    def latest_only(self) -> bool:
        """True: a newer report replaces an older one."""
        return True


class Forget(Message, frozen=True, tag="forget"):
    """To the writer: no line will come for an output that only configurations older than this generation have."""

    generation: int


class Reopened(Message, frozen=True, tag="reopened"):
    """From the writer: every output was reopened, but for these problems."""

    number: int
    problems: tuple[str, ...] = ()


class Probe(Message, frozen=True, tag="probe"):
    """To a child: say that its loop turns. Its end of the channel does that by itself."""


class Alive(Message, frozen=True, tag="alive"):
    """From a child: the answer to a Probe."""


AnyMessage = (
    Probe
    | Alive
    | WakeupFd
    | Attach
    | Configure
    | Reopen
    | Retire
    | HandOver
    | TakeOver
    | HandedOver
    | Ping
    | Pong
    | Drain
    | Forget
    | Ready
    | Configured
    | Settled
    | Reopened
    | StatusReport
)
