"""The handler's half of the protocol and the collector's, against each other: nothing is lost, and nothing comes twice.

Between them is a network that holds bytes back in either direction, cuts them anywhere and resets the connection; on
the collector's side a table of sessions, and a worker that dies with what it has not committed.
"""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from prefork_logd.handlers import ClientProtocol
from prefork_logd.inputs.base import Bye, Gap, Records, TooLarge
from prefork_logd.inputs.session import auth
from prefork_logd.inputs.session.messages import Authenticate, Capability, ErrorCode, Hello, State
from prefork_logd.inputs.session.server import ServerSession, ViolationError
from prefork_logd.journal.sessions import Sessions, Verdict

SESSION = b"0123456789abcdef"
KEYS = {b"old": b"k" * 32, b"new": b"n" * 32}
NONCE = b"N" * 32
MAX = 64
DROPPED = None


class Collector:
    """One connection as a worker sees it."""

    def __init__(self, table: Sessions, keys: dict[bytes, bytes]) -> None:
        self.session = ServerSession(MAX, 400)
        self.table = table
        self.keys = keys
        self.epoch = self.committed = 0
        self.taken: list[tuple[int, bytes | None]] = []
        self.proof: bytes | None = None
        """Of the WELCOME that the client waits for; None while it waits for none."""

    def welcome(self) -> bytes:
        """Look the session up, which in earnest the writer does, and let the client in."""
        proof, self.proof = self.proof, None
        return self.session.welcome(self.committed, proof or b"") if proof is not None else b""

    def _wait(self, proof: bytes) -> bytes:
        self.proof = proof
        return self.session.wait()

    def receive(self, data: bytes) -> bytes:
        """Take what came; return what to answer."""
        answer = b""
        for event in self.session.receive(data):
            match event:
                case Hello(session, first, _, capabilities):
                    assert capabilities == Capability.WAIT | Capability.REJECTED
                    opened = self.table.open(session, first, 0)
                    assert not opened.skipped
                    self.epoch, self.committed = opened.epoch, opened.committed
                    answer += self.session.challenge(NONCE) if self.keys else self._wait(b"")
                case Authenticate(key_id, nonce, mac):
                    if auth.verify(self.keys, key_id, NONCE, nonce, SESSION, mac):
                        proof = auth.server_proof(self.keys[key_id], nonce, NONCE, SESSION)
                        answer += self._wait(proof)
                    else:
                        answer += self.session.error(ErrorCode.REFUSED, "refused")
                case Records(first, bodies):
                    self.taken += zip(itertools.count(first), bodies, strict=False)
                case TooLarge(number, size, head):
                    assert len(head) == size > MAX
                    self.taken.append((number, head))
                case Gap(first, last):
                    self.taken += [(number, DROPPED) for number in range(first, last + 1)]
                case Bye():
                    pass
        return answer

    def commit(self, count: int) -> tuple[list[tuple[int, bytes | None]], bytes]:
        """Return what was committed, and its acknowledgement."""
        done, self.taken = self.taken[:count], self.taken[count:]
        assert self.table.accepts(SESSION, self.epoch, done[0][0], done[-1][0], self.committed + 1) is Verdict.NEXT
        self.table.commit(SESSION, self.epoch, done[-1][0], 0)
        self.table.settle()
        return done, self.session.ack(done[-1][0])


