"""Holds and checks the arguments of SocketHandler, for the parts that share them.

Knows nothing of the parts.
"""
from __future__ import absolute_import, division

import os
import re

from ._compat import TEXT, fcntl, octets
from ._sender import describe
from ._sockets import UNIX, literal_addresses
from ._tls_context import make_tls_context

_POLICIES = ("block", "drop_old", "drop_new", "spool")
_TLS_PREFIX = "tls://"
_LEAST_NUMBERS = {
    "limit_bytes": 0, "spool_limit_bytes": 0, "max_record_bytes": 1, "block_timeout": 0, "retry_pause": 0,
    "connect_timeout": 0, "hello_timeout": 0, "close_timeout": 0,
}
"""The numbers among the arguments, each with the least that it may be."""
_NUMBERS = (int, float, type(1 << 64))
_LEAST_KEY_BYTES, _MOST_KEY_ID_BYTES = 16, 64
_HOST_AND_PORT = re.compile(r"^(?:\[([0-9A-Fa-f:.%\w]+)\]|([^/:\[\]]+)):([0-9]{1,5})$")


class Options(object):
    """The arguments of one SocketHandler, whose docstring describes them. The handler's attributes change them here."""

    def __init__(
        self,
        host,
        port,
        key_id="",
        key="",
        overflow="block",
        limit_bytes=64 << 20,
        block_timeout=1.0,
        spool_dir=None,
        spool_limit_bytes=1 << 30,
        max_record_bytes=1 << 20,
        retry_pause=0.05,
        connect_timeout=3.0,
        hello_timeout=2.0,
        close_timeout=5.0,
        fallback=False,
        name=None,
        service=None,
        environment=None,
        version=None,
        fields=None,
        default=None,
        tls=None,
        tls_ca=None,
        tls_cert=None,
        tls_key=None,
        tls_server_name=None,
        ssl_context=None,
    ):
        """Raise ValueError for arguments that contradict each other. Connects to nothing.

        Longer than other functions: half of it is its signature.
        """
        self.key_id, self.key = _checked_key(octets(key_id), octets(key))
        host = _checked_host(host)
        if host.startswith(_TLS_PREFIX):
            host, tls = _without_prefix(host, tls), True
        self.host, self.port = _endpoint(host, port)
        self.tls = make_tls_context(
            self.host, self.port, tls, tls_ca, tls_cert, tls_key, tls_server_name, ssl_context
        )
        """The TlsContext; None without TLS."""
        self.overflow = checked("overflow", overflow)
        self.limit_bytes = checked("limit_bytes", limit_bytes)
        self.block_timeout = checked("block_timeout", block_timeout)
        self.spool_dir = _checked_directory(overflow, spool_dir)
        self.spool_limit_bytes = checked("spool_limit_bytes", spool_limit_bytes)
        self.max_record_bytes = checked("max_record_bytes", max_record_bytes)
        self.retry_pause = checked("retry_pause", retry_pause)
        self.connect_timeout = checked("connect_timeout", connect_timeout)
        self.hello_timeout = checked("hello_timeout", hello_timeout)
        self.close_timeout = checked("close_timeout", close_timeout)
        self.fallback = checked("fallback", fallback) and not key
        self.client_name = name
        self.sender, self.sender_trouble = describe(service, environment, version, fields)
        """What HELLO tells of this service; a sentence about environment variables that were ignored, or None."""
        self.default = checked("default", default)
        self.literal = None if self.port is None else literal_addresses(self.host, self.port)
        """The host's addresses if they need no name service; None otherwise, and for a Unix socket."""

    # Errors about a wrong argument name the class that the service has called.
    __init__.__qualname__ = "SocketHandler.__init__"


def checked(name, value):
    """Return an argument that may also be set later, by its name. Raises ValueError if it has no such meaning."""
    if name == "fallback" and value not in (True, False):  # "false", too, would be true
        raise ValueError("fallback is %r; choose True or False" % (value,))
    if name in _LEAST_NUMBERS:
        # A text, as environment variables are, would fail with every record.
        if not isinstance(value, _NUMBERS) or isinstance(value, bool) or not value >= _LEAST_NUMBERS[name]:
            raise ValueError("%s is %r; it must be a number of %d or more" % (name, value, _LEAST_NUMBERS[name]))
    elif name == "overflow" and value not in _POLICIES:
        raise ValueError("overflow is %r; choose one of %s" % (value, ", ".join(_POLICIES)))
    elif name == "default" and value is not None and not callable(value):
        raise ValueError("default is %r; it must be a function" % (value,))
    return value


def _checked_host(host):
    """Return the host, or the path of a Unix socket, as text. Raises ValueError."""
    if hasattr(host, "__fspath__"):
        host = host.__fspath__()
    if not isinstance(host, (str, TEXT)):
        raise ValueError("host is %r; it must be a text" % (host,))  # noqa: TRY004 - as for each argument
    if "://" in host and not host.startswith(_TLS_PREFIX):
        raise ValueError("host is %r; write tls://HOST:PORT, unix:/PATH, or HOST:PORT" % host)
    return host


def _checked_key(key_id, key):
    if (key and not 1 <= len(key_id) <= _MOST_KEY_ID_BYTES) or (key_id and len(key) < _LEAST_KEY_BYTES):
        raise ValueError("a key needs 16 bytes or more, and a key_id of 1 to 64")
    return key_id, key


def _without_prefix(host, tls):
    """Return the address after "tls://". Raises ValueError if the argument `tls` forbids TLS."""
    if tls is not None and not tls:
        raise ValueError("tls=False contradicts %s" % host)
    return host[len(_TLS_PREFIX) :].rstrip("/")


def _endpoint(host, port):
    """Return host and port; the port is None and the host a path for a Unix socket. Raises ValueError."""
    if host.startswith("unix:"):
        host, port = host[len("unix:") :], None
    else:
        named = _HOST_AND_PORT.match(host)
        if named and port is not None:
            raise ValueError("host is %r and port %r; give the port once" % (host, port))
        if named:
            host, port = named.group(1) or named.group(2), named.group(3)
    if port is None:
        if UNIX is None:
            raise ValueError("%r is a Unix socket, which this system does not have; give a host and a port" % host)
        return host, None
    try:
        port = int(port)
    except (TypeError, ValueError):
        raise ValueError("port is %r; it must be a number between 0 and 65535" % (port,))
    if not 0 <= port <= 65535:
        raise ValueError("port %d is not between 0 and 65535" % port)
    return host, port


def _checked_directory(overflow, path):
    """Return the spool's directory as an absolute path. Raises ValueError if it cannot be used, nor made if missing.

    It is made with the first record, not here: a service may still change its user.
    """
    path = os.path.abspath(path) if path else None  # an empty one is not the current directory
    if overflow != "spool":
        return path
    if not path or fcntl is None:
        raise ValueError("overflow='spool' needs spool_dir, and a system with file locks")
    place = path
    while not os.path.lexists(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise ValueError("spool_dir %s is impossible: %s is not a directory" % (path, place))
    if not os.access(place, os.W_OK | os.X_OK):
        raise ValueError("spool_dir %s is impossible: this process cannot write in %s" % (path, place))
    return path


def option(name):
    """Return a property of a handler that reads one of its options, and sets it: to a value that has a meaning."""
    def read(handler):
        return getattr(handler._options, name)

    def write(handler, value):
        setattr(handler._options, name, checked(name, value))

    return property(read, write)
