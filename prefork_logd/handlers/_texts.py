"""Makes texts of objects: names of classes, and what str() shows, without the passwords of URLs.

Knows no class, and no budget but that of one text.
"""
from __future__ import absolute_import, division

import re

from ._compat import PY2, bases_of, text_of

HIDDEN = u"**********"
"""In the place of a secret."""
# From "://" on, so that each stretch of a text is tried once, however long the text is. A password may have "@".
_PASSWORD_IN_URL = re.compile(u"(://[^\\s/?#:@]*):[^\\s/?#@]*(?:@[^\\s/?#@,]*)*@")
# The URL of a cluster may have a user for each host: "postgresql://u:p@a,v:q@b/db".
_HOSTS = re.compile(u"://[^\\s/?#,]*,[^\\s/?#]*")
_LATER_PASSWORD = re.compile(u"(,[^:@,]*):[^@,]*(?:@[^@,]*)*@")
# Names are bounded, so that none is tried at each of many places.
_SECRET_IN_QUERY = re.compile(
    u"([?&;][\\w.%-]{0,40}(?:passw|pwd|secret|token|credential|api[_-]?key|access[_-]?key|signature)[\\w.%-]{0,40}=)"
    u"[^\\s&;#'\"<>)]+",
    re.IGNORECASE | re.UNICODE,
)
MOST_TEXT = 10000


class Shortened(object):
    """Plain data of a value of which something was left out."""

    __slots__ = ("data",)

    def __init__(self, data):
        self.data = data


def free_name(name, taken, numbers):
    """Return a name that is not taken: this one, or with underscores, or with the next of `numbers` behind it.

    With the same iterator of numbers each one is tried once, so that thousands of equal names take no square of time.
    """
    for suffix in (u"", u"_", u"__"):
        if name + suffix not in taken:
            return name + suffix
    return next(found for found in (u"%s_%d" % (name, number) for number in numbers) if found not in taken)


def describe_object(value):
    """Return an object's class and its text."""
    text = shown(value)
    found = {u"__class__": class_name(class_of(value)), u"text": text}
    if type(text) is Shortened:
        found[u"text"] = text.data
        return Shortened(found)
    return found


def describe_unevaluated(value, about=u""):
    """Return the class of an object that would do something, such as ask a database, if its text was asked for."""
    kind = type(value)
    return {u"__class__": class_name(kind), u"text": u"<%s%s, not evaluated>" % (kind.__name__, about)}


def shown(value):
    """Return a value's text without the secrets of URLs; Shortened after MOST_TEXT characters."""
    text = text_of(value)
    if u"://" in text:
        text = _HOSTS.sub(_hide_later_passwords, _PASSWORD_IN_URL.sub(u"\\1:***@", text))
        text = _SECRET_IN_QUERY.sub(u"\\1***", text)
    if len(text) > MOST_TEXT:
        return Shortened(u"%s... (%d characters cut)" % (text[:MOST_TEXT], len(text) - MOST_TEXT))
    return text


def _hide_later_passwords(hosts):
    return _LATER_PASSWORD.sub(u"\\1:***@", hosts.group(0))


def class_of(value):
    """Return an object's class: of one of Python 2's old classes that one, which type() does not."""
    return value.__class__ if PY2 and type(value).__name__ == "instance" else type(value)


def class_name(kind):
    """Return the name of a class behind that of its module."""
    return u"%s.%s" % (kind.__module__, getattr(kind, "__qualname__", kind.__name__))


def root_and_name(kind):
    """Return the first part of a class's module, without underscore, and its name."""
    return kind.__module__.partition(".")[0].lstrip("_"), kind.__name__


def has_base(kind, root, name):
    """Return whether a class is the one of this name, in a module of this root, or a subclass."""
    return (root, name) in [root_and_name(base) for base in bases_of(kind)]
