"""Certificates are read whole, tested, and chosen by the name that a client asks for."""

from __future__ import annotations

import os
import socket
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.listeners import ListenerSettings
from prefork_logd.net import certificates
from prefork_logd.net.certificates import decode, describe, encode, make_context, read
from prefork_logd.net.tls import HandshakeError, SharedBuffers, TlsStream
from tests.support.authority import Authority
from tests.support.tls import StepClient, client_context

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

Issued = tuple[str, str]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def one(authority: Authority) -> Issued:
    return authority.issue("one", "DNS:one.example", "DNS:*.one.example", days=3)


@pytest.fixture(scope="module")
def two(authority: Authority) -> Issued:
    return authority.issue("two", "DNS:two.example")


def listener(*pairs: Issued, **more: Any) -> ListenerSettings:
    paths, keys = zip(*pairs, strict=True)
    return ListenerSettings(address="localhost:1", tls="require", tls_cert=paths, tls_key=keys, **more)


def test_the_facts_about_a_certificate_are_known(one: Issued, authority: Authority) -> None:
    """Its names, its serial number and its end; also of one that has expired."""
    (pair,) = read(listener(one)).pairs
    facts = describe(pair)
    assert facts.names == ("one.example", "*.one.example")
    assert abs(facts.expires_s - time.time() - 3 * 86_400) < 600
    assert int(facts.serial, 16)
    old = authority.issue("old", days=-1)
    (pair,) = read(listener(old)).pairs
    assert describe(pair).names == ("old",)
    assert describe(pair).expires_s < time.time()


def _swap(pair: Issued) -> Issued:
    return pair[1], pair[0]


def _encrypted(pair: Issued, directory: Path) -> Issued:
    key = directory / "encrypted.key"
    os.system(f"openssl pkcs8 -topk8 -in {pair[1]} -out {key} -passout pass:secret")
    return pair[0], str(key)


def _write(pair: Issued, directory: Path, content: bytes) -> Issued:
    path = directory / "written.pem"
    path.write_bytes(content)
    return str(path), pair[1]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda pair, other, directory: (pair[0], other[1]), "key values mismatch"),
        (lambda pair, other, directory: _swap(pair), "holds none in PEM"),
        (lambda pair, other, directory: (pair[0], pair[0]), "the file of the key holds none"),
        (lambda pair, other, directory: (f"{directory}/none.pem", pair[1]), "none.pem: cannot read it: No such file"),
        (lambda pair, other, directory: _encrypted(pair, directory), "has a password"),
        (lambda pair, other, directory: _write(pair, directory, b"\0" * (2 << 20)), "larger than"),
        (lambda pair, other, directory: _write(pair, directory, b""), "holds none in PEM"),
        (lambda pair, other, directory: _write(pair, directory, Path(pair[0]).read_bytes()[:300]), "holds none in PEM"),
    ],
)
def test_a_pair_without_use_is_explained(
    spoil: Callable[[Issued, Issued, Path], Issued], said: str, one: Issued, two: Issued, tmp_path: Path
) -> None:
    """With the file, and before a client meets it."""
    with pytest.raises(ValueError, match=said) as caught:
        read(listener(spoil(one, two, tmp_path)))
    assert "\n" not in str(caught.value)
    assert "_ssl.c" not in str(caught.value)


def test_authorities_without_use_are_explained(one: Issued) -> None:
    """A key is none."""
    with pytest.raises(ValueError, match=r"tls_client_ca: .* name a file with certificates"):
        read(listener(one, tls_client_ca=one[1]))


def test_all_of_it_passes_through_a_file(one: Issued, two: Issued, authority: Authority) -> None:
    """From the master to a worker, without another look at the files."""
    sent = [read(listener(one, two, tls_client_ca=authority.path, tls_min_version="1.3"))]
    assert decode(encode(sent)) == sent


def test_a_client_gets_the_certificate_of_the_name_it_asks_for(one: Issued, two: Issued, authority: Authority) -> None:
    """A wildcard stands for one label; for another name, and for none, there is the first."""
    context = make_context(read(listener(one, two)))
    asked = ("two.example", "TWO.example", "a.one.example", "a.b.one.example", "other.example", None)
    shown = [_shown(context, authority, name) for name in asked]
    assert shown == ["two", "two", "one", "one", "one", "one"]


@pytest.mark.parametrize("name", [None, "one.example", "two.example"])
def test_a_client_proves_itself_whatever_name_it_asks_for(
    one: Issued, two: Issued, authority: Authority, tmp_path: Path, name: str | None
) -> None:
    """The authorities hold for every certificate; comments in their file may be in any encoding."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes("# Autorité\n".encode("latin-1") + Path(authority.path).read_bytes() + "# é\n".encode())
    context = make_context(read(listener(one, two, tls_client_ca=str(bundle))))
    stranger = Authority(tmp_path / "stranger", "stranger").issue("web-7")
    assert _greet(context, authority, name, one).peer_name() == "one.example"
    for bad in (stranger, None):
        with pytest.raises(HandshakeError) as caught:
            _greet(context, authority, name, bad)
        assert caught.value.reason == "certificate"


def _greet(context: ssl.SSLContext, authority: Authority, name: str | None, shown: Issued | None) -> TlsStream:
    """Return our side of a complete handshake with a client that shows a certificate."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setblocking(False)
        stream = TlsStream(context, SharedBuffers())
        client = StepClient(theirs, client_context(authority, shown), name)
        client.step()
        while not stream.handshake(ours.fileno()):
            ours.sendall(stream.take_output())
            client.step()
        return stream


def _shown(context: ssl.SSLContext, authority: Authority, name: str | None) -> str:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setblocking(False)
        stream = TlsStream(context, SharedBuffers())
        client = StepClient(theirs, client_context(authority), name)
        client.step()
        stream.handshake(ours.fileno())
        ours.sendall(stream.take_output())
        client.step()
        certificate: Any = client.tls.getpeercert()
        return str(certificate["subject"][0][0][1])


def test_the_settings_of_openssl_are_safe(one: Issued, authority: Authority) -> None:
    """No ticket, no renegotiation, no old version; a client certificate is demanded if authorities are named."""
    context = make_context(read(listener(one, tls_client_ca=authority.path)))
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert make_context(read(listener(one))).verify_mode is ssl.CERT_NONE
    assert certificates.MOST_FILE_BYTES >= 1 << 20
