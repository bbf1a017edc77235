"""Defines the state that a master passes to the next program: descriptors, children, counters.

Owns its form, and the counters of earlier programs. Does not know how a program is replaced (trial.py), or what the
next one does with the state.

The next program may be of another version. It ignores fields that it does not know, so fields may be added, with a
default. A change that an older version would misread needs a new FORMAT, which that version refuses in its trial.
"""

from __future__ import annotations

from typing import Any

import msgspec

from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.scoreboard import (
    COMMIT_LIMITS_S,
    Cells,
    Layout,
)
from prefork_logd.net.tls import REASONS
from prefork_logd.processes.master.page_sockets import (
    InheritedPageSocket,
)
from prefork_logd.processes.master.upgrade.old_scoreboard import OldBoard
from prefork_logd.system.memory_file import make_memory_file, take_memory_file

FORMAT = 4
CUMULATIVE = (
    *("STARTS", "ACCEPTED", "RECORDS", "RECEIVED_BYTES", "REJECTED", "DROPPED", "REFUSED", "REDACTED", "GAPS"),
    *("LIMIT_DROPPED", "SAMPLED", "HANDSHAKES"),
    *("COMMIT_NS", *(field.name for _, field in COMMIT_LIMITS_S)),
    *(f"TLS_{reason.upper()}" for reason in REASONS),
)
"""Counters of children that go on over an upgrade."""
CUMULATIVE_OUTPUT = ("RECORDS", "BYTES", "SKIPPED", "OVERFLOWED")


class InheritedSocket(msgspec.Struct, frozen=True):
    """A listening socket."""

    fd: int
    accept: str
    is_own: bool
    tls_listener: str = ""
    """The configured address of a TLS listener; empty: plain connections only."""


class InheritedChild(msgspec.Struct, frozen=True):
    """A living child; the names are those of Child (child.py)."""

    kind: str
    slot: int
    state: str
    pid: int
    spawn_id: int
    started_s: float
    restarts: int
    generation: int
    settled: int
    channel_fd: int
    arena_fd: int


class Counters(msgspec.Struct):
    """Sums over all earlier programs, by the names of the counters."""

    workers: dict[int, dict[str, int]] = {}
    """By slot."""
    outputs: dict[str, dict[str, int]] = {}
    """By path."""
    named: dict[str, int] = {}
    """By name (named_counters.py)."""


