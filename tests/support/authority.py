"""Makes a certificate authority for tests of TLS, and certificates that it has issued, with openssl(1).

They have the extensions that Python 3.13 demands (ssl.VERIFY_X509_STRICT).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

_EXTENSIONS = """
[ca]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[leaf]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


class Certificate(NamedTuple):
    """The files of one certificate and its key."""

    path: str
    key: str


class Authority:
    """One authority, with its files in a directory of its own."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        """Make the authority's own certificate."""
        if shutil.which("openssl") is None:
            pytest.skip("openssl(1) makes the certificates")
        self._directory = directory
        self._name = name
        directory.mkdir(exist_ok=True)
        key = self._make_key(name)
        self.path = str(directory / f"{name}.pem")
        self._run("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", f"{self.path}.csr")
        self._sign(self.path, "ca", "", 10, "-signkey", key)

    def issue(self, name: str, names: str = "DNS:localhost, IP:127.0.0.1", days: int = 10) -> Certificate:
        """Return a certificate for the common name `name`; with negative `days` it has expired."""
        key = self._make_key(name)
        path = str(self._directory / f"{name}.pem")
        self._run("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", f"{path}.csr")
        signer = str(self._directory / self._name)
        self._sign(path, "leaf", names, days, "-CA", f"{signer}.pem", "-CAkey", f"{signer}.key", "-CAcreateserial")
        return Certificate(path, key)

    def _make_key(self, name: str) -> str:
        path = str(self._directory / f"{name}.key")
        self._run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
        return path

    def _sign(self, path: str, section: str, names: str, days: int, *signer: str) -> None:
        extensions = Path(f"{path}.ext")
        extensions.write_text(_EXTENSIONS.format(names=names))
        self._run(
            *("x509", "-req", "-in", f"{path}.csr", *signer, "-days", str(days), "-sha256"),
            *("-extfile", str(extensions), "-extensions", section, "-out", path),
        )

    def _run(self, *command: str) -> None:
        subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=60)
