"""Turns a connection's events into lines in the batch.

Owns the order in which events are handled, when the rest of them waits for another turn, and which events end the
connection. Does not know protocols, pipes or files. dispatcher.py makes the lines, sessions.py keeps the sessions.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from prefork_logd.config.values import format_count
from prefork_logd.ingest.rejections import MOST_FAILURES
from prefork_logd.inputs.base import (
    Bye,
    Event,
    Gap,
    InputError,
    Opening,
    Records,
    Refusal,
    Reply,
    Texts,
    TooLarge,
)
from prefork_logd.ipc.scoreboard import Field, ListenerField

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.errors import RemoteProtocolError
    from prefork_logd.ingest.dispatcher import Dispatcher
    from prefork_logd.inputs.runs import Run
    from prefork_logd.processes.worker.client_limits import ClientLimits
    from prefork_logd.processes.worker.connection import Connection
    from prefork_logd.processes.worker.sessions import SessionTable
    from prefork_logd.system.log import RateLimitedLog

TEXT_COST = 56
"""Bytes by which a text that waits is larger in memory than its characters: an object, and its place in a list."""
EVENT_COST = 512
"""About the bytes of another event that waits, its texts of at most 255 bytes included."""
LARGEST_RECORD = (1 << 32) - 1
"""No limit: the input has already compared the size of records with it."""


class IntakePort(Protocol):
    """The worker."""

    counters: memoryview
    warnings: RateLimitedLog
    max_record_bytes: int
    sessions: SessionTable
    limits: ClientLimits
    dispatcher: Dispatcher
    """Makes lines, under the configuration of this moment."""

    @property
    def slice_over(self) -> bool:
        """Whether the current connection's share of the turn is over."""

    def send_if_large(self) -> None:
        """Send the batch if it has become large."""

    def close(self, connection: Connection) -> None:
        """Close a connection."""


