"""The entry of the command: no standard descriptor is closed when anything else is opened."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from prefork_logd import __main__ as entry
from prefork_logd.__main__ import open_standard_descriptors

ROOT = Path(__file__).resolve().parents[2]
COMBINATIONS = [closed for size in range(4) for closed in itertools.combinations(range(3), size)]


def test_nothing_is_searched_for_cycles_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is that of the verb."""
    done: list[str] = []
    monkeypatch.setattr("prefork_logd.cli.main.main", lambda: done.append("verb") or 3)
    monkeypatch.setattr(entry.gc, "freeze", lambda: done.append("freeze"))
    assert entry.main() == 3
    assert done == ["verb", "freeze"]


@pytest.mark.slow
@pytest.mark.parametrize("closed", COMBINATIONS, ids=str)
def test_closed_standard_descriptors_lead_to_dev_null(closed: tuple[int, ...]) -> None:
    """Those that are closed are opened, those that are open stay, and the next file gets another number."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            before = {fd: os.fstat(fd) for fd in range(3)}
            for fd in closed:
                os.close(fd)
            open_standard_descriptors()
            kept = all(os.path.samestat(os.fstat(fd), before[fd]) for fd in range(3) if fd not in closed)
            null = all(Path(f"/proc/self/fd/{fd}").readlink() == Path(os.devnull) for fd in closed)
            inherited = all(os.get_inheritable(fd) for fd in closed)
            status = 0 if kept and null and inherited and os.open("/", os.O_RDONLY) > 2 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["-I", "-X", "dev"]], ids=str)
def test_a_checkout_uses_its_own_environment(tmp_path: Path, flags: list[str]) -> None:
    """Nothing has to be activated after `make`; the flags of the interpreter and the arguments go on."""
    script = checkout(tmp_path)
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    done = subprocess.run([base, *flags, script, "status", "--json"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*flags, str(script), "status", "--json"]


@pytest.mark.slow
def test_an_active_environment_comes_first(tmp_path: Path) -> None:
    """Whoever names an interpreter of a venv means that one."""
    done = subprocess.run([sys.executable, checkout(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "the package\n"


def checkout(directory: Path) -> Path:
    """Return the script of a checkout whose interpreter prints its arguments, and whose package prints its name."""
    script = directory / "bin" / "prefork-logd"
    python = directory / ".venv" / "bin" / "python"
    package = directory / "prefork_logd"
    for path in (script.parent, python.parent, package):
        path.mkdir(parents=True)
    shutil.copy(ROOT / "bin" / "prefork-logd", script)
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("def main():\n    print('the package')\n    return 0\n")
    return script
