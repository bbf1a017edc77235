"""Imports run one way: the tree is the architecture, and its arrows never turn back."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
PACKAGE = TESTS.parent / "prefork_logd"

FLOORS: tuple[set[str], ...] = (
    {"__main__"},
    {"cli"},
    {"processes"},
    {"web"},
    {"alerts"},
    {"stores"},
    {"ingest", "query"},
    {"ipc", "journal", "files"},
    {"inputs", "net"},
    {"system"},
    {"config"},
    {"records"},
    {"errors", "handlers"},
)
"""The rooms, from the top. A room imports rooms of lower floors, and itself."""

PROCESSES: dict[str, set[str]] = {
    "master": {"worker", "writer", "shipper", "consumer", "web", "alerts", "fork", "orphans"},
    "worker": {"fork", "orphans"},
    "writer": {"fork", "orphans"},
    "shipper": {"fork", "orphans"},
    "consumer": {"fork", "orphans"},
    "web": {"fork", "orphans", "search_limits"},
    "alerts": {"fork", "orphans", "search_limits"},
    "fork": {"orphans"},
    "orphans": set(),
    "search_limits": set(),
}
"""What the code of each process imports besides its own folder: only the master knows the others, for it forks them."""

REFUSED: dict[str, set[str]] = {
    "inputs": {"socket", "select", "time", "asyncio", "subprocess", "importlib"},
    "records": {"socket", "os", "select", "asyncio", "subprocess", "importlib"},
    "config": {"socket", "select", "asyncio", "subprocess"},
}
"""Standard modules that a pure room refuses to know."""
PURE = {
    f"query/{name}.py": {"socket", "os", "select", "time", "asyncio", "subprocess", "duckdb"}
    for name in (
        "filters",
        "times",
        "where",
        "written",
        "histogram",
        "search",
        "tree",
        "words",
        "evaluate",
        "conditions",
        "language",
    )
}
"""Pure modules of a room that has others, too."""

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
NAMES = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}


def _name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _floor(room: str) -> int:
    """Return how far below the roof a room lies; an unknown one is a new room, which gets its floor above."""
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


@functools.cache
def _imports(path: Path) -> set[str]:
    """Return the full names that a module imports, also those for its types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            parents = ("prefork_logd", *path.relative_to(PACKAGE).parts[:-1])
            base = ".".join(parents) if node.level else node.module
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return found


def _modules(path: Path) -> set[str]:
    """Return which of our modules a module imports."""
    found = set()
    for name in _imports(path):
        module = name if name in NAMES else name.rpartition(".")[0]
        if module in NAMES:
            found.add(module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    """No room knows one above it, or a neighbour on its own floor."""
    room = _room(path)
    for module in _modules(path):
        other = module.split(".")[1]
        assert other == room or _floor(other) > _floor(room), f"{room} imports {module}"


@pytest.mark.parametrize("path", [p for p in MODULES if _room(p) == "processes"], ids=_name)
def test_a_process_knows_no_other(path: Path) -> None:
    """The folder says which process runs a piece of code, so it uses no other's; the master forks them, and may."""
    own = path.relative_to(PACKAGE / "processes").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for module in _modules(path):
        parts = module.split(".")
        if parts[1] == "processes" and len(parts) > 2 and parts[2] != own:
            assert parts[2] in PROCESSES[own], f"{own} imports {module}"


def test_there_is_no_circle() -> None:
    """No module needs itself by way of others, not even for a type."""
    needs = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): _modules(path)
        for path in MODULES
    }
    left = {module: {other for other in others if other != module} for module, others in needs.items()}
    while free := {module for module, others in left.items() if not others & left.keys()}:
        for module in free:
            del left[module]
    assert not left, f"a circle among or below {sorted(left)}"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_pure_room_knows_no_sockets_and_no_clocks(path: Path) -> None:
    """What is a function of what it is given imports nothing that asks the system."""
    refused = PURE.get(_name(path)) or REFUSED.get(_room(path), set())
    assert not {name.split(".")[0] for name in _imports(path)} & refused


def test_the_handlers_stand_alone() -> None:
    """A service's process imports nothing of the collector with its handler."""
    for path in MODULES:
        if _room(path) == "handlers":
            assert all(module.startswith("prefork_logd.handlers") for module in _modules(path)), path


def test_every_room_has_a_floor() -> None:
    """A new room is given its floor here, on purpose."""
    assert {_room(path) for path in MODULES} == set().union(*FLOORS)


def test_tests_share_what_lies_in_modules_without_tests() -> None:
    """A test module that others import cannot be read, moved or run by itself."""
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests"):
                for alias in node.names:
                    parts = f"{node.module}.{alias.name}".split(".")
                    assert not any(part == "conftest" or part.startswith("test_") for part in parts), (
                        f"{path.relative_to(TESTS)} imports {'.'.join(parts)}; move what both need into tests/support"
                    )
