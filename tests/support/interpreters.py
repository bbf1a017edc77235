"""Finds real Python interpreters for clients of a collector, and installs none.

Looked for in PREFORK_LOGD_PYTHONS (paths, separated as in PATH) if that is set, else among pyenv's versions and on
PATH. A missing interpreter skips its tests, with a reason that explains how to name it.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

VARIABLE = "PREFORK_LOGD_PYTHONS"
WANTED = ("2.7", "3.6", "3.8", "3.11", "3.13")
ENDS = ("2.7", "3.6", "3.13")
"""The oldest versions and the latest one, for tests that need no other."""


def require(version: str) -> str:
    """Return the path of an interpreter of a version such as "3.8"; skip the test if there is none."""
    path = found().get(version)
    if path is None:
        import pytest  # Benchmarks look for interpreters too, and do not have pytest.

        pytest.skip(f"no Python {version} on this machine; install it with pyenv, or name its path in {VARIABLE}")
    return path


@functools.cache
def found() -> dict[str, str]:
    """Return the path of one interpreter of each installed version."""
    interpreters: dict[str, str] = {}
    for path in _candidates():
        version = _version(path)
        if version:
            interpreters.setdefault(version, path)
    return interpreters


def _candidates() -> list[str]:
    named = os.environ.get(VARIABLE)
    if named:
        return [path for path in named.split(os.pathsep) if path]
    paths = []
    pyenv = shutil.which("pyenv")
    if pyenv:
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False).stdout.strip()
        paths += sorted(map(str, Path(root).glob("versions/*/bin/python")), reverse=True)
    return [*paths, *(path for version in WANTED if (path := shutil.which(f"python{version}")))]


def _version(path: str) -> str:
    """Return the version that an interpreter prints; empty if it does not run."""
    program = "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([path, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return ""
    return answer.stdout if answer.returncode == 0 else ""
