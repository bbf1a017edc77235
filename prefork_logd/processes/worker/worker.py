"""Runs a worker: accepts connections, turns received records into lines, and sends these to the writer.

Owns the turn, the connections, and when reading pauses. Does not know protocols or output files.

In a turn every ready connection is read, its records become lines in one batch, and the batch goes into the pipe at the
end of the turn, or earlier when it is large. The lines that are not committed yet are bounded: above the high-water
mark no connection is read, so the kernel's buffers fill and the clients wait; below the low-water mark reading goes on.
Greetings are read at any time, because a client waits for the answer.

Longer than other modules: every part of a worker meets the others here.
"""

from __future__ import annotations

import functools
import gc
import os
import socket
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config.checks import load_keys
from prefork_logd.ingest import core, lines_memory
from prefork_logd.ingest.dispatcher import BATCH_BYTES, Dispatcher, warm_up
from prefork_logd.ingest.rejections import Rejections
from prefork_logd.inputs import runs
from prefork_logd.inputs.base import Terms
from prefork_logd.inputs.detect import AUTHENTICATED
from prefork_logd.inputs.session.auth import NONCE_BYTES
from prefork_logd.ipc.batch_sender import BatchSender
from prefork_logd.ipc.channel import Channel
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.messages import (
    AnyMessage,
    Attach,
    Certificates,
    Configure,
    Configured,
    Drain,
    HandedOver,
    HandOver,
    Ping,
    Pong,
    Ready,
    Reopen,
    Retire,
    Settled,
    TakeOver,
)
from prefork_logd.ipc.scoreboard import Field, ListenerField, Scoreboard
from prefork_logd.net.certificates import decode as decode_certificates
from prefork_logd.net.loop import Loop
from prefork_logd.processes.worker.admission import Admission
from prefork_logd.processes.worker.client_limits import ClientLimits
from prefork_logd.processes.worker.connection import EVENTS, READ_BYTES, Connection, has_unread
from prefork_logd.processes.worker.deadlines import Deadlines
from prefork_logd.processes.worker.drain import WorkerDrain
from prefork_logd.processes.worker.entrance import Entrance
from prefork_logd.processes.worker.guard import Guard
from prefork_logd.processes.worker.handshakes import Handshakes
from prefork_logd.processes.worker.held_memory import most_to_read
from prefork_logd.processes.worker.intake import Intake
from prefork_logd.processes.worker.migration import Migration
from prefork_logd.processes.worker.own_log import OwnLog
from prefork_logd.processes.worker.reconnection import Reconnection
from prefork_logd.processes.worker.services import ServiceCounts
from prefork_logd.processes.worker.sessions import SessionTable
from prefork_logd.processes.worker.shares import Shares
from prefork_logd.system.log import LOGGER, RateLimitedLog, log_unexpected, reopen_own

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prefork_logd.config.settings import Settings
    from prefork_logd.errors import RemoteProtocolError
    from prefork_logd.inputs.base import Event
    from prefork_logd.inputs.state import ConnectionState
    from prefork_logd.ipc.batch_sender import Receipt
    from prefork_logd.net.certificates import ListenerTls
    from prefork_logd.net.listener import ListeningSocket


