"""Reads the certificates of listeners from files, and makes the contexts of TLS connections of them.

Owns the settings of OpenSSL, and the test of a pair. Does not know when files are read (processes/master), or
connections (tls.py).

The master reads the files and passes their content to the workers. So all workers change to a new certificate at once,
and one that starts later has it even if the files are bad by then.
"""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from prefork_logd.system.memory_file import make_memory_file, take_memory_file

if TYPE_CHECKING:
    from prefork_logd.config.listeners import ListenerSettings

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME (X509_VERIFY_PARAM_set_flags(3)), which the ssl module does not name."""
_ONE_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
MOST_FILE_BYTES = 1 << 20
"""A larger file is not a certificate or a key. A bundle of all public authorities has 200 KiB."""


class Pair(msgspec.Struct, frozen=True):
    """A certificate with its chain, and its key, each in PEM."""

    certificate: bytes
    key: bytes


class ListenerTls(msgspec.Struct, frozen=True):
    """All that a worker needs to speak TLS on one listener."""

    address: str
    """The listener's, as the configuration has it."""
    is_required: bool
    min_version: str
    pairs: tuple[Pair, ...]
    """The first one is for clients that ask for no name, or for an unknown one."""
    client_ca: bytes = b""
    """Certificates of authorities, in PEM; empty: clients need no certificate."""


class Described(msgspec.Struct, frozen=True):
    """The facts about one certificate."""

    names: tuple[str, ...]
    """Its DNS names, in lower case; else its common name."""
    serial: str
    """Hexadecimal, as openssl(1) prints it."""
    expires_s: float
    """Seconds since 1970."""


def read(settings: ListenerSettings) -> ListenerTls:
    """Return the content of a listener's files, tested. Raises ValueError with a sentence that names the file."""
    pairs = tuple(
        Pair(_read_file("tls_cert", certificate), _read_file("tls_key", key)) for certificate, key in settings.tls_pairs
    )
    client_ca = _read_file("tls_client_ca", settings.tls_client_ca) if settings.tls_client_ca else b""
    tls = ListenerTls(settings.address, settings.tls == "require", settings.tls_min_version, pairs, client_ca)
    for pair, (certificate, key) in zip(pairs, settings.tls_pairs, strict=True):
        try:
            describe(pair)
        except (ssl.SSLError, ValueError) as error:
            why = explain(error)
            raise ValueError(
                f"tls_cert, tls_key: {certificate} and {key} cannot be used: {why}; name a pair"
            ) from error
    try:
        make_context(tls)
    except (ssl.SSLError, ValueError) as error:
        why = f"{settings.tls_client_ca} cannot be used: {explain(error)}; name a file with certificates (PEM)"
        raise ValueError(f"tls_client_ca: {why}") from error
    return tls


def _read_file(setting: str, path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_FILE_BYTES + 1)
    except OSError as error:
        what = "name another file; relative paths start at server.state_dir"
        if isinstance(error, PermissionError):
            what = "give the collector's user the right to"
        raise ValueError(f"{setting}: {path}: cannot read it: {error.strerror}; {what}") from error
    if len(content) > MOST_FILE_BYTES:
        raise ValueError(f"{setting}: {path}: is larger than {MOST_FILE_BYTES} bytes; name a file in PEM")
    return content


def explain(error: Exception) -> str:
    """Return the reason of an error of OpenSSL as words."""
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else str(error)


def make_context(tls: ListenerTls) -> ssl.SSLContext:
    """Return the context of a listener's connections. Raises ssl.SSLError or ValueError for content without use."""
    contexts = [_context_of(pair, tls.min_version) for pair in tls.pairs]
    first = contexts[0]
    if tls.client_ca:
        authorities = _authorities_in(tls.client_ca)
        for context in contexts:
            # OpenSSL checks a client by the authorities of the context that the client's SNI has chosen.
            context.load_verify_locations(cadata=authorities)
            context.verify_mode = ssl.CERT_REQUIRED
    if len(contexts) > 1:
        by_name: dict[str, ssl.SSLContext] = {}
        for pair, context in zip(tls.pairs, contexts, strict=True):
            for name in describe(pair).names:
                by_name.setdefault(name, context)
        first.sni_callback = lambda connection, name, _: _choose(by_name, connection, name)
    return first


def _authorities_in(content: bytes) -> str:
    """Return the certificates of a file without the comments between them, which may be in any encoding."""
    found = [match[0].decode("ascii") for match in _ONE_CERTIFICATE.finditer(content)]
    if not found:
        raise ValueError("it holds no certificate in PEM")
    return "\n".join(found)


def _context_of(pair: Pair, min_version: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[min_version]
    # A ticket is sent after the handshake, to a client that may never read: when that client closes, the unread ticket
    # makes its system answer with a reset, which destroys records that are still on their way (openssl issue 10880).
    context.num_tickets = 0
    # A ticket of TLS 1.2 would let a client in again without its certificate being checked.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    # OpenSSL reads a pair from a file only; this one is in memory.
    pem = pair.certificate if pair.key == pair.certificate else pair.certificate + b"\n" + pair.key
    fd = make_memory_file("certificate", pem)
    try:
        context.load_cert_chain(f"/proc/self/fd/{fd}", password=_refuse_password)
    finally:
        os.close(fd)
    return context


def _refuse_password() -> str:
    raise ValueError("the key has a password, which the collector cannot ask for; remove it")


def _choose(by_name: dict[str, ssl.SSLContext], connection: Any, name: str | None) -> None:
    """Give a connection the certificate for the name that its client asks for (RFC 6066, section 3)."""
    if name is None:
        return
    name = name.lower().rstrip(".")
    context = by_name.get(name) or by_name.get(f"*.{name.partition('.')[2]}")
    if context is not None:
        connection.context = context


def describe(pair: Pair) -> Described:
    """Return the facts about a certificate, by a handshake in memory, which shows that the pair is usable.

    The ssl module reads only the certificates of peers. Raises ssl.SSLError or ValueError for a pair without use.
    """
    found = _ONE_CERTIFICATE.search(pair.certificate)
    if found is None:
        raise ValueError("the file of the certificate holds none in PEM")
    if b"PRIVATE KEY-----" not in pair.key:
        raise ValueError("the file of the key holds none in PEM")
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ours.check_hostname = False
    ours.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    ours.load_verify_locations(cadata=found[0].decode("ascii"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ours.wrap_bio(to_client, to_server)
    server = _context_of(pair, "1.2").wrap_bio(to_server, to_client, server_side=True)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    certificate: dict[str, Any] = client.getpeercert() or {}
    names = [name.lower() for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"]
    if not names:
        names = [value for relative in certificate.get("subject", ()) for key, value in relative if key == "commonName"]
    expires_s = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    return Described(tuple(names), str(certificate["serialNumber"]), float(expires_s))


def encode(found: list[ListenerTls]) -> int:
    """Return the descriptor of a file in memory that holds the TLS of all listeners."""
    return make_memory_file("tls", msgspec.msgpack.encode(found))


def decode(fd: int) -> list[ListenerTls]:
    """Return the TLS of all listeners from the file of `encode`; the descriptor is closed."""
    return msgspec.msgpack.decode(take_memory_file(fd), type=list[ListenerTls])
