"""The package is built wherever there is a Python for it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from prefork_logd.system import compiled
from tests.support import interpreters, wheels

ROOT = Path(__file__).resolve().parents[2]
CORES = tuple(core.removeprefix("prefork_logd/").replace("/", ".") for core in wheels.CORES)


def _build(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    places = ["--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "temp")]
    return subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--force", *places],
        cwd=ROOT,
        env={**os.environ, compiled.VARIABLE: "", "CC": "/bin/false", **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("setup", [ROOT / "setup.py", wheels.PACKAGING / "setup.py"], ids=["collector", "handler"])
@pytest.mark.parametrize("version", ["2.7", "3.6"])
def test_old_pythons_read_the_metadata(setup: Path, version: str) -> None:
    """A service on an old Python installs the handler from a checkout."""
    program = "import sys; compile(open(sys.argv[1]).read(), sys.argv[1], 'exec')"
    subprocess.run([interpreters.require(version), "-c", program, str(ROOT / setup)], check=True, timeout=20)


@pytest.mark.slow
def test_a_compiler_that_fails_is_no_failure_of_the_installation(tmp_path: Path) -> None:
    """Without a core the twin does its work: nobody has to have a compiler."""
    pytest.importorskip("Cython", reason="without Cython no core is tried")
    done = _build(tmp_path)
    assert done.returncode == 0, done.stderr
    for name in CORES:
        assert f'building extension "prefork_logd.{name}" failed' in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*.so"))


@pytest.mark.slow
def test_a_core_that_is_demanded_has_to_compile(tmp_path: Path) -> None:
    """Who publishes wheels must not publish one without a core by mistake."""
    assert _build(tmp_path, **{compiled.VARIABLE: "1"}).returncode != 0


@pytest.mark.slow
def test_no_core_is_tried_where_none_is_wanted(tmp_path: Path) -> None:
    """The wheel for every Python is built by one that could compile."""
    done = _build(tmp_path, **{compiled.VARIABLE: "0"})
    assert done.returncode == 0, done.stderr
    assert not any(name in done.stdout + done.stderr for name in CORES)


@pytest.mark.slow
def test_an_sdist_has_all_that_is_built_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "dist"
    target.mkdir()
    sdist = wheels.build_sdist(tmp_path, target)
    assert wheels.problems_of_sdist(sdist) == []


@pytest.mark.slow
def test_an_sdist_of_the_handler_has_its_files_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "dist"
    target.mkdir()
    sdist = wheels.build_handler_sdist(tmp_path, target)
    assert wheels.problems_of_handler_sdist(sdist) == []
    assert sdist.name.replace("-", "_").startswith("prefork_logd_handler_")


def test_the_wheels_are_looked_through_for_every_core() -> None:
    """Each has its sources where the package is built from."""
    built = {path.relative_to(ROOT).with_suffix("").as_posix() for path in ROOT.glob("prefork_logd/*/*.pyx")}
    assert set(wheels.CORES) == built
    for name in CORES:
        assert f'"{name}"' in (ROOT / "setup.py").read_text()


def test_a_checkout_gets_what_builds_the_core() -> None:
    """A venv of Python 3.12 and newer has no setuptools of its own, and `make run` compiles in the venv."""
    extra = (ROOT / "setup.py").read_text().partition('"dev": [')[2].partition("\n        ]")[0].lower()
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    for name in (re.match(r"[\w-]+", requirement)[0].lower() for requirement in needed):
        assert f'"{name}>=' in extra, name


@pytest.mark.slow
def test_tests_do_not_run_without_the_core_that_is_demanded() -> None:
    """Else those that need it would be skipped, and the run would be green."""
    without = "sys.modules['prefork_logd.ingest._core_c'] = None"
    run = "sys.exit(pytest.main(['-q', '--collect-only', 'tests/unit/test_imports.py']))"
    command = [sys.executable, "-c", f"import sys, pytest; {without}; {run}"]
    for wanted, answer in (("1", "the compiled core is not there"), ("7", "neither 0 nor 1")):
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, compiled.VARIABLE: wanted},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        assert answer in done.stderr
