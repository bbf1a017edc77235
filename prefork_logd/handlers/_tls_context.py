"""Checks a handler's arguments about TLS, and makes the ssl.SSLContext from them; again when its files have changed.

Knows nothing of sockets. The module `ssl` is imported only when a handler asks for TLS.
"""
from __future__ import absolute_import, division

import os

from ._compat import text_of


class TlsContext(object):
    """What one handler needs to speak TLS: the context, and the name that the collector's certificate must have."""

    def __init__(self, server_name, ca=None, cert=None, key=None, given=None):
        """Take paths, or the application's own context (`given`), which is used as it is.

        Raises ValueError for a Python without TLS, and for files that cannot be read or do not belong together.
        """
        self._ssl = _import_ssl()
        self.make_buffer = getattr(self._ssl, "MemoryBIO", None)
        """ssl.MemoryBIO; None in Python 2.7."""
        self.server_name = server_name
        self._given = given
        self._files = tuple(path and os.path.abspath(path) for path in (ca, cert, key))
        self._stamps = _stamps(self._files)
        self.context = self._make() if given is None else given
        self._try_out()

    def __eq__(self, other):
        return isinstance(other, TlsContext) and self._arguments() == other._arguments()

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return hash(self.server_name)

    def _arguments(self):
        return self.server_name, self._files, self._given

    def has_own_certificate(self):
        """Return whether the arguments name a certificate for this client; None if the context is the application's."""
        return None if self._given is not None else self._files[1] is not None

    def has_changed(self):
        """Return whether a file is another one than when it was read last. Costs a stat(2) for each."""
        return self._given is None and _stamps(self._files) != self._stamps

    def renew(self):
        """Read the files again if one has changed; return a sentence for people if that fails, else None.

        The context stays as it was then, and the same bad files are not tried again.
        """
        if not self.has_changed():
            return None
        self._stamps = _stamps(self._files)
        try:
            self.context = self._make()
        except ValueError as error:
            return u"is reached with the certificates that were read before: %s" % text_of(error)
        return None

    def _make(self):
        ssl = self._ssl
        ca, cert, key = self._files
        try:
            if ca is None:
                context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
            elif os.path.isdir(ca):
                context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, capath=ca)
            else:
                _check_readable("tls_ca", ca)
                context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=ca)
        except EnvironmentError as error:
            raise ValueError("tls_ca %s has no certificates in the form PEM (%s)" % (ca, error))
        _forbid_old_versions(ssl, context)
        if cert is not None:
            self._load_certificate(context, cert, key)
        return context

    def _load_certificate(self, context, cert, key):
        """Have the context show a certificate. An encrypted key is an error: OpenSSL would ask on the terminal."""
        _check_readable("tls_cert", cert)
        if key is not None:
            _check_readable("tls_key", key)
        asked = []

        def password():
            asked.append(True)
            return ""

        try:
            context.load_cert_chain(cert, key, password)
        except EnvironmentError as error:
            if asked:
                text = "tls_key %s is encrypted; load it into a context of your own, and give that as ssl_context"
                raise ValueError(text % (key or cert))
            if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
                raise ValueError("tls_key %s is not the key of tls_cert %s" % (key or cert, cert))
            text = "tls_cert %s and tls_key %s are not a certificate and its key in the form PEM (%s)"
            raise ValueError(text % (cert, key or cert, error))

    def _try_out(self):
        """Raise ValueError for a context or a name with which no connection could begin."""
        if not hasattr(self.context, "wrap_socket") or not hasattr(self.context, "verify_mode"):
            raise ValueError("ssl_context is a %s, not an ssl.SSLContext" % type(self.context).__name__)
        if self.make_buffer is None:
            return
        try:
            self.context.wrap_bio(self.make_buffer(), self.make_buffer(), server_hostname=self.server_name)
        except (EnvironmentError, ValueError) as error:
            raise ValueError("TLS with %r is impossible: %s" % (self.server_name, error))


def make_tls_context(host, port, tls=None, ca=None, cert=None, key=None, server_name=None, given=None):
    """Return the TlsContext for the arguments of a handler, None if they ask for no TLS.

    Raises ValueError for arguments that contradict each other.
    """
    if tls not in (None, True, False):
        raise ValueError("tls is %r; choose True or False" % (tls,))
    values = (ca, cert, key, server_name, given)
    named = ("tls_ca", "tls_cert", "tls_key", "tls_server_name", "ssl_context")
    present = [name for name, value in zip(named, values) if value is not None]
    if tls is None:
        tls = bool(present)
    if not tls:
        if present:
            raise ValueError("tls=False contradicts %s" % ", ".join(present))
        return None
    if port is None:
        raise ValueError("TLS needs a host and a port; %r is a Unix socket" % host)
    if given is not None and (ca, cert, key) != (None, None, None):
        raise ValueError("ssl_context brings its own certificates; leave out tls_ca, tls_cert and tls_key")
    if key is not None and cert is None:
        raise ValueError("tls_key needs tls_cert, the certificate of that key")
    return TlsContext(server_name or host.rstrip("."), ca, cert, key, given)


def _import_ssl():
    try:
        import ssl  # noqa: PLC0415 - it takes time and memory that only those with TLS have to spend
    except ImportError:
        raise ValueError("TLS needs Python's module ssl, and this Python was built without it")
    if not hasattr(ssl, "create_default_context"):
        raise ValueError("TLS needs Python 2.7.9 or newer")
    return ssl


def _forbid_old_versions(ssl, context):
    """Have a context refuse everything before TLS 1.2 (RFC 8996), and renegotiation."""
    if hasattr(ssl, "TLSVersion"):
        context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    else:
        context.options |= ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
    context.options |= getattr(ssl, "OP_NO_RENEGOTIATION", 0)


def _check_readable(name, path):
    """Raise ValueError that names argument and path: errors of ssl name neither."""
    try:
        with open(path, "rb"):
            pass
    except EnvironmentError as error:
        raise ValueError("%s %s cannot be read: %s" % (name, path, text_of(error.strerror)))


def _stamps(paths):
    """Return what changes when a file is written or replaced."""
    stamps = []
    for path in paths:
        try:
            found = os.stat(path) if path is not None else None
        except EnvironmentError:
            found = None
        stamps.append(found and (found.st_mtime, found.st_size, found.st_ino))
    return stamps
