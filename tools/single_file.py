"""Joins prefork_logd/handlers/ into one file, for services that copy the handler instead of installing it.

`python tools/single_file.py FILE`, or to the standard output. The file runs on Python 2.7 and 3.6 or newer under any
name. It holds the modules one after another, each behind those that it imports; imports between them are left out, so
each top-level name may be defined in one module only.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "prefork_logd" / "handlers"
_FIRST = "__init__"
_IMPORT = re.compile(r"^(?:import|from) [\w. ]+$", re.MULTILINE)


class NameClashError(ValueError):
    """Two modules define the same name at their top level."""


def join_modules(package: Path = PACKAGE) -> str:
    """Return the text of the one file. Raises NameClashError."""
    order: list[str] = []
    _visit(package, _FIRST, order)
    _check_names(package, order)
    bodies, imports = [], set()
    for name in order:
        text = _body(package / f"{name}.py")
        plain = {line for line in _IMPORT.findall(text) if " as " not in line}
        imports |= plain
        text = "\n".join(line for line in text.split("\n") if line not in plain)
        bodies.append(f"# {'-' * 78}\n# {name}.py\n\n{text.strip()}\n")
    docstring = ast.get_docstring(ast.parse((package / f"{_FIRST}.py").read_text()), clean=False)
    note = "Made by tools/single_file.py of prefork-logd from its folder prefork_logd/handlers: change that instead."
    head = f'"""{docstring}\n{note}\n"""\nfrom __future__ import absolute_import, division\n\n'
    return head + "\n".join(sorted(imports)) + "\n\n" + "\n\n".join(bodies)


def _visit(package: Path, name: str, order: list[str]) -> None:
    """Put a module behind those that it imports."""
    if name in order:
        return
    for node in ast.parse((package / f"{name}.py").read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            _visit(package, str(node.module), order)
    order.append(name)


def _body(path: Path) -> str:
    """Return a module's text without its docstring, its imports from `__future__` and those of its neighbours."""
    text = path.read_text()
    lines = text.split("\n")
    body = ast.parse(text).body
    left_out = [
        node for node in body if isinstance(node, ast.ImportFrom) and (node.level or node.module == "__future__")
    ]
    for node in [body[0], *left_out]:
        for number in range(node.lineno - 1, node.end_lineno or node.lineno):
            lines[number] = ""
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines))


def _check_names(package: Path, order: list[str]) -> None:
    """Raise NameClashError if two modules define a name: the later one would take the earlier one's place."""
    owners: dict[str, str] = {}
    for module in order:
        for name in _defined(ast.parse((package / f"{module}.py").read_text())):
            if owners.setdefault(name, module) != module:
                raise NameClashError(f"{name} is defined in {owners[name]}.py and {module}.py; rename one of them")


def _defined(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            names = (name for target in node.targets for name in ast.walk(target))
            found |= {name.id for name in names if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}
    return found


def main(arguments: list[str]) -> int:
    """Write the file that is named, or the standard output."""
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        print(__doc__, file=sys.stderr)
        return 2
    text = join_modules()
    if arguments:
        Path(arguments[0]).write_text(text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
