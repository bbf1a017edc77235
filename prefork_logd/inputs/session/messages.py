"""Encodes and decodes the messages of a session.

Owns their form, which docs/protocol.md specifies to the byte, their largest bodies, and two tables of the messages that
each side may send in each state. Does not know more of a connection than its state.
"""

from __future__ import annotations

import enum
import hashlib
import math
import struct
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.config.values import MAX_KEY_ID_BYTES, format_count
from prefork_logd.inputs.base import Bye, Gap, Records, TooLarge
from prefork_logd.inputs.runs import LENGTH, MAX_NUMBER
from prefork_logd.inputs.session.auth import MAC_BYTES, NONCE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = 0xF750
FIRST_BYTE = MAGIC >> 8
"""First bytes of each message, which no frame of SocketHandler has."""
VERSION = 1
MAX_TEXT_BYTES = 255
HEADER = struct.Struct(">HBxI")
"""Magic, type, flags (ignored, for later versions), length of the body."""
BATCH = struct.Struct(">QI")
"""First number, count."""
BATCH_OVERHEAD_BYTES = BATCH.size + LENGTH.size
"""Bytes by which the body of a BATCH of one record is larger than its record."""

_HELLO = struct.Struct(">BBI16sQH")
_GAP = struct.Struct(">QQddB")
_WELCOME = struct.Struct(">BIIIQB")
_REJECTED = struct.Struct(">QI")
_ERROR = struct.Struct(">HH")


class Message(enum.IntEnum):
    """The types of messages."""

    HELLO = 0x01
    AUTH = 0x02
    BATCH = 0x03
    GAP = 0x04
    BYE = 0x05
    WELCOME = 0x81
    CHALLENGE = 0x82
    ACK = 0x83
    ERROR = 0x84
    WAIT = 0x85
    REJECTED = 0x86


_HELLO_HEAD = MAGIC.to_bytes(2, "big") + bytes([Message.HELLO])
_TLS_REQUIRED = "only TLS is taken here; SocketHandler speaks it with tls=True"

LARGEST: Mapping[int, int] = {Message.HELLO: 1024, Message.AUTH: 1024, Message.GAP: 1024, Message.BYE: 0}
"""Largest body of each message from a client, in bytes: the most that we hold for it before its welcome. The collector
chooses that of a BATCH."""


class Capability(enum.IntFlag):
    """Optional abilities of a client: bits of HELLO."""

    WAIT = 1
    """It understands WAIT."""
    REJECTED = 2
    """It understands REJECTED."""


class ErrorCode(enum.IntEnum):
    """Codes of ERROR."""

    NO_COMMON_VERSION = 1
    REFUSED = 2
    OUT_OF_ORDER = 3
    MALFORMED = 4
    GOING_AWAY = 5
    NO_KEY = 6
    BUSY = 7
    TLS_REQUIRED = 8


class State(enum.Enum):
    """The state of a connection: which message comes next."""

    AWAITING_HELLO = enum.auto()
    AWAITING_AUTH = enum.auto()
    AWAITING_WELCOME = enum.auto()
    """Our turn: CHALLENGE (once), WAIT, WELCOME or ERROR."""
    OPEN = enum.auto()
    ENDED = enum.auto()
    """All messages are ignored, in both directions."""


RECEIVED: Mapping[State, Mapping[int, State]] = {
    State.AWAITING_HELLO: {Message.HELLO: State.AWAITING_WELCOME},
    State.AWAITING_AUTH: {Message.AUTH: State.AWAITING_WELCOME, Message.BYE: State.ENDED},
    State.AWAITING_WELCOME: {Message.BYE: State.ENDED},
    State.OPEN: {Message.BATCH: State.OPEN, Message.GAP: State.OPEN, Message.BYE: State.ENDED},
    State.ENDED: {},
}
"""Messages that a client may send in each state, with the next state."""

SENT: Mapping[State, Mapping[Message, State]] = {
    State.AWAITING_HELLO: {Message.ERROR: State.ENDED},
    State.AWAITING_AUTH: {Message.ERROR: State.ENDED},
    State.AWAITING_WELCOME: {
        Message.CHALLENGE: State.AWAITING_AUTH,
        Message.WAIT: State.AWAITING_WELCOME,
        Message.WELCOME: State.OPEN,
        Message.ERROR: State.ENDED,
    },
    State.OPEN: {Message.ACK: State.OPEN, Message.REJECTED: State.OPEN, Message.ERROR: State.ENDED},
    State.ENDED: {},
}
"""Messages that we may send in each state, with the next state."""


class Hello(NamedTuple):
    """A client begins a session. Answer with `challenge`, `welcome` or `error`."""

    session: bytes
    first: int
    """Lowest number that the client still holds; the next one if it holds none."""
    client: str
    """A text for people, unchecked: it may hold any character."""
    capabilities: int = 0
    """Bits of Capability; those of later versions are kept as well."""
    sender: bytes = b""
    """Who sends the records, as the client wrote it; empty if it does not say (records/sender.py)."""


class Authenticate(NamedTuple):
    """A client answers the challenge. Answer with `welcome` or `error`."""

    key_id: bytes
    client_nonce: bytes
    mac: bytes


