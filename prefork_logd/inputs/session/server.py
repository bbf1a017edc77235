"""Runs the collector's side of a session: numbered records, which are acknowledged.

Owns the order of messages on one connection, the limits on held bytes, and the next number. Does not know sockets,
clocks, keys, pickles or commits: committed numbers are passed to `welcome` and `ack`. messages.py has the form of each
message, and the table of messages for each state.

`receive` takes bytes and returns events; `challenge`, `wait`, `welcome`, `ack` and `error` return bytes to send. They
return nothing for a client that has ended meanwhile.

The records of a BATCH are handed out as soon as each is complete. A connection then holds at most one unfinished
record instead of a batch, and the writer gets work earlier. This is possible because numbers are acknowledged, not
batches. Consecutive records of one `receive` come as one event, however many messages they were in. A record above the
limit comes as its beginning and its end.

Longer than other modules: it is one class, for the reason in ServerSession.
"""

from __future__ import annotations

import struct

import msgspec

from prefork_logd.config.values import format_count
from prefork_logd.errors import LocalProtocolError
from prefork_logd.inputs import runs
from prefork_logd.inputs.base import Bye, InputError, Records
from prefork_logd.inputs.excerpt import Excerpt
from prefork_logd.inputs.runs import LENGTH, MAX_NUMBER, WHOLE
from prefork_logd.inputs.session.auth import MAC_BYTES, NONCE_BYTES
from prefork_logd.inputs.session.messages import (
    BATCH,
    BATCH_OVERHEAD_BYTES,
    HEADER,
    LARGEST,
    MAGIC,
    RECEIVED,
    SENT,
    Broken,
    ErrorCode,
    Event,
    Message,
    State,
    encode,
    error_body,
    read_auth,
    read_batch,
    read_gap,
    read_hello,
    rejected_body,
    welcome_body,
)

MOST_STEPS = 256
"""Most messages, or passed over records, taken one by one in a `receive`: 256 KiB can hold 16,000."""
HELLO_SHOWN = HEADER.size + 6
"""Bytes of a HELLO before the session's id."""
_BATCH_HEAD = MAGIC << 16 | Message.BATCH << 8


class ViolationError(InputError):
    """The peer broke the rules, and its session on this connection has ended. Answers to its `events` are empty."""


class SessionState(msgspec.Struct, frozen=True):
    """A ServerSession, in any state; the names are those of its attributes and of its excerpt's."""

    state: str
    expected: int
    max_bytes: int
    max_batch_bytes: int
    challenged: bool
    first: int
    acked: int
    carry: bytes | None
    need: int
    left: int
    count: int
    repeats: int
    skip_left: int
    skip_size: int
    head: bytes
    body_bytes: int = 0
    body: bytes = b""
    tail: bytes = b""


