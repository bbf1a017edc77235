"""Runs the suite, and a few failed tests once more, alone.

Tests run side by side on few cores, and some wait for processes or measure time: on a slow machine one may fail for
want of a core. Such a test is named aloud and gets a second run without company. A test that fails twice makes the run
red. So do more failures than `AT_MOST`, an error of collection, and a run that did not come to its end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

AT_MOST = 3
"""Failed tests that get a second run: more than that are not a matter of chance."""
FAILED = 1
"""pytest's exit status of a run that came to its end and in which tests failed."""
CACHE = Path(".pytest_cache/v/cache/lastfailed")


def main(arguments: list[str]) -> int:
    """Run pytest with the arguments; return its exit status, or that of the second run."""
    status = _run(arguments)
    if status != FAILED:
        return status
    failed = sorted(json.loads(CACHE.read_text()))
    if not 1 <= len(failed) <= AT_MOST or not all("::" in test for test in failed):
        return status
    for test in failed:
        print(f"*** FAILED beside others, now run once more, alone: {test}", flush=True)
    return _run(["-q", "-p", "no:cacheprovider", *failed])


def _run(arguments: list[str]) -> int:
    # Without bytecode every process that runs tests compiles all of them anew: 20 s of a core, each.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
