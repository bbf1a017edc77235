"""Makes the pickle of a log record: the dict of its attributes, which any collector can read.

Knows nothing of the network, sessions and files.
"""
from __future__ import absolute_import, division

import gc
import logging
import traceback
from itertools import count

from ._compat import PY2, TEXT, text_of
from ._cutting import TRUNCATED, add_truncated, cut_record
from ._exceptions import describe_exceptions
from ._messages import OWN_ATTRIBUTES, spread_extra, spread_message
from ._pickler import NAMES_CLASS, dump_plain, make_pickler
from ._texts import free_name
from ._usual import PLAIN_IDS, PLAIN_KINDS, read_usual
from ._values import Reading

_PROTOCOL = 2 if PY2 else 4
"""The shortest and quickest protocol that every version of the same major number reads."""
_LARGE_BYTES = 1 << 15
_picklers = []  # each with what it has written, which no thread uses just now
_LogRecord = logging.LogRecord
_DEFAULT_FORMATTER = logging.Formatter()
_NO_TRACEBACKS = (None, "", "\n")
"""Values of `exc_text` beside an exception that are not its traceback; loguru sets the last one."""
_EXCEPTION = "prefork_logd.exception"
_MOST_NAMES = 1000
_not_plain = set()  # names of attributes with values that were not plain: such will come again
_are_plain = PLAIN_KINDS.issuperset
_referents = gc.get_referents
_keys_of = dict.viewkeys if PY2 else dict.keys


def make_pickle(record, formatter=None, max_bytes=1 << 20, default=None, is_short=False):
    """Return the pickle of a LogRecord's attributes: message formatted, traceback as exc_text. Raises nothing.

    Values of `extra` are made plain data (_values.py); `default` is asked first for those of foreign classes. The
    largest values are cut if the pickle would exceed max_bytes; "prefork_logd.truncated" has the paths of what was cut.
    A short pickle has no attributes that a collector of ours derives from others, or that say nothing.

    Longer than other functions: each record of a service passes here, and a call takes as long as several lines.
    """
    attributes = record.__dict__.copy()
    try:
        message = attributes["msg"]
        if message.__class__ is str and record.__class__ is _LogRecord:
            # As getMessage does, without calling it.
            if attributes["args"]:
                attributes["msg"] = message % attributes["args"]
                attributes["prefork_logd.msg"] = message
        elif issubclass(type(message), dict) and not attributes["args"]:
            spread_message(attributes, message)
        else:
            attributes["msg"] = record.getMessage()
            if attributes["args"] and isinstance(message, (str, TEXT)):
                attributes["prefork_logd.msg"] = message
    except Exception:  # noqa: BLE001 - __str__ of an argument may do anything
        attributes["msg"] = _unformatted(record)
    exceptions = None
    if attributes["exc_info"]:
        if attributes["exc_text"] in _NO_TRACEBACKS:
            attributes["exc_text"] = _traceback(attributes["exc_info"], formatter)
        exceptions = _exceptions(attributes["exc_info"])
    if "message" in attributes:
        del attributes["message"]
    if is_short:
        try:
            if attributes["exc_text"] is None:
                del attributes["exc_text"]
            del attributes["args"], attributes["exc_info"], attributes["msecs"], attributes["relativeCreated"]
        except KeyError:  # a filter of the service has taken one away
            attributes["args"] = attributes["exc_info"] = None
    else:
        attributes["args"] = attributes["exc_info"] = None
    # Plain values refer to nothing. Others that refer to nothing, such as a datetime, are refused by the pickler below:
    # to look at the class of each value would take longer than all of this. Python 2 has no such pickler. Values that
    # are known not to be plain by their names are made plain by themselves.
    if "extra" in attributes:
        spread_extra(attributes)
    known = {}
    if _not_plain:
        for name in _keys_of(attributes) & _not_plain:
            known[name] = attributes[name]
            attributes[name] = None
    if _referents(*attributes.values()) or (PY2 and not _is_plain(attributes)):
        if known:
            attributes.update(known)
        _make_plain(attributes, default)
    elif known:
        usual = read_usual(known) if default is None else None
        attributes.update(known if usual is None else usual)
        if usual is None:
            _make_known_plain(attributes, known, default)
    if exceptions:
        attributes[_EXCEPTION] = exceptions
    # Without a memo, which nothing in a usual record refers to: that takes less time here and in the collector. A large
    # record gets one, for it may have a long text many times.
    try:
        try:
            pickler = _picklers.pop()
        except IndexError:
            pickler = make_pickler(_PROTOCOL)
        dump, take, more = pickler
        dump(attributes)
        data = take()
        size = len(data)
        if size > _LARGE_BYTES or more:
            data = dump_plain(attributes, _PROTOCOL)
            size = len(data)
        else:
            _picklers.append(pickler)
        if NAMES_CLASS is not None and NAMES_CLASS in data and _has_class(attributes):
            raise TypeError("a class is not plain data")
    except Exception:  # noqa: BLE001 - a refusal, or whatever pickle raises
        data = _dump_refused(attributes, default, exceptions, frozenset(known) | {TRUNCATED} if known else ())
        size = len(data)
    return data if size <= max_bytes else cut_record(attributes, max_bytes, _PROTOCOL)


