"""Sends the notices that wait: a thread for each receiver that has some, with back-off and an end.

Owns the order, the attempts and what is noted of them. Does not know how a receiver works (receivers/).

A notice is marked as sent after the receiver's answer. So it is sent again only if its answer is lost, or this process
is killed before the mark; it has the same id then. Notices of an incident reach a receiver in order.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from prefork_logd.alerts import schema
from prefork_logd.alerts.notices import Notice
from prefork_logd.alerts.receivers.failures import SendError
from prefork_logd.alerts.receivers.send import send
from prefork_logd.errors import StoreError, describe_unexpected
from prefork_logd.system.backoff import delay_s
from prefork_logd.system.log import LOGGER, RateLimitedLog
from prefork_logd.system.sqlite import failing_as_store_error, transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.alerts.clock import AlertClock
    from prefork_logd.config.receivers import AnyReceiver

FIRST_DELAY_S, LONGEST_DELAY_S = 2.0, 300.0
HELD_S = 30.0
"""Pause of a receiver after an outcome that could not be noted."""
MOST_ANSWER = 300
"""Characters that are kept about an attempt."""

_DUE = """
FROM notices AS this WHERE state = 'waiting' AND due <= ? AND NOT EXISTS (
    SELECT 1 FROM notices AS earlier WHERE earlier.incident = this.incident AND earlier.receiver = this.receiver
    AND earlier.state = 'waiting' AND earlier.number < this.number
)
"""
"""Notices that can be sent: those of an incident reach a receiver in order."""

_read_notice = msgspec.json.Decoder(Notice).decode


class Waiting(NamedTuple):
    """A notice that is due."""

    number: int
    notice: Notice
    attempts: int
    expires: float


class Outbox:
    """The notices in alerts.db, for one thread. Every method raises StoreError."""

    def __init__(self, path: Path, clock: AlertClock) -> None:
        self._path = path
        self._clock = clock
        self._db: sqlite3.Connection = schema.connect(path)

    def close(self) -> None:
        """Close the file; never raises."""
        self._db.close()

    def due_receivers(self) -> list[str]:
        """Return the names of the receivers that have notices which are due."""
        with failing_as_store_error(self._path):
            found = self._db.execute(f"SELECT DISTINCT receiver {_DUE}", (self._clock.ticks(),)).fetchall()
        return [name for (name,) in found]

    def take(self, receiver: str) -> Waiting | None:
        """Return the first notice that is due; None without one. One that cannot be read is given up."""
        while True:
            with failing_as_store_error(self._path):
                row = self._db.execute(
                    f"SELECT number, body, attempts, expires {_DUE} AND receiver = ? ORDER BY number LIMIT 1",
                    (self._clock.ticks(), receiver),
                ).fetchone()
            if row is None:
                return None
            number, body, attempts, expires = row
            try:
                return Waiting(number, _read_notice(body), attempts, expires)
            except (msgspec.MsgspecError, TypeError) as error:
                problem = f"it cannot be read in alerts.db: {error}"
            with self._writing():
                self._mark(number, "failed", problem, 0.0)
            LOGGER.error("a notice to receiver %s was given up: %s", receiver, problem)

    def mark_sent(self, waiting: Waiting, answer: str, seconds: float) -> None:
        """Note that the receiver has taken a notice."""
        with self._writing():
            self._mark(waiting.number, "sent", answer, seconds)

    def mark_failed(self, receiver: str, waiting: Waiting, error: SendError, seconds: float) -> bool:
        """Note a failed attempt; return whether the notice was given up. The receiver's others wait, too."""
        ticks = self._clock.ticks()
        delay = max(delay_s(waiting.attempts + 1, FIRST_DELAY_S, LONGEST_DELAY_S), error.retry_after_s)
        is_over = waiting.notice.kind.startswith("test") or ticks + delay >= waiting.expires
        with self._writing():
            self._mark(waiting.number, "failed" if is_over else "waiting", str(error), seconds)
            if not waiting.notice.kind.startswith("test"):
                others = "number = ?" if error.is_refusal else "receiver = ?"
                self._db.execute(
                    f"UPDATE notices SET due = max(due, ?) WHERE {others} AND state = 'waiting'",
                    (ticks + delay, waiting.number if error.is_refusal else receiver),
                )
        return is_over

    def _mark(self, number: int, state: str, answer: str, seconds: float) -> None:
        self._db.execute(
            "UPDATE notices SET state = ?, attempts = attempts + 1, at = ?, answer = ?, seconds = ? WHERE number = ?",
            (state, self._clock.wall(), answer[:MOST_ANSWER], seconds, number),
        )
        if state != "waiting":
            self._db.execute("INSERT INTO counters VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1", (state,))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with failing_as_store_error(self._path), transaction(self._db):
            yield


