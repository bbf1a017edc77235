"""`python -m tests.support.wheels DIRECTORY`: build the published packages, and try each of them.

Owns the content of an sdist and of a wheel, and the trials: the sdist; a wheel without the compiled
cores for every Python, on every interpreter found; a wheel with them for each CPython from 3.11 on, built from the
sdist in an environment of its own, where the tests of records and of parity then run, with PREFORK_LOGD_NATIVE=1; sdist
and wheel of prefork-logd-handler, which sends a record to a real collector from every interpreter found. Wheels
that need containers (manylinux, musllinux, other machines) are built by cibuildwheel ([tool.cibuildwheel] in
pyproject.toml).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support import interpreters  # noqa: E402 - found from the root, wherever this is called
from tests.support.harness import Collector, messages  # noqa: E402

CORES = ("prefork_logd/ingest/_core_c", "prefork_logd/stores/_rows_c", "prefork_logd/journal/_crc")
TESTED = ("tests/unit/ingest", "tests/unit/inputs", "tests/unit/records", "tests/parity")
READ_SOURCES = (
    "--ignore=tests/unit/records/test_fields.py",
    "--deselect=tests/unit/inputs/session/test_server.py::test_the_page_shows_this_conversation",
)
"""Options that leave out the tests of the documentation and of the sources, which are not beside a wheel."""
TOOLS = (
    "hypothesis",
    "nats-py>=2.9",
    "nkeys>=0.2",
    "psycopg[binary]>=3.3.9",
    "pytest",
    "pytest-timeout",
    "zstandard>=0.22",
)
EVERY_PYTHON = "py2.py3"
HANDLER = """
import logging, prefork_logd.handlers as handlers
handler = handlers.SocketHandler("127.0.0.1", 9)
assert isinstance(handler, logging.Handler)
"""


PACKAGING = Path("packaging/handler")
PACKAGE_OF_HANDLER = "prefork_logd_handler"
ONE_RECORD = """
import logging, sys, prefork_logd_handler
handler = prefork_logd_handler.SocketHandler("127.0.0.1", int(sys.argv[1]))
logging.getLogger("wheel").addHandler(handler)
logging.getLogger("wheel").warning("from %s", sys.argv[2])
assert handler.flush(20), handler.counters()
assert handler.counters()["acknowledged"] == 1, handler.counters()
"""


class NotRightError(Exception):
    """A package or a trial is wrong."""


class Wheel(NamedTuple):
    """A wheel and its tags."""

    path: Path

    @property
    def tags(self) -> str:
        """Return Python, ABI and platform, as in the name."""
        return self.path.stem.split("-", 2)[2]


def problems_of_sdist(path: Path) -> list[str]:
    """Return the missing and surplus files of an sdist."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {str(source.relative_to(ROOT)) for source in _sources()}
    wanted = {"setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", *sources}
    return [f"{name} is missing" for name in sorted(wanted - names)] + _leftovers(names)


def problems_of_wheel(wheel: Wheel, *, has_cores: bool) -> list[str]:
    """Return the missing and surplus files of a wheel."""
    with zipfile.ZipFile(wheel.path) as archive:
        names = set(archive.namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "prefork_logd").rglob("*.py")}
    found = [f"{name} is missing" for name in sorted({*modules, "prefork_logd/py.typed"} - names)]
    found += [f"{name} is nowhere in the sources" for name in sorted(names - modules) if name.endswith(".py")]
    for core in CORES:
        if any(name.startswith(core + ".") and name.endswith(".so") for name in names) != has_cores:
            found.append(f"{core} is {'not ' if has_cores else ''}there, compiled")
    found += [f"{name} is for building only" for name in sorted(names) if name.endswith((".pyx", ".pxi", ".c"))]
    return found + _leftovers(names)


def _sources() -> list[Path]:
    package = ROOT / "prefork_logd"
    return [path for ending in ("py", "pyx", "pxi", "pyi") for path in package.rglob(f"*.{ending}")]


