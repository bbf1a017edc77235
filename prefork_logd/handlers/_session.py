"""Speaks the client's half of a session: bytes in, events out (docs/protocol.md).

Knows nothing of sockets, files, clocks and pickles.
"""
from __future__ import absolute_import, division

import hashlib
import hmac
import os
import struct

_HELLO, _AUTH, BATCH, _GAP, _BYE = 1, 2, 3, 4, 5
_WELCOME, _CHALLENGE, _ACK, _ERROR, _WAIT, _REJECTED = 0x81, 0x82, 0x83, 0x84, 0x85, 0x86
MAGIC = 0xF750
_VERSION = 1
_CAPABILITIES = 3  # takes WAIT and REJECTED
_HEADER = struct.Struct(">HBBI")
_HELLO_BODY = struct.Struct(">BBI16sQH")
BATCH_BODY = struct.Struct(">QI")
LENGTH = struct.Struct(">I")
ONE_RECORD_START = _HEADER.pack(MAGIC, BATCH, 0, 0)[:4]
ONE_RECORD_EXTRA = 16
pack_one_record = struct.Struct(">4sIQII").pack  # header, BATCH of one record up to that record's bytes
_GAP_BODY = struct.Struct(">QQddB")
_WELCOME_BODY = struct.Struct(">BIIIQB")
_NUMBER = struct.Struct(">Q")
_TEXT_LENGTH = struct.Struct(">H")
_REJECTED_BODY = struct.Struct(">QI")
_ERROR_BODY = struct.Struct(">HH")
_LARGEST = {_WELCOME: _WELCOME_BODY.size + 32, _CHALLENGE: 32, _ACK: 8, _ERROR: 1024, _WAIT: 0, _REJECTED: 12}
_NONCE_BYTES = 32

NO_COMMON_VERSION, REFUSED, OUT_OF_ORDER, MALFORMED, GOING_AWAY, NO_KEY, BUSY, TLS_REQUIRED = range(1, 9)
_MOST_IDLE_MESSAGES = 1000
"""How many WAITs and ACKs that acknowledge nothing new are taken in a row; a collector sends few of them."""


class ProtocolError(ValueError):
    """The collector broke the rules of the protocol; the connection is over."""


def _message(kind, body):
    return _HEADER.pack(MAGIC, kind, 0, len(body)) + body


def _mac(key, *fields):
    joined = b"".join(LENGTH.pack(len(field)) + field for field in fields)
    return hmac.new(key, joined, hashlib.sha256).digest()


