"""The package is built wherever there is a Python for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_a_compiler_that_fails_is_no_failure_of_the_installation(tmp_path: Path) -> None:
    """Without a core the twin does its work: nobody has to have a compiler."""
    pytest.importorskip("Cython", reason="without Cython no core is tried")
    places = ["--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "temp")]
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--force", *places],
        cwd=ROOT,
        env={**os.environ, "CC": "/bin/false"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in ("records._speedups", "stores._rows", "journal._crc"):
        assert f'building extension "prefork_logd.{name}" failed' in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*.so"))
