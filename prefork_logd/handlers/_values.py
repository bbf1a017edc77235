"""Makes plain data of the values of `extra`: what a pickle can carry without the classes of the service.

Owns the order of preference, the budget of one record and the marks of what was left out. Does not know libraries: how
a class is read stands in _readers.py. docs/values.md describes the result.
"""
from __future__ import absolute_import, division

import collections
from itertools import count, islice

from ._clock import monotonic
from ._compat import text_of
from ._fields import Fields, Items
from ._readers import reader_of
from ._texts import Shortened, class_of, describe_object, free_name
from ._usual import PLAIN_IDS, read_one

CUT, CYCLE = u"<truncated>", u"<cycle>"
"""In the place of a value that was left out; a value within itself."""
REST = u"..."
"""The key of the number of values that were left out."""
_SEQUENCE_IDS = frozenset(map(id, (list, tuple, set, frozenset, collections.deque)))
MOST_VALUES = 10000
_LEAST_VALUES = 100
"""How many values an attribute may have although the others have used up the budget; together as many once more."""
_MOST_DEPTH = 20
_MOST_CALLS_S = 0.1
"""How long the code of classes may be called for one record. Checked between two values: a call is not interrupted."""
MOST_PATHS = 32
_MOST_KEY = 256


def _rest_of(values):
    """Return how many values a reader has left out of an object, which has a key for them."""
    rest = values.get(REST)
    return rest if type(rest) is int else 0


class Reading(object):
    """Reads the values of one record, within a budget of values, depth and time."""

    def __init__(self, default=None):
        """Take a function that is asked first for each value of a class that is not a plain one, or None."""
        self._default = default
        self._left = self._reserve = MOST_VALUES
        self._deadline = None
        self._open = set()  # ids of the values that are being read
        self._path = []
        self.truncated = []
        """Paths of the values of which something was left out."""

    def attribute(self, name, value):
        """Return plain data for the value of an attribute. Raises no Exception."""
        self._path = [name]
        if self._left < _LEAST_VALUES <= self._reserve:  # a small one behind a large one is whole
            self._left += _LEAST_VALUES
            self._reserve -= _LEAST_VALUES
        return self._plain(value)

    def _plain(self, value):
        """Return plain data. An Exception of the value's own code costs this value."""
        kind = type(value)
        if id(kind) in PLAIN_IDS:
            return value
        if len(self._open) >= _MOST_DEPTH or self._left <= 0:
            return self._cut()
        if id(value) in self._open:
            return CYCLE
        self._open.add(id(value))
        try:
            if kind is dict:
                return self._object(value)
            if id(kind) in _SEQUENCE_IDS:
                return self._items(value)
            return self._foreign(kind, value)
        except Exception as error:  # noqa: BLE001 - the code of any class may run here
            return u"<unreadable: %s>" % type(error).__name__
        finally:
            self._open.discard(id(value))

    def _cut(self):
        self.note()
        return CUT

    def note(self):
        """Take note that something was left out where this reads."""
        if len(self.truncated) < MOST_PATHS:
            path = u".".join(self._path)
            if path not in self.truncated:
                self.truncated.append(path)

    def _items(self, values):
        result = []
        # All at once: another thread may change it meanwhile.
        for place, value in enumerate(list(islice(values, self._left + 1))):
            if self._left <= 0:
                result.append({REST: max(len(values) - place, 1)})
                self.note()
                break
            self._left -= 1
            result.append(value if id(type(value)) in PLAIN_IDS else self._at(u"%d" % place, value))
        return result

    def _object(self, values):
        result, numbers = {}, count(2)
        # As above.
        for key, value in list(islice(values.items(), self._left + 1)):
            if self._left <= 0:
                result[REST] = len(values) - len(result) + max(_rest_of(values) - 1, 0)
                self.note()
                break
            self._pair(result, key, value, numbers)
        return result

    def _mapping(self, items):
        """Read pairs that the code of a class gives, as long as there is time for it."""
        result, numbers = {}, count(2)
        for key, value in items.pairs:
            if self._left <= 0 or self._is_late():
                result[REST] = max(items.count - len(result), 1)
                self.note()
                break
            self._pair(result, key, value, numbers)
        return result

    def _pair(self, result, key, value, numbers):
        self._left -= 1
        name = key if id(type(key)) in PLAIN_IDS else free_name(text_of(key)[:_MOST_KEY], result, numbers)
        result[name] = value if id(type(value)) in PLAIN_IDS else self._at(text_of(name), value)

    def _at(self, name, value):
        """Return plain data for a value within the one that is being read."""
        self._path.append(name)
        try:
            return self._plain(value)
        finally:
            self._path.pop()

    def _is_late(self):
        """Return whether the time for the code of classes is over; it begins with the first call."""
        now = monotonic()
        if self._deadline is None:
            self._deadline = now + _MOST_CALLS_S
        return now >= self._deadline

    def _foreign(self, kind, value):
        """Return plain data for a value of a class that is not a plain one."""
        if self._default is None:
            found = read_one(value)
            if found is not None:
                return found
        if self._is_late():
            return self._cut()
        if self._default is not None:
            try:
                replaced = self._default(value)
            except Exception:  # noqa: BLE001 - as json's default does for what it does not know
                replaced = value
            if replaced is not value:
                return self._plain(replaced)
        read = reader_of(class_of(value))
        found = describe_object(value) if read is None else read(value)
        if type(found) is Shortened:
            self.note()
            found = found.data
        if type(found) is Fields:
            return self._fields(found)
        if type(found) is Items:
            return self._mapping(found)
        return self._plain(found if type(found) is not kind else describe_object(value))

    def _fields(self, fields):
        """Read attributes one by one: one that fails costs itself."""
        result = {}
        for name in fields.names:
            if self._left <= 0 or self._is_late():
                result[REST] = len(fields.names) - len(result)
                self.note()
                break
            self._left -= 1
            try:
                value = fields.get(name)
            except Exception as error:  # noqa: BLE001 - a property may raise anything
                value = u"<unreadable: %s>" % type(error).__name__
            result[name] = self._at(name, value)
        return result
