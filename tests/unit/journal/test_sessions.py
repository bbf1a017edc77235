"""No number of a session is committed twice, and none is left out, whichever worker brings it and whoever dies."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from prefork_logd.errors import LocalProtocolError
from prefork_logd.journal.sessions import MOST_OPENED, Opened, Sessions, Verdict

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
    assert table.open(b"t" * 16, 500, 100) == Opened(2, 499, 499)
    assert table.accepts(b"t" * 16, 2, 500, 510, floor=500) is Verdict.NEXT


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


def test_an_unknown_session_begins_where_its_client_was_let_in_or_comes_again() -> None:
    """It was opened just before a crash, perhaps. If it was forgotten in the middle, its client connects again."""
    table = Sessions()
    assert table.accepts(S, 7, 101, 105, floor=1) is Verdict.OUT_OF_STEP
    assert table.accepts(S, 7, 101, 105, floor=101) is Verdict.NEXT
    table.commit(S, 7, 105, 0)
    assert table.accepts(S, 7, 106, 106, floor=101) is Verdict.NEXT
    assert table.accepts(S, 6, 106, 106, floor=106) is Verdict.FENCED
    assert table.open(b"t" * 16, 1, 0).epoch == 8


def test_a_session_without_a_record_is_not_remembered() -> None:
    """Nothing of it is on disk, and in memory only the epochs of a few: what an older connection sends is late."""
    table = Sessions()
    assert [table.open(S, 500, 0).epoch for _ in range(3)] == [1, 2, 3]
    assert table.accepts(S, 2, 500, 500, floor=500) is Verdict.FENCED
    assert not table.is_changing
    assert len(table) == 0
    assert len(table.snapshot()) == len(table.delta()) == 12
    table.commit(S, 3, 500, 0)
    assert table.is_changing
    table.settle()
    assert len(table) == 1
    assert table.accepts(S, 2, 501, 501, floor=500) is Verdict.FENCED
    assert table.open(S, 1, 0) == Opened(4, 500, 0)


def test_ever_new_sessions_leave_nothing() -> None:
    """Of 10,000 that were opened, the table has the last few; whose epoch it has no more goes on all the same."""
    table = Sessions()
    first = table.open(S, 500, 0)
    for number in range(10_000):
        table.open(b"%016d" % number, 1, 0)
    assert len(table._opened) == MOST_OPENED
    assert (len(table), len(table.snapshot())) == (0, 12)
    assert table.accepts(S, first.epoch, 500, 509, floor=500) is Verdict.NEXT


def remember(table: Sessions, name: str, peer: int, records: int = 1, now_s: int = 0) -> bytes:
    """Let a peer bring records of a session."""
    session = name.encode().rjust(16)
    table.commit(session, 1, records, now_s, records, peer)
    table.settle()
    return session


def test_a_flood_pushes_out_its_own_sessions() -> None:
    """Honest sessions are remembered, those of the same address, too, as long as they have more records."""
    table = Sessions()
    table.most = 100
    honest = [remember(table, f"honest {number}", peer=1) for number in range(20)]
    beside = [remember(table, f"beside {number}", peer=2, records=1000) for number in range(20)]
    for number in range(1000):
        remember(table, f"{number}", peer=2)
    assert len(table) == 70
    assert table.forgotten == 970
    assert all(table.accepts(session, 1, 2, 2) is Verdict.NEXT for session in honest)
    assert all(table.accepts(session, 1, 1001, 1001) is Verdict.NEXT for session in beside)
    for number in range(1000):
        remember(table, f"{number} of many", peer=10 + number)
    assert len(table) == 100
    recovered = Sessions()
    recovered.apply(table.snapshot())
    recovered.most = 50
    recovered.settle()
    assert recovered.snapshot() != table.snapshot()
    assert len(recovered) == 50


def test_a_session_that_is_changing_is_not_forgotten() -> None:
    """Its numbers are about to be committed."""
    table = Sessions()
    table.most = 4
    for number in range(5):
        table.commit(b"%016d" % number, 1, 1, 0)
    assert len(table) == 5
    table.settle()
    assert [table.accepts(b"%016d" % number, 1, 2, 2) for number in (3, 4)] == [Verdict.NEXT] * 2
    assert len(table) == 2


def test_the_table_of_before_is_read() -> None:
    """Its times are those of another clock: each of its sessions counts as used now."""
    table = Sessions()
    table.apply(struct.pack(">4sQ", b"PLS2", 5000))
    table.apply(struct.pack(">16sQQI", S, 3, 10, 1_700_000_000))
    assert table.open(S, 1, 5000) == Opened(4, 10, 0)
    assert table.expire(5900, 1000) == 0


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
    assert len(table) == 2
    epoch = table.open(S, 1, 0).epoch
    table.rollback()
    assert table.accepts(S, 1, 4, 5) is Verdict.FENCED
    assert table.accepts(S, epoch, 4, 5) is Verdict.NEXT
    assert table.accepts(b"t" * 16, 4, 7, 7, floor=7) is Verdict.NEXT
    assert len(table) == 1
    recovered = Sessions()
    recovered.apply(table.delta())
    assert recovered.accepts(S, 1, 4, 5) is Verdict.FENCED


def test_sessions_expire_by_their_last_use() -> None:
    """Older than the age: gone; just as old, or changing: kept."""
    table = Sessions()
    for number, used_s in enumerate((100, 200, 300)):
        table.commit(bytes([number]) * 16, 1, 1, used_s)
    table.settle()
    table.open(b"\0" * 16, 1, 0)
    assert table.expire(1200, 1000) == 0
    table.settle()
    assert table.expire(1200, 1000) == 1
    assert table.expire(1250, 1000) == 1
    assert len(table) == 1
    assert table.open(b"\2" * 16, 1, 1300).committed == 1


def test_use_keeps_a_session() -> None:
    """Committing counts as use."""
    table = Sessions()
    table.open(S, 1, 100)
    table.commit(S, 1, 1, 5000)
    table.settle()
    assert table.expire(5500, 1000) == 0


@pytest.mark.slow
@given(st.dictionaries(IDS, st.tuples(st.integers(2, 2**64), st.integers(-5, 2**40)), max_size=20))
def test_a_snapshot_comes_back(known: dict[bytes, tuple[int, int]]) -> None:
    """Epochs and numbers of every session are as they were, whatever the clock said."""
    table = Sessions()
    for session, (first, now_s) in known.items():
        table.commit(session, 1, first - 1, now_s, first)
    recovered = Sessions()
    recovered.apply(memoryview(table.snapshot()))
    assert recovered.snapshot() == table.snapshot()
    assert len(recovered) == len(known)
    for session, (first, now_s) in known.items():
        assert recovered.open(session, 1, now_s).committed == first - 1


def test_a_delta_holds_what_changed() -> None:
    """Snapshot and later deltas together are the table; a delta that was not settled comes again."""
    table = Sessions()
    recovered = Sessions()
    for number in range(50):
        table.commit(bytes([number]) * 16, 1, 1, number)
    recovered.apply(table.snapshot())
    table.settle()
    assert len(table.delta()) == 12
    table.commit(b"\7" * 16, 1, 5, 99)
    assert len(table.delta()) == 12 + 48
    table.commit(b"\7" * 16, 1, 6, 99)
    table.open(b"\x08" * 16, 1, 99)
    assert len(table.delta()) == 12 + 2 * 48
    recovered.apply(table.delta())
    assert recovered.snapshot() == table.snapshot()
    assert recovered.now_s == 99


@pytest.mark.parametrize("size", [1, 35, 37, 61])
def test_what_is_no_table_changes_nothing(size: int) -> None:
    """A length that no table has is refused as a whole."""
    table = Sessions()
    with pytest.raises(ValueError, match="not a table"):
        table.apply(b"PLS2".ljust(size, b"x"))
    assert len(table) == 0


@dataclass(eq=False)
class Connection:
    """What a worker holds of a client: ranges on their way to the writer, in order."""

    epoch: int
    next_number: int
    floor: int
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
        self.connections.append(Connection(opened.epoch, opened.committed + 1, opened.committed + 1))

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
            assert self.table.accepts(S, connection.epoch, *self.turn[-1][1], connection.floor) is not Verdict.NEXT

    def write(self, connection: Connection) -> None:
        first, last = connection.on_their_way.pop(0)
        verdict = self.table.accepts(S, connection.epoch, first, last, connection.floor)
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


TestOneClient = pytest.mark.slow(OneClient.TestCase)
TestOneClient.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
