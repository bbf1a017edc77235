"""Verbs that root runs make files of the collector's user, who has to write them later."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.paths import PID_FILE
from prefork_logd.config.stores.errors import ErrorsSettings
from prefork_logd.stores.errors.store import ErrorStore
from tests.support.accounts import NEEDS_ROOT
from tests.support.error_groups import failed
from tests.support.stores import JOURNAL, block, never

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = NEEDS_ROOT
NOBODY = pwd.getpwnam("nobody").pw_uid
CONFIG = """
[[store]]
name = "s"
type = "parquet"
[[alert]]
name = "shop"
send = ["told"]
[[receiver]]
name = "told"
type = "command"
command = ["/bin/true"]
"""


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """Return a state directory of nobody's with a group of errors; nobody can reach it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        path = Path(name) / "state"
        path.mkdir()
        store = ErrorStore(ErrorsSettings(path=str(path / "groups.db")))
        store.open(JOURNAL)
        store.write([block(0, [failed(1)])], never)
        store.close()
        for file in (path, *path.iterdir()):
            os.chown(file, NOBODY, -1)
        (Path(name) / "c.toml").write_text(f'[server]\nstate_dir = "{path}"\n{CONFIG}')
        yield path


def run(state_dir: Path, *words: str) -> str:
    """Run a verb as root, in a process of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "prefork_logd", *words, "--config", str(state_dir.parent / "c.toml")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SUDO_USER": "ada"},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_files_belong_to_the_owner_of_the_directory(state_dir: Path) -> None:
    """Without server.user, too: a service manager may start the collector as its own user. The person has a name."""
    assert "by ada" in run(state_dir, "alert", "silence", "shop", "1h")
    assert run(state_dir, "alert", "test", "shop").startswith("ok")
    key = run(state_dir, "errors").split()[0]
    run(state_dir, "errors", "note", key, "known")
    assert "noted known by ada" in run(state_dir, "errors", "show", key)
    assert (state_dir / "alerts.db").exists()
    assert {path.name: path.stat().st_uid for path in state_dir.iterdir() if path.stat().st_uid != NOBODY} == {}


@pytest.mark.slow
def test_the_pid_file_tells_who_the_collector_is(state_dir: Path) -> None:
    """A collector of root in somebody's directory keeps its files."""
    (state_dir / PID_FILE).touch()
    run(state_dir, "alert", "silence", "shop", "1h")
    assert (state_dir / "alerts.db").stat().st_uid == 0
