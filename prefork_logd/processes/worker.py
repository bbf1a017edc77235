"""A worker: takes connections, turns what they send into finished lines, and passes these on.

Owns its connections, their deadlines, and when reading pauses. Touches no output file.

The turn: every connection that is ready is read, its frames become lines in one batch, and the batch goes into the pipe
at the end of the turn, or earlier when it is large. Lines that are not committed yet are bounded: above the high-water
mark no connection is read, so the kernel's buffers fill and the clients wait; below the low-water mark reading goes on.
Only greetings are read at any time, for a client wants to know who is there.
"""

from __future__ import annotations

import functools
import gc
import math
import os
import resource
import socket
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd import native
from prefork_logd.config.checks import load_keys
from prefork_logd.log import LOGGER, Limited, reopen_own
from prefork_logd.net.balance import Load, Share
from prefork_logd.net.connection import EVENTS, READ_BYTES, Connection
from prefork_logd.net.deadlines import Deadlines
from prefork_logd.net.listener import Acceptor
from prefork_logd.net.loop import Loop, Timer
from prefork_logd.processes import arena, control
from prefork_logd.processes.acknowledged import Acknowledged
from prefork_logd.processes.admission import Admission
from prefork_logd.processes.children import LOST_STATUS
from prefork_logd.processes.dispatch import BATCH_BYTES, Dispatcher, warm_up
from prefork_logd.processes.guard import Guard
from prefork_logd.processes.link import WriterLink
from prefork_logd.processes.moving import Moving
from prefork_logd.processes.rejections import MOST_FAILURES, Rejections
from prefork_logd.protocol import runs
from prefork_logd.protocol.framing import HEADER, HEADER_BYTES, NoFrameError
from prefork_logd.protocol.messages import State
from prefork_logd.protocol.session import ServerSession, ViolationError
from prefork_logd.scoreboard import Field, Scoreboard

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_logd.errors import RemoteProtocolError
    from prefork_logd.processes.link import Receipt
    from prefork_logd.protocol.framing import Oversize
    from prefork_logd.protocol.frozen import FrozenConnection
    from prefork_logd.protocol.messages import Event
    from prefork_logd.settings import Settings

SLICE_S = 0.004
"""What one connection may take of a turn: then the others are served, the master is heard, and signals are."""
RESERVED_DESCRIPTORS = 16
"""Kept free of connections, for pipes and configuration files."""
QUIET_S = 0.05
"""On the way out a connection is read once more after this time: what its client had sent may still have been on its
way."""
LAST_WRITES_S = 5.0
"""How long the writer may take for the last lines."""
FAST_WRITES_S = 2.0
"""The same when the stop is to be fast."""
ORPHAN_S = 0.8
"""Bound of both when the master is dead: another collector may be waiting for the port and the files."""