class ClientProtocol(object):
    """Keeps the state of one connection of a session, without its socket.

    `hello`, `batch`, `gap` and `bye` return the bytes to send; `feed` takes what was received and returns events:

    - `("send", data)`: send these bytes now;
    - `("wait",)`: the collector knows the session, and its welcome follows later;
    - `("welcome", committed)`: the session is open, and the collector has committed everything up to this number;
    - `("ack", number)`: the collector has committed everything up to this number;
    - `("rejected", number, count)`: so many of the records up to this number could not be read, and are not stored;
    - `("error", code, text)`: the collector ends the session; text is unicode.
    """

    def __init__(self, session, key_id=b"", key=b"", client=u"", random=os.urandom, sender=b""):
        """Take 16 bytes, the session's id; without a key a collector that demands one gets a BYE.

        `sender` describes who sends the records, as JSON; empty: HELLO does not say.
        """
        self.session = session
        self.key_id = key_id
        self.key = key
        self.client = client.encode("utf-8", "replace")[:255].decode("utf-8", "ignore").encode("utf-8")
        self._sender = sender
        self.state = "new"
        """new, greeting, proving (after AUTH), leaving (after BYE, or without a key), ready, closed"""
        self.max_record_bytes = 0
        self.max_batch_bytes = 0
        self.sent = 0
        """The highest number sent; kept here by `batch`, `one` and `gap`."""
        self.heard = False
        """Whether a whole message has come: the peer speaks this protocol."""
        self._random = random
        self._first = 0
        self._acknowledged = 0
        self._idle_messages = 0
        self._client_nonce = self._server_nonce = b""
        self._buffer = b""

    def hello(self, first):
        """Return a HELLO; `first` is the lowest number held, or the next number if none is held."""
        self.state = "greeting"
        self._first = first
        body = _HELLO_BODY.pack(_VERSION, _VERSION, _CAPABILITIES, self.session, first, len(self.client)) + self.client
        if self._sender:
            body += _TEXT_LENGTH.pack(len(self._sender)) + self._sender
        return _message(_HELLO, body)

    def batch(self, first, pickles):
        """Return a BATCH of these records, numbered from `first` on."""
        parts = [b"", BATCH_BODY.pack(first, len(pickles))]
        for data in pickles:
            parts.append(LENGTH.pack(len(data)))
            parts.append(data)
        parts[0] = _HEADER.pack(MAGIC, BATCH, 0, sum(map(len, parts)))
        self.sent = max(self.sent, first + len(pickles) - 1)
        return b"".join(parts)

    def one(self, number, data):
        """Return a BATCH of one record, as `batch` would."""
        self.sent = max(self.sent, number)
        size = len(data)
        return pack_one_record(ONE_RECORD_START, size + ONE_RECORD_EXTRA, number, 1, size) + data

    def gap(self, first, count, oldest, newest, reason):
        """Return a GAP: these numbers were dropped, of records created (s) between oldest and newest."""
        reason = reason.encode("utf-8", "replace")[:255].decode("utf-8", "ignore").encode("utf-8")
        self.sent = max(self.sent, first + count - 1)
        return _message(_GAP, _GAP_BODY.pack(first, count, oldest, newest, len(reason)) + reason)

    def bye(self):
        """Return a BYE; send nothing after it."""
        self.state = "leaving"
        return _message(_BYE, b"")

    def feed(self, data):
        """Take received bytes; return the events they complete. Raises ProtocolError, which ends the session."""
        events = []
        if self.state == "closed":
            return events
        buffer = self._buffer + data if self._buffer else data
        position, size = 0, len(buffer)
        try:
            while size - position >= 8 and self.state != "closed":
                magic, kind, _, length = _HEADER.unpack_from(buffer, position)
                if magic != MAGIC:
                    raise ProtocolError("no message of a session")
                if length > _LARGEST.get(kind, -1):
                    raise ProtocolError("message %#04x of %d bytes" % (kind, length))
                end = position + 8 + length
                if end > size:
                    break
                self._take(kind, buffer[position + 8 : end], events)
                self.heard = True
                position = end
        except ProtocolError:
            self.state = "closed"
            raise
        except (struct.error, UnicodeDecodeError):
            self.state = "closed"
            raise ProtocolError("a message that is no whole one")
        self._buffer = buffer[position:]
        return events

    def _take(self, kind, body, events):
        if kind == _ACK:
            (number,) = _NUMBER.unpack(body)
            if self.state not in ("ready", "leaving") or number > max(self.sent, self._first - 1):
                raise ProtocolError("ACK of %d, and %d was sent" % (number, self.sent))
            if number > self._acknowledged:
                self._acknowledged = number
                self._idle_messages = 0
            else:
                self._count_idle_message("ACKs that acknowledge nothing")
            events.append(("ack", number))
        elif kind == _REJECTED and self.state in ("ready", "leaving"):
            number, count = _REJECTED_BODY.unpack(body)
            if not count or number > max(self.sent, self._first - 1):
                raise ProtocolError("REJECTED of %d, and %d was sent" % (number, self.sent))
            self._count_idle_message("REJECTEDs")
            events.append(("rejected", number, count))
        elif kind == _WELCOME and self.state in ("greeting", "proving"):
            self._welcome(body, events)
        elif kind == _WAIT and self.state in ("greeting", "proving"):
            self._count_idle_message("WAITs")
            events.append(("wait",))
        elif kind == _CHALLENGE and self.state == "greeting":
            if len(body) != _NONCE_BYTES:
                raise ProtocolError("a nonce of %d bytes" % len(body))
            events.append(("send", self._answer(body)))
        elif kind == _ERROR:
            code, length = _ERROR_BODY.unpack_from(body)
            if length != len(body) - _ERROR_BODY.size:
                raise ProtocolError("an ERROR with a text of another length")
            self.state = "closed"
            events.append(("error", code, body[_ERROR_BODY.size :].decode("utf-8", "replace")))
        else:
            raise ProtocolError("message %#04x while %s" % (kind, self.state))

    def _count_idle_message(self, name):
        """Raise ProtocolError when too many messages that change nothing have come in a row."""
        self._idle_messages += 1
        if self._idle_messages > _MOST_IDLE_MESSAGES:
            raise ProtocolError("more than %d %s" % (_MOST_IDLE_MESSAGES, name))

    def _welcome(self, body, events):
        version, _, max_record_bytes, max_batch_bytes, committed, length = _WELCOME_BODY.unpack_from(body)
        proof = body[_WELCOME_BODY.size :]
        if version != _VERSION or len(proof) != length or max_batch_bytes <= ONE_RECORD_EXTRA:
            raise ProtocolError("a WELCOME that cannot be")
        if self.state == "proving":
            expected = _mac(
                self.key, b"prefork-logd server 1", self._client_nonce, self._server_nonce, self.session
            )
            if not _same(proof, expected):
                raise ProtocolError("the collector does not know the key")
        self.max_record_bytes = max_record_bytes
        self.max_batch_bytes = max_batch_bytes
        self.sent = self._acknowledged = committed
        self._idle_messages = 0
        self.state = "ready"
        events.append(("welcome", committed))

    def _answer(self, nonce):
        if not self.key:
            return self.bye()
        self.state = "proving"
        self._server_nonce = nonce
        self._client_nonce = self._random(_NONCE_BYTES)
        mac = _mac(self.key, b"prefork-logd client 1", nonce, self._client_nonce, self.session, self.key_id)
        key_id = struct.pack(">B", len(self.key_id)) + self.key_id
        return _message(_AUTH, key_id + self._client_nonce + mac)


def _same(one, other):
    """Compare two byte strings in a time that depends on their lengths alone (compare_digest came with 2.7.7)."""
    if len(one) != len(other):
        return False
    difference = 0
    for a, b in zip(bytearray(one), bytearray(other)):
        difference |= a ^ b
    return difference == 0