class BothSides(RuleBasedStateMachine):
    """The client's list of what it holds is all that this adds to the two halves."""

    @initialize(key_id=st.sampled_from([b"", b"old", b"new"]), demanded=st.booleans())
    def begin(self, key_id: bytes, demanded: bool) -> None:
        self.key_id = key_id
        self.keys = KEYS if demanded and key_id else {}
        self.table = Sessions()
        self.stored: list[tuple[int, bytes | None]] = []
        self.logged: list[bytes] = []
        self.dropped: set[int] = set()
        self.acknowledged = 0
        self.client: ClientProtocol | None = None
        self.collector: Collector | None = None
        self.up = self.down = b""
        self.unsent = 1

    @rule(body=st.binary(max_size=MAX + 5))
    def log(self, body: bytes) -> None:
        self.logged.append(body)

    @rule(count=st.integers(1, 3))
    def drop_the_oldest(self, count: int) -> None:
        self.dropped |= set(range(self.acknowledged + 1, min(self.acknowledged + count, len(self.logged)) + 1))

    @precondition(lambda self: self.client is None)
    @rule()
    def connect(self) -> None:
        key = KEYS.get(self.key_id, b"")
        self.client = ClientProtocol(SESSION, self.key_id, key, "test", random=lambda size: b"c" * size)
        self.collector = Collector(self.table, self.keys)
        self.up = self.client.hello(self.acknowledged + 1)

    @precondition(lambda self: self.client is not None and self.client.state == "ready")
    @rule(most=st.integers(1, 4))
    def send(self, most: int) -> None:
        numbers = range(self.unsent, min(len(self.logged), self.unsent + most - 1) + 1)
        if not numbers:
            return
        gone = self.unsent in self.dropped
        run = list(itertools.takewhile(lambda number: (number in self.dropped) == gone, numbers))
        bodies = [self.logged[number - 1] for number in run]
        assert self.client is not None
        if gone:
            self.up += self.client.gap(run[0], len(run), 1.0, 2.0, "overflow")
        elif len(run) == 1:
            self.up += self.client.one(run[0], bodies[0])
        else:
            self.up += self.client.batch(run[0], bodies)
        self.unsent = run[-1] + 1

    @precondition(lambda self: self.collector is not None and self.up)
    @rule(most=st.integers(1, 300))
    def carry_up(self, most: int) -> None:
        assert self.collector is not None
        piece, self.up = self.up[:most], self.up[most:]
        self.down += self.collector.receive(piece)

    @precondition(lambda self: self.collector is not None and self.collector.proof is not None)
    @rule()
    def welcome(self) -> None:
        assert self.collector is not None
        self.down += self.collector.welcome()

    @precondition(lambda self: self.collector is not None and self.collector.proof is not None)
    @rule()
    def wait_on(self) -> None:
        """Say it again: once or often is the same."""
        assert self.collector is not None
        self.down += self.collector.session.wait()

    @precondition(lambda self: self.client is not None and self.down)
    @rule(most=st.integers(1, 100))
    def carry_down(self, most: int) -> None:
        assert self.client is not None
        piece, self.down = self.down[:most], self.down[most:]
        for event in self.client.feed(piece):
            match event:
                case ("send", data):
                    self.up += data
                case ("wait",):
                    assert self.client.heard
                case ("welcome", committed):
                    self.acknowledged = max(self.acknowledged, committed)
                    self.unsent = self.acknowledged + 1
                case ("ack", number):
                    self.acknowledged = max(self.acknowledged, number)
                case _:
                    pytest.fail(f"{event}")

    @precondition(lambda self: self.collector is not None and self.collector.taken)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        assert self.collector is not None
        done, ack = self.collector.commit(data.draw(st.integers(1, len(self.collector.taken))))
        self.stored += done
        self.down += ack

    @precondition(lambda self: self.client is not None)
    @rule()
    def reset(self) -> None:
        self.client = self.collector = None
        self.up = self.down = b""

    def teardown(self) -> None:
        """Bring the rest on a last connection; then everything logged is stored once, in order and unchanged."""
        if not hasattr(self, "table"):
            return
        self.client = None
        self.reset()
        self.connect()
        for _ in range(20 + 4 * len(self.logged)):
            if self.client is not None and self.client.state == "ready":
                self.send(4)
            if self.up:
                self.carry_up(1000)
            if self.collector is not None:
                self.down += self.collector.welcome()
            if self.collector is not None and self.collector.taken:
                done, ack = self.collector.commit(len(self.collector.taken))
                self.stored += done
                self.down += ack
            if self.down:
                self.carry_down(1000)
        assert [number for number, _ in self.stored] == list(range(1, len(self.logged) + 1))
        for number, body in self.stored:
            assert body == self.logged[number - 1] or (body is DROPPED and number in self.dropped)


TestBothSides = pytest.mark.slow(BothSides.TestCase)
TestBothSides.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


@pytest.mark.parametrize(
    ("key_id", "key", "code"), [(b"old", b"wrong" * 4, 2), (b"unknown", b"k" * 32, 2), (b"", b"", 6)]
)
def test_a_client_without_the_right_key_is_refused(key_id: bytes, key: bytes, code: int) -> None:
    """It learns that it was, and whether it had no key at all; nothing of it is read."""
    client = ClientProtocol(SESSION, key_id, key, "test")
    collector = Collector(Sessions(), KEYS)
    (send,) = client.feed(collector.receive(client.hello(1)))
    try:
        answer = collector.receive(send[1])
    except ViolationError as error:
        answer = error.reply
    ((kind, got, _),) = client.feed(answer)
    assert (kind, got) == ("error", code)
    assert collector.session.state is State.ENDED


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_damage_to_its_proof_lets_a_client_in(place: int, change: int) -> None:
    """With any byte of AUTH changed but the flags, which say nothing, the session does not open."""
    client = ClientProtocol(SESSION, b"old", KEYS[b"old"], "test")
    collector = Collector(Sessions(), KEYS)
    proof = bytearray(client.feed(collector.receive(client.hello(1)))[0][1])
    place %= len(proof)
    proof[place] ^= change
    with contextlib.suppress(ViolationError):
        collector.receive(bytes(proof))
    collector.welcome()
    assert (collector.session.state is State.OPEN) == (place == 3)
