"""A test that fails for want of a core gets a second run; a broken one makes the run red."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PASSES_ALONE = """
from pathlib import Path
def test_a():
    seen = Path("seen")
    known = seen.exists()
    seen.touch()
    assert known
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("def test_a(): pass", 0),
        (PASSES_ALONE, 0),
        ("def test_a(): assert False", 1),
        (PASSES_ALONE + "def test_b(): assert False", 1),
        ("".join(PASSES_ALONE.replace("test_a", f"test_{i}").replace("seen", f"seen{i}") for i in range(4)), 1),
        ("import nothing_like_it", 2),
    ],
    ids=["passes", "passes-alone", "broken", "one-broken", "too-many", "not-collected"],
)
def test_a_second_run(tmp_path: Path, source: str, status: int) -> None:
    """Only a run in which few tests fail is run again, and only what fails twice makes it red."""
    (tmp_path / "test_it.py").write_text(source)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.alone", "-q"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    again = 0 < source.count("def test") <= 3 and source != "def test_a(): pass"
    assert ("*** FAILED beside others" in done.stdout) == again
