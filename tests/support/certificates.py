"""Makes certificates for tests of TLS, with openssl(1)."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


EC = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
SLOW = ("rsa:3072",)
"""A key whose handshakes take several milliseconds."""


def make_certificate(directory: Path, name: str = "page", kind: Sequence[str] = EC) -> tuple[str, str]:
    """Return the paths of a certificate for this host, signed by itself, and of its key of a kind of openssl-req(1)."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl(1) makes the certificate")
    path, key = directory / f"{name}.pem", directory / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", str(path), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return str(path), str(key)