def _leftovers(names: set[str]) -> list[str]:
    return [
        f"{name} is left over"
        for name in sorted(names)
        if name.startswith(("build/", "tests/", "fuzz/", "benchmarks/"))
        or name.endswith((".pyc", "_core_c.c", "_rows.c", "_crc.c"))
    ]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command; return its output. Raises NotRightError if its status is not 0."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("PREFORK_LOGD_NATIVE", "PYTHONPATH")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise NotRightError(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout[-4_000:]}")
    return done.stdout


def build_sdist(scratch: Path, target: Path) -> Path:
    """Build the sdist from the files that git would commit; return its path."""
    clean = scratch / "clean"
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        clean.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, clean)
    shutil.copytree(ROOT / "prefork_logd", clean / "prefork_logd", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    run(sys.executable, "setup.py", "-q", "sdist", "-d", scratch / "sdist", cwd=clean, PREFORK_LOGD_NATIVE="0")
    (built,) = (scratch / "sdist").iterdir()
    return Path(shutil.copy(built, target))


def build_handler_sdist(scratch: Path, target: Path) -> Path:
    """Build the sdist of prefork-logd-handler from the files that git would commit; return its path."""
    clean = scratch / "clean-handler"
    shutil.copytree(
        ROOT / "prefork_logd" / "handlers",
        clean / "prefork_logd" / "handlers",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("__init__.py", "py.typed"):
        shutil.copy(ROOT / "prefork_logd" / name, clean / "prefork_logd")
    shutil.copy(ROOT / "LICENSE", clean)
    (clean / PACKAGING).mkdir(parents=True)
    for name in ("setup.py", "pyproject.toml", "README.md", "MANIFEST.in"):
        shutil.copy(ROOT / PACKAGING / name, clean / PACKAGING)
    run(sys.executable, "setup.py", "-q", "sdist", "-d", scratch / "sdist-handler", cwd=clean / PACKAGING)
    (built,) = (scratch / "sdist-handler").iterdir()
    return Path(shutil.copy(built, target))


def problems_of_handler_sdist(path: Path) -> list[str]:
    """Return the missing and surplus files of the handler's sdist."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"setup.py", "pyproject.toml", "README.md", "LICENSE", "VERSION", *_files_of_handler()}
    found = [f"{name} is missing" for name in sorted(wanted - names)]
    return found + [f"{name} is left over" for name in sorted(names - wanted) if name.endswith((".py", ".pyc"))]


def problems_of_handler_wheel(wheel: Wheel) -> list[str]:
    """Return the missing and surplus files of the handler's wheel."""
    with zipfile.ZipFile(wheel.path) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("/METADATA"))
    modules = {name for name in names if ".dist-info/" not in name}
    found = [f"{name} is missing" for name in sorted(_files_of_handler() - modules)]
    found += [f"{name} is nowhere in the sources" for name in sorted(modules - _files_of_handler())]
    found += [line for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    return found if wheel.tags == f"{EVERY_PYTHON}-none-any" else [*found, f"it is for {wheel.tags} only"]


def _files_of_handler() -> set[str]:
    modules = (ROOT / "prefork_logd" / "handlers").iterdir()
    names = [path.name for path in modules if path.suffix in {".py", ".pyi"}]
    return {f"{PACKAGE_OF_HANDLER}/{name}" for name in [*names, "py.typed"]}


def try_handler(python: str, version: str, wheel: Wheel, collector: Collector, scratch: Path) -> str:
    """Send a record with only the handler's wheel; return a word on the result."""
    where = scratch / "unpacked-handler"
    with zipfile.ZipFile(wheel.path) as archive:
        archive.extractall(where)
    port = str(collector.address()[1])
    run(python, "-B", "-W", "error", "-c", ONE_RECORD, port, version, cwd=scratch, PYTHONPATH=str(where))
    if f"from {version}" not in messages(collector.records()):
        raise NotRightError(f"the record of Python {version} was acknowledged, and is not in the file")
    return "its record is in the file"


def build_wheel(python: str, sdist: Path, scratch: Path, *, has_cores: bool) -> Wheel:
    """Build a wheel of the sdist, with build requirements of its own."""
    where = scratch / ("binary" if has_cores else sdist.name.removesuffix(".tar.gz"))
    options = [] if has_cores else [f"--config-settings=--build-option=--python-tag={EVERY_PYTHON}"]
    command = (
        python,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        *options,
        "-w",
        where,
        sdist,
    )
    run(*command, cwd=scratch, PREFORK_LOGD_NATIVE="1" if has_cores else "0")
    (built,) = where.iterdir()
    return Wheel(built)


def try_binary(python: str, wheel: Wheel, scratch: Path) -> str:
    """Install a wheel with the cores and run the tests on it, with no sources beside them; return their last line."""
    run(python, "-m", "venv", scratch / "environment", cwd=scratch)
    installed = scratch / "environment" / "bin" / "python"
    run(installed, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel.path, *TOOLS, cwd=scratch)
    beside = scratch / "beside"
    for name in ("tests", "fuzz"):
        shutil.copytree(ROOT / name, beside / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", beside)
    said = run(
        installed,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *TESTED,
        *READ_SOURCES,
        cwd=beside,
        PREFORK_LOGD_NATIVE="1",
    )
    return said.strip().rpartition("\n")[2]


def try_pure(python: str, wheel: Wheel, scratch: Path) -> str:
    """Put a wheel without the cores on the path of an interpreter, and use the handler; return a word on the result."""
    where = scratch / "unpacked"
    # Installing it means unpacking it; an old Python may have no working pip.
    with zipfile.ZipFile(wheel.path) as archive:
        archive.extractall(where)
    run(python, "-B", "-c", HANDLER, cwd=scratch, PYTHONPATH=str(where))
    return "the handler works"


def main() -> int:
    """Return 0 if every package was built and works."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.wheels", description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="where sdist and wheels are put")
    target = parser.parse_args().directory.resolve()
    target.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="prefork-logd-wheels-") as scratch:
            _all(Path(scratch), target)
    except NotRightError as failure:
        print(f"wheels: {failure}", file=sys.stderr)
        return 1
    return 0


def _handler(scratch: Path, target: Path) -> None:
    """Build and try prefork-logd-handler."""
    sdist = build_handler_sdist(scratch, target)
    _refuse(sdist, problems_of_handler_sdist(sdist))
    print(sdist.name)
    wheel = build_wheel(sys.executable, sdist, scratch, has_cores=False)
    _refuse(wheel.path, problems_of_handler_wheel(wheel))
    shutil.copy(wheel.path, target)
    collector = Collector(scratch / "collector").start()
    try:
        for version, python in sorted(interpreters.found().items()):
            tried = try_handler(python, version, wheel, collector, scratch)
            print(f"{wheel.path.name} on Python {version}: {tried}", flush=True)
    finally:
        collector.stop()
        collector.clean_up()


def _all(scratch: Path, target: Path) -> None:
    _handler(scratch, target)
    sdist = build_sdist(scratch, target)
    _refuse(sdist, problems_of_sdist(sdist))
    print(sdist.name)
    wheel = build_wheel(sys.executable, sdist, scratch, has_cores=False)
    _refuse(wheel.path, problems_of_wheel(wheel, has_cores=False))
    if wheel.tags != f"{EVERY_PYTHON}-none-any":
        raise NotRightError(f"{wheel.path.name} is not for every Python")
    shutil.copy(wheel.path, target)
    pythons = {tuple(map(int, version.split("."))): path for version, path in interpreters.found().items()}
    for version, python in sorted(pythons.items()):
        print(
            f"{wheel.path.name} on Python {'.'.join(map(str, version))}: {try_pure(python, wheel, scratch)}", flush=True
        )
    for version, python in sorted(pythons.items()):
        if version < (3, 11):
            continue
        room = scratch / "-".join(map(str, version))
        room.mkdir()
        wheel = build_wheel(python, sdist, room, has_cores=True)
        _refuse(wheel.path, problems_of_wheel(wheel, has_cores=True))
        print(f"{wheel.path.name}: {try_binary(python, wheel, room)}", flush=True)
        shutil.copy(wheel.path, target)


def _refuse(path: Path, problems: list[str]) -> None:
    if problems:
        raise NotRightError(f"{path.name}:\n" + "\n".join(problems))


if __name__ == "__main__":
    sys.exit(main())