def _is_plain(attributes):
    """Return whether values are plain, by their classes, and names without state of their own (Python 2)."""
    try:
        # Names are looked at as values are above: an object with attributes refers to them.
        return _are_plain(map(type, attributes.values())) and not _referents(*attributes)
    except Exception:  # noqa: BLE001 - the __hash__ of a metaclass may do anything
        return False


def _dump_refused(attributes, default, exceptions, done):
    """Return the pickle of attributes of which one was refused, as plain data. Those in `done` are plain already."""
    if exceptions:
        del attributes[_EXCEPTION]  # it is plain, and not one of the values that share a budget
    _make_plain(attributes, default, done)
    if exceptions:
        attributes[_EXCEPTION] = exceptions
    try:
        dump, take, more = pickler = make_pickler(_PROTOCOL)
        dump(attributes)
        data = take()
        if len(data) > _LARGE_BYTES or more:
            return dump_plain(attributes, _PROTOCOL)
    except Exception:  # noqa: BLE001 - a formatter may have made anything of an exception
        return _dump_what_can_be(attributes)
    _picklers.append(pickler)
    return data


def _has_class(attributes):
    """Return whether a value is a class: one of C code refers to nothing."""
    return any(issubclass(kind, type) for kind in map(type, attributes.values()))


def _make_known_plain(attributes, known, default):
    """Make plain data of the attributes that are known not to be plain."""
    reading = Reading(default)
    for name in [name for name in attributes if name in known]:
        attributes[name] = reading.attribute(text_of(name), known[name])
    _note_truncated(attributes, reading)


def _dump_what_can_be(attributes):
    """Return the pickle of the attributes, with the texts of those that cannot be pickled."""
    for name in list(attributes):
        attributes[name] = _picklable(attributes[name])
    return dump_plain(attributes, _PROTOCOL)


def _exceptions(exc_info):
    """Return the exceptions as data; an empty list if there are none."""
    _, error, trace = exc_info if isinstance(exc_info, tuple) and len(exc_info) == 3 else (None, exc_info, None)
    return describe_exceptions(error, trace) if isinstance(error, BaseException) else []


def _make_plain(attributes, default, done=()):
    """Make plain data of every value, and texts of LogRecord's own; remember the names of the others.

    Except for those in `done`.
    """
    reading, numbers = Reading(default), count(2)
    for name, value in list(attributes.items()):
        key = name
        if id(type(name)) not in PLAIN_IDS:
            del attributes[name]
            key = free_name(text_of(name), attributes, numbers)
            attributes[key] = value
        if id(type(value)) in PLAIN_IDS or key in done:
            continue
        if key in OWN_ATTRIBUTES:
            attributes[key] = text_of(value)
            continue
        attributes[key] = reading.attribute(text_of(key), value)
        if type(name) is str:
            if len(_not_plain) >= _MOST_NAMES:
                _not_plain.clear()
            _not_plain.add(name)
    _note_truncated(attributes, reading)


def _note_truncated(attributes, reading):
    """Take note of values of which something was left out."""
    if reading.truncated:
        add_truncated(attributes, [u"extra." + path for path in reading.truncated])


def _unformatted(record):
    """Return the text of a message that does not fit its arguments, or has no text of its own."""
    args = record.args
    if not args:
        return text_of(record.msg)
    shown = u", ".join(text_of(arg) for arg in args) if isinstance(args, tuple) else text_of(args)
    return u"%s (not formatted: its arguments do not fit: %s)" % (text_of(record.msg), shown)


def _traceback(exc_info, formatter):
    """Return a traceback as text, with the chain of exceptions where there is one. Raises nothing."""
    try:
        if not isinstance(exc_info, tuple):
            exc_info = (type(exc_info), exc_info, getattr(exc_info, "__traceback__", None))
        return (formatter or _DEFAULT_FORMATTER).formatException(exc_info)
    except Exception:  # noqa: BLE001 - __str__ of an exception may do anything
        try:
            frames = u"".join(traceback.format_tb(exc_info[2]))
            return u"Traceback (most recent call last):\n%s%s" % (frames, exc_info[0].__name__)
        except Exception:  # noqa: BLE001
            return text_of(exc_info)


def _picklable(value):
    """Return the value, or its text if it cannot be pickled."""
    try:
        dump_plain(value, _PROTOCOL)
    except Exception:  # noqa: BLE001
        return text_of(value)
    return value