class ServerSession:
    """Turns the bytes of one connection, in pieces of any size, into events.

    Every number from `expected` on is handed out once and in order: in Records, TooLarge or Gap. Holds at most
    one record or one small message, as far as it has arrived.

    Longer than other classes: both directions share one state, and each step of the parser depends on the one before.
    """

    __slots__ = (
        *("_max_bytes", "_max_batch_bytes", "_challenged", "_first", "_acked", "_carry", "_need", "_left", "_count"),
        *("_repeats", "_excerpt", "expected", "left", "state"),
    )

    def __init__(self, max_record_bytes: int, max_batch_bytes: int) -> None:
        """Raise ValueError if a record of `max_record_bytes` would not fit into a BATCH of `max_batch_bytes`."""
        if max_record_bytes + BATCH_OVERHEAD_BYTES > max_batch_bytes:
            raise ValueError(
                f"a batch of {format_count(max_batch_bytes, 'byte')} has no room for a record of {max_record_bytes:,}"
            )
        self.state = State.AWAITING_HELLO
        self.expected = 0
        """The next number; 0 before WELCOME."""
        self.left = 0
        """Number of bytes at the end of the last `receive` that it has not taken."""
        self._max_bytes = max_record_bytes
        self._max_batch_bytes = max_batch_bytes
        self._challenged = False
        self._first = 0
        self._acked = 0
        self._carry: bytearray | None = None
        self._need = 0
        """Bytes that the carry needs before parsing continues; 0 while parsing."""
        self._left = 0
        """Bytes of the current BATCH from here on."""
        self._count = 0
        """Records of the current BATCH from here on; one that is passed over counts until its last byte has come."""
        self._repeats = 0
        """Number of them that were handed out before."""
        self._excerpt: Excerpt | None = None
        """The record that is being passed over."""

    @property
    def pending(self) -> bool:
        """Whether a message is half received."""
        return self._carry is not None or self._count > 0

    @property
    def held_bytes(self) -> int:
        """Bytes held until more arrive."""
        if self._excerpt is not None:
            return self._excerpt.held_bytes
        return len(self._carry) if self._carry is not None else 0

    def limit(self, max_bytes: int) -> None:
        """Change the largest record taken, from the next one on; a batch stays as large as WELCOME said."""
        self._max_bytes = min(max_bytes, self._max_batch_bytes - BATCH_OVERHEAD_BYTES)

    def dump_state(self) -> SessionState:
        """Return the state that another process needs to continue from here."""
        skipped = self._excerpt or Excerpt(0, 0, 0)
        return SessionState(
            state=self.state.name,
            expected=self.expected,
            max_bytes=self._max_bytes,
            max_batch_bytes=self._max_batch_bytes,
            challenged=self._challenged,
            first=self._first,
            acked=self._acked,
            carry=bytes(self._carry) if self._carry is not None else None,
            need=self._need,
            left=self._left,
            count=self._count,
            repeats=self._repeats,
            skip_left=skipped.left,
            skip_size=skipped.size,
            head=skipped.head,
            body_bytes=skipped.body_bytes,
            body=bytes(skipped.body),
            tail=bytes(skipped.tail),
        )

    @classmethod
    def load_state(cls, state: SessionState) -> ServerSession:
        """Return a session that continues from a dumped state. Raises ValueError for an invalid state."""
        session = cls(state.max_bytes, state.max_batch_bytes)
        try:
            session.state = State[state.state]
        except KeyError:
            raise ValueError(f"a session in the state {state.state!r}") from None
        session.expected = state.expected
        session._challenged = state.challenged
        session._first = state.first
        session._acked = state.acked
        session._carry = bytearray(state.carry) if state.carry is not None else None
        session._need = state.need
        session._left, session._count, session._repeats = state.left, state.count, state.repeats
        if state.skip_left:
            kept = bytearray(state.body), bytearray(state.tail)
            session._excerpt = Excerpt(state.skip_size, state.skip_left, state.body_bytes, state.head, *kept)
        return session

    # From the client

    def receive(self, data: bytes | memoryview) -> list[Event]:
        """Take received bytes; return the events that they complete, in order. Once ENDED, there are none.

        The records among them are views of `data`. After MOST_STEPS the rest of it (`left`) must be passed again.
        Raises ViolationError, with the events before it, if the peer breaks the rules.
        """
        events: list[Event] = []
        view = memoryview(data)
        self.left = 0
        while view and self.state is not State.ENDED:
            if self._carry is None:
                self.left = len(view) - self._go_on(view, events)
                break
            # Only the unfinished message or record is joined; the bytes after it stay in place.
            missing = self._need - len(self._carry)
            if missing > len(view):
                self._carry += view
                break
            self._carry += view[:missing]
            whole, self._carry = memoryview(bytes(self._carry)), None
            view = view[missing:]
            self._go_on(whole, events)
        return events

    def _go_on(self, data: memoryview, events: list[Event]) -> int:
        """Take the complete messages, and keep an unfinished one; return the offset reached after MOST_STEPS."""
        self._need = 0
        position, size = 0, len(data)
        steps = 0
        while position < size and not self._need and self.state is not State.ENDED:
            if steps == MOST_STEPS:
                return position
            steps += 1
            if self._excerpt is not None:
                position = self._skip(self._excerpt, data, position, events)
            elif self._count:
                position = self._records(data, position, events)
            else:
                if self.state is State.OPEN:
                    position = self._whole_batches(data, position, events)
                position = self._message(data, position, events)
        if position < size and self.state is not State.ENDED:
            self._carry = bytearray(data[position:])
        return size

    def _whole_batches(self, data: memoryview, position: int, events: list[Event]) -> int:
        """Take complete BATCHes in order; return the offset of other bytes.

        Nearly all messages are such BATCHes, so they are measured together, and handed out as one run. `_message` and
        `_records` would return the same, and handle everything unusual.
        """
        end, count, batches = runs.measure_batches(
            data, position, self.expected, _BATCH_HEAD, self._max_bytes, self._max_batch_bytes
        )
        if count:
            self._deliver(runs.Run(data[position:end], count, WHOLE.size, batches), events)
        return end

    def _message(self, data: memoryview, position: int, events: list[Event]) -> int:
        """Take the message at `position`, or the beginning of a BATCH; return the offset after it."""
        have = len(data) - position
        if have < HEADER.size:
            self._need = HEADER.size if have else 0
            return position
        magic, kind, length = HEADER.unpack_from(data, position)
        # A client that knows a session's id may use the session: rejected.jsonl gets no HELLO up to the id.
        head = bytes(data[position : position + (64 if kind != Message.HELLO else HELLO_SHOWN)])
        if magic != MAGIC:
            raise self._violation("no-session", "this is no message of a session", head, events)
        if kind not in RECEIVED[self.state]:
            raise self._violation("unexpected", f"message {kind:#04x} while {self.state.name}", head, events)
        largest = LARGEST.get(kind, self._max_batch_bytes)
        if length > largest:
            raise self._violation("too-large", f"{Message(kind).name} of {format_count(length, 'byte')}", head, events)
        whole: int = HEADER.size + (length if kind != Message.BATCH else min(length, BATCH.size))
        if have < whole:
            self._need = whole
            return position
        body = bytes(data[position + HEADER.size : position + whole])
        try:
            if kind == Message.BATCH:
                self._begin_batch(body, length)
            else:
                self._take(kind, body, events)
        except Broken as broken:
            raise self._violation(broken.reason, str(broken), head, events, broken.code) from None
        return position + whole

    def _take(self, kind: int, body: bytes, events: list[Event]) -> None:
        """Take a complete message other than BATCH. Raises Broken."""
        if kind == Message.HELLO:
            hello = read_hello(body)
            self._first = hello.first
            events.append(hello)
        elif kind == Message.AUTH:
            events.append(read_auth(body))
        elif kind == Message.GAP:
            gap = read_gap(body)
            self._join(gap.first)
            if gap.last >= self.expected:
                events.append(gap._replace(first=self.expected))
                self.expected = gap.last + 1
        elif self.state is State.AWAITING_AUTH:
            raise Broken("no-key", "authentication is required, and the client has no key", ErrorCode.NO_KEY)
        else:
            events.append(Bye())
        self.state = RECEIVED[self.state][kind]

    def _begin_batch(self, body: bytes, length: int) -> None:
        first, count = read_batch(body, length)
        self._join(first)
        self._count = count
        self._repeats = min(count, self.expected - first)
        self._left = length - BATCH.size

    def _join(self, first: int) -> None:
        """Raise Broken if `first` leaves numbers out."""
        if first > self.expected:
            raise Broken("out-of-order", f"number {first} where {self.expected} is next", ErrorCode.OUT_OF_ORDER)

    def _records(self, data: memoryview, position: int, events: list[Event]) -> int:
        """Take the received records of the current BATCH; return the offset after them."""
        end = position + self._left
        stop_at = min(end, len(data))
        count, max_bytes = self._count, self._max_bytes
        if self._repeats:
            # Repeated records are passed over, as too large ones are: not held and not copied.
            max_bytes = -1
        stop, taken = runs.measure(data, position, stop_at, count, max_bytes)
        if taken:
            self._deliver(runs.Run(data[position:stop], taken), events)
        position = stop
        count -= taken
        # This record is incomplete, or must not be handed out.
        start = position + LENGTH.size
        nbytes: int = LENGTH.unpack_from(data, position)[0] if count and start <= stop_at else 0
        self._count = count
        self._left = end - position
        if not count:
            self._end_batch(data, position, events)
        elif start > end or (start <= stop_at and start + nbytes > end):
            raise self._violation(
                "malformed", "a BATCH that ends before its records", bytes(data[position : position + 64]), events
            )
        elif start > stop_at:
            self._need = LENGTH.size
        elif nbytes <= max_bytes:
            self._need = LENGTH.size + nbytes
        else:
            self._left -= LENGTH.size
            # Nothing of a repeated record is needed.
            self._excerpt = Excerpt(nbytes, nbytes, 0) if self._repeats else Excerpt.begin(nbytes, max_bytes)
            return self._skip(self._excerpt, data, start, events)
        return position

    def _deliver(self, run: runs.Run, events: list[Event]) -> None:
        """Hand out records as the next ones."""
        if events and isinstance(last := events[-1], Records):
            last.runs.append(run)
        else:
            events.append(Records(self.expected, [run]))
        self.expected += run.records

    def _skip(self, excerpt: Excerpt, data: memoryview, position: int, events: list[Event]) -> int:
        """Pass over the received part of a repeated or too large record; return the offset after it."""
        taken = excerpt.take(data[position:])
        position += taken
        self._left -= taken
        if not excerpt.left:
            self._excerpt = None
            self._count -= 1
            if self._repeats:
                self._repeats -= 1
            else:
                events.append(excerpt.to_event(self.expected))
                self.expected += 1
            if not self._count:
                self._end_batch(data, position, events)
        return position

    def _end_batch(self, data: memoryview, position: int, events: list[Event]) -> None:
        if self._left:
            raise self._violation(
                "malformed", "a BATCH that goes on after its records", bytes(data[position : position + 64]), events
            )

    def _violation(
        self, reason: str, message: str, head: bytes, events: list[Event], code: ErrorCode = ErrorCode.MALFORMED
    ) -> ViolationError:
        """End the session; return the error to raise."""
        self._count, self._excerpt = 0, None
        return ViolationError(reason, message, head[:64], events, self.error(code, message))

    # To the client

    def challenge(self, nonce: bytes) -> bytes:
        """Return a CHALLENGE: 32 random bytes, for this connection only. Raises LocalProtocolError out of turn."""
        if len(nonce) != NONCE_BYTES or self._challenged:
            raise LocalProtocolError(f"a second CHALLENGE, or a nonce of {format_count(len(nonce), 'byte')}")
        answer = self._say(Message.CHALLENGE, nonce)
        self._challenged = True
        return answer

    def wait(self) -> bytes:
        """Return a WAIT: the WELCOME will follow later. Only for a client that understands WAIT.

        Raises LocalProtocolError out of turn.
        """
        return self._say(Message.WAIT, b"")

    def welcome(self, committed: int, proof: bytes = b"") -> bytes:
        """Return a WELCOME: the session is open, and `expected` is set. `committed` is 0 for a new one.

        Raises LocalProtocolError out of turn, and if a challenged client would get no proof of 32 bytes.
        """
        if len(proof) != (MAC_BYTES if self._challenged else 0) or not 0 <= committed < MAX_NUMBER:
            raise LocalProtocolError(
                f"WELCOME with {committed} committed and a proof of {format_count(len(proof), 'byte')}"
            )
        body = welcome_body(self._max_bytes, self._max_batch_bytes, committed, proof)
        answer = self._say(Message.WELCOME, body)
        self._acked = committed
        self.expected = max(committed + 1, self._first)
        return answer

    def ack(self, number: int) -> bytes:
        """Return an ACK of every number up to this one; nothing if it was sent before.

        Raises LocalProtocolError out of turn, and for a number that was not handed out.
        """
        if number >= self.expected:
            raise LocalProtocolError(f"ACK of {number}, and {self.expected} is next")
        if number <= self._acked:
            return b""
        self._acked = number
        return self._say(Message.ACK, struct.pack(">Q", number))

    def rejected(self, number: int, count: int) -> bytes:
        """Return a REJECTED: `count` of the records up to this number could not be read. Send it before their ACK.

        Only for a client that understands it. Raises LocalProtocolError out of turn.
        """
        return self._say(Message.REJECTED, rejected_body(number, count))

    def error(self, code: ErrorCode, text: str) -> bytes:
        """Return an ERROR, which ends the session."""
        return self._say(Message.ERROR, error_body(code, text))

    def _say(self, kind: Message, body: bytes) -> bytes:
        """Return a message; nothing once ENDED, as the client may end while its answer is being made."""
        if self.state is State.ENDED:
            return b""
        following = SENT[self.state].get(kind)
        if following is None:
            raise LocalProtocolError(f"{kind.name} while {self.state.name}")
        self.state = following
        return encode(kind, body)
