"""Pickles plain data, and refuses objects of any other class before anything of them is read.

Knows nothing of records. Python 2 has no such pickler: what is given to it there must be plain already.
"""
from __future__ import absolute_import, division

import io
import sys

from ._compat import PY2, pickle
from ._usual import PLAIN_IDS

NAMES_CLASS = b"\x93" if (3,) <= sys.version_info < (3, 8) else None
"""A byte of each pickle that names a class (STACK_GLOBAL of PEP 3154) on 3.6 and 3.7, where a pickler asks its
`dispatch_table` for objects only, and not for classes. None elsewhere."""
_CONTAINER_IDS = frozenset(map(id, (list, tuple, set, frozenset, dict)))


class _Written(list):
    """What a pickler has written: a piece of bytes, or several of a large record."""

    write = list.append


class _Refusal(object):
    """A table of how classes are pickled that refuses each: of Python 3.6 and 3.7, for objects."""

    def __getitem__(self, kind):
        raise TypeError("%s is not plain data" % kind)

    get = __getitem__  # which a pickler written in Python calls


class _PlainPickler(pickle.Pickler if not PY2 else object):
    """Refuses whatever is not plain data, or lists, tuples, sets and dicts of it, before anything of it is read."""

    dispatch_table = _Refusal()

    def reducer_override(self, value):
        """Refuse an object, a class or a function: Python 3.8 or newer calls this before anything else."""
        kind = id(type(value))
        if kind in PLAIN_IDS or kind in _CONTAINER_IDS:  # a pickler written in Python asks for these, too
            return NotImplemented
        raise TypeError("%s is not plain data" % type(value))


def make_pickler(protocol):
    """Return a pickler without a memo: its `dump`, a function that takes what it has written, and the rest of that.

    There is a rest of a large record only, and on Python 2 never.
    """
    if PY2:
        pickler = pickle.Pickler(protocol)
        take, more = pickler.getvalue, ()
    else:
        more = _Written()
        pickler = _PlainPickler(more, protocol)
        take = more.pop
    pickler.fast = True
    return pickler.dump, take, more


def dump_plain(value, protocol):
    """Return the pickle of plain data, with a memo. Raises a TypeError for other data on Python 3."""
    if PY2:
        return pickle.dumps(value, protocol)
    room = io.BytesIO()
    _PlainPickler(room, protocol).dump(value)
    return room.getvalue()
