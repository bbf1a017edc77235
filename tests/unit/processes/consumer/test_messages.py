"""Messages on their way to the writer: in order, bounded, and one at which our code fails costs itself alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.outputs import OutputSettings
from prefork_logd.config.server import ServerSettings
from prefork_logd.config.settings import Settings
from prefork_logd.ingest.dispatcher import Dispatcher
from prefork_logd.ipc.batch_builder import Lines
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.scoreboard import Field, Scoreboard
from prefork_logd.processes.consumer import messages as stream_messages
from prefork_logd.processes.consumer.messages import StreamMessages
from prefork_logd.processes.consumer.partition import Item
from prefork_logd.stores.nats import wire
from prefork_logd.stores.nats.reorder import JournalOrder

if TYPE_CHECKING:
    from pathlib import Path

JOURNAL = "ab" * 16
LINE = b'{"created":1.5,"time":"1970-01-01T00:00:01.500000Z","message":"%d"}\n'


class Namespace(SimpleNamespace):
    """One that may be a key."""

    __hash__ = object.__hash__


class Link:
    """A pipe to a writer that commits when it is told to."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.first_held = 1
        self.held_bytes = 0

    @property
    def next_number(self) -> int:
        """The number of the next batch."""
        return len(self.sent) + 1

    def send(self, batch: Any, receipts: list[Any]) -> None:
        """Keep a batch."""
        self.sent.append(batch)
        self.held_bytes += batch.nbytes

    def commit(self) -> None:
        """Commit all that was sent."""
        self.first_held, self.held_bytes = self.next_number, 0


class Rig:
    """The messages of one partition, without servers and without a writer."""

    def __init__(self, state_dir: Path) -> None:
        settings = Settings(
            server=ServerSettings(state_dir=str(state_dir)), output=(OutputSettings(name="a", path="a"),)
        )
        self.board = Scoreboard()
        self.dispatcher = Dispatcher(Configuration(1, settings, (1,), ()), Lines)
        self.done: list[int] = []
        self.partition: Any = Namespace(
            number=0, orders={}, waiting={}, closed=False, done=self.done.append, saved={}, committed={}, sequence=0
        )
        self.link: Any = Link()
        self.failed: list[str] = []
        self.woken = 0
        self.messages = StreamMessages(
            "LOGS", {0: self.partition}, self.link, self.board.slot(1), self.failed.append, self._wake
        )
        self.messages.configure(self.dispatcher, 1 << 30)

    def _wake(self) -> None:
        self.woken += 1

    def know(self, journal: str = JOURNAL, order: JournalOrder[Item] | None = None, committed: int = 0) -> None:
        """Have asked the writer for a journal, and got its answer."""
        self.messages._tokens += 1
        self.messages._opening[self.messages._tokens] = self.partition, journal
        self.messages.session_opened(self.messages._tokens, 1, committed)
        if order is not None:
            self.partition.orders[journal] = order

    def offer(
        self, first: int, count: int = 3, floor: int = 0, body: bytes | None = None, journal: str = JOURNAL
    ) -> None:
        """Let a message arrive, and be worked on."""
        it = wire.Range(journal, first, first + count, floor, "none")
        lines = b"".join(LINE % number for number in range(first, first + count)) if body is None else body
        self.partition.sequence = first + 1
        headers = {wire.HEADER: wire.header_of(it)}
        self.messages.add_message(self.partition, Namespace(headers=headers, data=lines))  # type: ignore[arg-type]
        self.messages.take_messages()

    def lines(self) -> bytes:
        """Return what was sent to the writer."""
        return b"".join(bytes(piece) for batch in self.link.sent for piece in batch.pieces)

    @property
    def rejected(self) -> int:
        """How many messages and lines were refused."""
        return int(self.board.slot(1)[Field.REJECTED])


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Return messages whose journal the writer has opened."""
    rig = Rig(tmp_path)
    rig.know()
    return rig


@pytest.mark.parametrize("error", [ValueError("odd"), RecursionError("deep"), MemoryError(), RuntimeError("boom")])
@pytest.mark.parametrize("step", ["unpack", "read_numbers", "dispatch"])
def test_one_message_costs_itself_alone(rig: Rig, error: Exception, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised while its lines are read: it is kept in rejected.jsonl, and the next ones are taken."""
    real_unpack, real_numbers = wire.unpack, wire.read_numbers
    dispatcher = rig.dispatcher
    real_dispatch = dispatcher.dispatch_line

    def unpack(body: bytes, encoding: str) -> bytes:
        if step == "unpack" and b'"4"' in body:
            raise error
        return real_unpack(body, encoding)

    def read_numbers(headers: Any, it: wire.Range, lines: int) -> list[range]:
        if step == "read_numbers" and it.first == 3:
            raise error
        return real_numbers(headers, it, lines)

    def dispatch(line: bytes) -> bool:
        if step == "dispatch" and b'"4"' in line:
            raise error
        return real_dispatch(line)

    monkeypatch.setattr(wire, "unpack", unpack)
    monkeypatch.setattr(wire, "read_numbers", read_numbers)
    monkeypatch.setattr(dispatcher, "dispatch_line", dispatch)
    monkeypatch.setattr(dispatcher, "dispatch_lines", lambda *_: False)
    for first in (0, 3, 6):
        rig.offer(first)
    sent = rig.lines()
    taken = [number for number in range(9) if LINE % number in sent]
    assert taken == ([0, 1, 2, 3, 5, 6, 7, 8] if step == "dispatch" else [0, 1, 2, 6, 7, 8])
    assert rig.rejected == 1
    assert type(error).__name__.encode() in sent
    assert rig.failed == []
    assert rig.done == []
    rig.link.commit()
    rig.messages.record_commits()
    assert rig.done == [1, 4, 7], "acknowledged in the end"