class UpgradeState(msgspec.Struct, frozen=True):
    """Everything that the next program needs."""

    format: int
    version: str
    config: str
    """Path of the configuration file; empty for none."""
    overrides: dict[str, Any]
    directory: str
    """The base of relative paths in the configuration."""
    home: str
    """The working directory to go back to."""
    started_s: float
    """On the monotonic clock, which an exec does not change."""
    next_spawn_id: int
    reloads: int
    worker_target: int
    sockets: list[InheritedSocket]
    lock_fd: int
    command_fd: int
    answer_fds: list[int]
    """Connections of command lines that wait for the outcome of the upgrade."""
    board_fd: int
    layout: Layout
    output_ids: dict[str, int]
    """Path of each output to its slot on the scoreboard."""
    last_output_id: int
    """The output slot that was assigned last."""
    configurations: list[msgspec.Raw]
    children: list[InheritedChild]
    counters: Counters
    restarts: dict[int, int]
    """By slot, 0 for the writer."""
    client_fds: list[int] = []
    """Connections of command lines that have not sent a request yet."""
    page_sockets: list[InheritedPageSocket] = []
    lifeline_fd: int = -1
    """Closed by the death of the process, which ends the children (orphans.py)."""
    restarts_by_name: dict[str, int] = {}
    """The restarts of shippers and the page, whose slots may change, by the names of their processes."""
    named: dict[str, Cells] = {}
    """Name of each further counter to its cells on the scoreboard (named_counters.py)."""

    def descriptors(self) -> list[int]:
        """Return every descriptor that the next program inherits."""
        return [
            *(sock.fd for sock in self.sockets),
            *(sock.fd for sock in self.page_sockets),
            self.lock_fd,
            self.command_fd,
            *self.answer_fds,
            *self.client_fds,
            self.board_fd,
            *([self.lifeline_fd] if self.lifeline_fd >= 0 else []),
            *(child.channel_fd for child in self.children),
            *(child.arena_fd for child in self.children if child.arena_fd >= 0),
        ]

    def to_file(self) -> int:
        """Return the descriptor of a file in memory that holds this."""
        return make_memory_file("upgrade-state", msgspec.json.encode(self))

    @classmethod
    def from_file(cls, fd: int) -> UpgradeState:
        """Return the state in a file of `to_file`, and close it. Raises ValueError if this version cannot read it."""
        data = take_memory_file(fd)
        try:
            form = msgspec.json.decode(data, type=_Form).format
            if form != FORMAT:
                raise ValueError(f"the running version's state has format {form}; this version reads format {FORMAT}")
            return msgspec.json.decode(data, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError(f"the running version's state cannot be read: {error}") from error

    def taken_configurations(self) -> list[Configuration]:
        """Return the configurations that the old children may have lines of, the current one last.

        Empty if this version cannot read those settings.
        """
        try:
            return [Configuration.decode(raw) for raw in self.configurations]
        except msgspec.MsgspecError:
            return []


class _Form(msgspec.Struct):
    format: int


class InheritedCounters:
    """The counters of earlier programs, and of the last one's children while they live."""

    def __init__(self) -> None:
        self.counters = Counters()
        self._board: OldBoard | None = None
        self._output_ids: dict[str, int] = {}
        self._named: dict[str, Cells] = {}

    def inherit(self, state: UpgradeState) -> None:
        """Go on counting where the last program stopped."""
        self.counters = state.counters
        self._board = OldBoard(state.board_fd, state.layout)
        self._output_ids = state.output_ids
        self._named = state.named

    def total(self, name: str) -> int:
        """Return the sum of a counter over all children of earlier programs."""
        live = 0
        if self._board is not None:
            board = self._board
            live = sum(board.get(slot, name) for slot in board.slots() if slot)
        return live + sum(counters.get(name, 0) for slot, counters in self.counters.workers.items() if slot)

    def of_worker(self, slot: int, name: str) -> int:
        """Return the counter of a slot over earlier programs; 0 while one of their children still lives there."""
        return self.counters.workers.get(slot, {}).get(name, 0)

    def of_output(self, path: str, name: str) -> int:
        """Return the counter of an output over earlier programs."""
        output_id = self._output_ids.get(path)
        live = self._board.output(output_id, name) if self._board is not None and output_id is not None else 0
        return live + self.counters.outputs.get(path, {}).get(name, 0)

    def of_named(self, name: str) -> int:
        """Return a named counter over earlier programs."""
        cells = self._named.get(name)
        live = self._board.sum(cells) if self._board is not None and cells is not None else 0
        return live + self.counters.named.get(name, 0)

    def of_old(self, slot: int, name: str) -> int:
        """Return a counter of a living child of the last program."""
        return self._board.get(slot, name) if self._board is not None else 0

    def clear(self, slot: int, name: str) -> None:
        """Set a counter to 0 after the end of a child of the last program."""
        if self._board is not None:
            self._board.clear(slot, name)

    def settle(self) -> None:
        """Add the last program's counters to the sums; for when none of its children lives."""
        if self._board is None:
            return
        self.counters = self.with_board(self._board, self._output_ids)
        self._named = {}
        self._board.close()
        self._board = None

    def with_board(self, board: OldBoard, output_ids: dict[str, int]) -> Counters:
        """Return the sums plus the counters of another scoreboard."""
        workers = {
            slot: {name: self.of_worker(slot, name) + board.get(slot, name) for name in CUMULATIVE}
            for slot in board.slots()
            if slot in self.counters.workers or any(board.get(slot, name) for name in CUMULATIVE)
        }
        outputs = dict(self.counters.outputs)
        for path, output_id in output_ids.items():
            before = outputs.get(path, {})
            outputs[path] = {name: before.get(name, 0) + board.output(output_id, name) for name in CUMULATIVE_OUTPUT}
        named = {name: self.of_named(name) for name in {*self.counters.named, *self._named}}
        return Counters(workers, outputs, named)