class Worker:
    """One worker's life."""

    def __init__(
        self,
        slot: int,
        board: Scoreboard,
        sockets: Iterable[tuple[socket.socket, str]],
        channel: socket.socket,
        configuration: control.Configuration,
        arena_fd: int = -1,
    ) -> None:
        """Take connections of `sockets`, each with whom to let in; make lines in the memory of `arena_fd`, if given."""
        self.loop = Loop()
        self._arena_fd = arena_fd
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.paused = False
        self.rest_bytes = 0
        self._slice_end_s = 0.0
        self._slot = slot
        self._board = board
        self.counters = board.slot(slot)
        self._channel = control.Channel(self.loop, channel, self._told, self._orphaned)
        self.link = WriterLink(self.loop, self)
        self.acknowledged = Acknowledged(self)
        self.connections: dict[int, Connection] = {}
        self.deadlines = Deadlines(self.loop, self._give_up)
        self._postponed: dict[int, Connection] = {}
        self._moving = Moving(self, self._moved)
        self.warnings = Limited()
        self.guard = Guard(self.close)
        self._rejections = Rejections()
        self._unsettled: deque[tuple[int, int]] = deque()
        """(first batch, generation) of each configuration whose predecessor's lines are not all committed."""
        self._retiring = False
        self._draining = False
        self._passes_left = 2
        self._quiet: Timer | None = None
        self._exit_status = 0
        self.counters[Field.CONNECTIONS] = 0
        self.counters[Field.PAUSED] = 0
        most_own = self._most_connections()
        self._share = Share(slot, self._loads, 0, most_own)
        self._admission = Admission(self, board.total, most_own)
        self._configure(configuration)
        self._acceptors = [
            Acceptor(self.loop, sock, functools.partial(self._admit, accept), self._share, self._cannot_accept)
            for sock, accept in sockets
        ]
        self.loop.after_turn(self._end_turn)

    def run(self) -> int:
        """Work until told to end; return the exit status."""
        runs.measure, runs.measure_batches = native.measure, native.measure_batches
        if self._arena_fd >= 0:
            arena.use(self._arena_fd)
        warm_up(self._configuration)
        # What exists by now lives for ever; looking at it again at each collection is wasted.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        self.counters[Field.PID] = os.getpid()
        self.counters[Field.ACCEPTING] = 1
        self._channel.send(control.Ready())
        self.loop.run()
        return self._exit_status

    # What the master says

    def _told(self, message: control.AnyMessage, fds: list[int]) -> None:
        match message:
            case control.Attach():
                self.link.attach(*fds)
            case control.Configure():
                self.send_batch()
                configuration = control.Configuration.from_file(fds[0])
                self._configure(configuration)
                self._channel.send(control.Configured(configuration.generation))
                self._unsettled.append((self.link.next_number, configuration.generation))
                self._settle()
            case control.Retire():
                self._retire()
            case control.HandOver(loads, count):
                self._hand_over(loads, count, [socket.socket(fileno=fd) for fd in fds])
            case control.TakeOver():
                self._moving.take_over(socket.socket(fileno=fds[0]))
            case control.Ping():
                self._channel.send(control.Pong())
            case control.Drain(fast):
                self._drain(fast=fast)
            case control.Reopen():
                reopen_own()
            case _:
                LOGGER.error("cannot make sense of a %s", type(message).__name__)

    def _orphaned(self) -> None:
        """End, for the master is dead; what clients have sent is still written."""
        self._drain(fast=False, longest_s=ORPHAN_S)

    def _configure(self, configuration: control.Configuration) -> None:
        limits = configuration.settings.limits
        self._configuration = configuration
        self.dispatcher = Dispatcher(configuration, rejections=self._rejections)
        self.max_record_bytes = limits.max_record_bytes
        self.keys = _keys(configuration.settings)
        self._high_water = limits.queue_bytes
        self._low_water = limits.queue_bytes // 2
        self._share.max_connections = self._admission.configure(
            limits.max_connections, limits.max_connections_per_address
        )
        self.deadlines.restart(limits.record_timeout_s)
        for connection in list(self.connections.values()):
            with self.guard.of(connection):
                if connection.receiver is not None:
                    connection.receiver.limit(self.max_record_bytes)

    # Accepting

    def _loads(self) -> list[Load]:
        return [Load(*load) for load in self._board.loads()]

    @staticmethod
    def _most_connections() -> int:
        """Return how many connections this process can hold, by its limit of descriptors."""
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        in_use = sum(1 for _ in Path("/proc/self/fd").iterdir())
        return max(1, limit - in_use - RESERVED_DESCRIPTORS)

    def _admit(self, accept: str, fd: int, peer: str) -> None:
        connection = Connection(self, fd, peer, accept)
        try:
            self.loop.add(fd, connection, EVENTS)
        except OSError as error:
            # epoll_ctl(2): too many watches, or no memory. The client sees a reset and comes again.
            self._cannot_accept(error)
            os.close(fd)
            return
        self.connections[fd] = connection
        self.counters[Field.CONNECTIONS] = len(self.connections)
        self.counters[Field.ACCEPTED] += 1
        with self.guard.of(connection):
            self._admission.arrived(connection)
            if connection.fd >= 0 and _is_awaited(connection):
                self.progressed(connection, completed=False)

    def _cannot_accept(self, error: OSError) -> None:
        self.warnings.warning("cannot accept a connection just now: %s; clients wait meanwhile", error.strerror)

    def close(self, connection: Connection) -> None:
        """Close a connection, and give its place to one that waits. Raises nothing: all steps are tried."""
        fd = connection.fd
        if fd < 0:
            return
        self.connections.pop(fd, None)
        self._postponed.pop(fd, None)
        for forget in (self.deadlines.forget, self._admission.left, self.acknowledged.closed, Connection.close):
            try:
                forget(connection)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - the step after it must be done all the same
                self.guard.report(connection, error)
        self.counters[Field.CONNECTIONS] = len(self.connections)
        if self._acceptors:
            for acceptor in self._acceptors:
                acceptor.look()

    # Handing over and taking over

    def _hand_over(self, loads: tuple[int, ...], count: int, sockets: list[socket.socket]) -> None:
        # A giver that is stopped may keep connections on their way to here; only the move of everything waits for it.
        if self._draining or self._moving.gives or (count < 0 and self._moving.busy):
            for sock in sockets:
                sock.close()
            self._moved(len(self.connections), "")
        else:
            self._moving.hand_over(loads, count, sockets)

    def _moved(self, left: int, problem: str) -> None:
        self._channel.send(control.HandedOver(left, problem))

    def let_go(self, connection: Connection) -> None:
        """Forget a connection that another worker has now; what it has of the descriptor stays open."""
        self.close(connection)

    def adopt(self, connection: Connection, frozen: FrozenConnection) -> None:
        """Go on with a connection of another worker."""
        self.connections[connection.fd] = connection
        self.counters[Field.CONNECTIONS] = len(self.connections)
        self._admission.adopted(connection)
        if frozen.client is not None:
            self.acknowledged.thaw(connection, frozen.client)
        if connection.fd >= 0:
            connection.go_on()
            if self._draining:
                connection.queued = True
                self.loop.again(connection)

    # What connections deliver

    @property
    def draining(self) -> bool:
        """Whether everything that clients have sent is read, for this worker ends."""
        return self._draining

    def enter(self, connection: Connection) -> bool:
        """Decide about a connection that has no place; return whether it is to be read."""
        return self._admission.enter(connection)

    def postpone(self, connection: Connection) -> None:
        """Remember that a connection is to be read when reading goes on."""
        self._postponed[connection.fd] = connection

    def take_run(self, connection: Connection, data: memoryview) -> int:
        """Turn the whole frames that `data` begins with into lines; return where what is left begins."""
        return self._take_run(connection, data, self.max_record_bytes, may_wait=True)

    def begin_slice(self) -> None:
        """Begin the time of a connection."""
        self._slice_end_s = self.dispatcher.stop_at_s = time.monotonic() + SLICE_S

    @property
    def slice_over(self) -> bool:
        """Whether the connection whose turn it is has had its time, or reading pauses."""
        return self.paused or time.monotonic() >= self._slice_end_s

    def _take_run(self, connection: Connection, data: memoryview, max_bytes: int, *, may_wait: bool = False) -> int:
        received_s = time.time()
        counters, peer = self.counters, connection.peer
        position = 0
        while True:
            end, taken, rejected, connection.failures, _ = self.dispatcher.run(
                *(data, position, len(data), max_bytes, peer, received_s),
                *(connection.failures, MOST_FAILURES),
            )
            counters[Field.RECORDS] += taken - rejected
            counters[Field.REJECTED] += rejected
            counters[Field.RECEIVED_BYTES] += end - position - HEADER_BYTES * taken
            position = end
            self.send_if_large()
            if connection.failures >= MOST_FAILURES:
                # 64 KiB can hold 16,000 empty frames: the rest is not worth its entries.
                self._close_useless(connection)
                return position
            if not taken or position == len(data) or (may_wait and self.slice_over):
                return position

    def take(self, connection: Connection, frames: list[bytes], skipped: list[Oversize]) -> None:
        """Turn frames into lines that did not come in a run; note what cannot be stored."""
        received_s = time.time()
        for frame in frames:
            self._take_run(connection, memoryview(HEADER.pack(len(frame)) + frame), len(frame))
            if connection.fd < 0:
                break
        self.counters[Field.REJECTED] += len(skipped)
        for oversize in skipped:
            self._note_oversize(connection, oversize, received_s)

    def _close_useless(self, connection: Connection) -> None:
        self.warnings.warning(
            "%s: closed after %d frames in a row that hold no record; see rejected.jsonl",
            connection.peer,
            connection.failures,
        )
        self.close(connection)

    def happened(self, connection: Connection, events: list[Event]) -> None:
        """Take what the client of a session said."""
        self.acknowledged.happened(connection, events)

    def sent(self, connection: Connection) -> None:
        """Go on telling a client, now that it has taken what it was told."""
        self.acknowledged.told(connection)

    def _note_oversize(self, connection: Connection, frame: Oversize, received_s: float) -> None:
        detail = f"a frame of {frame.size} bytes; limits.max_record_bytes is {self.max_record_bytes}"
        self.dispatcher.reject(connection.peer, received_s, "too-large", detail, frame.head, frame.size)
        if not connection.warned:
            connection.warned = True
            self.warnings.warning("%s: skipped %s; further ones are only counted", connection.peer, detail)

    def progressed(self, connection: Connection, completed: bool) -> None:
        """Start, keep or end the deadline of a half-received record."""
        if _is_awaited(connection):
            held_bytes = connection.receiver.held_bytes if connection.receiver is not None else 0
            self.deadlines.begin(connection, held_bytes, anew=completed)
        else:
            self.deadlines.forget(connection)

    def violated(self, connection: Connection, error: RemoteProtocolError) -> None:
        """Close a connection that does not speak the protocol; what came before is kept."""
        head = b""
        if isinstance(error, NoFrameError):
            head = error.head
            self.take(connection, error.frames, error.skipped)
        elif isinstance(error, ViolationError):
            head = error.head
            events, error.events = error.events, []
            self.happened(connection, events)
            if connection.untold:
                connection.verdict = error
                return
        if connection.fd < 0:
            return
        self.dispatcher.reject(connection.peer, time.time(), error.reason, str(error), head, len(head))
        self.counters[Field.REJECTED] += 1
        self.warnings.warning("%s: closed: %s", connection.peer, error)
        if isinstance(error, ViolationError):
            connection.send(error.reply)
        self.close(connection)

    def ended(self, connection: Connection, error: OSError | None) -> None:  # noqa: ARG002 - a reset is an end too
        """Close a connection that the peer has ended; a record it cut short is lost, and counted."""
        if connection.receiver is not None and connection.receiver.pending:
            self.counters[Field.DROPPED] += 1
        self.close(connection)

    def failed(self, connection: Connection, error: Exception) -> None:
        """Close a connection after an unexpected error; the others go on."""
        self.guard.failed(connection, error)

    def _give_up(self, connection: Connection, why: str) -> None:
        with self.guard.of(connection):
            self.counters[Field.DROPPED] += 1
            self.warnings.warning("%s: closed: %s", connection.peer, why)
            self.close(connection)

    # Passing on

    def _end_turn(self) -> None:
        self.send_batch()
        if self._retiring and not self._draining and not self.connections and not self._moving.busy:
            self._drain(fast=False)
        if self._draining:
            self._continue_drain()

    def send_if_large(self) -> None:
        """Send the batch before the turn is over if it has become large."""
        if self.dispatcher.batch.nbytes >= BATCH_BYTES:
            self.send_batch()

    def send_batch(self) -> None:
        """Send what was gathered, if anything was."""
        batch = self.dispatcher.batch
        if not batch:
            return
        self.link.send(batch.build(self.link.next_number), self.acknowledged.take_receipts())
        if not self.paused and self.link.cost_bytes >= self._high_water:
            self.paused = True
            self.deadlines.pause()
            self.counters[Field.PAUSED] = 1

    def session_opened(self, token: int, epoch: int, committed: int) -> None:
        """Let a client in, under the epoch that the writer gave it."""
        self.acknowledged.opened(token, epoch, committed)

    def range_refused(self, session: bytes, epoch: int) -> None:
        """Let a client go whose records the writer has left out."""
        self.acknowledged.refused(session, epoch)

    def writer_resumed(self) -> None:
        """Ask the new writer what only the last one knew."""
        self.acknowledged.ask_again()

    def _settle(self) -> None:
        """Tell the master when every line of an older configuration is committed."""
        generation = 0
        while self._unsettled and self._unsettled[0][0] <= self.link.first_held:
            generation = self._unsettled.popleft()[1]
        if generation:
            self._channel.send(control.Settled(generation))

    def batches_committed(self, receipts: list[Receipt]) -> None:
        """Tell clients what is committed, and go on reading if there is room again."""
        if self._unsettled:
            self._settle()
        self.acknowledged.committed(receipts)
        self._moving.committed()
        if self.paused and self.link.cost_bytes <= self._low_water:
            self.paused = False
            self.counters[Field.PAUSED] = 0
            self.deadlines.resume()
            postponed, self._postponed = self._postponed, {}
            for connection in postponed.values():
                if not connection.queued:
                    connection.queued = True
                    self.loop.again(connection)

    # Ending

    def _retire(self) -> None:
        """Accept no more. Closing a connection costs its client two records: the master says who takes each over."""
        self._retiring = True
        self._stop_accepting()

    def _stop_accepting(self) -> None:
        self.counters[Field.ACCEPTING] = 0
        acceptors, self._acceptors = self._acceptors, []
        for acceptor in acceptors:
            acceptor.close()

    def _drain(self, *, fast: bool, longest_s: float = math.inf) -> None:
        """Read what clients have already sent (unless it is to be fast), pass it on, and end when it is committed."""
        if not self._draining:
            self._draining = True
            self._moving.cancel()
            if not fast:
                for acceptor in self._acceptors:
                    acceptor.drain()
                self._acceptors = []
            self._stop_accepting()
            timeout_s = min(longest_s, self._configuration.settings.limits.drain_timeout_s)
            self.loop.later(timeout_s, self._close_connections)
            self.loop.later(timeout_s + min(longest_s, LAST_WRITES_S), self._give_up_writing)
            self._read_pass()
        if fast:
            self._close_connections()
            self.loop.later(FAST_WRITES_S, self._give_up_writing)

    def _read_pass(self) -> None:
        """Give every connection one more turn."""
        self._passes_left -= 1
        for connection in self.connections.values():
            if not connection.queued and connection.fd not in self._postponed:
                connection.queued = True
                self.loop.again(connection)

    def _continue_drain(self) -> None:
        """Read every connection to its end, once more after a while, then close them; end when all is committed."""
        if self.connections and not self._is_reading():
            if self._passes_left:
                self._quiet = self.loop.later(QUIET_S, self._read_pass)
            else:
                self._close_connections()
        if not self.connections and self.link.empty and not self._moving.busy:
            self.loop.stop()

    def _is_reading(self) -> bool:
        """Tell whether a connection is still to be read, or a pass is still to come."""
        return (
            (self._quiet is not None and self._quiet.pending)
            or bool(self._postponed)
            or any(connection.queued for connection in self.connections.values())
        )

    def _close_connections(self) -> None:
        for connection in list(self.connections.values()):
            with self.guard.of(connection):
                self.ended(connection, None)

    def _give_up_writing(self) -> None:
        if not self.link.empty:
            LOGGER.error(
                "%d bytes of lines could not be written in time and are lost; the writer's messages say why",
                self.link.held_bytes,
            )
            self._exit_status = LOST_STATUS
        self.loop.stop()


def _is_awaited(connection: Connection) -> bool:
    """Tell whether a deadline runs for the client: for the rest of a record, or for saying who it is."""
    receiver = connection.receiver
    if receiver is None:
        return connection.accept == "authenticated"
    return receiver.pending or (
        isinstance(receiver, ServerSession) and receiver.state in (State.AWAITING_HELLO, State.AWAITING_AUTH)
    )


def _keys(settings: Settings) -> dict[bytes, bytes]:
    """Return the secrets of clients; none, and a word in the log, if their file has become unreadable."""
    if not any(accept == "authenticated" for _, accept in settings.listeners):
        return {}
    try:
        return load_keys(Path(settings.server.keys_file))
    except ValueError as error:
        LOGGER.error("server.keys_file: %s; nobody can authenticate", error)
        return {}
