"""Makes the pickle of a log record: the dict of its attributes, which any collector can read.

Knows nothing of the network, sessions and files.
"""
from __future__ import absolute_import, division

import io
import logging
import traceback

from ._compat import PY2, TEXT, pickle, text_of
from ._cutting import add_truncated, cut_record
from ._exceptions import describe_exceptions
from ._messages import spread_extra, spread_message
from ._values import PLAIN_KINDS, Reading

_PROTOCOL = 2 if PY2 else 4
"""The shortest and quickest protocol that every version of the same major number reads."""
_LARGE_BYTES = 1 << 15
_dumps = pickle.dumps
_picklers = []  # and their buffers, which no thread uses just now
_LogRecord = logging.LogRecord
_DEFAULT_FORMATTER = logging.Formatter()
_NO_TRACEBACKS = (None, "", "\n")
"""Values of `exc_text` beside an exception that are not its traceback; loguru sets the last one."""
_OWN_ATTRIBUTES = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime"}
"""The names of a LogRecord's own attributes."""
_are_plain = PLAIN_KINDS.issuperset


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
        elif isinstance(message, dict) and not attributes["args"]:
            spread_message(attributes, message)
        else:
            attributes["msg"] = record.getMessage()
            if attributes["args"] and isinstance(message, (str, TEXT)):
                attributes["prefork_logd.msg"] = message
    except Exception:  # noqa: BLE001 - __str__ of an argument may do anything
        attributes["msg"] = _unformatted(record)
    attributes["args"] = None
    exceptions = None
    if attributes["exc_info"]:
        if attributes["exc_text"] in _NO_TRACEBACKS:
            attributes["exc_text"] = _traceback(attributes["exc_info"], formatter)
        exceptions = _exceptions(attributes["exc_info"])
        attributes["exc_info"] = None
    if "message" in attributes:
        del attributes["message"]
    if is_short:
        try:
            del attributes["args"], attributes["exc_info"], attributes["msecs"], attributes["relativeCreated"]
            if attributes["exc_text"] is None:
                del attributes["exc_text"]
        except KeyError:  # a filter of the service has taken one away
            pass
    if not _are_plain(map(type, attributes.values())):
        _make_plain(attributes, default)
    if exceptions:
        attributes["prefork_logd.exception"] = exceptions
    try:
        data = _dump_plain(attributes)
    except Exception:  # noqa: BLE001 - a formatter may have made anything of an exception
        data = _dump_what_can_be(attributes)
    return data if len(data) <= max_bytes else cut_record(attributes, max_bytes, _PROTOCOL)


def _dump_plain(attributes):
    """Return the pickle of plain data, which is within itself nowhere. Raises what pickle raises.

    Without a memo, which nothing in a usual record refers to: that takes less time here and in the collector. A large
    record gets one, for it may have a long text many times.
    """
    try:
        pickler, room = _picklers.pop()
    except IndexError:
        pickler, room = _make_pickler()
    pickler.dump(attributes)
    if PY2:
        data = pickler.getvalue()  # which empties it
    elif room.tell() > _LARGE_BYTES:
        return _dumps(attributes, _PROTOCOL)
    else:
        data = room.getvalue()
        room.seek(0)
        room.truncate()
    if len(data) > _LARGE_BYTES:
        return _dumps(attributes, _PROTOCOL)
    _picklers.append((pickler, room))
    return data


def _make_pickler():
    """Return a pickler without a memo, and the buffer that it writes to; on Python 2 that is its own."""
    room = None if PY2 else io.BytesIO()
    pickler = pickle.Pickler(_PROTOCOL) if PY2 else pickle.Pickler(room, _PROTOCOL)
    pickler.fast = True
    return pickler, room


def _dump_what_can_be(attributes):
    """Return the pickle of the attributes, with the texts of those that cannot be pickled."""
    for name in list(attributes):
        attributes[name] = _picklable(attributes[name])
    return _dumps(attributes, _PROTOCOL)


def _exceptions(exc_info):
    """Return the exceptions as data; an empty list if there are none."""
    _, error, trace = exc_info if isinstance(exc_info, tuple) and len(exc_info) == 3 else (None, exc_info, None)
    return describe_exceptions(error, trace) if isinstance(error, BaseException) else []


def _make_plain(attributes, default):
    """Make plain data of every value, and texts of LogRecord's own; take note of what was left out."""
    spread_extra(attributes)
    reading = Reading(default)
    for name, value in list(attributes.items()):
        if type(value) in PLAIN_KINDS:
            continue
        is_own = name in _OWN_ATTRIBUTES
        attributes[name] = text_of(value) if is_own else reading.attribute(text_of(name), value)
    if reading.truncated:
        add_truncated(attributes, [u"extra." + path for path in reading.truncated])


def _unformatted(record):
    """Return the text of a message that does not fit its arguments."""
    args = record.args
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
            return u"%s%s" % (u"".join(traceback.format_tb(exc_info[2])), exc_info[0].__name__)
        except Exception:  # noqa: BLE001
            return text_of(exc_info)


def _picklable(value):
    """Return the value, or its text if it cannot be pickled."""
    try:
        _dumps(value, _PROTOCOL)
    except Exception:  # noqa: BLE001
        return text_of(value)
    return value
