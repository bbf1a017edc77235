"""The documentation says what the code says."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_logd.cli.main import cli
from tests.support.corpus import load
from tests.support.recipes import files_of, sections

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
NAMED_FILE = re.compile(r"(?<![\w./-])[\w./-]*\w\.py\b")
SOURCES = sorted(path for kind in ("py", "pyx", "pxi") for path in (ROOT / "prefork_logd").rglob(f"*.{kind}"))
STORED_RECORD = re.compile(r"^\{.*$", re.MULTILINE)
NOT_OF_THE_PROJECT = {
    "X.py",  # docs/design.md: any module
    "_X_py.py",
    "prefork_logd_handler.py",  # the handler's own distribution, which is built
    "NAME.py",  # docs/stores.md: a store that a reader adds
    "NAME/store.py",
    "tls_socket_handler.py",  # docs/tls.md: code of a service
    "invoice.py",  # docs/query.md: code of a service
    *(name for recipe in sections().values() for name in files_of(recipe)),  # docs/recipes.md
}
"""Files that a page may name although the project has none of that name."""
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


@pytest.mark.slow
def test_named_files_exist() -> None:
    """Every X.py or FOLDER/X.py that a docstring, a comment or a page names is a file of the project."""
    folders = (
        ROOT,
        *(
            ROOT / name
            for name in ("benchmarks", "docs", "examples", "fuzz", "packaging", "prefork_logd", "tests", "tools")
        ),
    )
    files = {str(path) for folder in folders for path in folder.glob("*.py" if folder == ROOT else "**/*.py")}
    pages = [(page, STORED_RECORD.sub("", page.read_text())) for page in PAGES]
    texts = pages + [(path, text) for path in SOURCES for text in _prose(path)]
    assert len(texts) > 3000
    missing = [
        f"{path.relative_to(ROOT)} names {name}"
        for path, text in texts
        for name in NAMED_FILE.findall(text)
        if not any(file.endswith(f"/{name.removeprefix('../')}") for file in files)
        and not any(f"/{name}".endswith(f"/{other}") for other in NOT_OF_THE_PROJECT)
    ]
    assert not missing


def _prose(path: Path) -> Iterator[str]:
    """Yield the docstrings and comments of a Python file; of a Cython file its whole text."""
    text = path.read_text()
    if path.suffix != ".py":
        yield text
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_results_are_kept(page: Path) -> None:
    """Every results file of the benchmarks that a page names is there: a figure has its measurement."""
    for name in re.findall(r"\b20\d\d-\d\d-\d\d-\d{4}-[a-z0-9-]+\.(?:json|txt)\b", page.read_text()):
        assert (ROOT / "benchmarks" / "results" / name).exists(), f"{page.name} names {name}"


@pytest.mark.slow
def test_no_committed_link_leads_out_of_the_checkout() -> None:
    """A link to an environment elsewhere takes the place of the environment of everybody who merges it."""
    listed = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout of git")
    links = [line.partition("\t")[2] for line in listed.stdout.splitlines() if line.startswith("120000")]
    outside = [link for link in links if not (ROOT / link).resolve().is_relative_to(ROOT)]
    assert not outside, f"committed by mistake; `git rm --cached` removes them: {outside}"


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


@pytest.mark.parametrize("title", sections())
def test_every_recipe_is_run(title: str) -> None:
    """Each recipe has code, a paragraph and a stored record, and a system test takes it by its title."""
    blocks = re.findall(r"^```(\w+)$", sections()[title], re.MULTILINE)
    assert {"python", "json"} <= set(blocks)
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "system" / "recipes").glob("test_*.py"))
    assert f'recipe("{title}")' in tests


def test_the_number_of_the_corpus() -> None:
    """The introduction counts it."""
    assert f"of {len(load())} hostile and genuine" in (ROOT / "README.md").read_text()
