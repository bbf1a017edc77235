"""A logging handler that loses nothing and doubles nothing: SocketHandler for Python 2.7 and 3.6 or newer.

    handler = prefork_logd.handlers.SocketHandler("logs.example.com", 9020)

It takes the place of `logging.handlers.SocketHandler`, numbers its records, keeps them until the collector says that
they are committed, and sends the rest again after a reconnect. docs/handler.md describes it, docs/protocol.md what it
says on the wire.

One file on purpose, without any import of ours, so that it can be copied into a service: it therefore holds what would
be four modules, in this order, of which each knows only those before it.

- `ClientProtocol`: the client's half of a session. Bytes in, events out; no sockets, files, clocks or pickles.
- `make_pickle`: a LogRecord as the pickle of a dict that any collector can read, whatever hangs on it.
- `Spool`: the local file of one session, and adopting those of dead processes. No sockets.
- `SocketHandler`: the queue, the connection, the thread that helps, fork, overflow.

Nothing here raises into the application, but for wrong arguments to the constructor.
"""
from __future__ import absolute_import, division

import collections
import errno
import hashlib
import hmac
import logging
import logging.handlers
import os
import re
import select
import socket
import stat
import struct
import sys
import threading
import time
import traceback
import weakref
import zlib

try:
    import fcntl
except ImportError:  # Windows: no spool, and descriptors are not inherited there
    fcntl = None
try:
    import cPickle as pickle
    from thread import get_ident
except ImportError:
    import pickle
    from threading import get_ident

__all__ = ["ClientProtocol", "ProtocolError", "SocketHandler", "Spool", "make_pickle"]

_PY2 = sys.version_info[0] == 2
_TEXT = type(u"")
_AT_FORK = hasattr(os, "register_at_fork")
_getpid = os.getpid

# --------------------------------------------------------------------------------------------------------------------
# The client's half of a session
# --------------------------------------------------------------------------------------------------------------------

_HELLO, _AUTH, _BATCH, _GAP, _BYE = 1, 2, 3, 4, 5
_WELCOME, _CHALLENGE, _ACK, _ERROR, _WAIT = 0x81, 0x82, 0x83, 0x84, 0x85
_MAGIC = 0xF750
_VERSION = 1
_CAPABILITIES = 1  # takes WAIT
_HEADER = struct.Struct(">HBBI")
_HELLO_BODY = struct.Struct(">BBI16sQH")
_BATCH_BODY = struct.Struct(">QI")
_LENGTH = struct.Struct(">I")
_ONE_RECORD = struct.Struct(">HBBIQII")  # header, BATCH of one record up to that record's bytes
_ONE_RECORD_EXTRA = 16
_pack_one = _ONE_RECORD.pack
_GAP_BODY = struct.Struct(">QQddB")
_WELCOME_BODY = struct.Struct(">BIIIQB")
_NUMBER = struct.Struct(">Q")
_ERROR_BODY = struct.Struct(">HH")
_LARGEST = {_WELCOME: _WELCOME_BODY.size + 32, _CHALLENGE: 32, _ACK: 8, _ERROR: 1024, _WAIT: 0}
_NONCE_BYTES = 32

NO_COMMON_VERSION, REFUSED, OUT_OF_ORDER, MALFORMED, GOING_AWAY, NO_KEY, BUSY = 1, 2, 3, 4, 5, 6, 7
_MOST_IDLE_MESSAGES = 1000
"""How many WAITs and ACKs that acknowledge nothing new are taken in a row; a collector sends few of them."""


class ProtocolError(ValueError):
    """The collector broke the rules of the protocol; the connection is over."""


def _message(kind, body):
    return _HEADER.pack(_MAGIC, kind, 0, len(body)) + body


def _mac(key, *fields):
    joined = b"".join(_LENGTH.pack(len(field)) + field for field in fields)
    return hmac.new(key, joined, hashlib.sha256).digest()


class ClientProtocol(object):
    """One connection of a session, without its socket.

    `hello`, `batch`, `gap` and `bye` return the bytes to send; `feed` takes what was received and returns events:

    - `("send", data)`: these bytes are to be sent now;
    - `("wait",)`: the collector knows the session, and its welcome follows in a while;
    - `("welcome", committed)`: the session is open, and the collector has everything up to this number;
    - `("ack", number)`: the same, later on;
    - `("error", code, text)`: the collector ends the session; text is unicode.
    """

    def __init__(self, session, key_id=b"", key=b"", client=u"", random=os.urandom):
        """Take 16 bytes, the session's id; without a key a collector that demands one is told so."""
        self.session = session
        self.key_id = key_id
        self.key = key
        self.client = client.encode("utf-8", "replace")[:255].decode("utf-8", "ignore").encode("utf-8")
        self.state = "new"
        """new, greeting, proving (after AUTH), leaving (after BYE, or without a key), ready, closed"""
        self.max_record_bytes = 0
        self.max_batch_bytes = 0
        self.sent = 0
        """The highest number sent; kept here by `batch`, `one` and `gap`."""
        self.heard = False
        """Whether a whole message has come: something that speaks this protocol is there."""
        self._random = random
        self._first = 0
        self._acknowledged = 0
        self._idle_messages = 0
        self._client_nonce = self._server_nonce = b""
        self._buffer = b""

    def hello(self, first):
        """Return a HELLO; `first` is the lowest number held, or the next one if none is."""
        self.state = "greeting"
        self._first = first
        body = _HELLO_BODY.pack(_VERSION, _VERSION, _CAPABILITIES, self.session, first, len(self.client)) + self.client
        return _message(_HELLO, body)

    def batch(self, first, pickles):
        """Return a BATCH of these records, numbered from `first` on."""
        parts = [b"", _BATCH_BODY.pack(first, len(pickles))]
        for data in pickles:
            parts.append(_LENGTH.pack(len(data)))
            parts.append(data)
        parts[0] = _HEADER.pack(_MAGIC, _BATCH, 0, sum(map(len, parts)))
        self.sent = max(self.sent, first + len(pickles) - 1)
        return b"".join(parts)

    def one(self, number, data):
        """Return a BATCH of one record, as `batch` would."""
        self.sent = max(self.sent, number)
        size = len(data)
        return _ONE_RECORD.pack(_MAGIC, _BATCH, 0, size + _ONE_RECORD_EXTRA, number, 1, size) + data

    def gap(self, first, count, oldest, newest, reason):
        """Return a GAP: these numbers were dropped, of records created (s) between oldest and newest."""
        reason = reason.encode("utf-8", "replace")[:255].decode("utf-8", "ignore").encode("utf-8")
        self.sent = max(self.sent, first + count - 1)
        return _message(_GAP, _GAP_BODY.pack(first, count, oldest, newest, len(reason)) + reason)

    def bye(self):
        """Return a BYE; nothing is to be sent after it."""
        self.state = "leaving"
        return _message(_BYE, b"")

    def feed(self, data):
        """Take received bytes; return the events they complete. Raises ProtocolError, after which nothing counts."""
        events = []
        if self.state == "closed":
            return events
        buffer = self._buffer + data if self._buffer else data
        position, size = 0, len(buffer)
        try:
            while size - position >= 8 and self.state != "closed":
                magic, kind, _, length = _HEADER.unpack_from(buffer, position)
                if magic != _MAGIC:
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
        if version != _VERSION or len(proof) != length or max_batch_bytes <= _ONE_RECORD_EXTRA:
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


# --------------------------------------------------------------------------------------------------------------------
# A record as a pickle
# --------------------------------------------------------------------------------------------------------------------

_PROTOCOL = 2 if _PY2 else 4
"""The shortest and quickest that every version of the same major number reads."""
_dumps = pickle.dumps
_LogRecord = logging.LogRecord
_DEFAULT_FORMATTER = logging.Formatter()


def make_pickle(record, formatter=None, max_bytes=1 << 20):
    """Return the pickle of a LogRecord's attributes: message formatted, traceback as exc_text. Raises nothing.

    A value that cannot be pickled goes as its text, and texts are cut where the whole would exceed max_bytes.
    """
    attributes = record.__dict__.copy()
    try:
        message = attributes["msg"]
        if message.__class__ is str and record.__class__ is _LogRecord:
            # As getMessage does, without calling it.
            if attributes["args"]:
                attributes["msg"] = message % attributes["args"]
        else:
            attributes["msg"] = record.getMessage()
    except Exception:  # noqa: BLE001 - __str__ of an argument may do anything
        attributes["msg"] = _unformatted(record)
    attributes["args"] = None
    if attributes["exc_info"]:
        if not attributes["exc_text"]:
            attributes["exc_text"] = _traceback(attributes["exc_info"], formatter)
        attributes["exc_info"] = None
    if "message" in attributes:
        del attributes["message"]
    try:
        data = _dumps(attributes, _PROTOCOL)
    except Exception:  # noqa: BLE001 - as may __reduce__
        for name in list(attributes):
            attributes[name] = _picklable(attributes[name])
        data = _dumps(attributes, _PROTOCOL)
    if len(data) > max_bytes:
        return _cut(attributes, max_bytes)
    return data


def _text(value):
    """Return what a value says of itself. Raises nothing."""
    for make in (_TEXT, repr):
        try:
            text = make(value)
        except Exception:  # noqa: BLE001
            continue
        return text if text.__class__ is _TEXT else text.decode("utf-8", "replace")
    return u"<%s>" % type(value).__name__


def _unformatted(record):
    """Return the text of a message that does not fit its arguments."""
    args = record.args
    shown = u", ".join(_text(arg) for arg in args) if isinstance(args, tuple) else _text(args)
    return u"%s (not formatted: its arguments do not fit: %s)" % (_text(record.msg), shown)


def _traceback(exc_info, formatter):
    """Return a traceback as text, with the chain of exceptions where there is one. Raises nothing."""
    try:
        if not isinstance(exc_info, tuple):
            exc_info = (type(exc_info), exc_info, getattr(exc_info, "__traceback__", None))
        return (formatter or _DEFAULT_FORMATTER).formatException(exc_info)
    except Exception:  # noqa: BLE001 - __str__ of an exception may do anything
        try:
            return u"%s%s" % (u"".join(traceback.format_tb(exc_info[2])), exc_info[0].__name__)
        except Exception:  # noqa: BLE001
            return _text(exc_info)


def _picklable(value):
    """Return the value, or its text if it cannot be pickled."""
    try:
        _dumps(value, _PROTOCOL)
    except Exception:  # noqa: BLE001
        return _text(value)
    return value


