"""The handler's files need nothing but the standard library, and work under any name."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import prefork_logd.handlers

PACKAGE = Path(prefork_logd.handlers.__file__).parent
FILES = sorted(PACKAGE.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_imports_the_standard_library_and_its_neighbours_by_name(path: Path) -> None:
    """`from ._x import name` alone: tools/single_file.py joins the files, and a module would be no name there."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module or ""]
        else:
            assert not isinstance(node, ast.ImportFrom) or (node.level == 1 and node.module), ast.unparse(node)
            continue
        for module in modules:
            known = sys.stdlib_module_names | {"cPickle", "thread", "__future__"}
            assert module.partition(".")[0] in known, module


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports_between_the_files_run_one_way(path: Path) -> None:
    """Each file can be reached from those that it imports by no way back."""
    seen: set[str] = set()
    waiting = _neighbours(path)
    while waiting:
        name = waiting.pop()
        assert name != path.stem
        if name not in seen:
            seen.add(name)
            waiting |= _neighbours(PACKAGE / f"{name}.py")


def _neighbours(path: Path) -> set[str]:
    return {
        node.module or ""
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    }


@pytest.mark.slow
def test_importing_it_costs_none_of_the_collectors_dependencies() -> None:
    program = "import sys, prefork_logd.handlers; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = ast.literal_eval(done.stdout)
    ours = {name for name in modules if name.startswith("prefork_logd")}
    assert {name for name in ours if not name.startswith("prefork_logd.handlers")} == {"prefork_logd"}
    assert not {"msgspec", "click", "rich", "daemon", "platformdirs", "asyncio"} & set(modules)


def test_public_names_are_those_of_the_package() -> None:
    for name in prefork_logd.handlers.__all__:
        assert getattr(prefork_logd.handlers, name).__module__ == "prefork_logd.handlers"
