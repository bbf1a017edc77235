"""Takes apart messages that are dicts, and attributes that hold the fields of another library.

Knows structlog's ProcessorFormatter and loguru's sink by what they put into a LogRecord. Imports neither.
"""
from __future__ import absolute_import, division

import logging
import sys
from itertools import count

from ._compat import text_of
from ._texts import free_name

OWN_ATTRIBUTES = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime"}
"""The names of a LogRecord's own attributes."""
_TEXT_KEYS = ("event", "message", "msg")
_STRUCTLOG = ("_logger", "_name", "_record", "_from_structlog")


def spread_message(attributes, message):
    """Make message text and attributes of a dict that was logged as message.

    The text is that of the key "event", "message" or "msg"; without one, the names of the keys. A key that a LogRecord
    has already is kept with an underscore behind it.
    """
    fields = dict(message)
    for name in _STRUCTLOG:
        attributes.pop(name, None)
        fields.pop(name, None)
    exc_info = fields.pop("exc_info", None)
    if exc_info and not attributes["exc_info"]:
        attributes["exc_info"] = sys.exc_info() if exc_info is True else exc_info
    for key in _TEXT_KEYS:
        if key in fields:
            attributes["msg"] = text_of(fields.pop(key))
            break
    else:
        attributes["msg"] = u", ".join(text_of(key) for key in fields) or u"{}"
    spread(attributes, fields)


def spread(attributes, fields):
    """Add fields to the attributes, none in another's place."""
    numbers = count(2)
    for key, value in fields.items():
        attributes[free_name(text_of(key), attributes, numbers)] = value


def spread_extra(attributes):
    """Put the fields of loguru's `extra`, which is one attribute, beside the others."""
    fields = attributes.get("extra")
    if issubclass(type(fields), dict):  # isinstance asks the value for its __class__
        del attributes["extra"]
        spread(attributes, dict.copy(fields))  # at once: another thread may change it meanwhile
