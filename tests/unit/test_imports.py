"""Imports run one way: the tree is the architecture, and its arrows never turn back."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "prefork_logd"

LAYERS: dict[str, int] = {
    "errors": 0,
    "handlers": 0,
    "log": 1,
    "signals": 0,
    "unpacking": 1,
    "values": 0,
    "nats_settings": 1,
    "source_settings": 2,
    "store_settings": 2,
    "settings": 3,
    "config": 5,
    "scoreboard": 4,
    "old_scoreboard": 5,
    "daemon": 5,
    "records": 4,
    "protocol": 5,
    "native": 6,
    "net": 6,
    "outputs": 6,
    "journal": 6,
    "inotify": 1,
    "query": 7,
    "stores": 8,
    "processes": 9,
    "serve": 10,
    "replaying": 10,
    "importing": 9,
    "looking": 9,
    "backoff": 0,
    "compiled": 0,
    "cpus": 0,
    "disk": 0,
    "libc": 0,
    "own_files": 0,
    "privileges": 1,
    "running": 4,
    "ownership": 4,
    "hanging": 5,
    "cli": 11,
    "__main__": 12,
}
"""A room may import rooms below its own number, itself, and the package's own facts (prefork_logd itself)."""

FORBIDDEN = {
    "protocol": {"socket", "os", "select", "time", "asyncio", "signal"},
    "records": {"socket", "os", "select", "asyncio", "subprocess", "importlib"},
    "query": {"socket", "os", "select", "time", "asyncio", "subprocess", "sqlite3"},
}
"""Standard modules that a pure room refuses to know."""

ALLOWED = {"query/parse.py": {"time"}}
"""Exceptions: "2h" ago needs the time of now."""

FILE_ROOMS = {"journal", "outputs", "inotify", "unpacking"}
"""Rooms that read or watch files."""


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    """No room knows one above it, or a neighbour on its own level."""
    room = _room(path)
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] != "prefork_logd" or len(parts) == 1:
            continue
        other = parts[1]
        if other in (room, "__version__"):
            continue
        assert other in LAYERS, f"{name} is in no known room"
        assert LAYERS[other] < LAYERS[room], f"{room} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_pure_room_knows_no_sockets_and_no_clocks(path: Path) -> None:
    """protocol/, records/ and query/ are functions of what they are given."""
    known = {name.split(".")[0] for name in _imports(path)}
    allowed = ALLOWED.get(str(path.relative_to(PACKAGE)), set())
    assert not known & FORBIDDEN.get(_room(path), set()) - allowed


def test_of_queries_only_the_tail_reads_files() -> None:
    """Every other module of query/ is a function of what it is given."""
    for path in (PACKAGE / "query").glob("*.py"):
        rooms = {name.split(".")[1] for name in _imports(path) if name.startswith("prefork_logd.")}
        assert path.name == "tail.py" or not rooms & FILE_ROOMS, path.name


def test_every_room_has_a_place() -> None:
    """A new room is given its layer here, on purpose."""
    assert {_room(path) for path in MODULES} == set(LAYERS)
