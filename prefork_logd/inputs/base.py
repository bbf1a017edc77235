"""Defines an input: a protocol as a function of bytes, from bytes received to events, and to bytes to send.

Owns the contract and its events. Does not know protocols, sockets, clocks, files or random numbers. detect.py lists the
inputs; docs/inputs.md describes how to add one.

A connection passes all bytes to its input, in pieces of any size. The input returns events: records, and requests of a
client. The worker makes lines of the records. Once these are committed it gets the acknowledgement from the input, and
sends it; an input without acknowledgements returns no bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from prefork_logd.errors import RemoteProtocolError
from prefork_logd.inputs.runs import LENGTH, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from prefork_logd.records.record import Record

HEAD_KEPT = 256
"""Bytes of a skipped record that are kept for rejected.jsonl."""
BATCH_BYTES = 1 << 20
"""Bytes that a client may put into one batch, on top of the largest record."""


class Records:
    """Pickled records that were not handed out before.

    They are numbered `first`, `first + 1` and so on; `first` is 0 for records without numbers. Their bytes are in the
    receive buffer: use them before the next bytes are received.
    """

    __slots__ = ("first", "runs")
    __match_args__ = ("first", "bodies")
    __hash__ = None  # type: ignore[assignment]  # compared by content

    def __init__(self, first: int, runs: list[Run]) -> None:
        self.first = first
        self.runs = runs

    @classmethod
    def of(cls, first: int, bodies: Sequence[bytes]) -> Records:
        """Return the event of these records."""
        data = b"".join([LENGTH.pack(len(body)) + body for body in bodies])
        return cls(first, [Run(memoryview(data), len(bodies))])

    def __eq__(self, other: object) -> bool:
        """Tell whether the records are equal, even in different buffers."""
        return isinstance(other, Records) and (self.first, self.bodies) == (other.first, other.bodies)

    @property
    def bodies(self) -> list[bytes]:
        """A copy of every record."""
        return [body for run in self.runs for body in run.bodies()]


class Texts(NamedTuple):
    """Records in a form of the input's own, without numbers. The bytes are copies."""

    bodies: list[bytes]
    decode: Callable[[bytes, str, float], Record]
    """Returns the record of a body, from a peer's address and the time of arrival in seconds since 1970.

    Raises RecordRejected. Its cost must be bounded by the length of the body."""


class TooLarge(NamedTuple):
    """A record above the limit was passed over. Its number, if any, is used up."""

    number: int
    """0 for an input without numbers."""
    size: int
    """Bytes of the whole record."""
    head: bytes
    """Its first bytes, at most HEAD_KEPT."""
    body: bytes = b""
    """Its beginning and its end, if the input keeps them."""
    hole: int = 0
    """Offset in `body` where the end begins."""
    decode: Callable[[str, float], Record] | None = None
    """Returns the record of `body`, as that of Texts does with a peer and a time; None: `body` is of a pickle."""


class Gap(NamedTuple):
    """The client dropped the numbers from `first` to `last`, of which none was handed out before."""

    first: int
    last: int
    oldest: float
    """`created` of the oldest record dropped; 0.0 if the client did not send it."""
    newest: float
    reason: str
    """A text for people, unchecked."""


class Opening(NamedTuple):
    """A client names its session. The input waits for `welcome`."""

    session: bytes
    """16 bytes."""
    first: int
    """Lowest number that the client still holds; the next one if it holds none."""
    client: str
    """The client's name for people, unchecked: it may hold any character."""
    reply: bytes = b""
    """Bytes to send at once."""
    sender: bytes = b""
    """Who sends the records, as records/sender.py reads it; empty: the client does not say."""


class Refusal(NamedTuple):
    """A client is refused: it is counted and logged, `reply` is sent, and the connection closed."""

    client: str
    """As in Opening."""
    why: str
    reply: bytes


class Reply(NamedTuple):
    """Bytes to send at once."""

    data: bytes
    ends: bool = False
    """Whether to close the connection afterwards."""


class Bye(NamedTuple):
    """The client has nothing left to send."""