def _cut(attributes, max_bytes):
    """Return a pickle of at most max_bytes, with values cut where that is needed. Raises nothing."""
    for share in (max_bytes // 8, max_bytes // 64, max_bytes // 1024):
        for name, value in list(attributes.items()):
            if len(_dumps(value, _PROTOCOL)) > share:
                text = _text(value)
                # A character is at most 4 bytes, and some are 6 in a pickle of Python 2.
                attributes[name] = u"%s... (cut by the handler, of %d characters)" % (text[: share // 6], len(text))
        data = _dumps(attributes, _PROTOCOL)
        if len(data) <= max_bytes:
            return data
    kept = dict((name, attributes.get(name)) for name in ("name", "levelno", "levelname", "created", "process"))
    kept["msg"] = u"(a record of more than %d bytes, too many values to keep)" % max_bytes
    return _dumps(kept, _PROTOCOL)


# --------------------------------------------------------------------------------------------------------------------
# The spool
# --------------------------------------------------------------------------------------------------------------------

_SPOOL_MAGIC = b"\xf7PSPOOL2"
_UNSALTED_MAGIC = b"\xf7PSPOOL1"  # an earlier form: its checksums do not begin with the session
_ENTRY = struct.Struct(">IIQd")  # length of the pickle, CRC-32 of what follows, number, created
_SEGMENT_BYTES = 8 << 20
_READ_BYTES = 1 << 18
_MOST_ENTRY_BYTES = 1 << 28
_RESYNC_BYTES = 64 << 20
"""How much of a file is searched for the next whole entry after damage."""
_RESYNC_WORK = 32
"""How many times its size may be checksummed in that search."""
_HEADER_LIKE = re.compile(b"(?=[\\x00-\\x0f].{7}\\x00\\x00(?!\\x00{6}).{6}[\\x00-\\x7f])", re.DOTALL)
"""Where an entry may begin: a length below 256 MiB, a number that is not 0 and below 2^48, a positive time."""
_DAMAGED_FILES, _DAMAGED_BYTES = 16, 64 << 20
"""Damaged segments that are kept, the newest ones, and their bytes."""
_O_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_O_CAREFULLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | _O_CLOEXEC
_SPOOL_RETRY_S = 0.25
_RESPOOL_BYTES = 1 << 20
"""How much one call writes to a spool again that could not be written for a while."""
_locks = logging.__dict__.setdefault("_prefork_logd_locks", {})
"""Lock files of this process: (pid, device, inode) to (purpose, token). A lock of fcntl belongs to the process: closing
any descriptor of the file gives it up, so no file in here is opened again. Kept where copies of this module find it."""
_OWN, _ADOPTING = "own", "adopting"


class Spool(object):
    """What one session has emitted and the collector has not acknowledged, in files of one directory.

    `<session>.lock` is locked by the process that it belongs to, and `<session>.<first number>.spool` are its segments:
    a magic, then entries with a checksum each, salted with the session: no text of a record passes for an entry.
    Another process that has the lock may send them (`adopt`): they hold the session and the numbers, so no record is
    stored twice. The lock is fcntl's, which children do not inherit: a child that outlives its parent does not keep it.

    Written to the page cache only: it survives the process, not the host. Not safe for threads.
    """

    def __init__(self, directory, session, max_bytes):
        self.directory = os.path.abspath(directory)
        self.session = session
        self.max_bytes = max_bytes
        self.bytes = 0
        self.failure = None
        """Why the last `append` or `read` failed, an EnvironmentError; None if it did not, or for max_bytes."""
        self.lost = False
        """Whether files were found to be removed; the caller sets it back, and appends its records above `last`."""
        self._salt = _crc(session)
        self._segments = []  # [first number, last number, path, size, damaged]
        self._lock = -1
        self._lock_key = None
        self._file = -1
        self._inode = 0

    @property
    def last(self):
        """The highest number in the files; 0 if there is none."""
        return self._segments[-1][1] if self._segments else 0

    def append(self, number, created, data):
        """Write one record; return its place, for `read`, or None if that was not possible. Raises nothing."""
        size = _ENTRY.size + len(data)
        self.failure = None
        if self.bytes + size > self.max_bytes:
            return None
        written = -1
        try:
            if self._lock < 0:
                self._open()
            if self._file >= 0:
                status = os.fstat(self._file)
                if status.st_ino != self._inode or not status.st_nlink:
                    self._note_lost()
                    return None
            if self._file < 0 or self._segments[-1][3] >= _SEGMENT_BYTES:
                self._begin_segment(number)
            segment = self._segments[-1]
            tail = struct.pack(">Qd", number, created) + data
            written = os.write(self._file, _ENTRY.pack(len(data), _crc(tail, self._salt), number, created) + data)
            if written != size:
                self.failure = EnvironmentError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except EnvironmentError as error:
            self.failure = error
            if error.errno == errno.EBADF:  # closed by somebody else, with everything that was open
                self._note_lost()
        if written != size:
            self._untear()
            return None
        place = (segment[2], segment[3])
        segment[1] = number
        segment[3] += size
        self.bytes += size
        return place

    def look(self):
        """See whether the files are still there: make the lock anew, or set `lost`. Raises nothing."""
        if self._lock < 0 or not self._segments or self._file < 0:
            return
        try:
            if not _is_named(self._file, self._segments[-1][2]):
                self._note_lost()
            elif not _is_named(self._lock, self._path("lock")):
                self._unlock()
                self._open()
        except EnvironmentError as error:
            self.failure = error
            self._note_lost()

    def read(self, number, place, max_bytes=_READ_BYTES):
        """Return `([(number, created, pickle), ...], next place)`: those from `number` on, beginning at a place.

        No entries at the end. What cannot be read is passed over; then `failure` is set, or a segment is damaged, and
        numbers are missing. Raises nothing.
        """
        self.failure = None
        for segment in self._segments:
            path, offset = segment[2], 0
            if segment[1] < number:
                continue
            if place is not None and place[0] == path:
                offset = place[1]
            try:
                while True:
                    entries, offset, damaged = read_segment(path, offset, max_bytes)
                    if damaged:
                        segment[4] = True
                        self.failure = EnvironmentError(errno.EIO, "damaged", path)
                    if not entries:
                        break
                    wanted = [entry for entry in entries if entry[0] >= number]
                    if wanted:
                        return wanted, (path, offset)
            except EnvironmentError as error:
                self.failure = error
        return [], place

    def forget(self, number):
        """Remove segments that hold nothing above this number, but for the one being written. Raises nothing."""
        while len(self._segments) > 1 and self._segments[0][1] <= number:
            segment = self._segments.pop(0)
            self.bytes -= segment[3]
            _discard(segment[2], segment[4])

    def remove(self):
        """Remove everything: all is acknowledged. The next `append` begins anew. Raises nothing."""
        for segment in self._segments:
            _discard(segment[2], segment[4])
        if self._lock >= 0:
            _unlink(self._path("lock"))
        self.close()

    def close(self):
        """Close the files and leave them, for a sibling or the next start. Raises nothing."""
        self._close_file()
        self._unlock()
        self._segments = []
        self.bytes = 0

    def _path(self, ending):
        return os.path.join(self.directory, "%s.%s" % (_hex(self.session), ending))

    def _open(self):
        """Create the lock file and take it. Raises EnvironmentError."""
        if not os.path.isdir(self.directory):
            try:
                os.makedirs(self.directory, 0o700)
            except EnvironmentError:
                if not os.path.isdir(self.directory):  # another process was quicker
                    raise
        path = self._path("lock")
        # Locked under another name: an adopter finds it only when it is ours.
        descriptor = _create(path + ".new", os.O_TRUNC)
        key = _lock_key(os.fstat(descriptor))
        _locks[key] = (_OWN, self)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(path + ".new", path)
        except EnvironmentError:
            _locks.pop(key, None)
            os.close(descriptor)
            raise
        self._lock, self._lock_key = descriptor, key

    def _unlock(self):
        descriptor, self._lock = self._lock, -1
        if descriptor < 0:
            return
        try:
            if os.fstat(descriptor).st_ino == self._lock_key[2]:
                os.close(descriptor)
        except EnvironmentError:
            pass
        _locks.pop(self._lock_key, None)

    def _begin_segment(self, number):
        path = self._path("%020d.spool" % number)
        descriptor = _create(path, os.O_EXCL)
        try:
            if os.write(descriptor, _SPOOL_MAGIC) != len(_SPOOL_MAGIC):
                raise EnvironmentError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except EnvironmentError:
            _close_descriptor(descriptor)
            _unlink(path)
            raise
        self._close_file()
        self._file = descriptor
        self._inode = os.fstat(descriptor).st_ino
        self._segments.append([number, number - 1, path, len(_SPOOL_MAGIC), False])
        self.bytes += len(_SPOOL_MAGIC)

    def _untear(self):
        """Cut off what was written of an entry, or else write to another segment from here on."""
        if self._file < 0:
            return
        try:
            os.ftruncate(self._file, self._segments[-1][3])
        except (EnvironmentError, IndexError):
            self._close_file()

    def _note_lost(self):
        """Keep the segments that are still there, and begin another one with the next record."""
        self.lost = True
        self._close_file()
        self._segments = [segment for segment in self._segments if os.path.exists(segment[2])]
        self.bytes = sum(segment[3] for segment in self._segments)
        self._unlock()

    def _close_file(self):
        descriptor, self._file = self._file, -1
        try:
            # Under a number that was closed and given out anew there is a file that is not ours.
            if descriptor >= 0 and os.fstat(descriptor).st_ino == self._inode:
                os.close(descriptor)
        except EnvironmentError:
            pass


def adopt(directory, complain=None):
    """Yield each dead process's session: `(session, [path, ...], done)`, locked until the next one is asked for.

    `done(damaged)` removes its files, and keeps those of `damaged` beside them as `*.damaged`. `complain(text)` is
    called for spools that cannot be taken. Raises EnvironmentError when the directory cannot be read.
    """
    directory = os.path.abspath(directory)
    names = [name.partition(".") for name in os.listdir(directory) if name.endswith((".lock", ".spool"))]
    for digits in sorted({digits for digits, _, _ in names if len(digits) == 32}):
        path = os.path.join(directory, digits + ".lock")
        try:
            session = _unhex(digits)
            lock = _take_lock(path)
        except ValueError:
            continue
        except EnvironmentError as error:
            if complain is not None:
                complain(u"the spool %s of an ended process cannot be sent: %s" % (_text(path), _text(error)))
            continue
        if lock is None:
            continue
        try:
            paths = sorted(
                os.path.join(directory, other)
                for other in os.listdir(directory)
                if other.startswith(digits + ".") and other.endswith(".spool")
            )

            def done(damaged=(), paths=paths, path=path):
                for other in paths:
                    _discard(other, other in damaged)
                _unlink(path)

            yield session, paths, done
        finally:
            _close_descriptor(lock[0])
            _locks.pop(lock[1], None)


def _take_lock(path):
    """Lock an ended session's file; return (descriptor, key), or None if it is in use. Raises EnvironmentError.

    A file that is missing while its segments are there is made.
    """
    try:
        named = os.stat(path)
    except EnvironmentError:
        try:
            _close_descriptor(_create(path, os.O_EXCL))
            named = os.stat(path)
        except EnvironmentError as error:
            if error.errno in (errno.EEXIST, errno.ENOENT):
                return None
            raise
    key, token = _lock_key(named), object()
    if _locks.setdefault(key, (_ADOPTING, token))[1] is not token:
        return None
    descriptor, taken = -1, False
    try:
        descriptor = os.open(path, os.O_RDWR | _O_CAREFULLY)
        _close_on_exec(descriptor)
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = _is_named(descriptor, path) and _lock_key(os.fstat(descriptor)) == key
    except EnvironmentError as error:
        # Its owner has just removed it; or another process has it.
        if error.errno != errno.ENOENT and (descriptor < 0 or error.errno not in (errno.EAGAIN, errno.EACCES)):
            raise
    finally:
        if not taken:
            if descriptor >= 0:
                _close_descriptor(descriptor)
            _locks.pop(key, None)
    return (descriptor, key) if taken else None


def _lock_key(status):
    return (_getpid(), status.st_dev, status.st_ino)


def _is_named(descriptor, path):
    """Return whether a path names this open file."""
    ours = os.fstat(descriptor)
    try:
        named = os.stat(path)
    except EnvironmentError:
        return False
    return (ours.st_ino, ours.st_dev) == (named.st_ino, named.st_dev)


def read_segment(path, offset=0, max_bytes=_READ_BYTES):
    """Return `(entries, next offset, damaged)`: in how many places something was passed over that is not whole.

    At least one entry is returned where there is one. Raises EnvironmentError.
    """
    entries, damaged, taken = [], 0, 0
    with _open_segment(path) as source:
        magic = source.read(len(_SPOOL_MAGIC))
        if offset == 0:
            offset = len(_SPOOL_MAGIC)
            damaged += magic not in (_SPOOL_MAGIC, _UNSALTED_MAGIC)
        salt = 0 if magic == _UNSALTED_MAGIC else _crc(_unhex(os.path.basename(path)[:32]))
        while taken < max_bytes:
            source.seek(offset)
            head = source.read(_ENTRY.size)
            if not head:
                break
            entry = _read_entry(head, source, salt)
            if entry is None:
                damaged += 1
                offset = _resynchronise(source, offset + 1, salt)
                if offset is None:
                    source.seek(0, 2)
                    offset = source.tell()
                    break
                continue
            entries.append(entry)
            taken += _ENTRY.size + len(entry[2])
            offset += _ENTRY.size + len(entry[2])
    return entries, offset, damaged


def _open_segment(path):
    """Open a regular file for reading. Raises EnvironmentError."""
    descriptor = os.open(path, os.O_RDONLY | _O_CAREFULLY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise EnvironmentError(errno.EINVAL, "not a regular file", path)
    return os.fdopen(descriptor, "rb")


def _read_entry(head, source, salt):
    """Return (number, created, pickle) of the entry that begins with `head`; None if it is not whole."""
    if len(head) < _ENTRY.size:
        return None
    length, crc, number, created = _ENTRY.unpack(head)
    if length > _MOST_ENTRY_BYTES or not number:
        return None
    data = source.read(length)
    if len(data) < length or _crc(head[8:] + data, salt) != crc:
        return None
    return number, created, data


def _resynchronise(source, offset, salt):
    """Return where the next whole entry begins, None if there is none within reach."""
    source.seek(offset)
    data = source.read(_RESYNC_BYTES)
    work = _RESYNC_WORK * len(data)
    for place in _places_like_headers(data):
        length, crc, _, _ = _ENTRY.unpack_from(data, place)
        end = place + _ENTRY.size + length
        if end > len(data):
            continue
        work -= length + _ENTRY.size
        if work < 0:
            break
        if _crc(data[place + 8 : end], salt) == crc:
            return offset + place
    return None


def _places_like_headers(data):
    """Yield where an entry may begin. In pieces: other threads run between two calls of a regular expression only."""
    step = 1 << 16
    for start in range(0, len(data) - _ENTRY.size + 1, step):
        for match in _HEADER_LIKE.finditer(data, start, start + step + _ENTRY.size):
            if match.start() + _ENTRY.size <= len(data):
                yield match.start()


def _crc(data, salt=0):
    return zlib.crc32(data, salt) & 0xFFFFFFFF


def _hex(data):
    return "".join("%02x" % octet for octet in bytearray(data))


def _unhex(digits):
    return bytes(bytearray(int(digits[i : i + 2], 16) for i in range(0, len(digits), 2)))


def _create(path, flags):
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | flags | _O_CAREFULLY, 0o600)
    _close_on_exec(descriptor)
    return descriptor


def _close_on_exec(descriptor):
    if _PY2 and fcntl is not None:
        fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.fcntl(descriptor, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)


def _close_descriptor(descriptor):
    try:
        os.close(descriptor)
    except EnvironmentError:
        pass


def _unlink(path):
    try:
        os.unlink(path)
    except EnvironmentError:
        pass


def _discard(path, damaged):
    """Remove a segment; keep it beside itself if it is damaged, as one of the newest. Raises nothing."""
    if not damaged:
        _unlink(path)
        return
    directory = os.path.dirname(path)
    try:
        os.rename(path, path + ".damaged")
        kept = []
        for name in os.listdir(directory):
            if name.endswith(".spool.damaged"):
                status = os.stat(os.path.join(directory, name))
                kept.append((status.st_mtime, status.st_size, os.path.join(directory, name)))
    except EnvironmentError:
        return
    total = 0
    for place, (_, size, other) in enumerate(sorted(kept, reverse=True)):
        total += size
        if place >= _DAMAGED_FILES or (total > _DAMAGED_BYTES and place):
            _unlink(other)


# --------------------------------------------------------------------------------------------------------------------
# Sockets and clocks, as small as they can be
# --------------------------------------------------------------------------------------------------------------------

_IN_PROGRESS = (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", -1))
_WOULD_BLOCK = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
_TCP = socket.IPPROTO_TCP
_READABLE = getattr(select, "POLLIN", 1)
_PERHAPS = [(-1, _READABLE)]  # in Python 2 a signal interrupts even a poll that does not wait
_PEER_CLOSED = getattr(select, "POLLRDHUP", 0x2000) if sys.platform.startswith("linux") else 0
_RECV_BYTES = 1 << 14
_MOST_READS = 4
"""How often one call receives: a peer that never stops sending must not hold `emit`. The next call reads on."""
_TRY_EVERY = 64
"""A full socket is tried again by `emit` with each record whose number is a multiple of this."""
_INBOX_READS = 16
"""After how many reads `emit` understands what it has received, unless the helper is quicker."""


def _now():
    """Return seconds of a clock that is never set."""
    return time.monotonic()


if _PY2:

    def _now():
        return os.times()[4]


def _would_block(error):
    return error.errno in _WOULD_BLOCK or type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError")


def _poll_of(sock):
    """Return a function that tells what has happened to a socket, or None where there is no poll().

    Of poll(0) as of TCP_INFO: it sees the peer's end, a reset, and what can be read, at two thirds of the cost or less.
    """
    monkey = sys.modules.get("gevent.monkey")
    try:
        # gevent's own would let other greenlets run, in the middle of `emit`.
        poll = monkey.get_original("select", "poll")() if monkey is not None else select.poll()
    except Exception:  # noqa: BLE001 - eventlet takes it away, and some systems have none
        return None
    poll.register(sock, _READABLE | _PEER_CLOSED)
    return poll.poll


def _wait(sock, writable, timeout):
    """Wait until the socket can be read, or written if asked so, at most `timeout` seconds; return whether it can."""
    if sock is None:
        time.sleep(timeout)
        return False
    try:
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(sock, select.POLLIN | (select.POLLOUT if writable else 0))
            return bool(poll.poll(timeout * 1000))
        return any(select.select([sock], [sock] if writable else [], [], timeout))
    except (EnvironmentError, ValueError, select.error):  # interrupted, or closed by another thread meanwhile
        return True


def _literal_addresses(host, port):
    """Return [(family, address)] for what needs no name service, else None."""
    if host.lower() in ("localhost", "localhost."):  # RFC 6761, 6.3
        return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (EnvironmentError, ValueError, AttributeError):
            continue
        return [(family, (host, port))]
    return None


def _resolve(host, port):
    """Return [(family, address)], which may take as long as the name service likes. Raises EnvironmentError."""
    try:
        name = host.encode("ascii")
    except UnicodeError:
        name = host.encode("idna")
    found = socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def _set_options(sock, family):
    """Notice a peer that vanished without a word."""
    if family == getattr(socket, "AF_UNIX", None):
        return
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            options.append((_TCP, getattr(socket, name), value))
    if sys.platform.startswith("linux"):
        options.append((_TCP, 18, 60000))  # TCP_USER_TIMEOUT, ms; Python 2.7 does not name it
    for level, option, value in options:
        try:
            sock.setsockopt(level, option, value)
        except EnvironmentError:
            pass


def _keep_nothing_back(sock):
    """Have the kernel send each record at once, where that is needed for it to arrive if this process is killed.

    A process that dies with an acknowledgement unread resets its connection, and the kernel then forgets what it has
    not sent. Nagle's algorithm keeps small segments back until the one before has arrived. On one host that is so as
    soon as it is sent, and whatever the collector answers says so as well: nothing is kept back then when an answer
    comes, and nothing is sent before the answer is read. There it puts nothing at risk, and halves the kernel's work.
    """
    try:
        if sock.getsockname()[0] != sock.getpeername()[0]:
            sock.setsockopt(_TCP, socket.TCP_NODELAY, 1)
    except (EnvironmentError, IndexError):
        pass


def _reset(sock):
    """Close with a reset instead of an end of file.

    The Logging Cookbook's receiver takes a HELLO for a length of 4 GiB, and on an end of file it would loop for ever.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except (EnvironmentError, struct.error):
        pass
    _close(sock)


def _close(sock):
    try:
        sock.close()
    except EnvironmentError:
        pass


# --------------------------------------------------------------------------------------------------------------------
# The handler
# --------------------------------------------------------------------------------------------------------------------

_IDLE, _CONNECTING, _GREETING, _READY, _PLAIN = range(5)
_OVERHEAD = 160
"""Bytes of memory that a held record takes beside its pickle."""
_MESSAGE_BYTES = 1 << 16
_TICK_S = 0.05
_STEADY_TICK_S = 0.1 if _PY2 else 0.25
_STEADY_RECORDS = 5
"""While `emit` has sent this many since the last tick, it looks after the connection itself, and ticks are longer."""
_BUSY_TICK_S = 0.005
_LINGER_TICKS = 20
_WAIT_BURST_S = 0.02
_WAIT_LEAST_S = 0.005
_WAIT_SHARE = 0.01
"""emit waits for a connection at most _WAIT_BURST_S at once, and _WAIT_SHARE of the time from there on, in pieces of
_WAIT_LEAST_S or more: together 30 ms in any second, which leaves as much for what it does."""
_REFUSED_PAUSE_S = 5.0
_UNKNOWN_PAUSE_S = 15.0
"""Before the next try after an ERROR with a code of a later version."""
_BUSY_PAUSE_S = 1.0
"""Before the next try with a full collector; 0.5 to 1.5 times that, so that services do not come all at once."""
_FRUITLESS_PAUSE_S = 1.0
_MOST_FRUITLESS = 20
"""After this many connections in a row without an acknowledgement the pause is _FRUITLESS_PAUSE_S."""
_AWAY_S = 10.0
"""After how long without a connection that is said, while records are held."""
_SAY_AGAIN_S = 60.0
_WRITE_BYTES = 1 << 20
"""Bytes that one call sends at most; the helper sends the rest."""
_WRITE_AGAIN_S = 0.001
_WELCOME_PATIENCE_S = 300.0
"""How long a collector that has said WAIT is waited for on one connection. A dead one is noticed much sooner: it closes
the connection, or keep-alive tells."""
_PLAIN_LEAST_S, _PLAIN_MOST_S = 5.0, 300.0
"""After how long a plain receiver is asked again whether it knows sessions: twice as long each time."""
_CLOSES_OF_PLAIN = 3
_ADOPT_EVERY_S = 30.0
_ADOPT_PAUSE_S = 1.0
_DELIVERY_PATIENCE_S = 10.0
_GAP_HELD_S = 1.0
_PATIENCE_S = 3.0
_MAX_DEFERRED = 10000
_POLICIES = ("block", "drop_old", "drop_new", "spool")
_live = weakref.WeakSet()


class _Gap(object):
    """Numbers that were dropped, as an item of the queue."""

    __slots__ = ("count", "newest", "oldest", "reason", "sent")

    def __init__(self, count, oldest, newest, reason, sent):
        self.count = count
        self.oldest = oldest
        self.newest = newest
        self.reason = reason
        self.sent = sent
        """Whether the records themselves had been sent: then they may turn out to be committed."""

    def __len__(self):
        return 0


class SocketHandler(logging.handlers.SocketHandler):
    """Sends records to a prefork-logd collector, each exactly once.

    `host` and `port` as in `logging.handlers.SocketHandler`; "unix:/path" (or a path) with port None is a Unix socket.

    - key_id, key (text or bytes, at least 16): the secret shared with a collector that demands one. With a key, plain
      frames are never spoken.
    - overflow: what happens when limit_bytes of records are held because the collector is away or slow. "block": emit
      waits for room, at most block_timeout seconds in each stall, then drops new ones; "drop_new"; "drop_old"; "spool":
      every record is also written to a file in spool_dir, until it is acknowledged, up to spool_limit_bytes.
      Whatever is dropped is counted (`counters`) and reported to the collector.
    - limit_bytes: memory for records that are not acknowledged.
    - max_record_bytes: texts of larger records are cut.
    - retry_pause, connect_timeout, hello_timeout (s): between two tries to connect; for one try; for the collector's
      first answer.
    - close_timeout (s): how long `flush` and `close`, and so the end of the interpreter, wait for acknowledgements; no
      longer than 3 s without any.
    - fallback: whether to speak plain SocketHandler frames, which are never acknowledged, to a receiver that does not
      answer as a collector does. A collector that hangs, or a proxy without one, looks the same, and loses them.
    - name: what the collector's log calls this client.
    """

    def __init__(
        self,
        host,
        port,
        key_id="",
        key="",
        overflow="block",
        limit_bytes=64 << 20,
        block_timeout=1.0,
        spool_dir=None,
        spool_limit_bytes=1 << 30,
        max_record_bytes=1 << 20,
        retry_pause=0.05,
        connect_timeout=3.0,
        hello_timeout=2.0,
        close_timeout=5.0,
        fallback=False,
        name=None,
    ):
        """Raise ValueError for arguments that cannot be. Connects to nothing."""
        if overflow not in _POLICIES:
            raise ValueError("overflow is %r, and one of %s is known" % (overflow, ", ".join(_POLICIES)))
        if overflow == "spool" and (not spool_dir or fcntl is None):
            raise ValueError("overflow='spool' needs spool_dir, and a system with file locks")
        key, key_id = _octets(key), _octets(key_id)
        if (key and not 1 <= len(key_id) <= 64) or (key_id and len(key) < 16):
            raise ValueError("a key needs 16 bytes or more, and a key_id of 1 to 64")
        if host.startswith("unix:"):
            host, port = host[len("unix:") :], None
        port = None if port is None else int(port)
        logging.handlers.SocketHandler.__init__(self, host, port)
        self.overflow = overflow
        self.limit_bytes = limit_bytes
        self.block_timeout = block_timeout
        self.spool_dir = None if spool_dir is None else os.path.abspath(spool_dir)
        self.spool_limit_bytes = spool_limit_bytes
        self.max_record_bytes = max_record_bytes
        self.retry_pause = retry_pause
        self.connect_timeout = connect_timeout
        self.hello_timeout = hello_timeout
        self.close_timeout = close_timeout
        self.fallback = fallback and not key
        self._key_id, self._key = key_id, key
        self._client_name = name
        self._own_pickle = _is_ours(self, "makePickle")
        self._own_socket = _is_ours(self, "makeSocket")
        self._literal = None if port is None else _literal_addresses(host, port)
        self._said = {}  # key to time
        self._known = False  # a collector of ours has answered: it may be slow, but it is not a plain receiver
        self._begin()
        _live.add(self)
        if overflow == "spool" and os.path.isdir(spool_dir):
            self._adopt_soon()

    def _begin(self):
        """Start from nothing: a new session, a new process, no thread."""
        self._pid = os.getpid()
        self._session = os.urandom(16)
        self._next = 1
        self._unsent = collections.deque()  # (number, pickle or _Gap, created), numbers without holes
        self._unacked = collections.deque()  # the same, before those of _unsent
        self._held = 0
        self._out = b""  # of what is being sent, the rest
        self._handed_over = 0  # plain frames: bytes of the first of _unacked that were sent
        self._state = _IDLE
        self.sock = None
        self._send_flags = 0
        self._direct = False  # a record can be sent by itself, in `emit`
        self._send = self._recv = self._poll = None
        self._inbox = []  # what `emit` has received and left to be understood
        self._protocol = None
        self._max_record = self.max_record_bytes
        self._retry_at = 0.0
        self._deadline = 0.0
        self._addresses = self._literal
        self._address = 0
        self._blocking_step = None
        self._step_done = threading.Event()
        self._made_socket = None
        self._forked_inside = False
        self._in_child = False
        self._plain = False
        self._plain_until = 0.0
        self._plain_for = 0.0
        self._silent_closes = 0
        self._fruitless = 0  # connections since the last acknowledgement
        self._trouble = u""  # why there is no session just now
        self._away_since = None
        self._more = False  # _write has stopped at _WRITE_BYTES
        self._saturated = False
        self._hurry = False
        self._gap_since = 0.0
        self._allowance = _WAIT_BURST_S
        self._allowance_at = _now()
        # Not the handler's own lock, which in Python 2 is written in Python, and may be interrupted half way.
        self._mutex = threading.Lock() if _PY2 else threading.RLock()
        self._inside = set()
        self._deferred = collections.deque()
        self._helper = self._helper_stop = None
        self._ticked_at = 1  # the next number, at the last tick
        self._adopter = self._adopter_stop = None
        self._adopt_at = 0.0
        self._adopt_again = False  # it was stopped before it was done
        self._sending = None  # the _Delivery that is at work
        self._flush_failed_at = None
        self._spool = None
        if self.overflow == "spool":
            self._spool = Spool(self.spool_dir, self._session, self.spool_limit_bytes)
        self._disk_from = None  # number of the first record that is in the spool only
        self._disk_place = None
        self._disk_dropped = None  # (oldest, newest) created of those that had no room there
        self._disk_lost = 0  # how many those are, as far as no gap covers them yet
        self._unspooled = None  # number of the first record that is in memory and could not be written to the spool
        self._spool_retry_at = 0.0
        self._counts = dict.fromkeys(
            ("acknowledged", "handed_over", "dropped", "connections", "adopted", "adopted_lost", "busy"), 0
        )

    # What the application calls

    def handle(self, record):
        """Emit a record, unless a filter says no. As logging.Handler's, and safe inside of itself.

        A signal handler, a __del__ or a __str__ that logs while this thread is in here has its record queued.
        """
        if self.filters:
            passed = self.filter(record)
            if not passed:
                return passed
            if isinstance(passed, logging.LogRecord):
                record = passed
        if self._pid != _getpid():  # also after a fork(2) by C code, of which Python runs no hooks
            self._forked()
        me = get_ident()
        inside = self._inside
        if me in inside:
            self._defer(record)
            return record
        # As _within does, without the calls.
        try:
            try:
                inside.add(me)
                with self._mutex:
                    self.emit(record)
            finally:
                inside.discard(me)
        except BaseException:
            self._unstick(me)
            raise
        if self._deferred:
            self._take_deferred()
        return record

    def emit(self, record):
        """Give a record its number and try to send it, without waiting. `handle`, which calls this, holds the lock.

        The common case stands here as a whole, because it has to cost no more than the standard library's: a session
        with nothing waiting, on a connection that looks established.
        """
        data = None
        try:
            if self._own_pickle:
                data = make_pickle(record, self.formatter, self._max_record)
            else:
                data = self.makePickle(record)[4:]
            if not _AT_FORK and self._pid != os.getpid():
                # A value's __str__ has forked.
                self._forked()
            if self._direct:
                number = self._next
                size = len(data)
                try:
                    events = self._poll(0)
                except select.error:
                    events = _PERHAPS
                if events:
                    self._receive(events)
                held = self._held + size + _OVERHEAD
                if self._direct and held <= self.limit_bytes:
                    message = _pack_one(_MAGIC, _BATCH, 0, size + _ONE_RECORD_EXTRA, number, 1, size) + data
                    self._unacked.append((number, data, record.created))
                    self._next = number + 1
                    self._held = held
                    try:
                        sent = self._send(message, _NO_SIGNAL)
                    except EnvironmentError as error:
                        self._unsendable(error, message)
                    else:
                        if sent != len(message):
                            self._out = message[sent:]
                            self._direct = False
                    if self._helper is None:
                        self._start_helper()
                    return
            self._submit(data, record.created)
        except Exception:  # noqa: BLE001 - whatever happens is not the application's business
            if data is not None:
                self._recover()
            if self._forked_inside:
                # Of a fork within emit: the parent has the record.
                self._forked_inside = False
            else:
                self.handleError(record)
        except BaseException:  # a KeyboardInterrupt or a gevent.Timeout may come out of any line
            self._recover()
            raise

    def makePickle(self, record):
        """Return a record as the frame that SocketHandler sends: 4 bytes of length, pickle. Raises nothing."""
        data = make_pickle(record, self.formatter, self._max_record)
        return _LENGTH.pack(len(data)) + data

    def send(self, s):
        """Send a frame, made by makePickle; keep it until it is acknowledged."""
        self._check_pid()
        self._within(self._submit, s[4:], time.time())

    def makeSocket(self, timeout=1):
        """Return a connected socket; override it for another kind, such as TLS. Called in a thread, and may block."""
        if self.port is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            sock.connect(self.host)
            return sock
        return socket.create_connection((self.host, self.port), timeout)

    def createSocket(self):
        """Try to connect, without waiting."""
        self._check_pid()
        self._within(self._pump)

    def handleError(self, record):
        """Report what went wrong here on stderr, as every handler does; with closeOnError, close the socket."""
        if self.closeOnError and self.sock is not None:
            self._disconnected()
        else:
            logging.Handler.handleError(self, record)

    def counters(self):
        """Return how many records were emitted, acknowledged, dropped and so on in this process."""
        self._check_pid()
        return self._within(self._count)

    def _count(self):
        counts = dict(self._counts)
        counts["emitted"] = self._next - 1
        counts["held"] = counts["emitted"] - counts["acknowledged"] - counts["handed_over"] - counts["dropped"]
        counts["held_bytes"] = self._held
        counts["spool_bytes"] = self._spool.bytes if self._spool is not None else 0
        counts["unspooled"] = sum(1 for _ in self._not_in_spool()) if self._spool is not None else 0
        counts["connected"] = self._state in (_READY, _PLAIN)
        counts["plain"] = self._plain
        return counts

    def flush(self, timeout=None):
        """Wait until everything is acknowledged, at most `timeout` (close_timeout) seconds; return whether it is.

        Gives up after 3 s without any acknowledgement, and at once if it has just given up.
        """
        try:
            self._check_pid()
            return get_ident() not in self._inside and self._flush(timeout)
        except Exception:  # noqa: BLE001 - at the end of the interpreter anything may be gone
            self._report_failure()
            return False

    def _flush(self, timeout):
        started = _now()
        if timeout is None:
            timeout = self.close_timeout
            if self._flush_failed_at is not None and started - self._flush_failed_at < 0.5:
                return False
        deadline, patience = started + timeout, min(timeout, _PATIENCE_S)
        acknowledged, progress_at = -1, started
        while True:
            done, gone, sock, writable = self._within(self._pump_hard)
            if done:
                self._flush_failed_at = None
                return True
            before, acknowledged = acknowledged, gone
            self._take_deferred()
            now = _now()
            if acknowledged != before:
                progress_at = now
            if now >= deadline or now - progress_at >= patience:
                self._flush_failed_at = now
                return False
            if self._helper is None:
                self._start_helper()
            if self._helper is None and self._blocking_step is not None:
                self._take_blocking_step()
            _wait(sock, writable, min(0.02, max(deadline - now, 0.001)))

    def _pump_hard(self):
        """As `_pump`, and hold nothing back; return (all is acknowledged, how many are, socket, waits to write)."""
        self._hurry = True
        try:
            self._pump()
        finally:
            self._hurry = False
        gone = self._counts["acknowledged"] + self._counts["handed_over"]
        return self._nothing_left(), gone, self.sock, self._wants_to_write()

    def close(self):
        """Wait as `flush` does, say goodbye, and close. A record emitted later opens it again.

        What could not be delivered is left in the spool, or else said on stderr.
        """
        try:
            self.flush()
            self._stop_threads(0.2)
            self._within(self._close_now)
        except Exception:  # noqa: BLE001 - at the end of the interpreter anything may be gone
            self._report_failure()
        finally:
            logging.Handler.close(self)

    def _close_now(self):
        done = self._nothing_left()
        if done and self._state == _READY:
            self._out += self._protocol.bye()
            self._flush_out()
        self._disconnected()
        counts = self._count()
        if self._spool is None and not done:
            text = u"did not acknowledge %d records before the handler was closed" % counts["held"]
            if counts["dropped"]:
                text += u", and %d were dropped before" % counts["dropped"]
            self._say_once("closed", text + self._because())
        elif counts["unspooled"]:
            text = u"%d records were neither acknowledged nor written to the spool before the handler was closed"
            self._say_once("closed", text % counts["unspooled"] + self._because())
        if self._spool is None:
            return
        if done:
            self._spool.remove()
            self._unspooled = None
        else:
            counts = self._counts
            self._spool.close()
            self._begin()
            self._counts = counts

    def _within(self, function, *args):
        """Call with the lock held; what this thread logs within is queued."""
        me = get_ident()
        inside = self._inside
        if me in inside:
            return function(*args)
        try:
            try:
                inside.add(me)
                with self._mutex:
                    return function(*args)
            finally:
                inside.discard(me)
        except BaseException:
            self._unstick(me)
            raise

    def _unstick(self, me):
        """Finish leaving: an exception out of a signal handler may have come in the middle of just that."""
        self._inside.discard(me)
        mutex = self._mutex
        if not _PY2:
            if mutex._is_owned():
                mutex.release()
            return
        # Python 2's plain lock does not know its owner: one that nobody else gives back in time was ours.
        deadline = _now() + self.block_timeout + 2.0
        while not mutex.acquire(False):
            if _now() >= deadline:
                break
            time.sleep(0.001)
        mutex.release()

    def _check_pid(self):
        if self._pid != _getpid():
            self._forked()

    # Records on their way in; the lock is held

    def _submit(self, data, created):
        """Give one record its number, keep it, and try to send it: any case."""
        number = self._next
        size = len(data) + _OVERHEAD
        if self._spool is not None:
            if not self._spool_first(number, data, created, size):
                return
        elif self._held + size > self.limit_bytes and not self._make_room(size):
            self._drop(created)
            return
        self._direct = False
        self._unsent.append((number, data, created))
        self._next = number + 1
        self._held += size
        if self._in_child:
            self._in_child = False
            _flush_with_multiprocessing(self)
        # A socket that takes no more is left to the helper, which waits for room; but not always, for it may be a
        # greenlet that gets no turn.
        if (
            self._state == _READY
            and (not (self._out or self._more) or not number % _TRY_EVERY or self._helper is None)
            and self._flush_out()
            and self._looks_alive()
        ):
            self._write()
        if self._state != _READY:
            self._pump_and_wait()
        if self._helper is None:
            self._start_helper()

    def _unsendable(self, error, message):
        """Take note that a message could not be sent as a whole."""
        self._direct = False
        if _would_block(error):
            self._out = message
        else:
            self._read_last_words()
            self._pump_and_wait()

    def _drop(self, created, reason=u"no room for it"):
        """Drop the newest record: use up its number."""
        self._count_dropped()
        self._direct = False
        number = self._next
        last = self._unsent[-1] if self._unsent else None
        if last is not None and last[1].__class__ is _Gap and last[1].reason == reason and not last[1].sent:
            last[1].newest = created
            last[1].count += 1
        else:
            self._unsent.append((number, _Gap(1, created, created, reason, False), created))
            self._held += _OVERHEAD
            self._gap_since = _now()
        self._next = number + 1
        if self._helper is None:
            self._start_helper()

    def _count_dropped(self):
        self._counts["dropped"] += 1
        if "dropping" not in self._said:
            text = "records are dropped: %d bytes are held, and overflow is %r; counters() tells how many"
            self._say_once("dropping", text % (self._held, self.overflow) + self._because())

    def _because(self):
        return u" (%s)" % self._trouble if self._trouble and self._state not in (_READY, _PLAIN) else u""

    def _fits(self, size):
        return self._held + size <= self.limit_bytes or not self._held

    def _make_room(self, size):
        """Make room in memory, as the policy says; return whether there is some now."""
        if self.overflow == "drop_old":
            while not self._fits(size) and self._drop_oldest():
                pass
        elif self.overflow == "block":
            self._block(size)
        else:
            self._pump()
        return self._fits(size)

    def _block(self, size):
        """Wait for room, unless that was in vain since the last acknowledgement."""
        self._pump()
        deadline = None
        while not self._fits(size) and not self._saturated:
            now = _now()
            if deadline is None:
                deadline = now + self.block_timeout
            if now >= deadline:
                self._saturated = True
                return
            if self._helper is None:
                self._start_helper()
            _wait(self.sock, self._wants_to_write(), min(deadline - now, _TICK_S))
            self._pump()

    def _drop_oldest(self):
        """Turn the oldest record held into a gap; return whether there was one."""
        # Of plain frames, the first of those handed to the kernel may be on its way in part.
        queues = ((self._unacked, True), (self._unsent, False))
        for queue, sent in queues[1:] if self._state == _PLAIN else queues:
            gaps = []
            while queue and queue[0][1].__class__ is _Gap:
                gaps.append(queue.popleft())
            if queue:
                number, data, created = queue.popleft()
                last = gaps[-1][1] if gaps else None
                if last is not None and last.sent == sent:
                    last.count += 1
                    last.oldest = min(last.oldest, created)
                    last.newest = max(last.newest, created)
                    self._held -= len(data) + _OVERHEAD
                else:
                    gaps.append((number, _Gap(1, created, created, u"the oldest, for room", sent), created))
                    self._held -= len(data)
                self._count_dropped()
                queue.extendleft(reversed(gaps))
                return True
            queue.extendleft(reversed(gaps))
        return False

    def _spool_first(self, number, data, created, size):
        """Write a record to the spool; return whether it is to be held in memory as well."""
        place = self._spool_one(number, created, data, size)
        if self._disk_from is None and not self._fits(size):
            self._pump()
        if self._disk_from is None and self._fits(size):
            if place is None and self._unspooled is None:
                self._unspooled = number
            return True
        if place is None and self._disk_from is None:
            self._drop(created)
            return False
        if place is None:
            self._count_dropped()
            self._disk_lost += 1
            self._disk_dropped = ((self._disk_dropped or (created,))[0], created)
        elif self._disk_from is None:
            self._disk_from, self._disk_place = number, place
        self._next = number + 1
        self._pump()
        if self._helper is None:
            self._start_helper()
        return False

    def _spool_one(self, number, created, data, size):
        """Write one record to the spool, after those that could not be written before; return its place or None."""
        spool = self._spool
        if _now() < self._spool_retry_at or (self._unspooled is not None and not self._respool(not self._fits(size))):
            return None
        place = spool.append(number, created, data)
        if place is None and spool.lost:
            self._spool_was_lost()
            if self._respool(everything=True):
                place = spool.append(number, created, data)
        if place is None:
            self._not_spooled()
        return place

    def _not_spooled(self):
        """Say why the spool cannot be written, and leave it alone for a moment."""
        failure = self._spool.failure
        if failure is None:
            why = u"is full (spool_limit_bytes is %d)" % self._spool.max_bytes
        else:
            why = u"cannot be written: %s" % _text(failure.strerror or failure)
        if failure is not None or self._unspooled is not None:
            self._spool_retry_at = _now() + _SPOOL_RETRY_S
        text = u"the spool in %s %s; records are kept in memory, and dropped when that is full"
        self._say_once("spool", text % (_text(self.spool_dir), why))

    def _not_in_spool(self):
        """Yield what is held in memory only, in order."""
        if self._unspooled is not None:
            for queue in (self._unacked, self._unsent):
                for item in queue:
                    if item[0] >= self._unspooled and item[1].__class__ is not _Gap:
                        yield item

    def _respool(self, everything):
        """Write to the spool what could not be written before; return whether it is all there now.

        _RESPOOL_BYTES of it, unless `everything` is to be tried.
        """
        if _now() < self._spool_retry_at:
            return False
        size = 0
        for number, data, created in self._not_in_spool():
            if size > _RESPOOL_BYTES and not everything:
                self._unspooled = number
                return False
            if self._spool.append(number, created, data) is None:
                self._unspooled = number
                self._not_spooled()
                return False
            size += len(data)
        self._unspooled = None
        return True

    def _spool_was_lost(self):
        """Have the records that are held written again, to another file: the spool's file was removed."""
        self._spool.lost = False
        text = u"the spool's files in %s were removed or closed; records that are not acknowledged are written again"
        self._say_once("lost", text % _text(self.spool_dir))
        self._unspooled = min(self._spool.last + 1, self._next)
        self._spool_retry_at = 0.0

    def _look_after_spool(self):
        """Check the spool's files, and write the records that are missing in them."""
        self._spool.look()
        if self._spool.lost:
            self._spool_was_lost()
        if self._unspooled is not None:
            self._respool(False)

    def _refill(self):
        """Take records that are in the spool only into memory, as far as there is room."""
        while self._disk_from is not None and self._held < self.limit_bytes // 2:
            entries, self._disk_place = self._spool.read(self._disk_from, self._disk_place)
            failure = self._spool.failure
            if failure is not None:
                text = u"a part of the spool in %s cannot be read: %s; missing records are counted as dropped"
                self._say_once("unreadable", text % (_text(self.spool_dir), _text(failure.strerror or failure)))
            for number, created, data in entries:
                if number > self._disk_from:
                    self._disk_gap(number)
                self._unsent.append((number, data, created))
                self._held += len(data) + _OVERHEAD
                self._disk_from = number + 1
            if not entries:
                if self._disk_from < self._next:
                    self._disk_gap(self._next)
                self._disk_from = self._disk_place = self._disk_dropped = None

    def _disk_gap(self, number):
        """Put a gap up to this number, which the spool had no room for or has lost, into the queue."""
        oldest, newest = self._disk_dropped or (time.time(), time.time())
        count = number - self._disk_from
        counted = min(count, self._disk_lost)
        self._disk_lost -= counted
        self._counts["dropped"] += count - counted
        self._unsent.append((self._disk_from, _Gap(count, oldest, newest, u"not in the spool", False), oldest))
        self._held += _OVERHEAD

    def _recover(self):
        """Make the queues whole again after an exception that may have come from any line."""
        self._close_socket()
        items = dict((item[0], item) for item in list(self._unacked) + list(self._unsent))
        self._unacked.clear()
        self._unsent = collections.deque(items[number] for number in sorted(items))
        self._held = sum(len(item[1]) + _OVERHEAD for item in self._unsent)
        if self._unsent:
            number, data, _ = self._unsent[-1]
            self._next = max(self._next, number + (data.count if data.__class__ is _Gap else 1))
        self._close_holes()

    def _close_holes(self):
        """Fill numbers that were used up without anything in the queue."""
        whole = collections.deque()
        expected = self._unsent[0][0] if self._unsent else self._next
        for item in self._unsent:
            if item[0] > expected:
                gap = _Gap(item[0] - expected, item[2], item[2], u"interrupted", False)
                whole.append((expected, gap, item[2]))
            whole.append(item)
            expected = item[0] + (item[1].count if item[1].__class__ is _Gap else 1)
        limit = self._next if self._disk_from is None else self._disk_from
        if expected < limit:
            now = time.time()
            whole.append((expected, _Gap(limit - expected, now, now, u"interrupted", False), now))
        self._unsent = whole

    def _defer(self, record):
        """Keep a record for whoever of this thread is in here already. Changes nothing but one deque."""
        try:
            if len(self._deferred) < _MAX_DEFERRED:
                self._deferred.append((self.makePickle(record)[4:], record.created))
        except Exception:  # noqa: BLE001 - the record's own __str__ may log, and so on without end
            pass

    def _take_deferred(self):
        me = get_ident()
        while self._deferred and me not in self._inside:
            try:
                self._within(self._take_one_deferred)
            except Exception:  # noqa: BLE001 - as in emit
                self._report_failure()

    def _take_one_deferred(self):
        try:
            data, created = self._deferred.popleft()
        except IndexError:
            return
        try:
            self._submit(data, created)
        except BaseException:
            self._recover()
            raise

    # The connection, a step at a time and never waiting; the lock is held

    def _pump(self):
        """Do whatever can be done now: connect, read, send."""
        for _ in range(4):
            state = self._state
            if state == _IDLE:
                if not self._connect():
                    return
            elif state == _CONNECTING:
                self._finish_connecting()
            elif state == _GREETING:
                self._flush_out()
                self._read()
                if self._state == _GREETING and _now() >= self._deadline:
                    self._unanswered()
            else:
                if state == _PLAIN and self._plain_until <= _now() and not self._unsent and not self._out:
                    self._disconnected()
                    continue
                if state == _READY:
                    self._looks_alive()
                else:
                    self._read()
                if self._state == state:
                    self._write()
            if self._state == state:
                return

    def _pump_and_wait(self):
        """As `_pump`, and wait a little for the collector's first answers, as far as the allowance goes."""
        if not (self._state in (_CONNECTING, _GREETING) and self._helper is not None and self._waited_enough()):
            self._pump()
        while self._state in (_CONNECTING, _GREETING) or (self._state == _IDLE and self._blocking_step is not None):
            if self._waited_enough():
                return
            started, asked = time.time(), self._allowance
            if self._state == _IDLE:
                if self._helper is None:
                    self._start_helper()
                self._step_done.wait(asked)
                in_time = self._step_done.is_set()
            else:
                in_time = _wait(self.sock, self._wants_to_write(), asked)
            spent = min(max(time.time() - started, 0.0005), asked) if in_time else asked
            self._allowance -= spent
            if not in_time:
                return
            self._pump()

    def _waited_enough(self):
        """Return whether it is left to the helper to look for an answer."""
        now = _now()
        self._allowance = min(_WAIT_BURST_S, self._allowance + (now - self._allowance_at) * _WAIT_SHARE)
        self._allowance_at = now
        return self._allowance < _WAIT_LEAST_S

    def _connect(self):
        """Begin to connect; return whether something began."""
        sock, self._made_socket = self._made_socket, None
        if sock is not None:
            self._connected(sock, sock.family)
            return True
        now = _now()
        if self._blocking_step is not None or now < self._retry_at or self._nothing_left():
            return False
        self._retry_at = now + (self.retry_pause if self._fruitless <= _MOST_FRUITLESS else _FRUITLESS_PAUSE_S)
        if self._away_since is None:
            self._away_since = now
        if not self._own_socket:
            self._ask_for_step("socket")
            return False
        if self.port is None:
            addresses = [(socket.AF_UNIX, self.host)]
        elif self._addresses is None:
            self._ask_for_step("addresses")
            return False
        else:
            addresses = self._addresses
        while self._address < len(addresses):
            family, address = addresses[self._address]
            self._address += 1
            if self._connect_to(family, address, now):
                return True
        self._address = 0
        self._silent_closes = 0
        if self._literal is None and self.port is not None:
            self._ask_for_step("addresses")
        return False

    def _connect_to(self, family, address, now):
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except EnvironmentError:
            return False
        try:
            _close_on_exec(sock.fileno())
            sock.setblocking(False)
            _set_options(sock, family)
            failure = sock.connect_ex(address)
        except EnvironmentError as error:
            failure = error.errno or errno.EIO
        if failure in (0, errno.EISCONN):
            self._connected(sock, family)
        elif failure in _IN_PROGRESS and family != getattr(socket, "AF_UNIX", None):
            self.sock = sock
            self._state = _CONNECTING
            self._deadline = now + self.connect_timeout
        else:
            _close(sock)
            self._cannot_connect(failure)
            return False
        return True

    def _cannot_connect(self, failure):
        self._trouble = u"cannot be reached: %s" % (_text(os.strerror(failure)) if failure else u"no answer")

    def _finish_connecting(self):
        sock = self.sock
        if _wait(sock, True, 0):
            try:
                failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                family = sock.family
            except EnvironmentError:
                failure = errno.EIO
            if not failure:
                self._connected(sock, family)
                return
        elif _now() < self._deadline:
            return
        else:
            failure = 0
        self._cannot_connect(failure)
        self._close_socket()
        # The other addresses of the same name are tried at once.
        if self._address and self._addresses and self._address < len(self._addresses):
            self._retry_at = 0.0

    def _connected(self, sock, family):
        """Begin to speak on a connected socket."""
        self._address = 0
        self.sock = sock
        self._counts["connections"] += 1
        self._fruitless += 1
        plain_socket = type(sock).__name__ in ("socket", "_socketobject")
        self._send_flags = _NO_SIGNAL if plain_socket else 0
        self._send, self._recv = sock.send, sock.recv
        self._inbox = []
        self._poll = None
        if plain_socket and family in (socket.AF_INET, socket.AF_INET6):
            _keep_nothing_back(sock)
            self._poll = _poll_of(sock)
        self._out = b""
        self._handed_over = 0
        now = _now()
        if self._plain and now < self._plain_until:
            self._state = _PLAIN
            self._away_since = None
            return
        version = "%d.%d.%d" % sys.version_info[:3]
        client = u"%s python %s pid %d" % (_text(self._client_name or socket.gethostname()), version, self._pid)
        self._protocol = ClientProtocol(self._session, self._key_id, self._key, client)
        self._out = self._protocol.hello(self._lowest())
        self._state = _GREETING
        self._deadline = now + self.hello_timeout
        self._flush_out()

    def _lowest(self):
        for queue in (self._unacked, self._unsent):
            if queue:
                return queue[0][0]
        return self._next_in_memory()

    def _next_in_memory(self):
        return self._next if self._disk_from is None else self._disk_from

    def _unanswered(self):
        """Nothing came back to our HELLO in time."""
        sock, self.sock = self.sock, None
        self._close_socket()
        if self.fallback and not self._known and not self._protocol.heard:
            _reset(sock)
            self._speak_plain("answers no HELLO")
            return
        if self._protocol.heard:
            _close(sock)
        else:
            _reset(sock)
        self._no_answer(u"does not answer within %g s" % self.hello_timeout)

    def _no_answer(self, what):
        """Note and say why the records stay here: something is there, and it does not speak as a collector."""
        self._trouble = what
        text = "%s: a collector that hangs, a proxy without one, or a receiver of plain frames; records are kept"
        self._say_once("silent", text % what + (u"" if self._key else u" (fallback=True would send plain frames)"))

    def _speak_plain(self, why):
        self._plain = True
        self._plain_for = min(max(_PLAIN_LEAST_S, self._plain_for * 2), _PLAIN_MOST_S)
        self._plain_until = _now() + self._plain_for
        self._retry_at = 0.0
        self._say_once("plain", "%s; records go there as plain SocketHandler frames, unacknowledged" % why)

    def _receive(self, events):
        """Take what has come, by poll()'s word, and leave it to be understood later: many at once are cheaper.

        Nothing stays unread for long, because a process that dies with something unread resets its connection, and
        then the kernel forgets what it has not sent yet.
        """
        inbox = self._inbox
        if events[0][1] != _READABLE:
            self._read_last_words()
            return
        try:
            data = self._recv(_RECV_BYTES)
        except EnvironmentError as error:
            if not _would_block(error):
                self._read_last_words()
        else:
            if not data:
                self._read_last_words()
                return
            inbox.append(data)
            if len(inbox) >= _INBOX_READS or len(data) == _RECV_BYTES:
                self._read()

    def _looks_alive(self):
        """Look at the connection before writing, and return whether it is good for records."""
        if self._poll is not None:
            try:
                events = self._poll(0)
            except select.error:
                events = _PERHAPS
            if events and events[0][1] != _READABLE:
                self._read_last_words()
            elif events or self._inbox:
                self._read()
        else:
            self._read()
        return self._state == _READY

    def _read(self):
        """Take what has come, and act on it."""
        sock = self.sock
        try:
            if self._inbox:
                received, self._inbox = b"".join(self._inbox), []
                self._take_in(received)
            for _ in range(_MOST_READS):
                if sock is None or self.sock is not sock:
                    return
                data = sock.recv(_RECV_BYTES)
                if not data:
                    self._ended()
                elif self._state == _PLAIN:
                    continue
                else:
                    self._take_in(data)
                if len(data) < _RECV_BYTES and self._send_flags:
                    return
        except EnvironmentError as error:
            if not _would_block(error):
                self._ended()
        except ProtocolError as error:
            silent = self._state == _GREETING and not self._protocol.heard
            self._disconnected()
            if silent and self.fallback and not self._known:
                self._speak_plain("answers something else")
            else:
                self._retry_at = _now() + _REFUSED_PAUSE_S
                self._trouble = u"breaks the protocol: %s" % error
                self._say_once("broken", "breaks the protocol (%s); records are kept" % error)

    def _take_in(self, data):
        """Act on what was received. Raises ProtocolError."""
        if self._state == _READY:
            # `emit` sends records without telling it.
            sent = (self._unsent[0][0] if self._unsent else self._next_in_memory()) - 1
            self._protocol.sent = max(self._protocol.sent, sent)
        for event in self._protocol.feed(data):
            self._on_event(event)

    def _ended(self):
        """Act on a connection that the peer has closed, or that is broken."""
        greeting = self._state == _GREETING and not self._protocol.heard
        self._disconnected()
        if not greeting or self._known:
            return
        # A collector that is just being stopped closes once and is away then; a plain receiver does it every time.
        self._silent_closes += 1
        if self._silent_closes < _CLOSES_OF_PLAIN:
            self._retry_at = 0.0
        if self.fallback and (self._silent_closes >= _CLOSES_OF_PLAIN or self._plain):
            self._speak_plain("closes the connection on HELLO")
        elif self._silent_closes >= _CLOSES_OF_PLAIN:
            self._no_answer(u"closes the connection without an answer")

    def _on_event(self, event):
        kind = event[0]
        if kind == "ack":
            self._forget(self._unacked, event[1])
            return
        self._known = True
        if kind == "send":
            self._out += event[1]
            self._flush_out()
        elif kind == "wait":
            self._deadline = _now() + _WELCOME_PATIENCE_S
        elif kind == "welcome":
            self._on_welcome(event[1])
        else:
            self._on_error(event[1], _harmless(event[2]))

    def _on_error(self, code, text):
        """Act on an error by which the collector ends a session; keep records without acknowledgement."""
        self._disconnected()
        self._trouble = u"%s (error %d)" % (text, code)
        if code == GOING_AWAY:
            return
        if code == BUSY:
            self._counts["busy"] += 1
            self._retry_at = _now() + _jittered(_BUSY_PAUSE_S)
            self._say_once("busy", u"is busy: %s (error %d); records are kept, and sent later" % (text, code))
            return
        self._retry_at = _now() + (_REFUSED_PAUSE_S if code <= NO_KEY else _UNKNOWN_PAUSE_S)
        self._say_once(("error", code), u"answers: %s (error %d); records are kept" % (text, code))

    def _on_welcome(self, committed):
        self._silent_closes = 0
        self._plain_for = 0.0
        if self._plain:
            self._plain = False
            self._say_once("session", "knows sessions now; records are acknowledged again")
        now = _now()
        self._said = dict((key, at) for key, at in self._said.items() if key == "session" or now - at < _SAY_AGAIN_S)
        self._trouble = u""
        self._away_since = None
        self._max_record = min(self.max_record_bytes, self._protocol.max_record_bytes)
        self._state = _READY
        if committed >= self._next:
            # Of another session than ours, whatever the reason: ours goes on under another name.
            self._disconnected()
            self._another_session()
            return
        self._forget(self._unsent, committed)

    def _another_session(self):
        """Go on under a new session, and with a new spool; records that only the old spool has are dropped."""
        self._session = os.urandom(16)
        if self._spool is not None:
            self._spool.remove()
            self._spool = Spool(self.spool_dir, self._session, self.spool_limit_bytes)
            self._unspooled = self._lowest()

    def _forget(self, queue, number):
        """Forget what is acknowledged, up to this number."""
        count = freed = 0
        while queue:
            first, data, created = queue[0]
            if first > number:
                break
            if data.__class__ is _Gap:
                last = first + data.count - 1
                covered = min(last, number) - first + 1
                if data.sent:
                    # Dropped here, and committed there after all.
                    self._counts["dropped"] -= covered
                    count += covered
                data.count -= covered
                if data.count:
                    queue[0] = (number + 1, data, created)
                    break
                freed += _OVERHEAD
            else:
                count += 1
                freed += len(data) + _OVERHEAD
            queue.popleft()
        self._held -= freed
        self._counts["acknowledged"] += count
        if count:
            self._fruitless = 0
        self._saturated = False
        if self._spool is not None:
            self._spool.forget(number)

    # Records on their way out; the lock is held

    def _write(self):
        """Send records until the socket takes no more, or _WRITE_BYTES are sent."""
        sent = 0
        self._more = False
        while self._flush_out():
            if sent >= _WRITE_BYTES:
                self._more = True
                return
            self._out = self._next_message()
            sent += len(self._out)
            if not self._out:
                self._direct = (
                    self._state == _READY and not self._unsent and self._poll is not None and self._spool is None
                )
                return

    def _flush_out(self):
        """Send the rest of a message; return whether nothing is left of it."""
        while self._out:
            if self.sock is None:
                return False
            try:
                sent = self.sock.send(self._out, self._send_flags)
            except EnvironmentError as error:
                if not _would_block(error):
                    # What came before the end counts: acknowledgements, or why we are refused.
                    self._read_last_words()
                return False
            self._out = self._out[sent:]
            if self._state == _PLAIN:
                self._hand_over(sent)
        return True

    def _read_last_words(self):
        sock = self.sock
        self._read()
        if self.sock is sock and sock is not None:
            self._ended()

    def _next_message(self):
        """Take the next items from the queue and return them as one message; empty if there is nothing to send."""
        if self._disk_from is not None and not self._unsent:
            self._refill()
        unsent = self._unsent
        if not unsent:
            return b""
        if unsent[0][1].__class__ is _Gap:
            return self._gap_message()
        limit = _MESSAGE_BYTES if self._state == _PLAIN else min(self._protocol.max_batch_bytes, _MESSAGE_BYTES)
        hard_limit = 1 << 32 if self._state == _PLAIN else self._protocol.max_batch_bytes
        first, size, pickles = unsent[0][0], _BATCH_BODY.size, []
        while unsent:
            item = unsent[0]
            data = item[1]
            size += _LENGTH.size + len(data)
            if data.__class__ is _Gap or (size > limit and pickles):
                break
            if size > hard_limit:
                reason = u"a record of %d bytes, more than a batch may have" % len(data)
                unsent[0] = (first, _Gap(1, item[2], item[2], reason, False), item[2])
                self._held -= len(data)
                self._counts["dropped"] += 1
                return self._gap_message()
            pickles.append(data)
            self._unacked.append(item)
            unsent.popleft()
        if self._state == _PLAIN:
            return b"".join([part for data in pickles for part in (_LENGTH.pack(len(data)), data)])
        return self._protocol.batch(first, pickles)

    def _gap_message(self):
        """Return the GAP that is first in the queue; empty while it may still grow."""
        number, gap, _ = self._unsent[0]
        if self._state == _PLAIN:
            self._unsent.popleft()
            self._held -= _OVERHEAD
            return self._next_message()
        if len(self._unsent) == 1 and not self._hurry and _now() - self._gap_since < _GAP_HELD_S:
            return b""
        gap.sent = False
        self._unacked.append(self._unsent[0])
        self._unsent.popleft()
        return self._protocol.gap(number, gap.count, gap.oldest, gap.newest, gap.reason)

    def _hand_over(self, sent):
        """Forget plain frames of which the kernel has taken the last byte."""
        self._handed_over += sent
        unacked = self._unacked
        while unacked and self._handed_over >= 4 + len(unacked[0][1]):
            number, data, _ = unacked.popleft()
            self._handed_over -= 4 + len(data)
            self._held -= len(data) + _OVERHEAD
            self._counts["handed_over"] += 1
            self._saturated = False
            if self._spool is not None:
                self._spool.forget(number)

    def _disconnected(self):
        """Close the connection; what is not acknowledged is to be sent again."""
        self._close_socket()
        self._requeue()

    def _close_socket(self):
        sock, self.sock = self.sock, None
        self._state = _IDLE
        self._direct = self._more = False
        self._send = self._recv = self._poll = None
        self._inbox = []
        self._out = b""
        self._handed_over = 0
        if sock is not None:
            _close(sock)

    def _requeue(self):
        self._unsent.extendleft(reversed(self._unacked))
        self._unacked.clear()

    def _nothing_left(self):
        return not (self._unsent or self._unacked or self._out or self._disk_from is not None or self._deferred)

    def _wants_to_write(self):
        return self._state == _CONNECTING or bool(self._out) or self._more

    # What may block: names, and sockets of subclasses. The lock is not held

    def _ask_for_step(self, step):
        self._step_done.clear()
        self._blocking_step = step

    def _take_blocking_step(self):
        """Resolve the name, or make the subclass's socket, and leave the result where `_pump` finds it."""
        step = self._blocking_step
        try:
            if step == "addresses":
                found = _resolve(self.host, self.port)
                if found:
                    self._addresses = found
                    self._address = 0
                    self._retry_at = 0.0
            elif step == "socket":
                sock = self.makeSocket(self.connect_timeout)
                sock.setblocking(False)
                self._made_socket = sock
        except Exception:  # noqa: BLE001 - a subclass may raise anything; tried again after the pause
            pass
        finally:
            self._blocking_step = None
            self._step_done.set()

    # The helper: a thread while something is held

    def _start_helper(self):
        stop = threading.Event()
        helper = threading.Thread(target=self._help, args=(stop,), name="prefork-logd handler")
        helper.daemon = True
        self._helper, self._helper_stop = helper, stop
        try:
            helper.start()
        except RuntimeError:  # none can be had, or the interpreter is ending: emit and flush do without
            self._helper = None

    def _help(self, stop):
        """Read acknowledgements, finish what could not be sent, reconnect; end when nothing has been held for 1 s."""
        idle_ticks = 0
        while not stop.is_set():
            try:
                if self._blocking_step is not None:
                    self._take_blocking_step()
                if self._deferred:
                    self._take_deferred()
                tick, idle = self._within(self._tick, stop)
            except Exception:  # noqa: BLE001 - a thread of ours ends only when it is told to
                self._report_failure()
                tick, idle = 1.0, False
            idle_ticks = idle_ticks + 1 if idle else 0
            if idle_ticks > _LINGER_TICKS and self._within(self._leave, stop):
                return
            sock = self.sock
            if self._out and sock is not None and self._state != _CONNECTING:
                _wait(sock, True, tick)
            else:
                _sleep(stop, tick)

    def _tick(self, stop):
        if stop.is_set() or self._helper_stop is not stop:
            return 0.0, False
        self._pump()
        if self._spool is not None:
            self._look_after_spool()
            if _now() >= self._adopt_at:
                self._adopt_soon()
        emitted, self._ticked_at = self._next - self._ticked_at, self._next
        if self._away_since is not None and not self._said and _now() - self._away_since >= _AWAY_S:
            self._say_once("away", u"no connection for %d s%s; records are kept" % (_AWAY_S, self._because()))
        if self._more:
            return _WRITE_AGAIN_S, False
        if self._direct and emitted >= _STEADY_RECORDS:
            return _STEADY_TICK_S, False
        if self._nothing_left():
            return _TICK_S, True
        busy = self._wants_to_write() or self._state == _GREETING or self._blocking_step is not None
        return (_BUSY_TICK_S if busy else _TICK_S), False

    def _leave(self, stop):
        """End the helper's work, if there is still nothing to do; return whether it ended."""
        if not self._nothing_left():
            return False
        if self._helper_stop is stop:
            self._helper = None
            if self._spool is not None:
                self._spool.remove()
                self._unspooled = None
        return True

    def _stop_threads(self, timeout):
        """Tell the threads to end, and wait for that a little."""
        threads = [self._helper, self._adopter]
        self._adopt_again = self._adopter is not None and self._adopter.is_alive()
        for stop in (self._helper_stop, self._adopter_stop):
            if stop is not None:
                stop.set()
        self._helper = self._adopter = None
        for thread in threads:
            if thread is not None and thread is not threading.current_thread():
                try:
                    thread.join(timeout)
                except RuntimeError:  # just being started
                    pass

    # Spools of the dead

    def _adopt_soon(self):
        """Start to send what ended processes have left, if there is any and no thread of ours does it yet."""
        self._adopt_at = _now() + _ADOPT_EVERY_S
        if self._adopter is not None and self._adopter.is_alive():
            return
        own = _hex(self._session)
        try:
            names = os.listdir(self.spool_dir)
        except EnvironmentError:
            return
        if not any(name.endswith((".lock", ".spool")) and name[:32] != own for name in names):
            return
        stop = threading.Event()
        adopter = threading.Thread(target=self._adopt, args=(stop,), name="prefork-logd spool")
        adopter.daemon = True
        self._adopter, self._adopter_stop = adopter, stop
        try:
            adopter.start()
        except RuntimeError:
            self._adopter = None

    def _adopt(self, stop):
        """Send every ended session that can be locked; again and again while the collector is away."""
        while not stop.is_set():
            pause = 0.0
            try:
                for session, paths, done in adopt(self.spool_dir, self._complain_of_spool):
                    if stop.is_set():
                        return
                    delivery = _Delivery(self, session, paths, stop)
                    if delivery.run():
                        done(delivery.damaged)
                        self._within(self._count_adopted, delivery)
                    else:
                        pause = max(pause, delivery.pause)
            except Exception:  # noqa: BLE001 - as the helper
                self._report_failure()
                return
            if any(key[0] == self._pid and held[0] == _ADOPTING for key, held in list(_locks.items())):
                # Another thread sends them now, and may be told to stop before it has.
                pause = max(pause, _ADOPT_PAUSE_S)
            if not pause:
                return
            _sleep_long(stop, pause)

    def _complain_of_spool(self, text):
        self._say_once("adopt", text)

    def _count_adopted(self, delivery):
        self._counts["adopted"] += delivery.sent
        self._counts["adopted_lost"] += delivery.lost
        if delivery.damaged:
            text = u"an ended process's spool is damaged: %d of its records were sent, %d are known to be lost; see %s"
            names = u", ".join(_text(path) + u".damaged" for path in delivery.damaged)
            self._say_once(("damaged", delivery.damaged[0]), text % (delivery.sent, delivery.lost, names))

    # Fork

    def _forked(self):
        """Leave, in the child, everything to the parent but our copies of the socket's and the spool's descriptors."""
        inside = get_ident() in self._inside
        self.createLock()
        sock, spool, sending = self.sock, self._spool, self._sending
        self._begin()
        for key in [key for key in list(_locks) if key[0] != self._pid]:
            _locks.pop(key, None)
        self._forked_inside = inside
        self._in_child = True
        if sock is not None:
            _close(sock)
        if spool is not None:
            spool.close()
        if sending is not None:
            sending.forget_descriptors()

    # What people are told

    def _say_once(self, key, text):
        """Say something on stderr, unless logging.raiseExceptions is off.

        Once: again only after a welcome, and not within _SAY_AGAIN_S.
        """
        if key in self._said:
            return
        self._said[key] = _now()
        if logging.raiseExceptions and sys.stderr is not None:
            where = self.host if self.port is None else "%s:%d" % (self.host, self.port)
            try:
                line = u"prefork_logd.handlers: %s %s\n" % (_text(where), _text(text))
                sys.stderr.write(line.encode("ascii", "backslashreplace") if _PY2 else line)
            except Exception:  # noqa: BLE001 - stderr may be closed, or anything
                pass

    def _report_failure(self):
        """Print the traceback of a fault of ours, as logging does."""
        if logging.raiseExceptions and sys is not None and sys.stderr is not None:
            try:
                traceback.print_exc(file=sys.stderr)
            except Exception:  # noqa: BLE001
                pass


class _Delivery(object):
    """Sends one ended session's records, on a connection of its own.

    Waits in pieces of _TICK_S, and looks between them whether to stop; only names and a subclass's makeSocket block.
    """

    def __init__(self, handler, session, paths, stop):
        self._handler = handler
        self._paths = paths
        self._stop = stop
        self._protocol = ClientProtocol(session, handler._key_id, handler._key, u"adopted spool")
        self._committed = 0
        self._sock = None
        self.pause = _ADOPT_PAUSE_S
        """How long (s) to wait before the next try."""
        self.damaged = []
        """Paths of segments that could not be read as a whole."""
        self.sent = self.lost = 0
        """Records; lost as far as their numbers are known to be missing."""

    def run(self):
        """Return whether everything that can be read is committed."""
        try:
            first = self._first()
            if first is None:
                return True
            self._sock = self._connect()
            self._handler._sending = self
            self._send(self._protocol.hello(first))
            if not self._wait(lambda: self._protocol.heard, self._handler.hello_timeout):
                return False
            return self._wait(lambda: self._protocol.state == "ready") and self._send_all(first)
        except ProtocolError:
            self.pause = _REFUSED_PAUSE_S
            return False
        except EnvironmentError:
            return False
        finally:
            self._handler._sending = None
            if self._sock is not None:
                _close(self._sock)

    def forget_descriptors(self):
        """Close our copy of the socket, in a child."""
        if self._sock is not None:
            _close(self._sock)

    def _connect(self):
        """Return a socket that is connected and does not block. Raises EnvironmentError."""
        handler = self._handler
        if not handler._own_socket:
            sock = handler.makeSocket(handler.connect_timeout)
            sock.setblocking(False)
            return sock
        if handler.port is None:
            addresses = [(socket.AF_UNIX, handler.host)]
        else:
            addresses = handler._literal or _resolve(handler.host, handler.port)
        for family, address in addresses:
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                _close_on_exec(sock.fileno())
                sock.setblocking(False)
                _set_options(sock, family)
                failure = sock.connect_ex(address)
                deadline = _now() + handler.connect_timeout
                while failure in _IN_PROGRESS and family != getattr(socket, "AF_UNIX", None):
                    if self._stop.is_set() or _now() >= deadline:
                        failure = errno.ETIMEDOUT
                    elif _wait(sock, True, _TICK_S):
                        failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            except EnvironmentError as error:
                failure = error.errno or errno.EIO
            if failure in (0, errno.EISCONN):
                return sock
            _close(sock)
        raise EnvironmentError(errno.ECONNREFUSED, "no connection")

    def _first(self):
        """Return the lowest number that the files have or had; None if nothing in them is readable."""
        first = None
        for entries in self._chunks():
            first = entries[0][0]
            break
        try:
            named = int(os.path.basename(self._paths[0])[33:53])
        except (ValueError, IndexError):
            named = 0
        return first if first is None else min(named or first, first)

    def _chunks(self):
        for path in self._paths:
            offset = 0
            while not self._stop.is_set():
                entries, offset, damaged = read_segment(path, offset, _MESSAGE_BYTES)
                if damaged and path not in self.damaged:
                    self.damaged.append(path)
                if not entries:
                    break
                yield entries

    def _send_all(self, first):
        # What the collector expects next: it takes the numbers below the first of HELLO for settled.
        last = max(self._committed, first - 1)
        previous = None
        self.sent = self.lost = 0
        for entries in self._chunks():
            for number, created, data in entries:
                if number <= last:
                    continue
                if number > last + 1:
                    oldest = created if previous is None else previous
                    self._send(self._protocol.gap(last + 1, number - last - 1, oldest, created, u"not in the spool"))
                    self.lost += number - last - 1
                if len(data) + _ONE_RECORD_EXTRA > self._protocol.max_batch_bytes:
                    self._send(self._protocol.gap(number, 1, created, created, u"too large"))
                    self.lost += 1
                else:
                    self._send(self._protocol.one(number, data))
                    self.sent += 1
                last, previous = number, created
            self._receive(0.0)
        if self._stop.is_set() or not self._wait(lambda: self._committed >= last):
            return False
        self._send(self._protocol.bye())
        return True

    def _send(self, data):
        """Send it all. Raises EnvironmentError, also when it takes too long or is to stop."""
        deadline = _now() + _DELIVERY_PATIENCE_S
        while data:
            try:
                data = data[self._sock.send(data) :]
            except EnvironmentError as error:
                if not _would_block(error):
                    self._receive(0.0)  # why it ends
                    raise
                if self._stop.is_set() or _now() >= deadline:
                    raise EnvironmentError(errno.ETIMEDOUT, "not sent")
                _wait(self._sock, True, _TICK_S)

    def _wait(self, reached, patience=_DELIVERY_PATIENCE_S):
        """Read until the condition holds; return whether it did, within `patience` (s) of the last progress."""
        deadline = _now() + patience
        while not reached():
            if self._stop.is_set() or self._protocol.state == "closed" or _now() >= deadline:
                return False
            before = self._committed, self._protocol.state
            self._receive(_TICK_S)
            if (self._committed, self._protocol.state) != before:
                deadline = _now() + patience
        return True

    def _receive(self, timeout):
        """Read what has come within `timeout` (s). Raises EnvironmentError, ProtocolError."""
        if not _wait(self._sock, False, timeout):
            return
        try:
            data = self._sock.recv(_RECV_BYTES)
        except EnvironmentError as error:
            if _would_block(error):
                return
            raise
        if not data:
            raise EnvironmentError(errno.ECONNRESET, "closed")
        for event in self._protocol.feed(data):
            if event[0] == "send":
                self._send(event[1])
            elif event[0] in ("welcome", "ack"):
                self._committed = event[1]
            elif event[0] == "error":
                self.pause = _jittered(_BUSY_PAUSE_S) if event[1] in (BUSY, GOING_AWAY) else _REFUSED_PAUSE_S


def _jittered(seconds):
    """Return 0.5 to 1.5 times as many seconds."""
    return seconds * (0.5 + bytearray(os.urandom(1))[0] / 256.0)


def _harmless(text):
    """Return a text from the network for a terminal: printable ASCII, and not too long."""
    return text[:255].encode("unicode_escape").decode("ascii")


def _octets(value):
    return value.encode("utf-8") if isinstance(value, _TEXT) else bytes(value)


def _is_ours(handler, name):
    """Return whether a method is this class's own, and not a subclass's or an instance's."""
    def function(owner):
        method = getattr(owner, name)
        return getattr(method, "__func__", method)

    return name not in handler.__dict__ and function(type(handler)) is function(SocketHandler)


def _sleep(stop, seconds):
    # Waiting for an event with a timeout is a loop of short sleeps in Python 2.
    if _PY2:
        time.sleep(seconds)
    else:
        stop.wait(seconds)


def _sleep_long(stop, seconds):
    """As _sleep, and see soon that it is to stop, in Python 2, too."""
    deadline = _now() + seconds
    while not stop.is_set() and _now() < deadline:
        _sleep(stop, min(_TICK_S if _PY2 else seconds, max(deadline - _now(), 0.0)))


# --------------------------------------------------------------------------------------------------------------------
# Fork and exit
# --------------------------------------------------------------------------------------------------------------------


def _before_fork():
    """End the threads: what they hold would be held for ever in the child, and Python 3.12 warns of them."""
    for handler in list(_live):
        handler._stop_threads(0.1)


def _after_fork_in_parent():
    for handler in list(_live):
        if not handler._nothing_left():
            handler._start_helper()
        if handler._spool is not None and handler._adopt_again:
            handler._adopt_soon()


def _after_fork_in_child():
    for handler in list(_live):
        handler._forked()


if _AT_FORK:
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )


def _flush_with_multiprocessing(handler):
    """Have a child of multiprocessing wait for acknowledgements: it ends without running atexit's functions."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        reference = weakref.ref(handler)

        def flush():
            alive = reference()
            if alive is not None:
                alive.flush()

        try:
            util.Finalize(None, flush, exitpriority=0)
        except Exception:  # noqa: BLE001 - it is a favour
            pass
