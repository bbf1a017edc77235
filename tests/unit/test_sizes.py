"""Sizes: modules, classes and functions are short, or give the reason why they are not."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).resolve().parents[2] / "prefork_logd"
MODULES = sorted(PACKAGE.rglob("*.py"))
"""Without the compiled code (.pyx, .pxi)."""

MOST_LINES = {"modules": 400, "classes": 300, "functions": 40}
"""Lines as they stand in the file: docstrings and blank lines count."""

_KINDS = {
    ast.Module: "modules",
    ast.ClassDef: "classes",
    ast.FunctionDef: "functions",
    ast.AsyncFunctionDef: "functions",
}


def _problems(source: str) -> Iterator[tuple[str, str]]:
    """Yield name and problem of everything that is too long without a reason, or has a reason and is short."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            kind = _KINDS[type(node)]
            is_module = isinstance(node, ast.Module)
            lines = len(source.splitlines()) if is_module else (node.end_lineno or 0) - node.lineno + 1
            docstring = " ".join((ast.get_docstring(node) or "").split())
            has_reason = re.search(rf"\bLonger than other {kind}: \w+ \w", docstring) is not None
            name = "the module" if is_module else node.name
            if lines > MOST_LINES[kind] and not has_reason:
                yield name, f'{lines} lines; its docstring lacks "Longer than other {kind}: ..."'
            elif lines <= MOST_LINES[kind] and has_reason:
                yield name, f'{lines} lines; take "Longer than other {kind}" out of its docstring'


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_long_one_says_why(path: Path) -> None:
    """Modules, classes and functions above the limit give their reason in one sentence of their docstring.

    No other one does: a reason that outlives the length would hide that it grows again.
    """
    assert not list(_problems(path.read_text()))


@pytest.mark.parametrize(
    ("lines", "docstring", "is_right"),
    [
        (40, "Short.", True),
        (41, "Long.", False),
        (41, "Long. Longer than other functions: ", False),
        (41, "Long. Longer than other classes: it has a reason.", False),
        (40, "Short. Longer than other functions: it has a reason.", False),
        (41, "Long.\n\n    Longer than other functions: it has a\n    reason.\n    ", True),
    ],
)
def test_a_reason_is_looked_for(lines: int, docstring: str, *, is_right: bool) -> None:
    """A function of one line too many is found; the sentence has to be about its kind, and has to give a reason."""
    docstring = f'    """{docstring}"""\n'
    source = f"def f():\n{docstring}" + "    x = 1\n" * (lines - 1 - docstring.count("\n"))
    assert [name for name, _ in _problems(source)] == ([] if is_right else ["f"])
