"""The arguments of TLS: what contradicts, what cannot be read, and files that change."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.handlers import SocketHandler
from prefork_logd.handlers._options import Options
from prefork_logd.handlers._tls_context import TlsContext
from tests.support.authority import Authority

if TYPE_CHECKING:
    from tests.support.authority import Certificate

pytestmark = pytest.mark.slow  # openssl(1) makes the certificates
EMPTY = "/nowhere/ca.pem"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("context") / "authority")


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.issue("client")


def tls_of(host: str = "h", port: int | None = 1, **arguments: Any) -> Any:
    return Options(host, port, **arguments).tls


def test_without_an_argument_of_its_own_there_is_no_tls(authority: Authority) -> None:
    assert tls_of() is None
    assert tls_of(tls=False) is None
    assert tls_of(tls=True).server_name == "h"
    assert tls_of(tls_ca=authority.path).server_name == "h"
    assert tls_of("logs.example.com.", tls_server_name=None, tls=True).server_name == "logs.example.com"
    assert tls_of("10.0.0.1", tls_server_name="logs").server_name == "logs"


def test_an_address_may_ask_for_tls() -> None:
    for host, port in (("tls://logs.example.com:9020", None), ("tls://logs.example.com:9020/", None)):
        options = Options(host, port)
        assert (options.host, options.port, options.tls.server_name) == ("logs.example.com", 9020, "logs.example.com")
    assert tls_of("tls://logs", 9020).server_name == "logs"
    assert Options("tls://[::1]:9020", None).literal is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tls": "yes"}, "tls is 'yes'; choose True or False"),
        ({"tls": False, "tls_ca": "x", "tls_server_name": "y"}, "tls=False contradicts tls_ca, tls_server_name"),
        ({"tls": False, "host": "tls://h"}, "tls=False contradicts tls://h"),
        ({"tls_key": "x"}, "tls_key needs tls_cert"),
        ({"tls": True, "host": "unix:/s", "port": None}, "TLS needs a host and a port; '/s' is a Unix socket"),
        ({"host": "tls://logs", "port": None}, "TLS needs a host and a port; 'logs' is a Unix socket"),
        ({"ssl_context": ssl.create_default_context(), "tls_ca": "x"}, "ssl_context brings its own certificates"),
        ({"ssl_context": "x"}, "ssl_context is a str, not an ssl.SSLContext"),
        ({"ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, "TLS with 'h' is impossible: "),
        ({"tls": True, "tls_server_name": ".h"}, "TLS with '.h' is impossible: "),
        ({"tls_ca": EMPTY}, f"tls_ca {EMPTY} cannot be read: No such file or directory"),
        ({"tls_ca": ""}, "tls_ca  cannot be read: No such file or directory"),
        ({"tls_ca": __file__}, f"tls_ca {__file__} has no certificates in the form PEM"),
        ({"tls_cert": EMPTY}, f"tls_cert {EMPTY} cannot be read"),
        ({"tls_cert": __file__, "tls_key": EMPTY}, f"tls_key {EMPTY} cannot be read"),
        ({"tls_cert": __file__}, f"tls_cert {__file__} and tls_key {__file__} are not a certificate and its key"),
    ],
)
def test_what_contradicts_or_cannot_be_read_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + "".join(f"[{c}]" if c in "()[].?*+" else c for c in message)):
        tls_of(**arguments)


def test_a_key_of_another_certificate_is_refused(authority: Authority, certificate: Certificate) -> None:
    other = authority.issue("other")
    with pytest.raises(ValueError, match=f"tls_key {other.key} is not the key of tls_cert {certificate.path}"):
        tls_of(tls_cert=certificate.path, tls_key=other.key)


def test_a_key_may_stand_in_the_file_of_its_certificate(certificate: Certificate, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(Path(certificate.path).read_text() + Path(certificate.key).read_text())
    assert tls_of(tls_cert=str(both)).has_own_certificate()


def test_an_encrypted_key_is_an_error_and_no_question(certificate: Certificate, tmp_path: Path) -> None:
    """OpenSSL would ask on the terminal, and the service would stand still."""
    encrypted = tmp_path / "encrypted.key"
    command = ["openssl", "pkcs8", "-topk8", "-in", certificate.key, "-out", str(encrypted), "-passout", "pass:secret"]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(ValueError, match=f"tls_key {encrypted} is encrypted; load it into a context of your own"):
        tls_of(tls_cert=certificate.path, tls_key=str(encrypted))


def test_names_are_checked_and_old_versions_refused(authority: Authority) -> None:
    context = tls_of(tls_ca=authority.path).context
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert len(context.get_ca_certs()) == 1


def test_a_folder_of_authorities(authority: Authority, tmp_path: Path) -> None:
    assert tls_of(tls_ca=str(tmp_path)).context.verify_mode == ssl.CERT_REQUIRED
    assert Path(authority.path).exists()


def test_a_context_of_the_application_is_used_as_it_is() -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    tls = tls_of(ssl_context=context)
    assert tls.context is context
    assert not tls.has_changed()
    assert not context.check_hostname


def test_files_that_change_are_read_again(authority: Authority, certificate: Certificate, tmp_path: Path) -> None:
    cert, key = tmp_path / "c.pem", tmp_path / "c.key"
    shutil.copy(certificate.path, cert)
    shutil.copy(certificate.key, key)
    tls = TlsContext("h", authority.path, str(cert), str(key))
    first = tls.context
    assert not tls.has_changed()
    assert tls.renew() is None
    assert tls.context is first
    other = authority.issue("next")
    shutil.copy(other.path, tmp_path / "new")
    (tmp_path / "new").replace(cert)
    assert tls.has_changed()
    assert tls.renew() == (
        f"is reached with the certificates that were read before: tls_key {key} is not the key of tls_cert {cert}"
    )
    assert tls.context is first
    assert not tls.has_changed()
    shutil.copy(other.key, tmp_path / "new")
    (tmp_path / "new").replace(key)
    assert tls.has_changed()
    assert tls.renew() is None
    assert tls.context is not first
    key.unlink()
    assert tls.has_changed()
    assert f"tls_key {key} cannot be read" in tls.renew()


def test_paths_stay_when_the_service_changes_its_directory(certificate: Certificate, monkeypatch: Any) -> None:
    monkeypatch.chdir(Path(certificate.path).parent)
    tls = TlsContext("h", None, Path(certificate.path).name, Path(certificate.key).name)
    monkeypatch.chdir("/")
    assert not tls.has_changed()


def test_handlers_of_the_same_arguments_are_the_same(authority: Authority) -> None:
    """A handler of another configuration takes over what the one before it has left."""
    first, second = TlsContext("h", authority.path), TlsContext("h", authority.path)
    assert first == second
    assert hash(first) == hash(second)
    assert first != TlsContext("i", authority.path)
    assert first != TlsContext("h")
    assert first != "h"
    context = ssl.create_default_context()
    assert TlsContext("h", given=context) == TlsContext("h", given=context)
    assert TlsContext("h", given=context) != TlsContext("h", given=ssl.create_default_context())


def test_a_python_without_tls_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ssl", None)
    with pytest.raises(ValueError, match="this Python was built without it"):
        tls_of(tls=True)
    monkeypatch.setitem(sys.modules, "ssl", os)
    with pytest.raises(ValueError, match=r"needs Python 2\.7\.9 or newer"):
        tls_of(tls=True)
    assert tls_of() is None


def test_wrong_arguments_leave_no_handler(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="tls_ca /nowhere"):
        SocketHandler("h", 1, tls_ca="/nowhere")
    assert capsys.readouterr().err == ""