def test_a_message_that_fails_twice_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not known how far it came, reading begins anew; the second time it is passed over."""

    class Failing(JournalOrder[Item]):
        def offer(self, it: wire.Range, item: Item, nbytes: int = 0) -> Any:
            if it.first == 3:
                raise KeyError("no")
            return super().offer(it, item, nbytes)

    for attempt in range(2):
        rig.partition.closed = False
        rig.partition.orders[JOURNAL] = Failing(0)
        rig.dispatcher.batch.build(0)
        rig.offer(0)
        rig.offer(3)
        assert len(rig.failed) == 1
        assert rig.partition.closed == (attempt == 0)
    rig.offer(6, floor=6)
    assert rig.done == [4]
    assert rig.rejected == 1
    assert LINE % 6 in rig.lines()


def test_messages_that_wait_for_others_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal whose beginning never comes holds only so much; an honest one beside it loses nothing."""
    monkeypatch.setattr(stream_messages, "MOST_HELD_BYTES", 10_000)
    other = "cd" * 16
    rig.know(other)
    rig.offer(3, journal=other)
    for first in range(10, 1000, 10):
        rig.offer(first, body=LINE % first * 3)
    assert sum(order.held_bytes for order in rig.partition.orders.values()) <= 10_000
    assert rig.rejected == len(rig.done) > 20
    rig.offer(0, journal=other)
    assert all(LINE % number in rig.lines() for number in range(6))


def test_journals_that_a_stranger_invents_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group's table has to fit into a message."""
    monkeypatch.setattr(stream_messages, "MOST_JOURNALS", 5)
    for number in range(20):
        rig.offer(0, journal=f"{number:032x}")
    assert len(rig.partition.waiting) + len(rig.partition.orders) == 5
    assert rig.rejected == 16
    assert rig.messages.waiting_bytes == 4 * 3 * len(LINE % 0)


