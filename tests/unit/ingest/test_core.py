"""Which core is used is decided by what is there and by the environment, which is never passed over in silence."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from prefork_logd.ingest import core
from prefork_logd.system import compiled

WITHOUT = "import sys; sys.modules['prefork_logd.ingest._core_c'] = None; "
OUTDATED = """
import sys, types
sys.modules['prefork_logd.ingest._core_c'] = other = types.ModuleType('_core_c')
other.ABI = 0
"""


def _python(program: str, wanted: str | None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != compiled.VARIABLE}
    if wanted is not None:
        environment[compiled.VARIABLE] = wanted
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def _chosen(before: str, wanted: str | None) -> list[object]:
    program = (
        "import json; from prefork_logd.ingest import core; print(json.dumps([core.NATIVE, core.Core.__module__]))"
    )
    return json.loads(_python(before + program, wanted).stdout)


@pytest.mark.slow
@pytest.mark.skipif(core.speedups is None, reason="there is no compiled core to choose")
@pytest.mark.parametrize("wanted", [None, "", "1"])
def test_the_compiled_core_is_used_where_it_is(wanted: str | None) -> None:
    assert _chosen("", wanted) == [True, "prefork_logd.ingest._core_c"]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "wanted"), [("", "0"), (WITHOUT, None), (OUTDATED, None), (OUTDATED, "0")])
def test_the_twin_is_used_otherwise(before: str, wanted: str | None) -> None:
    assert _chosen(before, wanted) == [False, "prefork_logd.ingest._core_py"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "wanted", "answer"),
    [
        (WITHOUT, "1", "the compiled core is not there"),
        (OUTDATED, "1", "built from another version's sources; build it again"),
        ("", "yes", "'yes' is neither 0 nor 1"),
    ],
)
@pytest.mark.parametrize("verb", ["check", "run"])
def test_a_core_that_cannot_be_had_is_an_error(before: str, wanted: str, answer: str, verb: str) -> None:
    """One line that names the variable and says what helps; `check` says it before a start does."""
    done = _python(
        f"{before}\nimport sys; from prefork_logd.cli.main import main; sys.argv[1:] = ['{verb}']; sys.exit(main())",
        wanted,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"prefork-logd: {compiled.VARIABLE}: ")
    assert answer in done.stderr
    assert done.stderr.count("\n") == 1
