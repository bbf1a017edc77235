"""The commands of a page do what the page says, below another root directory."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # starts programs

DOCS = Path(__file__).resolve().parents[2] / "docs"
NO_SYSTEMD = "systemctl() { :; }\n"


def _commands(page: str, section: str, root: Path) -> str:
    """Return the commands for root in a section of a page, with their absolute paths below `root`."""
    _, _, text = (DOCS / page).read_text().partition(f"\n## {section}\n")
    block = re.search(r"^```\n((?:# .*\n)+)```$", text, re.MULTILINE)
    assert block is not None
    return re.sub(r" /(?=\S| )", f" {root}/", block[1].replace("# ", ""))


def _run(commands: str) -> None:
    done = subprocess.run(["sh", "-ec", NO_SYSTEMD + commands], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_restored_backup_has_the_state_alone_and_its_modes(tmp_path: Path) -> None:
    """State and configuration have the same name, and must not be mixed."""
    state, etc = tmp_path / "var/lib/prefork-logd", tmp_path / "etc/prefork-logd"
    for directory, file in ((state, "records.jsonl"), (etc, "prefork-logd.toml")):
        directory.mkdir(parents=True)
        (directory / file).write_text("as it was")
    state.chmod(0o750)
    _run(_commands("installing.md", "Back up", tmp_path))
    (state / "records.jsonl").write_text("newer")
    _run(_commands("installing.md", "Restore", tmp_path))
    assert [(path.name, path.read_text()) for path in state.iterdir()] == [("records.jsonl", "as it was")]
    assert state.stat().st_mode & 0o777 == 0o750
    assert (state.with_name("prefork-logd.old") / "records.jsonl").read_text() == "newer"