def test_a_journal_waits_for_the_writer(rig: Rig) -> None:
    """Its messages are kept until the writer has said how far it is; what it has already is left out."""
    other = "cd" * 16
    for first in (0, 3, 6):
        rig.offer(first, journal=other)
    assert LINE % 0 not in rig.lines()
    assert rig.messages.waiting_bytes == 9 * len(LINE % 0)
    (token,) = rig.messages._opening
    rig.messages.session_opened(token, 5, 4)
    rig.messages.send_batch()
    sent = rig.lines()
    assert [number for number in range(9) if LINE % number in sent] == [4, 5, 6, 7, 8]
    assert rig.messages.waiting_bytes == 0
    assert rig.done == [1], "the writer has all of it"
    assert rig.partition.committed[other] == 4
    rig.link.commit()
    rig.messages.record_commits()
    assert (rig.done, rig.partition.committed[other]) == ([1, 4, 7], 9)


def test_a_new_writer_is_asked_again(rig: Rig) -> None:
    """For the sessions that the last one had not answered, and no others."""
    other = "cd" * 16
    rig.offer(0, journal=other)
    (old,) = rig.messages._opening
    rig.messages.writer_resumed()
    (new,) = rig.messages._opening
    assert new != old
    rig.messages.session_opened(old, 5, 0)
    assert other not in rig.partition.orders, "an answer of the last writer"
    rig.messages.session_opened(new, 6, 0)
    rig.messages.send_batch()
    assert LINE % 0 in rig.lines()


def test_a_refused_range_begins_anew(rig: Rig) -> None:
    """Nothing more is taken of the partition; a refusal in an older epoch is ignored."""
    rig.messages.range_refused(bytes.fromhex(JOURNAL), 7)
    assert rig.failed == []
    rig.messages.range_refused(bytes.fromhex(JOURNAL), 1)
    assert len(rig.failed) == 1
    assert rig.partition.closed
    rig.offer(0)
    assert rig.lines() == b""


def test_a_strangers_message_is_passed_over(rig: Rig) -> None:
    """It is counted, kept in rejected.jsonl, and acknowledged."""
    rig.partition.sequence = 9
    rig.messages.add_message(rig.partition, Namespace(headers=None, data=b"hello"))  # type: ignore[arg-type]
    rig.messages.send_batch()
    assert (rig.rejected, rig.done) == (1, [9])
    assert b"not-a-message" in rig.lines()


def test_a_full_writer_pauses_the_messages(rig: Rig) -> None:
    """No message is taken, and none asked for, until there is room."""
    rig.messages.configure(rig.dispatcher, 1)
    rig.offer(0)
    assert LINE % 0 in rig.lines()
    rig.offer(3)
    assert LINE % 3 not in rig.lines()
    assert not rig.messages.has_room
    assert not rig.messages.has_work
    rig.link.commit()
    assert rig.messages.has_room
    assert rig.messages.has_work
    rig.messages.take_messages()
    assert LINE % 3 in rig.lines()


def test_lost_numbers_are_counted(rig: Rig) -> None:
    """The floor of a message says that earlier ones will never come."""
    rig.offer(5, floor=5)
    assert rig.board.slot(1)[Field.DROPPED] == 5
    rig.link.commit()
    rig.messages.record_commits()
    assert rig.partition.committed[JOURNAL] == 8


def test_a_partition_is_committed_with_its_last_batch(rig: Rig) -> None:
    """Until then it cannot be given back."""
    assert rig.messages.is_committed(rig.partition)
    rig.offer(0)
    assert not rig.messages.is_committed(rig.partition)
    rig.link.commit()
    rig.messages.record_commits()
    assert rig.messages.is_committed(rig.partition)


def test_a_lost_connection_forgets_sessions_and_waiting_messages(rig: Rig) -> None:
    """What is in a batch stays with the writer."""
    rig.offer(0)
    rig.offer(0, journal="cd" * 16)
    rig.messages.clear()
    assert rig.messages.waiting_bytes == 0
    assert not rig.messages._opening
    assert not rig.messages._epochs
    assert not rig.messages.is_committed(rig.partition)
    rig.messages.session_opened(2, 5, 0)
    assert LINE % 0 in rig.lines()