Event = Hello | Authenticate | Records | TooLarge | Gap | Bye


class Broken(Exception):  # noqa: N818 - never leaves this room
    """The content of a message breaks the rules; the session makes a ViolationError of it."""

    def __init__(self, reason: str, message: str, code: ErrorCode = ErrorCode.MALFORMED) -> None:
        self.reason = reason
        self.code = code
        super().__init__(message)


def read_hello(body: bytes) -> Hello:
    """Read a HELLO; bytes after its fields belong to later versions. Raises Broken.

    So a sender that is not whole is ignored, as it was before there was one.
    """
    if len(body) < _HELLO.size:
        raise Broken("malformed", f"HELLO of {format_count(len(body), 'byte')}")
    lowest, highest, capabilities, session, first, text_bytes = _HELLO.unpack_from(body)
    if not lowest <= VERSION <= highest:
        what = f"the client speaks versions {lowest} to {highest}, and this collector version {VERSION}"
        raise Broken("version", what, ErrorCode.NO_COMMON_VERSION)
    if not first or text_bytes > min(MAX_TEXT_BYTES, len(body) - _HELLO.size):
        raise Broken(
            "malformed", f"HELLO of {format_count(len(body), 'byte')} with a text of {text_bytes:,} and first {first}"
        )
    end = _HELLO.size + text_bytes
    client = body[_HELLO.size : end].decode(errors="replace")
    sender_bytes = int.from_bytes(body[end : end + 2], "big")
    sender = body[end + 2 : end + 2 + sender_bytes]
    return Hello(session, first, client, capabilities, sender if len(sender) == sender_bytes else b"")


def read_auth(body: bytes) -> Authenticate:
    """Read an AUTH. Raises Broken."""
    id_bytes = len(body) - 1 - NONCE_BYTES - MAC_BYTES
    if not 1 <= id_bytes <= MAX_KEY_ID_BYTES or body[0] != id_bytes:
        raise Broken("malformed", f"AUTH of {format_count(len(body), 'byte')}")
    nonce = 1 + id_bytes
    return Authenticate(body[1:nonce], body[nonce : nonce + NONCE_BYTES], body[nonce + NONCE_BYTES :])


def read_gap(body: bytes) -> Gap:
    """Read a GAP. Raises Broken."""
    if len(body) < _GAP.size or len(body) != _GAP.size + body[_GAP.size - 1]:
        raise Broken("malformed", f"GAP of {format_count(len(body), 'byte')}")
    first, count, oldest, newest, _ = _GAP.unpack_from(body)
    if not first or not count or first + count - 1 > MAX_NUMBER:
        raise Broken("malformed", f"GAP of {format_count(count, 'number')} from {first} on")
    # A service may have logged a record whose time is not a number. Refusing its GAP would not help: the client would
    # send it again.
    oldest, newest = (moment if math.isfinite(moment) else 0.0 for moment in (oldest, newest))
    return Gap(first, first + count - 1, oldest, newest, body[_GAP.size :].decode(errors="replace"))


def read_batch(body: bytes, length: int) -> tuple[int, int]:
    """Read the first number and the count of a BATCH whose body is `length` bytes long. Raises Broken."""
    if length < BATCH_OVERHEAD_BYTES:
        raise Broken("malformed", f"BATCH of {format_count(length, 'byte')}")
    first, count = BATCH.unpack(body)
    if not first or not count or first + count - 1 > MAX_NUMBER or count * LENGTH.size > length - BATCH.size:
        raise Broken(
            "malformed", f"BATCH of {format_count(count, 'number')} from {first} on in {format_count(length, 'byte')}"
        )
    return first, count


def label(session: bytes) -> str:
    """Return the name of a session for logs; its id is not shown, as a client that knows it may use the session."""
    return hashlib.sha256(session).hexdigest()[:8]


def encode(kind: Message, body: bytes) -> bytes:
    """Return a whole message."""
    return HEADER.pack(MAGIC, kind, len(body)) + body


def welcome_body(max_record_bytes: int, max_batch_bytes: int, committed: int, proof: bytes) -> bytes:
    """Return the body of a WELCOME."""
    return _WELCOME.pack(VERSION, 0, max_record_bytes, max_batch_bytes, committed, len(proof)) + proof


def rejected_body(number: int, count: int) -> bytes:
    """Return the body of a REJECTED: so many of the records up to a number hold no record."""
    return _REJECTED.pack(number, min(count, (1 << 32) - 1))


def demand_tls(head: bytes) -> bytes:
    """Return the answer to a client that begins a session without TLS where TLS is required; `head` is what it sent.

    Return nothing to bytes that do not begin as a HELLO: an answer would mean nothing to their sender.
    """
    if not head.startswith(_HELLO_HEAD[: len(head)]):
        return b""
    return encode(Message.ERROR, error_body(ErrorCode.TLS_REQUIRED, _TLS_REQUIRED))


def error_body(code: ErrorCode, text: str) -> bytes:
    """Return the body of an ERROR; the text is cut to MAX_TEXT_BYTES."""
    cut = text.encode(errors="replace")[:MAX_TEXT_BYTES].decode(errors="ignore").encode()
    return _ERROR.pack(code, len(cut)) + cut
