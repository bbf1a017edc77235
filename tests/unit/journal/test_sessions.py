"""No number of a session is committed twice, and none is left out, whichever worker brings it and whoever dies."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from prefork_logd.errors import LocalProtocolError
from prefork_logd.journal.sessions import Opened, Sessions, Verdict

S = b"s" * 16
IDS = st.binary(min_size=16, max_size=16)


def committed(table: Sessions, session: bytes = S) -> int:
    """Return what another client of that session would be told, leaving the table as it is."""
    copy = Sessions()
    copy.apply(table.snapshot())
    return copy.open(session, 1, 0).committed


def test_a_new_session_begins_at_its_first_number() -> None:
    """What a client no longer holds is settled, and what was passed over is told."""
    table = Sessions()
    assert table.open(S, 1, 100) == Opened(1, 0, 0)
    assert table.open(b"t" * 16, 500, 100) == Opened(1, 499, 499)
    assert len(table) == 2


def test_each_opening_makes_an_epoch() -> None:
    """The epoch grows, the number stays."""
    table = Sessions()
    table.open(S, 1, 100)
    table.commit(S, 1, 10, 100)
    table.settle()
    assert table.open(S, 5, 100) == Opened(2, 10, 0)
    assert table.open(S, 11, 100) == Opened(3, 10, 0)
    assert table.open(S, 21, 100) == Opened(4, 20, 10)


@pytest.mark.parametrize(
    ("epoch", "first", "last", "verdict"),
    [
        (2, 11, 11, Verdict.NEXT),
        (2, 11, 30, Verdict.NEXT),
        (3, 11, 30, Verdict.NEXT),
        (2, 1, 10, Verdict.REPEATED),
        (3, 10, 10, Verdict.REPEATED),
        (2, 12, 12, Verdict.OUT_OF_STEP),
        (2, 10, 11, Verdict.OUT_OF_STEP),
        (3, 1, 99, Verdict.OUT_OF_STEP),
        (1, 11, 11, Verdict.FENCED),
        (1, 1, 10, Verdict.FENCED),
        (1, 12, 12, Verdict.FENCED),
    ],
)
def test_the_verdict_on_a_range(epoch: int, first: int, last: int, verdict: Verdict) -> None:
    """After epoch 2 was opened and 10 committed."""
    table = Sessions()
    table.open(S, 1, 0)
    table.open(S, 1, 0)
    table.commit(S, 2, 10, 0)
    assert table.accepts(S, epoch, first, last) is verdict


def test_an_unknown_session_begins_wherever_its_worker_says() -> None:
    """A session that expired, or was opened just before a crash, goes on."""
    table = Sessions()
    assert table.accepts(S, 7, 101, 105) is Verdict.NEXT
    table.commit(S, 7, 105, 0)
    assert table.accepts(S, 7, 106, 106) is Verdict.NEXT
    assert table.accepts(S, 6, 106, 106) is Verdict.FENCED


@pytest.mark.parametrize(("epoch", "last"), [(1, 11), (2, 10), (2, 9)])
def test_a_step_back_is_our_own_fault(epoch: int, last: int) -> None:
    """Committing without a verdict is refused."""
    table = Sessions()
    table.open(S, 1, 0)
    table.open(S, 1, 0)
    table.commit(S, 2, 10, 0)
    with pytest.raises(LocalProtocolError):
        table.commit(S, epoch, last, 0)


def test_a_client_is_told_only_what_is_settled() -> None:
    """It forgets what it is told: numbers of a turn that may still fail are not among them."""
    table = Sessions()
    table.open(S, 1, 0)
    table.settle()
    table.commit(S, 1, 10, 0)
    assert table.open(S, 1, 0).committed == 0
    table.settle()
    assert table.open(S, 1, 0).committed == 10


def test_a_failed_turn_is_taken_back() -> None:
    """Numbers go back to the last settled ones, unknown sessions become unknown, epochs stay."""
    table = Sessions()
    table.open(S, 1, 0)
    table.commit(S, 1, 3, 0)
    table.settle()
    table.commit(S, 1, 5, 0)
    table.commit(S, 1, 9, 0)
    table.commit(b"t" * 16, 4, 50, 0)
    table.open(b"u" * 16, 8, 0)
    table.commit(b"u" * 16, 1, 9, 0)
    table.open(S, 1, 0)
    table.rollback()
    assert table.accepts(S, 1, 4, 5) is Verdict.FENCED
    assert table.accepts(S, 2, 4, 5) is Verdict.NEXT
    assert table.accepts(b"t" * 16, 4, 7, 7) is Verdict.NEXT
    assert table.accepts(b"u" * 16, 1, 8, 9) is Verdict.NEXT
    recovered = Sessions()
    recovered.apply(table.delta())
    assert recovered.accepts(S, 1, 4, 5) is Verdict.FENCED


def test_sessions_expire_by_their_last_use() -> None:
    """Older than the age: gone; just as old, or changing: kept."""
    table = Sessions()
    for number, used_s in enumerate((100, 200, 300)):
        table.open(bytes([number]) * 16, 1, used_s)
    table.settle()
    table.open(b"\0" * 16, 1, 0)
    assert table.expire(1200, 1000) == 0
    table.settle()
    assert table.expire(1200, 1000) == 1
    assert table.expire(1250, 1000) == 1
    assert len(table) == 1
    assert table.open(b"\2" * 16, 1, 1300).epoch == 2


def test_use_keeps_a_session() -> None:
    """Committing counts as use."""
    table = Sessions()
    table.open(S, 1, 100)
    table.commit(S, 1, 1, 5000)
    table.settle()
    assert table.expire(5500, 1000) == 0


@given(st.dictionaries(IDS, st.tuples(st.integers(1, 2**64), st.integers(-5, 2**40)), max_size=20))
def test_a_snapshot_comes_back(sessions: dict[bytes, tuple[int, int]]) -> None:
    """Epochs and numbers of every session are as they were, whatever the clock said."""
    table = Sessions()
    for session, (first, now_s) in sessions.items():
        table.open(session, first, now_s)
    recovered = Sessions()
    recovered.apply(memoryview(table.snapshot()))
    assert recovered.snapshot() == table.snapshot()
    assert len(recovered) == len(sessions)
    for session, (first, now_s) in sessions.items():
        assert recovered.open(session, 1, now_s)[:2] == (2, first - 1)


def test_a_delta_holds_what_changed() -> None:
    """Snapshot and later deltas together are the table; a delta that was not settled comes again."""
    table = Sessions()
    recovered = Sessions()
    for number in range(50):
        table.open(bytes([number]) * 16, 1, number)
    recovered.apply(table.snapshot())
    table.settle()
    assert table.delta() == b""
    table.commit(b"\7" * 16, 1, 5, 99)
    size = len(table.delta())
    table.commit(b"\7" * 16, 1, 6, 99)
    table.open(b"\x08" * 16, 1, 99)
    assert len(table.delta()) == 2 * size
    recovered.apply(table.delta())
    assert recovered.snapshot() == table.snapshot()


@pytest.mark.parametrize("size", [1, 35, 37])
def test_what_is_no_table_changes_nothing(size: int) -> None:
    """A length that no table has is refused as a whole."""
    table = Sessions()
    with pytest.raises(ValueError, match="no table"):
        table.apply(b"x" * size)
    assert len(table) == 0


@dataclass
class Connection:
    """What a worker holds of a client: ranges on their way to the writer, in order."""

    epoch: int
    next_number: int
    on_their_way: list[tuple[int, int]] = field(default_factory=list)


class OneClient(RuleBasedStateMachine):
    """One client that moves between workers, whose batches come late; a writer that fails and dies."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Sessions()
        self.journal: list[bytes] = []
        self.stored: list[int] = []
        self.turn: list[tuple[Connection, tuple[int, int]]] = []
        self.logged = 0
        self.acknowledged = 0
        self.connections: list[Connection] = []

    @rule(count=st.integers(1, 5))
    def log(self, count: int) -> None:
        self.logged += count

    @rule()
    def connect(self) -> None:
        # The writer opens sessions between turns, and tells nobody before the epoch is in the journal.
        self.end_turn()
        opened = self.table.open(S, self.acknowledged + 1, 0)
        assert opened.committed == len(self.stored)
        assert not opened.skipped
        self.end_turn()
        self.acknowledged = opened.committed
        self.connections.append(Connection(opened.epoch, opened.committed + 1))

    @precondition(lambda self: self.connections)
    @rule(data=st.data(), count=st.integers(1, 4))
    def send(self, data: st.DataObject, count: int) -> None:
        connection = data.draw(st.sampled_from(self.connections))
        last = min(self.logged, connection.next_number + count - 1)
        if last >= connection.next_number:
            connection.on_their_way.append((connection.next_number, last))
            connection.next_number = last + 1

    @precondition(lambda self: any(connection.on_their_way for connection in self.connections))
    @rule(data=st.data(), again=st.booleans())
    def arrive(self, data: st.DataObject, again: bool) -> None:
        connection = data.draw(st.sampled_from([one for one in self.connections if one.on_their_way]))
        self.write(connection)
        if again and connection in self.connections and self.turn and self.turn[-1][0] is connection:
            assert self.table.accepts(S, connection.epoch, *self.turn[-1][1]) is not Verdict.NEXT

    def write(self, connection: Connection) -> None:
        first, last = connection.on_their_way.pop(0)
        verdict = self.table.accepts(S, connection.epoch, first, last)
        if verdict is Verdict.NEXT:
            self.table.commit(S, connection.epoch, last, 0)
            self.turn.append((connection, (first, last)))
        elif verdict is not Verdict.REPEATED:
            self.connections.remove(connection)

    @rule()
    def end_turn(self) -> None:
        self.journal.append(self.table.delta())
        for _, (first, last) in self.turn:
            self.stored += range(first, last + 1)
        self.turn = []
        self.table.settle()

    def _send_turn_again(self) -> None:
        for connection, numbers in reversed(self.turn):
            connection.on_their_way.insert(0, numbers)
        self.turn = []

    @rule()
    def fail_turn(self) -> None:
        self.table.rollback()
        self._send_turn_again()

    @rule()
    def kill_writer(self) -> None:
        self.table = Sessions()
        for delta in self.journal:
            self.table.apply(delta)
        self._send_turn_again()

    @rule()
    def acknowledge(self) -> None:
        self.acknowledged = len(self.stored)

    @invariant()
    def each_number_is_stored_once_and_in_order(self) -> None:
        assert self.stored == list(range(1, len(self.stored) + 1))

    def teardown(self) -> None:
        """Whatever happened, the client gets rid of the rest."""
        for _ in range(2):
            self.end_turn()
            self.connect()
            connection = self.connections[-1]
            if connection.next_number <= self.logged:
                connection.on_their_way.append((connection.next_number, self.logged))
            while connection.on_their_way:
                self.write(connection)
        self.end_turn()
        for connection in list(self.connections):
            while connection.on_their_way and connection in self.connections:
                self.write(connection)
        self.end_turn()
        assert self.stored == list(range(1, self.logged + 1))


TestOneClient = OneClient.TestCase
TestOneClient.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