Event = Records | Texts | TooLarge | Gap | Opening | Refusal | Reply | Bye


class InputError(RemoteProtocolError):
    """The peer broke the protocol. The input cannot be used any more, and the connection must be closed."""

    def __init__(self, reason: str, message: str, head: bytes, events: Sequence[Any], reply: bytes = b"") -> None:
        super().__init__(reason, message)
        self.head = head
        """The first bytes of the violation, at most 64."""
        self.events: list[Any] = list(events)
        """Valid events of the bytes before: of base.py, or the input's own until it has answered them."""
        self.reply = reply
        """Bytes to send before closing."""


class Terms(NamedTuple):
    """The conditions under which a client is read."""

    max_record_bytes: int
    must_authenticate: bool = False
    is_busy: bool = False
    """Whether the collector has no place for the client, so that the input must refuse it."""
    keys: Callable[[], Mapping[bytes, bytes]] = dict
    """Returns the present secrets of clients by their ids."""
    nonce: Callable[[], bytes] = bytes
    """Returns 32 random bytes."""


class Input(ABC):
    """One connection's input, and the answers of one without acknowledgements."""

    __slots__ = ()

    tag: ClassVar[str]
    """Name of the input: in listeners' `protocol`, and for its state on the way to another process."""
    noun: ClassVar[str] = "record"
    """Name of a record's form, for messages."""
    left: int = 0
    """Number of bytes at the end of the last `receive` that it has not taken: pass them again."""

    @abstractmethod
    def __init__(self, terms: Terms) -> None:
        """Make the input for a new connection."""

    @abstractmethod
    def receive(self, data: bytes | memoryview) -> Sequence[Event]:
        """Take received bytes; return the events that they complete, in order.

        Records may be views of `data`. After a limited number of steps an input leaves the rest of `data`: see `left`.
        Raises InputError, which holds the events before it, when the peer breaks the protocol.
        """

    @property
    @abstractmethod
    def pending(self) -> bool:
        """Whether a record is half received: its deadline runs."""

    @property
    @abstractmethod
    def held_bytes(self) -> int:
        """Bytes held until more arrive."""

    @abstractmethod
    def limit(self, max_record_bytes: int) -> None:
        """Change the largest record taken, from the next one on."""

    def finish(self) -> Sequence[Event]:
        """Return the events that need no more bytes, now that the peer has ended its side."""
        return ()

    # State

    @abstractmethod
    def dump_state(self) -> bytes:
        """Return the state that another process needs to continue from here."""

    @classmethod
    @abstractmethod
    def load_state(cls, state: bytes, terms: Terms) -> Self:
        """Return an input that continues from a dumped state. Raises ValueError for an invalid state."""

    # Answers. An input without acknowledgements sends none.

    @property
    def is_greeting(self) -> bool:
        """Whether the client has not named its session yet: it is read while others wait, and a deadline runs."""
        return False

    @property
    def is_over(self) -> bool:
        """Whether to close the connection once the last bytes are sent."""
        return False

    @property
    def next_number(self) -> int:
        """The number of the next record; 0 for an input without numbers."""
        return 0

    def turn_away(self) -> bytes:
        """Return the bytes that tell a client to come back later, because there is no place for it."""
        return b""

    def welcome(self, committed: int) -> bytes:  # noqa: ARG002 - for inputs that emit Opening
        """Return the bytes that welcome a client whose session is committed up to a number; none if it has ended."""
        return b""

    def note_rejected(self, number: int, count: int) -> None:  # noqa: B027 - for inputs with numbers
        """Note that `count` of the records up to a number hold no record, to report it with their acknowledgement."""

    def acknowledge(self, number: int) -> bytes:  # noqa: ARG002 - for inputs with numbers
        """Return the bytes that acknowledge everything up to `number`."""
        return b""

    def dismiss(self, why: str, *, may_return: bool) -> bytes:  # noqa: ARG002 - for inputs that answer
        """Return the bytes with the reason for closing the connection, and whether the client may reconnect."""
        return b""
