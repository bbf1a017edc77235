"""The environment variable that chooses between compiled code and Python."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from prefork_logd.system import compiled

READ = "from prefork_logd.system import compiled as c; print(repr(c.WANTED), c.IS_ALLOWED, c.IS_REQUIRED, c.IS_VALID)"
CHOSEN = """
from prefork_logd.ingest import core
from prefork_logd.journal import checksum
from prefork_logd.stores import rows_core
print(core.NATIVE, checksum.crc32.__module__, rows_core.core)
"""


def _run(script: str, wanted: str | None) -> str:
    environment = {key: value for key, value in os.environ.items() if key != compiled.VARIABLE}
    if wanted is not None:
        environment[compiled.VARIABLE] = wanted
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, "'' True False True"),
        ("", "'' True False True"),
        ("0", "'0' False False True"),
        ("1", "'1' True True True"),
        ("yes", "'yes' True False False"),
    ],
)
def test_what_the_variable_means(wanted: str | None, expected: str) -> None:
    """A value without a meaning is known as such; native.require() says so to the user."""
    assert _run(READ, wanted) == expected


@pytest.mark.slow
def test_zero_takes_python_everywhere() -> None:
    """All three choices follow the one switch."""
    assert _run(CHOSEN, "0") == "False zlib None"
