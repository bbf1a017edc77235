"""The documentation says what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from prefork_logd.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")])


@pytest.mark.slow
def test_generated_pages_are_up_to_date() -> None:
    """Settings, signals and the life cycle are documented as they are."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link in a page names a file of the project."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_verb_is_documented() -> None:
    """The page for operators knows each verb that is there for people."""
    text = (ROOT / "docs" / "operating.md").read_text()
    for verb, command in cli.commands.items():
        assert command.hidden or f"`{verb}" in text, verb


def test_every_cell_of_the_guarantees_has_its_tests() -> None:
    """Each event has a row of proof, each cell of it names tests, and each of these exists."""
    page = (ROOT / "docs" / "guarantees.md").read_text()
    promises, _, proof = page.partition("## Proof")
    events = set(re.findall(r"^\| ([^|]+) \|", promises, re.MULTILINE))
    rows = {cells[0]: cells[1:] for line in proof.splitlines() if (cells := [c.strip() for c in line.split("|")[1:-1]])}
    assert len(events) > 8
    assert rows.keys() >= events
    for event in events - {"event"}:
        for cell in rows[event]:
            assert re.search(r"::test_", cell), f"{event}: a cell without a test"
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", proof)
    assert proof.count("::") == len(named)
    for file, name in named:
        assert f"def {name}(" in next((ROOT / "tests" / "system").rglob(file)).read_text(), f"{file} has no {name}"
