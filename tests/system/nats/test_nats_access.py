"""Every way to say who we are to NATS, and to know whom we speak to; and what is said when it is wrong."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import nkeys
import pytest

from prefork_logd.config.stores.nats import NatsStoreSettings
from prefork_logd.errors import StoreError
from prefork_logd.stores.nats.store import NatsStore
from tests.support.jwt import Operator
from tests.support.nats_servers import Server, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOURNAL = "0123456789abcdef0123456789abcdef"


class Ways:
    """For each way, what the server asks for, our settings, and settings that it refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def secret(self, name: str, text: str) -> str:
        """Return a file with a secret, for nobody else to read."""
        file = self._path / name
        file.write_text(text)
        file.chmod(0o600)
        return str(file)

    def password(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Name user and password."""
        return (
            'authorization { user: logs, password: "right" }',
            {"user": "logs", "password_file": self.secret("right", "right\n")},
            {"user": "logs", "password_file": self.secret("wrong", "wrong\n")},
        )

    def token(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Show a token."""
        return (
            'authorization { token: "right" }',
            {"token_file": self.secret("right", "right\n")},
            {"token_file": self.secret("wrong", "wrong\n")},
        )

    def nkey(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Have a key, of which the server has the public half."""
        seeds = [nkeys.encode_seed(bytes([n]) * 32, nkeys.PREFIX_BYTE_USER) for n in (1, 2)]
        public = nkeys.from_seed(bytearray(seeds[0])).public_key.decode()
        return (
            f'authorization {{ users: [ {{ nkey: "{public}" }} ] }}',
            {"nkey_file": self.secret("right", seeds[0].decode())},
            {"nkey_file": self.secret("wrong", seeds[1].decode())},
        )

    def credentials(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Have a JWT that an account has signed, which an operator has signed, whom the server trusts."""
        ours, others = Operator(1), Operator(5)
        return (
            ours.configuration(),
            {"credentials_file": self.secret("right", ours.credentials())},
            {"credentials_file": self.secret("wrong", others.credentials())},
        )

    def tls(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Have certificates on both sides."""
        ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        for name in ("ca", "other"):
            self._openssl("req", "-x509", *ec, "-days", "2",
                          "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
        for name in ("server", "client"):
            self._openssl("req", *ec, "-subj", f"/CN={name}",
                          "-addext", "subjectAltName=DNS:logs.example", "-keyout", f"{name}.key", "-out",
                          f"{name}.csr")  # fmt: skip
            self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
                          "-copy_extensions", "copy", "-out", f"{name}.pem")  # fmt: skip
            (self._path / f"{name}.key").chmod(0o600)
        at = self._path
        right = {
            "tls_ca_file": f"{at}/ca.pem", "tls_cert_file": f"{at}/client.pem", "tls_key_file": f"{at}/client.key",
            "tls_hostname": "logs.example",
        }  # fmt: skip
        asked = (
            f'tls {{ cert_file: "{at}/server.pem", key_file: "{at}/server.key", verify: true, ca_file: "{at}/ca.pem" }}'
        )
        return (
            asked,
            right,
            right | {"tls_ca_file": f"{at}/other.pem"},
        )

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._path, check=True, capture_output=True)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    """Return a list; the servers in it are ended."""
    found: list[Server] = []
    yield found
    for server in found:
        server.close()


@pytest.mark.parametrize("way", ["password", "token", "nkey", "credentials", "tls"])
def test_the_right_secret_is_taken_and_no_other(way: str, servers: list[Server], tmp_path: Path) -> None:
    """The stream is made with the right one; with a wrong one, or none, the error says that it was refused."""
    asked, right, wrong = getattr(Ways(tmp_path), way)()
    server = Server(tmp_path, "n1", free_ports(1)[0], asked).start()
    servers.append(server)

    def opened(keys: dict[str, Any]) -> int:
        settings = NatsStoreSettings(servers=(server.url,), timeout="2s", checkpoint=str(tmp_path / "w"), **keys)
        assert not list(settings.problems())
        store = NatsStore(settings)
        try:
            return store.open(JOURNAL)
        finally:
            store.close()

    assert opened(right) == 0
    for keys in (wrong, {}):
        with pytest.raises(StoreError) as caught:
            opened(keys)
        assert "cannot connect" in str(caught.value)
        assert any(word in str(caught.value).lower() for word in ("authorization", "certificate", "tls")), caught.value
        if way != "tls":
            names = [key for key in keys if key.endswith("_file")] or ["a client without credentials"]
            assert all(name in str(caught.value) for name in names), caught.value
        # Where the secret is written, is said; what it is, is not.
        said = str(caught.value).replace(str(tmp_path), "").replace("/wrong ", " ")
        assert "right" not in said
        assert "wrong" not in said


def test_a_password_never_goes_to_a_server_without_tls(servers: list[Server], tmp_path: Path) -> None:
    """Where the settings want TLS, a server that asks for none gets nothing, whatever the URLs say."""
    ways = Ways(tmp_path)
    _, right, _ = ways.tls()
    user = ways.password()[1]
    heard = socket.create_server(("127.0.0.1", 0))
    heard.settimeout(20)
    port = heard.getsockname()[1]
    said: list[bytes] = []

    def listen() -> None:
        info = b'INFO {"server_id":"x","version":"2.10.0","max_payload":1048576,"auth_required":true}\r\n'
        while True:
            sock, _ = heard.accept()
            with sock:
                sock.settimeout(20)
                with contextlib.suppress(OSError):
                    sock.sendall(info)
                    said.append(sock.recv(4096))
                    if said[-1] == b"end":
                        return

    thread = threading.Thread(target=listen)
    thread.start()
    for url, keys in ((f"tls://127.0.0.1:{port}", {}), (f"nats://127.0.0.1:{port}", right)):
        settings = NatsStoreSettings(servers=(url,), timeout="2s", checkpoint=str(tmp_path / "w"), **user, **keys)
        store = NatsStore(settings)
        with pytest.raises(StoreError, match="does not ask for TLS"):
            store.open(JOURNAL)
        store.close()
    with socket.create_connection(("127.0.0.1", port)) as last:
        last.sendall(b"end")
        thread.join(20)
    heard.close()
    assert len(said) > 2
    assert set(said[:-1]) == {b""}
