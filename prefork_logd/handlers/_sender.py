"""Describes this service to the collector: host, service, environment, version and fields of its own.

Knows nothing of sessions and records. The collector's half is specified in docs/protocol.md.
"""
from __future__ import absolute_import, division

import json
import os
import re
import socket

from ._compat import PY2, TEXT

MOST_BYTES = 735
"""Of the description: with a client's name of 255 bytes it fits into HELLO."""
_MOST_CHARS = 255
_MOST_FIELDS = 32
_CONTROL = re.compile(u"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPE = re.compile(b"%([0-9A-Fa-f]{2})?")
_ATTRIBUTES = {
    u"service": (u"service.name",),
    u"version": (u"service.version",),
    u"environment": (u"deployment.environment.name", u"deployment.environment"),
    u"host": (u"host.name",),
}
"""Names of OpenTelemetry for what a record has; the first one that is there counts."""


def describe(service=None, environment=None, version=None, fields=None, environ=None):
    """Return the description as JSON (bytes), and what is wrong with the environment variables (text, or None).

    An argument that is None is taken from OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES. Raises ValueError for
    arguments of a wrong type, with control characters, or that are too long.
    """
    found, trouble = _from_environment(os.environ if environ is None else environ)
    for name, value in ((u"service", service), (u"environment", environment), (u"version", version)):
        if value is not None:
            found[name] = _checked_text(name, value)
    found.setdefault(u"host", _CONTROL.sub(u"", _text(socket.gethostname()))[:_MOST_CHARS])
    if fields is not None:
        found[u"fields"] = _checked_fields(fields)
    found = dict((name, value) for name, value in found.items() if value)
    document = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    document = (document if isinstance(document, TEXT) else document.decode("utf-8")).encode("utf-8", "replace")
    if len(document) > MOST_BYTES:
        text = "service, environment, version and fields take %d bytes together; at most %d are sent"
        raise ValueError(text % (len(document), MOST_BYTES))
    return document, trouble


def _text(value):
    return value if isinstance(value, TEXT) else value.decode("utf-8", "replace")


def _checked_text(name, value, least=0):
    """Return a text of the caller's as unicode. Raises ValueError."""
    text = _text(value) if isinstance(value, (TEXT, str)) else None
    if text is None or not least <= len(text) <= _MOST_CHARS or _CONTROL.search(text):
        what = "%s is %r; it must be a text of at most %d characters, without control characters"
        raise ValueError(what % (name, value, _MOST_CHARS))
    return text.encode("utf-8", "replace").decode("utf-8")


def _checked_fields(fields):
    """Return the fields of the caller's. Raises ValueError."""
    if not isinstance(fields, dict) or len(fields) > _MOST_FIELDS:
        raise ValueError("fields is %r; it must be a dict of at most %d texts and numbers" % (fields, _MOST_FIELDS))
    checked = {}
    for key, value in fields.items():
        name = _checked_text("a name in fields", key, 1)
        if isinstance(value, (TEXT, str)):
            checked[name] = _checked_text("fields[%r]" % name, value)
        elif _is_number(value):
            checked[name] = value
        else:
            raise ValueError("fields[%r] is %r; it must be a text, a number or a bool" % (name, value))
    return checked


def _is_number(value):
    if isinstance(value, float):
        return value - value == 0  # neither infinite nor nan
    kinds = (int, long) if PY2 else int  # noqa: F821 - Python 2's
    return isinstance(value, kinds) and -1 << 63 <= value < 1 << 63


def _from_environment(environ):
    """Return what the environment variables of OpenTelemetry say, and what is wrong with them (text, or None)."""
    found, trouble = {}, None
    try:
        attributes = _resource_attributes(_text(environ.get("OTEL_RESOURCE_ATTRIBUTES", "")))
    except ValueError as error:
        # "The entire environment variable value SHOULD be discarded" (OpenTelemetry, Resource SDK).
        attributes, trouble = {}, u"OTEL_RESOURCE_ATTRIBUTES is ignored: %s" % error
    name = _text(environ.get("OTEL_SERVICE_NAME", "")).strip()
    if name:
        attributes[u"service.name"] = name
    for field, names in _ATTRIBUTES.items():
        value = next((attributes[one] for one in names if attributes.get(one)), None)
        if value is None:
            continue
        try:
            found[field] = _checked_text(field, value)
        except ValueError as error:
            trouble = u"an environment variable is ignored: %s" % error
    return found, trouble


def _resource_attributes(text):
    """Return the attributes of `key=value,key=value`; any character may be percent-encoded. Raises ValueError."""
    attributes = {}
    for pair in text.split(u","):
        if not pair.strip():
            continue
        name, sign, value = pair.partition(u"=")
        if not sign or not name.strip():
            raise ValueError("%r is not key=value" % pair)
        attributes[_decoded(name.strip())] = _decoded(value.strip())
    return attributes


def _decoded(text):
    """Return a text without its percent-encoding. Raises ValueError."""
    def octet(match):
        if match.group(1) is None:
            raise ValueError("%r has a %% that begins no octet" % text)
        return bytes(bytearray((int(match.group(1), 16),)))

    return _ESCAPE.sub(octet, text.encode("utf-8")).decode("utf-8") if u"%" in text else text
