"""Defines the messages between the master and its children.

Owns their form. Does not know their delivery (channel.py), or their effects.

Processes of two versions exchange them during an upgrade. Each kind therefore has a tag, which does not depend on the
name of its class, and fields are only added, with defaults.
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
    """To a worker: its pipes to the writer. To the writer: the pipes of a worker.

    Descriptors: batches, commits; for the writer also the shared memory of the worker's lines, if there is one.
    """

    worker: int
    """Spawn id of the worker (processes/master/child.py)."""


class WakeupFd(Message, frozen=True, tag="wakeup-fd"):
    """To the writer: the eventfd(2) that wakes the shipper of the store in a slot. Descriptor: the eventfd."""

    store_id: int


class Configure(Message, frozen=True, tag="configure"):
    """To a child: take this configuration. Descriptor: a file that holds a Configuration."""


class Certificates(Message, frozen=True, tag="certificates"):
    """To a worker: take these certificates for new connections. Descriptor: a file by net.certificates.encode."""


class Reopen(Message, frozen=True, tag="reopen"):
    """To the writer: reopen every output. To all: reopen the collector's own log."""

    number: int

    @property
    def latest_only(self) -> bool:
        """True: reopening once serves any number of signals."""
        return True


class Retire(Message, frozen=True, tag="retire"):
    """To a worker: accept no more connections, and end with the last one.

    To the writer: end, and leave uncommitted lines to the workers for the next writer.
    """


class HandOver(Message, frozen=True, tag="hand-over"):
    """To a worker: hand connections over. Descriptors: a socket to each worker that takes some."""

    loads: tuple[int, ...]
    """The number of connections that each of them holds."""
    count: int = -1
    """The number to hand over; -1 for all."""


class TakeOver(Message, frozen=True, tag="take-over"):
    """To a worker: take connections over. Descriptor: a socket to the worker that hands them over."""


class HandedOver(Message, frozen=True, tag="handed-over"):
    """From a worker: the end of a handover, also one in which some connections stayed."""

    left: int
    """Connections that it still holds."""
    problem: str = ""


class Ping(Message, frozen=True, tag="ping"):
    """To a worker: answer at once. Connections move only between workers that answer."""


class Pong(Message, frozen=True, tag="pong"):
    """From a worker: the answer to a Ping."""


class Drain(Message, frozen=True, tag="drain"):
    """To a child: finish and end. A worker first reads what clients have sent, unless `fast`."""

    fast: bool


class Stopping(Message, frozen=True, tag="stopping"):
    """To the writer: the collector stops. The last lines may use the space that limits.min_free_bytes keeps free."""


class Ready(Message, frozen=True, tag="ready"):
    """From a child: it is at work, or a problem prevents that."""

    problem: str = ""
    lacks_room: bool = False
    """Whether the problem is a full disk, and will pass when there is room: a start goes on, and clients wait."""


class Configured(Message, frozen=True, tag="configured"):
    """From a child: it has taken the configuration of this generation."""

    generation: int
    problems: tuple[str, ...] = ()


class Settled(Message, frozen=True, tag="settled"):
    """From a worker: all of its lines older than this generation are committed."""

    generation: int


class StatusReport(Message, frozen=True, tag="status-report"):
    """From a shipper or a source: its problem, empty if there is none, and the details of its store or stream.

    From a worker: the connections of each service, as details (processes/worker/services.py).
    """

    problem: str
    details: dict[str, Any] = {}

    @property
    def latest_only(self) -> bool:
        """True: a newer report replaces an older one."""
        return True


class Forget(Message, frozen=True, tag="forget"):
    """To the writer: no more lines come for outputs that only configurations older than this generation have."""

    generation: int


class Reopened(Message, frozen=True, tag="reopened"):
    """From the writer: every output was reopened, except for these problems."""

    number: int
    problems: tuple[str, ...] = ()


class Probe(Message, frozen=True, tag="probe"):
    """To a child: answer if the loop turns. The child's end of the channel answers by itself."""


class Alive(Message, frozen=True, tag="alive"):
    """From a child: the answer to a Probe."""


AnyMessage = (
    Probe
    | Alive
    | WakeupFd
    | Attach
    | Configure
    | Certificates
    | Reopen
    | Retire
    | HandOver
    | TakeOver
    | HandedOver
    | Ping
    | Pong
    | Drain
    | Stopping
    | Forget
    | Ready
    | Configured
    | Settled
    | Reopened
    | StatusReport
)
