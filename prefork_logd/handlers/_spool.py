"""Keeps the records of one session in files until they are acknowledged, and finds the files of ended processes.

Knows nothing of sockets, and of when a record is sent.
"""
from __future__ import absolute_import, division

import errno
import logging
import os
import struct

from ._compat import close_on_exec, fcntl, getpid, text_of
from ._files import O_CAREFULLY, close_descriptor, create_file, from_hex, is_named, to_hex, unlink_quietly
from ._segments import ENTRY, READ_BYTES, SPOOL_MAGIC, crc32_of, discard_segment, read_segment
from ._sender import MOST_BYTES

_SEGMENT_BYTES = 8 << 20
# In the logging module, where other copies of this module find it.
locks = logging.__dict__.setdefault("_prefork_logd_locks", {})
"""Lock files of this process: (pid, device, inode) to (purpose, token). A lock of fcntl belongs to the process: closing
any descriptor of the file gives it up (fcntl(2)), so a file that is in here is not opened again."""
_OWN, _ADOPTING = "own", "adopting"


class Spool(object):
    """Holds the records of one session that are not acknowledged, in files of one directory.

    `<session>.lock` is locked by the process that owns the session, and holds its sender.
    `<session>.<first number>.spool` are its segments. Another process that has the lock may send them (`adopt`): they
    hold the session and the numbers, so no record is stored twice. Children do not inherit the lock (fcntl(2)): a child
    that outlives its parent does not keep it.

    Records are written to the page cache only: they survive the process, not the host. Not safe for threads.
    """

    def __init__(self, directory, session, max_bytes, sender=b""):
        """Take a directory, a session's id (16 bytes), the most bytes on disk, and who sends the records, as JSON.

        Touches no file.
        """
        self.directory = os.path.abspath(directory)
        self.session = session
        self.max_bytes = max_bytes
        self._sender = sender
        self.bytes = 0
        self.failure = None
        """Why the last `append` or `read` failed, an EnvironmentError; None if it did not, or for max_bytes."""
        self.lost = False
        """Whether files were found to be removed; the caller sets it back, and appends its records above `last`."""
        self._salt = crc32_of(session)
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
        size = ENTRY.size + len(data)
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
            written = os.write(self._file, ENTRY.pack(len(data), crc32_of(tail, self._salt), number, created) + data)
            if written != size:
                self.failure = EnvironmentError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except EnvironmentError as error:
            self.failure = error
            if error.errno == errno.EBADF:  # the service has closed every descriptor
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
        """Check that the files are still there: make the lock anew, or set `lost`. Raises nothing."""
        if self._lock < 0 or not self._segments or self._file < 0:
            return
        try:
            if not is_named(self._file, self._segments[-1][2]):
                self._note_lost()
            elif not is_named(self._lock, self._path("lock")):
                self._unlock()
                self._open()
        except EnvironmentError as error:
            self.failure = error
            self._note_lost()

    def read(self, number, place, max_bytes=READ_BYTES):
        """Return `([(number, created, pickle), ...], next place)`: records from `number` on, beginning at a place.

        No entries at the end. Records that cannot be read are skipped: `failure` is set then, and numbers are missing.
        Raises nothing.
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
        """Remove segments that hold nothing above this number, except the last one. Raises nothing."""
        while len(self._segments) > 1 and self._segments[0][1] <= number:
            segment = self._segments.pop(0)
            self.bytes -= segment[3]
            discard_segment(segment[2], segment[4])

    def remove(self):
        """Remove everything: all is acknowledged. The next `append` begins anew. Raises nothing."""
        for segment in self._segments:
            discard_segment(segment[2], segment[4])
        if self._lock >= 0:
            unlink_quietly(self._path("lock"))
        self.close()

    def close(self):
        """Close the files and leave them, for a sibling or the next start. Raises nothing."""
        self._close_file()
        self._unlock()
        self._segments = []
        self.bytes = 0

    def _path(self, ending):
        return os.path.join(self.directory, "%s.%s" % (to_hex(self.session), ending))

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
        descriptor = create_file(path + ".new", os.O_TRUNC)
        key = _lock_key(os.fstat(descriptor))
        locks[key] = (_OWN, self)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(descriptor, self._sender)
            os.rename(path + ".new", path)
        except EnvironmentError:
            locks.pop(key, None)
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
        locks.pop(self._lock_key, None)

    def _begin_segment(self, number):
        path = self._path("%020d.spool" % number)
        descriptor = create_file(path, os.O_EXCL)
        try:
            if os.write(descriptor, SPOOL_MAGIC) != len(SPOOL_MAGIC):
                raise EnvironmentError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except EnvironmentError:
            close_descriptor(descriptor)
            unlink_quietly(path)
            raise
        self._close_file()
        self._file = descriptor
        self._inode = os.fstat(descriptor).st_ino
        self._segments.append([number, number - 1, path, len(SPOOL_MAGIC), False])
        self.bytes += len(SPOOL_MAGIC)

    def _untear(self):
        """Cut off a partial entry; if that fails, begin another segment with the next record."""
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
    """Yield each ended process's session: `(session, [path, ...], sender, done)`, locked until the next is asked for.

    `sender` is what that process told of itself; empty for a process of an earlier version.
    `done(damaged)` removes its files, and keeps those of `damaged` beside them as `*.damaged`. `complain(text)` is
    called for spools that cannot be taken. Raises EnvironmentError when the directory cannot be read.
    """
    directory = os.path.abspath(directory)
    names = [name.partition(".") for name in os.listdir(directory) if name.endswith((".lock", ".spool"))]
    for digits in sorted({digits for digits, _, _ in names if len(digits) == 32}):
        path = os.path.join(directory, digits + ".lock")
        try:
            session = from_hex(digits)
            lock = _take_lock(path)
        except ValueError:
            continue
        except EnvironmentError as error:
            if complain is not None:
                complain(u"the spool %s of an ended process cannot be sent: %s" % (text_of(path), text_of(error)))
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
                    discard_segment(other, other in damaged)
                unlink_quietly(path)

            yield session, paths, _read_sender(lock[0]), done
        finally:
            close_descriptor(lock[0])
            locks.pop(lock[1], None)


def _read_sender(descriptor):
    """Return what a lock file holds; nothing if it cannot be read, as a FIFO of its name cannot."""
    try:
        return os.read(descriptor, MOST_BYTES)
    except EnvironmentError:
        return b""


def _take_lock(path):
    """Lock an ended session's file; return (descriptor, key), or None if it is in use. Raises EnvironmentError.

    A file that is missing while its segments are there is made.
    """
    try:
        named = os.stat(path)
    except EnvironmentError:
        try:
            close_descriptor(create_file(path, os.O_EXCL))
            named = os.stat(path)
        except EnvironmentError as error:
            if error.errno in (errno.EEXIST, errno.ENOENT):
                return None
            raise
    key, token = _lock_key(named), object()
    if locks.setdefault(key, (_ADOPTING, token))[1] is not token:
        return None
    descriptor, taken = -1, False
    try:
        descriptor = os.open(path, os.O_RDWR | O_CAREFULLY)
        close_on_exec(descriptor)
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = is_named(descriptor, path) and _lock_key(os.fstat(descriptor)) == key
    except EnvironmentError as error:
        # Its owner has just removed it; or another process has it.
        if error.errno != errno.ENOENT and (descriptor < 0 or error.errno not in (errno.EAGAIN, errno.EACCES)):
            raise
    finally:
        if not taken:
            if descriptor >= 0:
                close_descriptor(descriptor)
            locks.pop(key, None)
    return (descriptor, key) if taken else None


def forget_locks_of_parents():
    """Forget, in a child, the lock files of the processes that it was forked from: such locks are not inherited."""
    for key in [key for key in list(locks) if key[0] != getpid()]:
        locks.pop(key, None)


def is_adopting():
    """Return whether a thread of this process is sending the spool of an ended one."""
    return any(key[0] == getpid() and held[0] == _ADOPTING for key, held in list(locks.items()))


def _lock_key(status):
    return (getpid(), status.st_dev, status.st_ino)
