"""Makes the pickle of a log record: the dict of its attributes, which any collector can read.

Knows nothing of the network, sessions and files.
"""
from __future__ import absolute_import, division

import logging
import traceback

from ._compat import PY2, TEXT, pickle, text_of
from ._exceptions import describe_exceptions

_PROTOCOL = 2 if PY2 else 4
"""The shortest and quickest protocol that every version of the same major number reads."""
_dumps = pickle.dumps
_LogRecord = logging.LogRecord
_DEFAULT_FORMATTER = logging.Formatter()
_NO_TRACEBACKS = (None, "", "\n")
"""Values of `exc_text` beside an exception that are not its traceback; loguru sets the last one."""


def make_pickle(record, formatter=None, max_bytes=1 << 20):
    """Return the pickle of a LogRecord's attributes: message formatted, traceback as exc_text. Raises nothing.

    Values that cannot be pickled become their text. Texts are cut if the pickle would exceed max_bytes.
    """
    attributes = record.__dict__.copy()
    try:
        message = attributes["msg"]
        if message.__class__ is str and record.__class__ is _LogRecord:
            # As getMessage does, without calling it.
            if attributes["args"]:
                attributes["msg"] = message % attributes["args"]
                attributes["prefork_logd.msg"] = message
        else:
            attributes["msg"] = record.getMessage()
            if attributes["args"] and isinstance(message, (str, TEXT)):
                attributes["prefork_logd.msg"] = message
    except Exception:  # noqa: BLE001 - __str__ of an argument may do anything
        attributes["msg"] = _unformatted(record)
    attributes["args"] = None
    if attributes["exc_info"]:
        if attributes["exc_text"] in _NO_TRACEBACKS:
            attributes["exc_text"] = _traceback(attributes["exc_info"], formatter)
        exceptions = _exceptions(attributes["exc_info"])
        if exceptions:
            attributes["prefork_logd.exception"] = exceptions
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


def _exceptions(exc_info):
    """Return the exceptions as data; an empty list if there are none."""
    _, error, trace = exc_info if isinstance(exc_info, tuple) and len(exc_info) == 3 else (None, exc_info, None)
    return describe_exceptions(error, trace) if isinstance(error, BaseException) else []


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


def _cut(attributes, max_bytes):
    """Return a pickle of at most max_bytes, with values cut where that is needed. Raises nothing."""
    for share in (max_bytes // 8, max_bytes // 64, max_bytes // 1024):
        for name, value in list(attributes.items()):
            if len(_dumps(value, _PROTOCOL)) > share:
                text = text_of(value)
                # A character is at most 4 bytes, and some are 6 in a pickle of Python 2.
                attributes[name] = u"%s... (cut by the handler, of %d characters)" % (text[: share // 6], len(text))
        data = _dumps(attributes, _PROTOCOL)
        if len(data) <= max_bytes:
            return data
    kept = dict((name, attributes.get(name)) for name in ("name", "levelno", "levelname", "created", "process"))
    kept["msg"] = u"(a record of more than %d bytes, too many values to keep)" % max_bytes
    return _dumps(kept, _PROTOCOL)