class Dispatcher:
    """The threads that send."""

    def __init__(self, path: Path, clock: AlertClock, receivers: dict[str, AnyReceiver]) -> None:
        self._path = path
        self._clock = clock
        self._receivers = receivers
        self._threads: dict[str, threading.Thread] = {}
        self._is_ending = False
        self._answers: dict[int, tuple[str, float]] = {}
        """Answers, with the seconds they took, to notices that could not be marked as sent yet, by their numbers."""
        self._held: dict[str, float] = {}
        """When a receiver whose last outcome could not be noted is tried again, on the clock."""
        self._log = RateLimitedLog()

    def start_due(self, outbox: Outbox) -> None:
        """Start a thread for each receiver that has a notice which is due. Raises StoreError."""
        self._threads = {name: thread for name, thread in self._threads.items() if thread.is_alive()}
        for name in outbox.due_receivers():
            is_held = self._held.get(name, 0.0) > self._clock.ticks()
            if name not in self._threads and not is_held and not self._is_ending:
                thread = threading.Thread(target=self._run, args=(name,), name=f"send {name}", daemon=True)
                self._threads[name] = thread
                thread.start()

    def end(self, longest_s: float) -> None:
        """Begin no further attempt, and wait for those under way."""
        self._is_ending = True
        ends_s = time.monotonic() + longest_s
        for thread in list(self._threads.values()):
            thread.join(max(0.0, ends_s - time.monotonic()))

    def _run(self, name: str) -> None:
        try:
            with contextlib.closing(Outbox(self._path, self._clock)) as outbox:
                while not self._is_ending and (waiting := outbox.take(name)) is not None:
                    self._attempt(name, outbox, waiting)
        except StoreError as error:
            # A full disk, perhaps: the receiver must not hear of that each second.
            self._held[name] = self._clock.ticks() + HELD_S
            self._log.warning("what became of a notice to receiver %s cannot be noted: %s", name, error)
        except Exception as error:  # noqa: BLE001 - the next turn starts another thread
            self._log.warning("receiver %s: unexpected %s", name, describe_unexpected(error))

    def _send(self, name: str, notice: Notice) -> str:
        if name not in self._receivers:
            raise SendError("there is no such receiver in the configuration", is_refusal=True)
        return send(self._receivers[name], notice)

    def _attempt(self, name: str, outbox: Outbox, waiting: Waiting) -> None:
        began_s = time.monotonic()
        try:
            if waiting.number not in self._answers:
                self._answers[waiting.number] = self._send(name, waiting.notice), time.monotonic() - began_s
        except SendError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - one notice must not hold up the others
            failure = SendError(f"unexpected {describe_unexpected(error)}", is_refusal=True)
        else:
            outbox.mark_sent(waiting, *self._answers[waiting.number])
            del self._answers[waiting.number]
            return
        is_over = outbox.mark_failed(name, waiting, failure, time.monotonic() - began_s)
        what = "was given up" if is_over else "is tried again"
        self._log.warning("notice %s to receiver %s %s: %s", waiting.notice.id, name, what, failure)
        if is_over and not waiting.notice.kind.startswith("test"):
            LOGGER.error("alert %s: receiver %s was not told", waiting.notice.alert, name)
