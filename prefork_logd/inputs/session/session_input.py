"""Reads acknowledged sessions: greets clients, and turns their messages into events of base.py.

Owns the order of a greeting (HELLO, CHALLENGE and AUTH if demanded, WAIT), and its state until WELCOME. Does not know
sockets, clocks or random numbers. server.py knows the protocol itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from prefork_logd.inputs.base import BATCH_BYTES, Event, Input, Opening, Refusal, Reply, Terms
from prefork_logd.inputs.runs import MAX_NUMBER
from prefork_logd.inputs.session.auth import server_proof, verify
from prefork_logd.inputs.session.messages import Authenticate, Capability, ErrorCode, Hello, State
from prefork_logd.inputs.session.server import ServerSession, SessionState, ViolationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from prefork_logd.inputs.session.messages import Event as SessionEvent

_BUSY = "every place for this client is taken (limits.max_connections, or a [[limit]]); come again"
_WRONG = "unknown key or wrong secret"
_USED_UP = "this session has used up its numbers; begin another"


class SessionInput(Input):
    """A client whose records are acknowledged."""

    __slots__ = ("_hello", "_nonce", "_proof", "_rejected", "_takes_rejected", "_terms", "left", "server")

    tag = "session"

    def __init__(self, terms: Terms) -> None:
        self.server = ServerSession(terms.max_record_bytes, terms.max_record_bytes + BATCH_BYTES)
        self._terms = terms
        self._hello: Hello | None = None
        """The HELLO of a challenged client."""
        self._nonce = b""
        """The nonce of the challenge."""
        self._proof = b""
        """The proof for the next WELCOME."""
        self._takes_rejected = False
        """Whether the client understands REJECTED."""
        self._rejected = 0, 0
        """The last number, and how many up to it were rejected and not reported yet."""
        self.left = 0

    @property
    def pending(self) -> bool:
        """Whether a message is half received."""
        return self.server.pending

    @property
    def held_bytes(self) -> int:
        """Bytes held until more arrive."""
        return self.server.held_bytes

    def limit(self, max_record_bytes: int) -> None:
        """Change the largest record taken, from the next one on."""
        self.server.limit(max_record_bytes)

    def receive(self, data: bytes | memoryview) -> Sequence[Event]:
        """Take received bytes; return the events they complete. Raises ViolationError."""
        try:
            events = self.server.receive(data)
        except ViolationError as error:
            error.events = list(self._answer(error.events))
            raise
        finally:
            self.left = self.server.left
        return self._answer(events)

    def _answer(self, events: Sequence[SessionEvent]) -> Sequence[Event]:
        """Return the events, each step of a greeting replaced by its result."""
        answered: list[Event] = []
        for event in events:
            if isinstance(event, Hello):
                answered.append(self._greet(event))
            elif isinstance(event, Authenticate):
                answered.append(self._authenticate(event))
            else:
                answered.append(event)
        return answered

    def _greet(self, hello: Hello) -> Event:
        if self._terms.is_busy:
            return Reply(self.server.error(ErrorCode.BUSY, _BUSY), ends=True)
        if self._terms.must_authenticate:
            self._hello, self._nonce = hello, self._terms.nonce()
            return Reply(self.server.challenge(self._nonce))
        return self._let_in(hello)

    def _authenticate(self, answer: Authenticate) -> Event:
        """Accept a client that knows a secret; others learn only that they are refused."""
        hello, nonce = self._hello, self._nonce
        self._hello, self._nonce = None, b""
        if hello is None:
            raise ValueError("an answer without a challenge")
        keys = self._terms.keys()
        if not verify(keys, answer.key_id, nonce, answer.client_nonce, hello.session, answer.mac):
            return Refusal(hello.client, _WRONG, self.server.error(ErrorCode.REFUSED, _WRONG))
        self._proof = server_proof(keys[answer.key_id], answer.client_nonce, nonce, hello.session)
        return self._let_in(hello)

    def _let_in(self, hello: Hello) -> Opening:
        # The writer may take a while, and a client without an answer falls back to plain frames.
        self._takes_rejected = bool(hello.capabilities & Capability.REJECTED)
        reply = self.server.wait() if hello.capabilities & Capability.WAIT else b""
        return Opening(hello.session, hello.first, hello.client, reply, hello.sender)

    # Answers

    @property
    def is_greeting(self) -> bool:
        """Whether HELLO, or the answer to a challenge, has not come yet."""
        return self.server.state in (State.AWAITING_HELLO, State.AWAITING_AUTH)

    @property
    def is_over(self) -> bool:
        """Whether the session has ended on this connection."""
        return self.server.state is State.ENDED

    @property
    def next_number(self) -> int:
        """The number of the next record; 0 before WELCOME."""
        return self.server.expected

    def turn_away(self) -> bytes:
        """Return the ERROR that the client answers by coming back later."""
        return self.server.error(ErrorCode.BUSY, _BUSY)

    def welcome(self, committed: int) -> bytes:
        """Return a WELCOME; an ERROR if no number is left, and nothing for a client that has ended."""
        if committed >= MAX_NUMBER:
            return self.server.error(ErrorCode.REFUSED, _USED_UP)
        if self.server.state is not State.AWAITING_WELCOME:
            return b""
        proof, self._proof = self._proof, b""
        return self.server.welcome(committed, proof)

    def acknowledge(self, number: int) -> bytes:
        """Return an ACK of every number up to this one; nothing if it was sent before, or the session has ended."""
        if self.server.state is not State.OPEN:
            return b""
        report = b""
        last, count = self._rejected
        if count and number >= last and self._takes_rejected:
            # Only of what is committed: a record that is sent again would be counted twice.
            report = self.server.rejected(last, count)
            self._rejected = 0, 0
        return report + self.server.ack(number)

    def note_rejected(self, number: int, count: int) -> None:
        """Report rejected records to the client with their acknowledgement."""
        self._rejected = number, self._rejected[1] + count

    def dismiss(self, why: str, *, may_return: bool) -> bytes:
        """Return an ERROR that ends the session on this connection."""
        return self.server.error(ErrorCode.GOING_AWAY if may_return else ErrorCode.MALFORMED, why)

    # State

    def dump_state(self) -> bytes:
        """Return the state that another process needs to continue from here."""
        greeting = self._hello, self._nonce, self._proof
        return msgspec.msgpack.encode(
            _State(self.server.dump_state(), *greeting, self._takes_rejected, *self._rejected)
        )

    @classmethod
    def load_state(cls, state: bytes, terms: Terms) -> Self:
        """Return an input that continues from a dumped state. Raises ValueError for an invalid state."""
        found = msgspec.msgpack.decode(state, type=_State)
        session = cls(terms)
        session.server = ServerSession.load_state(found.server)
        session._hello, session._nonce, session._proof = found.hello, found.nonce, found.proof
        session._takes_rejected = found.takes_rejected
        session._rejected = found.rejected_to, found.rejected
        return session


class _State(msgspec.Struct, frozen=True):
    """A SessionInput in any state."""

    server: SessionState
    hello: Hello | None
    nonce: bytes
    proof: bytes
    takes_rejected: bool = False
    rejected_to: int = 0
    rejected: int = 0