class Intake:
    """Handles the events of one worker's connections."""

    def __init__(self, port: IntakePort) -> None:
        self._port = port

    def handle_events(self, connection: Connection, events: Sequence[Event]) -> None:
        """Handle a connection's events, at least the first; keep those for which there is no time."""
        rest: Records | Texts | None
        for index, event in enumerate(events):
            if connection.fd < 0:
                return
            if index and self._port.slice_over:
                _keep(connection, events[index:])
                return
            match event:
                case Records():
                    rest = self._add_records(connection, event)
                case Texts():
                    rest = self._add_texts(connection, event)
                case _:
                    rest = None
                    self._apply_event(connection, event)
            if rest is not None:
                _keep(connection, [rest, *events[index + 1 :]])
                return

    def _apply_event(self, connection: Connection, event: Event) -> None:
        """Act on an event without records."""
        match event:
            case TooLarge():
                self._port.limits.charge(connection, 1, event.size)
                self._note_too_large(connection, event)
            case Opening():
                self._port.sessions.open_session(connection, event)
            case Gap():
                self._port.sessions.note_gap(connection, event)
            case Reply(data, ends):
                connection.send(data)
                if ends:
                    self._port.close(connection)
            case Refusal(client, why, reply):
                self._port.counters[Field.REFUSED] += 1
                self._port.warnings.warning("%s (%a): refused: %s", connection.peer, client, why)
                connection.send(reply)
                self._port.close(connection)
            case Bye():
                self._port.close(connection)

    def _add_records(self, connection: Connection, event: Records) -> Records | None:
        """Turn pickled records into lines; a rejected record uses up its number all the same.

        Return the records for which there was no time.
        """
        port, counters = self._port, self._port.counters
        first, received_s = event.first, time.time()
        for index, run in enumerate(event.runs):
            position, left = 0, run.records
            if index or not isinstance(event, _Rest):
                nbytes = run.nbytes
                counters[Field.RECEIVED_BYTES] += nbytes
                connection.tally[ListenerField.RECEIVED_BYTES] += nbytes
            while left:
                count = self._allow(connection, first, left) if connection.clients else left
                if count < 0:
                    first += left if first else 0
                    break
                if count:
                    position, taken, bad = self._add_run(connection, run, position, count, first, received_s)
                    left -= taken
                    first += taken if first else 0
                    self._count(connection, first - 1, taken, bad)
                    port.send_if_large()
                if connection.failures >= MOST_FAILURES:
                    # 64 KiB can hold 16,000 empty frames, and each would get an entry in rejected.jsonl.
                    self._close_useless(connection)
                    return None
                if left and (not count or port.slice_over):
                    rest = run._replace(data=run.data[position:], records=left)
                    return _Rest(first, [rest, *event.runs[index + 1 :]])
        return None

    def _count(self, connection: Connection, last: int, taken: int, bad: int) -> None:
        """Count records that were handled, `bad` of them rejected, up to the number `last`; -1: without numbers."""
        counters = self._port.counters
        counters[Field.RECORDS] += taken - bad
        connection.tally[ListenerField.RECORDS] += taken - bad
        if bad:
            counters[Field.REJECTED] += bad
            self._warn_rejected(connection)
            if last > 0 and connection.input is not None:
                connection.input.note_rejected(last, bad)

    def _allow(self, connection: Connection, first: int, left: int) -> int:
        """Return how many of the next records a connection's limits allow.

        0: none, and the connection waits; -1: none, and they are dropped.
        """
        limits = self._port.limits
        count = limits.allowance(connection, left)
        if count:
            return count
        if limits.drops:
            self._drop(connection, first, left)
            return -1
        limits.keep_waiting(connection)
        return 0

    def _drop(self, connection: Connection, first: int, count: int) -> None:
        """Drop records beyond a limit; their numbers, if they have any, are used up."""
        if first:
            self._port.sessions.begin_range(connection, first, first + count - 1)
            self._port.sessions.end_range(connection, 0)
            if connection.input is not None:
                connection.input.note_rejected(first + count - 1, count)
        self._port.limits.note_dropped(count)

    def _add_run(
        self, connection: Connection, run: Run, position: int, count: int, first: int, received_s: float
    ) -> tuple[int, int, int]:
        """Add lines for `count` records of a run, from an offset on, numbered from `first` unless that is 0.

        Return the offset after the last handled record, the number of handled records, and how many were rejected.
        """
        dispatcher = self._port.dispatcher
        sessions, batch, begin = self._port.sessions, dispatcher.batch, position
        if first:
            sessions.begin_range(connection, first, first - 1)
            mark = batch.mark()
        try:
            position, taken, bad, connection.failures, shipped = dispatcher.run(
                *(run.data, position, count, LARGEST_RECORD, connection.peer, received_s),
                *(connection.failures, MOST_FAILURES, run.header_bytes, connection.find_sender()),
            )
        except Exception:
            if first:
                # The client sends these records again, so their lines in the batch would be duplicates.
                batch.discard(mark)
            raise
        if connection.clients:
            self._port.limits.charge(connection, taken, position - begin)
        if first:
            for start, length in shipped:
                batch.run(first + start, length)
            sessions.end_range(connection, taken)
        return position, taken, bad

    def _add_texts(self, connection: Connection, event: Texts) -> Texts | None:
        """Turn records that their input decodes into lines. Return those for which there was no time."""
        port, counters = self._port, self._port.counters
        received_s = time.time()
        bodies = event.bodies
        while bodies:
            count = self._allow(connection, 0, len(bodies)) if connection.clients else len(bodies)
            if count < 0:
                return None
            if not count:
                return event._replace(bodies=bodies)
            taken, bad, connection.failures = port.dispatcher.add_texts(
                *(bodies if count == len(bodies) else bodies[:count], event.decode, connection.peer, received_s),
                *(connection.failures, MOST_FAILURES, connection.find_sender()),
            )
            nbytes = sum(map(len, bodies[:taken]))
            if connection.clients:
                port.limits.charge(connection, taken, nbytes)
            counters[Field.RECEIVED_BYTES] += nbytes
            connection.tally[ListenerField.RECEIVED_BYTES] += nbytes
            self._count(connection, -1, taken, bad)
            bodies = bodies[taken:]
            port.send_if_large()
            if connection.failures >= MOST_FAILURES:
                self._close_useless(connection)
                return None
            if bodies and port.slice_over:
                return event._replace(bodies=bodies)
        return None

    def _note_too_large(self, connection: Connection, event: TooLarge) -> None:
        port = self._port
        noun = connection.input.noun if connection.input is not None else "record"
        detail = f"a {noun} of {format_count(event.size, 'byte')}; limits.max_record_bytes is {port.max_record_bytes:,}"
        if event.body and self._add_cut(connection, event):
            if not connection.warned:
                connection.warned = True
                port.warnings.warning("%s: cut %s; further ones are not reported", connection.peer, detail)
            return
        if event.number:
            port.sessions.begin_range(connection, event.number, event.number)
        port.dispatcher.reject(connection.peer, time.time(), "too-large", detail, event.head, event.size)
        port.counters[Field.REJECTED] += 1
        if event.number:
            port.sessions.end_range(connection, 0)
            if connection.input is not None:
                connection.input.note_rejected(event.number, 1)
            connection.failures += 1
            if connection.failures >= MOST_FAILURES:
                self._close_useless(connection)
        elif not connection.warned:
            connection.warned = True
            port.warnings.warning("%s: skipped %s; further ones are only counted", connection.peer, detail)

    def _add_cut(self, connection: Connection, event: TooLarge) -> bool:
        """Add the lines of a record that is too large, as far as it was kept; return whether that is a record."""
        port, number = self._port, event.number
        batch = port.dispatcher.batch
        if number:
            port.sessions.begin_range(connection, number, number - 1)
            mark = batch.mark()
        try:
            outcome = port.dispatcher.add_cut(event, connection.peer, time.time(), connection.find_sender())
        except Exception:
            if number:
                # The client sends the record again, so its lines in the batch would be duplicates.
                batch.discard(mark)
            raise
        if number:
            batch.run(number, max(0, outcome - 1))
            port.sessions.end_range(connection, min(outcome, 1))
        if not outcome:
            return False
        port.counters[Field.RECEIVED_BYTES] += event.size
        connection.tally[ListenerField.RECEIVED_BYTES] += event.size
        self._count(connection, -1, 1, 0)
        connection.failures = 0
        port.send_if_large()
        return True

    def _warn_rejected(self, connection: Connection) -> None:
        """Log the first rejected record of a connection."""
        if not connection.warned:
            connection.warned = True
            what = connection.input.noun if connection.input is not None else "record"
            self._port.warnings.warning(
                "%s: rejected a %s: %s; further ones are only counted, and listed in rejected.jsonl",
                *(connection.peer, what, self._port.dispatcher.last_rejection),
            )

    def _close_useless(self, connection: Connection) -> None:
        """Close the connection of a client that sends no valid records. When it reconnects it goes on after them."""
        what = connection.input.noun if connection.input is not None else "record"
        self._port.warnings.warning(
            "%s: closed after %d %ss in a row without a record; see rejected.jsonl",
            *(connection.peer, connection.failures, what),
        )
        if connection.input is not None:
            why = f"{MOST_FAILURES} in a row hold no record"
            connection.send(connection.input.dismiss(why, may_return=False))
        self._port.close(connection)

    def end_violated(self, connection: Connection, error: RemoteProtocolError) -> None:
        """Close a connection after a protocol error, once all events from before it are handled."""
        head = reply = b""
        if isinstance(error, InputError):
            head, reply = error.head, error.reply
            events, error.events = error.events, []
            self.handle_events(connection, events)
            if connection.unhandled_events:
                connection.pending_error = error
                return
        if connection.fd < 0:
            return
        self._port.dispatcher.reject(connection.peer, time.time(), error.reason, str(error), head, len(head))
        self._port.counters[Field.REJECTED] += 1
        self._port.warnings.warning("%s: closed: %s", connection.peer, error)
        connection.send(reply)
        self._port.close(connection)

    def end_finished(self, connection: Connection) -> None:
        """Close a connection that its peer has ended. A record that was cut short is counted as dropped."""
        if connection.input is not None:
            try:
                events = connection.input.finish()
            except InputError as error:
                self.end_violated(connection, error)
                return
            # The last record is handled at once, whatever the limits say: there will be no other turn.
            connection.is_leaving = True
            self.handle_events(connection, events)
            if connection.fd >= 0 and connection.input.pending:
                self._port.counters[Field.DROPPED] += 1
        self._port.close(connection)


class _Rest(Records):
    """Records whose first run is partly handled; its bytes are already counted."""

    __slots__ = ()


def _keep(connection: Connection, events: Sequence[Event]) -> None:
    """Keep events for a connection's next turn; their records are copied out of the read buffer."""
    kept: list[Event] = []
    nbytes = 0
    for event in events:
        match event:
            case Records():
                runs = [run._replace(data=memoryview(bytes(run.data))) for run in event.runs]
                nbytes += sum(len(run.data) for run in runs)
                kept.append(type(event)(event.first, runs))
            case Texts():
                nbytes += sum(map(len, event.bodies)) + TEXT_COST * len(event.bodies)
                kept.append(event)
            case TooLarge():
                nbytes += len(event.body) + EVENT_COST
                kept.append(event)
            case _:
                nbytes += EVENT_COST
                kept.append(event)
    connection.keep_events(kept, nbytes)
