"""Holds the differences between Python 2.7 and 3, and between systems, that the other modules need.

Knows nothing of sockets, sessions or records.
"""
from __future__ import absolute_import, division

import os
import sys

try:
    import fcntl
except ImportError:  # Windows: there is no spool, and children inherit no descriptors
    fcntl = None
try:
    import cPickle as pickle
    from thread import get_ident
except ImportError:
    import pickle  # noqa: F401 - for the other modules, as get_ident is
    from threading import get_ident  # noqa: F401

PY2 = sys.version_info[0] == 2
if PY2:
    from inspect import getmro
TEXT = type(u"")
HAS_FORK_HOOKS = hasattr(os, "register_at_fork")
getpid = os.getpid


def count_records(number):
    """Return a number of records as people write it: "1 record", "2 records"."""
    return u"%d record%s" % (number, u"" if number == 1 else u"s")


def text_of(value):
    """Return a value's text: str(), else repr(), else the name of its type. Raises nothing."""
    for make in (TEXT, repr):
        try:
            text = make(value)
        except Exception:  # noqa: BLE001 - __str__ and __repr__ may do anything
            continue
        if text.__class__ is TEXT:
            return text
        return TEXT.__getitem__(text, slice(None)) if isinstance(text, TEXT) else text.decode("utf-8", "replace")
    return u"<%s>" % type(value).__name__


def is_in_event_loop():
    """Return whether an asyncio loop runs in this thread: it must not stand still. Imports nothing."""
    events = sys.modules.get("asyncio.events")
    try:
        return events is not None and events._get_running_loop() is not None
    except Exception:  # noqa: BLE001 - an asyncio that is being imported, or a replaced one
        return False


def bases_of(kind):
    """Return a class and its bases; the old classes of Python 2 have no `__mro__`."""
    return getmro(kind) if PY2 else kind.__mro__


def octets(value):
    """Return a text as UTF-8, and anything else as bytes."""
    return value.encode("utf-8") if isinstance(value, TEXT) else bytes(value)


def close_on_exec(descriptor):
    """Have a descriptor closed in programs that this process starts; Python 3 does so by itself (PEP 446)."""
    if PY2 and fcntl is not None:
        fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.fcntl(descriptor, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)