class Worker:
    """One worker process. Longer than other classes: it joins the parts, and each has a few lines here."""

    def __init__(
        self,
        slot: int,
        board: Scoreboard,
        sockets: Iterable[ListeningSocket],
        channel: socket.socket,
        configuration: Configuration,
        arena_fd: int = -1,
        certificates: Iterable[ListenerTls] = (),
    ) -> None:
        """Accept from `sockets`, with the certificates of TLS listeners.

        Make lines in the memory of `arena_fd`, if given. Longer than other functions: it wires the worker's parts.
        """
        self.loop = Loop()
        self._arena_fd = arena_fd
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.paused = False
        self.rest_bytes = 0
        self._shares = Shares(self.loop)
        self.counters = board.slot(slot)
        self._channel = Channel(self.loop, channel, self._handle_message, self._orphaned)
        self.link = BatchSender(self.loop, self)
        self.services = ServiceCounts(self.loop, self._channel.send)
        self.sessions = SessionTable(self)
        self._intake = Intake(self)
        self.connections: dict[int, Connection] = {}
        self.limits = ClientLimits(self, board, slot, self._give_up)
        self.deadlines = Deadlines(self.loop, self._give_up, lambda connection: not has_unread(connection))
        self.postponed: dict[int, Connection] = {}
        self.migration = Migration(self, self._moved)
        self.warnings = RateLimitedLog()
        self.guard = Guard(self.close)
        self._rejections = Rejections(counters=board.reasons(slot))
        self._tally_of = functools.partial(board.listener, slot)
        board.clear_clients(slot)
        self._unsettled: deque[tuple[int, int]] = deque()
        """(first batch, generation) of each configuration whose predecessor's lines are not all committed."""
        self.reconnection = Reconnection(self)
        self._drain = WorkerDrain(self)
        self._handshakes = Handshakes(self)
        self._handshakes.renew(certificates)
        self.counters[Field.CONNECTIONS] = 0
        self.counters[Field.PAUSED] = 0
        self._entrance = Entrance(slot, board)
        self._own_log = OwnLog(self)
        self._admission = Admission(self, board.total, self._entrance.most_own)
        self._configure(configuration)
        self._entrance.open(self.loop, sockets, self._admit, self._cannot_accept)
        self.loop.after_turn(self._end_turn)

    def run(self) -> int:
        """Work until the master ends the worker; return the exit status."""
        runs.measure, runs.measure_batches = core.measure, core.measure_batches
        if self._arena_fd >= 0:
            lines_memory.use(self._arena_fd)
        warm_up(self._configuration)
        # The objects that exist now live as long as the process: the garbage collector need not scan them again.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        self.counters[Field.PID] = os.getpid()
        self.counters[Field.ACCEPTING] = 1
        self._channel.send(Ready())
        self.loop.run()
        return self._drain.exit_status

    # Messages of the master

    def _handle_message(self, message: AnyMessage, fds: list[int]) -> None:
        match message:
            case Attach():
                self.link.attach(*fds)
            case Configure():
                self.send_batch()
                configuration = Configuration.from_file(fds[0])
                self._configure(configuration)
                self._channel.send(Configured(configuration.generation))
                self._unsettled.append((self.link.next_number, configuration.generation))
                self._settle()
            case Certificates():
                self._handshakes.renew(decode_certificates(fds[0]))
            case Retire():
                # Closing a connection costs its client two records, so the master's HandOver names the takers.
                self._drain.retire()
            case HandOver(loads, count):
                self._hand_over(loads, count, [socket.socket(fileno=fd) for fd in fds])
            case TakeOver():
                self.migration.take_over(socket.socket(fileno=fds[0]))
            case Ping():
                self._channel.send(Pong())
            case Drain(fast):
                self._drain.begin(fast=fast)
            case Reopen():
                reopen_own()
            case _:
                log_unexpected(message, "the master")

    def _orphaned(self) -> None:
        """Drain and end after the master's death."""
        self._drain.begin(fast=False, is_orphan=True)

    def _configure(self, configuration: Configuration) -> None:
        limits = configuration.settings.limits
        self._configuration = configuration
        self.dispatcher = Dispatcher(configuration, rejections=self._rejections)
        self.max_record_bytes = limits.max_record_bytes
        self._keys = _load_keys(configuration.settings)
        self._drain.timeout_s = limits.drain_timeout_s
        self._high_water = limits.queue_bytes
        self._low_water = limits.queue_bytes // 2
        most = self._admission.configure(limits.max_connections, limits.max_connections_per_address)
        self._entrance.configure(most)
        self.limits.configure(configuration.settings.limit, configuration.limit_ids)
        self.deadlines.restart(limits.record_timeout_s)
        self._handshakes.configure(limits.record_timeout_s)
        for connection in list(self.connections.values()):
            with self.guard.of(connection):
                if connection.input is not None:
                    connection.input.limit(self.max_record_bytes)

    # Accepting

    def _admit(self, accept: str, fd: int, peer: str, listener: int = 0, tls_listener: str = "") -> None:
        connection = Connection(self, fd, peer, accept, listener, tls_listener)
        try:
            self.loop.add(fd, connection, EVENTS)
        except OSError as error:
            # epoll_ctl(2): too many watches, or no memory. The client sees a reset and connects again.
            self._cannot_accept(error)
            os.close(fd)
            return
        self._add(connection)
        self.counters[Field.ACCEPTED] += 1
        with self.guard.of(connection):
            self._admission.arrived(connection)
            if connection.fd >= 0 and connection.is_awaited:
                self.note_progress(connection, completed=False)

    def _add(self, connection: Connection) -> None:
        """Count a connection that has come, by its listener."""
        self.connections[connection.fd] = connection
        self.counters[Field.CONNECTIONS] = len(self.connections)
        connection.tally = self._tally_of(connection.listener)
        connection.tally[ListenerField.CONNECTIONS] += 1
        self.services.count(connection)

    def _cannot_accept(self, error: OSError) -> None:
        self.warnings.warning("cannot accept a connection just now: %s; clients wait meanwhile", error.strerror)

    def close(self, connection: Connection) -> None:
        """Close a connection, and accept one that waits. Raises nothing: every step is tried."""
        fd = connection.fd
        if fd < 0:
            return
        if self.connections.pop(fd, None) is not None:
            connection.tally[ListenerField.CONNECTIONS] -= 1
        self.postponed.pop(fd, None)
        for forget in (
            *(self.deadlines.forget, self._handshakes.forget, self._admission.left, self.limits.leave),
            *(self.services.forget, self.sessions.forget, Connection.close),
        ):
            try:
                forget(connection)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - the next step must be tried all the same
                self.guard.report(connection, error)
        self.counters[Field.CONNECTIONS] = len(self.connections)
        self._entrance.accept_waiting()

    # Handing over and taking over

    def _hand_over(self, loads: tuple[int, ...], count: int, sockets: list[socket.socket]) -> None:
        # Connections of a stopped giver may stay on their way to here; only a move of everything waits for them.
        if self.draining or self.migration.gives or (count < 0 and self.migration.busy):
            for sock in sockets:
                sock.close()
            self._moved(len(self.connections), "")
        else:
            self.migration.hand_over(loads, count, sockets)

    def _moved(self, left: int, problem: str) -> None:
        self._channel.send(HandedOver(left, problem))

    def adopt(self, connection: Connection, state: ConnectionState) -> None:
        """Take a connection over from another worker."""
        self._add(connection)
        self._admission.adopted(connection)
        if state.client is not None:
            self.sessions.load_state(connection, state.client)
        if connection.fd >= 0:
            connection.go_on()
            if self.draining:
                connection.queued = True
                self.loop.again(connection)

    # Events of connections

    @property
    def draining(self) -> bool:
        """Whether this worker ends, and reads everything that clients have sent."""
        return self._drain.is_draining

    def secure(self, connection: Connection, events: int) -> bool:
        """Go on with the TLS handshake of a connection on a TLS listener; return whether the connection may be read."""
        return self._handshakes.secure(connection, events)

    def enter(self, connection: Connection) -> bool:
        """Decide whether a connection without a place is read; return the decision."""
        return self._admission.enter(connection)

    def most_to_read(self, connection: Connection) -> int:
        """Return how many bytes of a connection under limits are read at a time; 0: it waits for memory."""
        return 0 if self.limits.waits_for_memory(connection) else most_to_read(connection)

    def postpone(self, connection: Connection) -> None:
        """Read a connection when reading goes on."""
        self.postponed[connection.fd] = connection

    def terms_for(self, connection: Connection) -> Terms:
        """Return the conditions under which a connection's client is read."""
        must_authenticate = connection.accept == AUTHENTICATED
        return Terms(self.max_record_bytes, must_authenticate, connection.is_refused, lambda: self._keys, _make_nonce)

    def is_due(self, connection: Connection) -> bool:
        """Tell whether a connection that has become ready is read at once, and not after those that wait."""
        return self._shares.is_due(connection)

    def queue(self, connection: Connection) -> None:
        """Request another turn for a connection that has become ready and is not due."""
        self._shares.queue(connection)

    def begin_slice(self, *, waited: bool) -> None:
        """Start a connection's share of the turn; `waited`: it is one of those that wait for another turn."""
        if waited and self._shares.is_pressing:
            # The writer commits the records of those that send little while those that send much are read.
            self.send_batch()
        self._shares.begin()
        self.dispatcher.stop_at_s = self._shares.end_s

    def end_slice(self, connection: Connection, *, waited: bool) -> None:
        """Count what the connection has used of its share."""
        self._shares.end(connection, waited=waited)

    @property
    def slice_over(self) -> bool:
        """Whether the current connection's share is over, or reading pauses."""
        return self.paused or self._shares.is_over

    def handle_events(self, connection: Connection, events: Sequence[Event]) -> None:
        """Turn a connection's records into lines, and act on its other events."""
        self._intake.handle_events(connection, events)

    def note_all_sent(self, connection: Connection) -> None:
        """Send a client its next acknowledgement, after it has read the last one."""
        self.sessions.send_ack(connection)

    def note_progress(self, connection: Connection, completed: bool) -> None:
        """Start, keep or end the deadline of a half-received record, and bound what is held for its client."""
        if connection.clients:
            self.limits.memory.note(connection)
        if connection.fd >= 0 and connection.is_awaited and not connection.unfinished:
            held_bytes = connection.input.held_bytes if connection.input is not None else 0
            self.deadlines.begin(connection, held_bytes, is_new=completed)
        else:
            self.deadlines.forget(connection)

    def close_violating(self, connection: Connection, error: RemoteProtocolError) -> None:
        """Close a connection after a protocol error; events from before it are kept."""
        self._intake.end_violated(connection, error)

    def close_ended(self, connection: Connection, error: OSError | None) -> None:  # noqa: ARG002 - a reset is an end too
        """Close a connection that its peer has ended; a record that was cut short is counted as dropped."""
        self._intake.end_finished(connection)

    def close_failed(self, connection: Connection, error: Exception) -> None:
        """Close a connection after an unexpected error; the others go on."""
        self.guard.close_failed(connection, error)

    def _give_up(self, connection: Connection, why: str) -> None:
        with self.guard.of(connection):
            self.counters[Field.DROPPED] += 1
            self.warnings.warning("%s: closed: %s", connection.peer, why)
            self.close(connection)

    # Batches

    def _end_turn(self) -> None:
        self.send_batch()
        self._drain.end_turn()

    def send_if_large(self) -> None:
        """Send the batch before the turn is over if it has become large, or has lines for many files."""
        if self.dispatcher.batch.nbytes >= BATCH_BYTES or self.dispatcher.batch.is_full:
            self.send_batch()

    def send_batch(self) -> None:
        """Send the batch, unless it is empty."""
        batch = self.dispatcher.batch
        self._shares.is_pressing = False
        self.counters[Field.REDACTED] += self.dispatcher.take_redacted()
        self.counters[Field.SAMPLED] += self.dispatcher.sampler.take_dropped()
        if not batch:
            return
        self.link.send(batch.build(self.link.next_number), self.sessions.take_receipts())
        if not self.paused and self.link.cost_bytes >= self._high_water:
            self.paused = True
            self.deadlines.pause()
            self.counters[Field.PAUSED] = 1

    def session_opened(self, token: int, epoch: int, committed: int) -> None:
        """Welcome a client under the epoch that the writer gave it."""
        self.sessions.admit(token, epoch, committed)

    def range_refused(self, session: bytes, epoch: int) -> None:
        """Dismiss a client whose range the writer has refused."""
        self.sessions.refuse_range(session, epoch)

    def writer_resumed(self) -> None:
        """Send a new writer the requests that the last one did not answer."""
        self.sessions.repeat_requests()

    def _settle(self) -> None:
        """Send Settled to the master once all lines of older configurations are committed."""
        generation = 0
        while self._unsettled and self._unsettled[0][0] <= self.link.first_held:
            generation = self._unsettled.popleft()[1]
        if generation:
            self._channel.send(Settled(generation))

    def batches_committed(self, receipts: list[Receipt]) -> None:
        """Acknowledge committed records, and resume reading if there is room again."""
        if self._unsettled:
            self._settle()
        self.sessions.acknowledge(receipts)
        self.migration.committed()
        if self.paused and self.link.cost_bytes <= self._low_water:
            self.paused = False
            self.counters[Field.PAUSED] = 0
            self.deadlines.resume()
            postponed, self.postponed = self.postponed, {}
            for connection in self._shares.in_order(postponed.values()):
                if not connection.queued:
                    connection.queued = True
                    self.loop.again(connection)

    def stop_accepting(self, *, takes_queue: bool) -> None:
        """Accept no more connections; with `takes_queue`, accept the kernel's queue first."""
        self._entrance.close(takes_queue=takes_queue)
        self._own_log.close()


def _make_nonce() -> bytes:
    return os.urandom(NONCE_BYTES)


def _load_keys(settings: Settings) -> dict[bytes, bytes]:
    """Return the secrets of clients. If their file cannot be read, return none and log an error."""
    if not any(accept == AUTHENTICATED for _, accept in settings.listeners):
        return {}
    try:
        return load_keys(Path(settings.server.keys_file))
    except ValueError as error:
        LOGGER.error("server.keys_file: %s; no client can authenticate", error)
        return {}
