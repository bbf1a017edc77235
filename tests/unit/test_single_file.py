"""handlers/ joined into one file: whole, in order, and refused where names would clash."""

from __future__ import annotations

import ast
import importlib.util
from typing import TYPE_CHECKING

import pytest

from tools import single_file

if TYPE_CHECKING:
    from pathlib import Path


def test_the_one_file_has_every_definition_and_imports_nothing_of_ours() -> None:
    tree = ast.parse(single_file.join_modules())
    joined = single_file._defined(tree)
    for path in single_file.PACKAGE.glob("*.py"):
        assert single_file._defined(ast.parse(path.read_text())) <= joined, path.name
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]


def test_the_one_file_is_a_module_under_any_name(tmp_path: Path) -> None:
    path = tmp_path / "copied.py"
    assert single_file.main([str(path)]) == 0
    spec = importlib.util.spec_from_file_location("copied", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.SocketHandler.__module__ == "copied"
    assert module.SocketHandler.__doc__.startswith("Sends records")
    with pytest.raises(ValueError, match="overflow"):
        module.SocketHandler("127.0.0.1", 1, overflow="forget")


def test_a_name_that_two_modules_define_is_refused(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text('"""One."""\nfrom ._two import x\n\n\ndef clash():\n    pass\n')
    (tmp_path / "_two.py").write_text('"""Two."""\nx = 1\nclash = 2\n')
    with pytest.raises(single_file.NameClashError, match=r"clash is defined in _two.py and __init__.py"):
        single_file.join_modules(tmp_path)
