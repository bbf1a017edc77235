"""Makes a certificate authority for tests of TLS, and certificates that it has issued, with openssl(1).

They have the extensions that Python 3.13 demands (ssl.VERIFY_X509_STRICT).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

LOCAL = ("DNS:localhost", "IP:127.0.0.1")
"""The names of a collector that clients of this host check."""
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_EXTENSIONS = """basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Certificate(NamedTuple):
    """The files of one certificate and its key."""

    path: str
    key: str


class Authority:
    """An authority of its own, with its files in one directory."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        """Make the authority's own certificate."""
        if shutil.which("openssl") is None:
            import pytest  # Benchmarks make certificates, too, and do not have pytest.

            pytest.skip("openssl(1) makes the certificates")
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.path = str(directory / f"{name}.pem")
        self._key = str(directory / f"{name}.key")
        usage = ("-addext", "keyUsage = critical, keyCertSign, cRLSign")
        files = ("-out", self.path, "-keyout", self._key)
        _run("req", "-x509", *_CURVE, "-days", "1", "-subj", f"/CN={name}", *usage, *files)

    def issue(self, common_name: str, *names: str, days: int = 1, file: str = "") -> Certificate:
        """Return a certificate; `names` are such as "DNS:web-1". Negative days: it has expired."""
        base = self.directory / (file or common_name)
        path, key, request, extensions = (f"{base}.{ending}" for ending in ("pem", "key", "csr", "ext"))
        Path(extensions).write_text(_EXTENSIONS + (f"subjectAltName = {', '.join(names)}\n" if names else ""))
        _run("req", "-new", *_CURVE, "-subj", f"/CN={common_name}", "-out", request, "-keyout", key)
        signer = ("-CA", self.path, "-CAkey", self._key, "-CAcreateserial", "-extfile", extensions)
        _run("x509", "-req", "-in", request, *signer, "-days", str(days), "-out", path)
        return Certificate(path, key)


def _run(*arguments: str) -> None:
    subprocess.run(("openssl", *arguments), check=True, capture_output=True, timeout=60)
