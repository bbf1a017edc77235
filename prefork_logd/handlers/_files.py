"""Opens, names and removes the spool's files, with the few calls that need care.

Knows nothing of the form of these files.
"""
from __future__ import absolute_import, division

import os

from ._compat import close_on_exec

_O_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
# O_NONBLOCK: opening a FIFO in a file's place must not wait for its other end (open(2)).
O_CAREFULLY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | _O_CLOEXEC


def to_hex(data):
    """Return bytes as hexadecimal digits."""
    return "".join("%02x" % octet for octet in bytearray(data))


def from_hex(digits):
    """Return the bytes of hexadecimal digits. Raises ValueError."""
    return bytes(bytearray(int(digits[i : i + 2], 16) for i in range(0, len(digits), 2)))


def create_file(path, flags):
    """Open a file for reading and appending, made if needed; return its descriptor. Raises EnvironmentError."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | flags | O_CAREFULLY, 0o600)
    close_on_exec(descriptor)
    return descriptor


def close_descriptor(descriptor):
    """Close a descriptor. Raises nothing."""
    try:
        os.close(descriptor)
    except EnvironmentError:
        pass


def unlink_quietly(path):
    """Remove a file. Raises nothing."""
    try:
        os.unlink(path)
    except EnvironmentError:
        pass


def is_named(descriptor, path):
    """Return whether a path names this open file. Raises EnvironmentError if the descriptor is not open."""
    ours = os.fstat(descriptor)
    try:
        named = os.stat(path)
    except EnvironmentError:
        return False
    return (ours.st_ino, ours.st_dev) == (named.st_ino, named.st_dev)
