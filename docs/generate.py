"""Writes the parts of the documentation that are drawn from the code: settings, signals, life cycle, the map.

python docs/generate.py            write them
python docs/generate.py --check    fail if one of them is not up to date
"""

from __future__ import annotations

import ast
import re
import sys
from inspect import cleandoc
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
from msgspec import Meta

from prefork_logd.config.alerts import AlertSettings
from prefork_logd.config.changes import is_live
from prefork_logd.config.client_limits import ClientLimitSettings
from prefork_logd.config.listeners import ListenerSettings
from prefork_logd.config.load import ENVIRONMENT_VARIABLE, FILE_NAME, SYSTEM_FILE, loads
from prefork_logd.config.outputs import OutputSettings
from prefork_logd.config.receivers import RECEIVERS, ReceiverSettings
from prefork_logd.config.samples import SampleSettings
from prefork_logd.config.server import TABLES
from prefork_logd.config.show import effective
from prefork_logd.config.sources import NatsSourceSettings
from prefork_logd.config.stores.base import StoreSettings
from prefork_logd.config.stores.kinds import KINDS
from prefork_logd.config.web import WebUserSettings
from prefork_logd.processes.master.lifecycle import TABLE, Action, Event, State
from prefork_logd.system import signals
from prefork_logd.web.api import CALLS, openapi
from prefork_logd.web.api.parameters import SEARCH

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent / "prefork_logd"
IMPORT_TEST = HERE.parent / "tests" / "unit" / "test_imports.py"
BEGIN, END = "<!-- folders: made by docs/generate.py -->\n", "<!-- end of folders -->\n"
"""They enclose the order of imports and the table of folders in design.md."""
API_BEGIN, API_END = "<!-- calls: made by docs/generate.py -->\n", "<!-- end of calls -->\n"
"""They enclose the calls and types in api.md."""
API_TABLE = "| parameter | type | default | meaning |\n|---|---|---|---|\n"
JSON = "application/json"
NOTICE = "<!-- Made by docs/generate.py; change the code it is drawn from instead. -->\n\n"


def main() -> int:
    """Write every page, or check it."""
    stale = []
    for name, text in {
        "configuration.md": configuration(),
        "signals.md": signal_page(),
        "processes.md": processes(),
        "map.md": code_map(),
        "api.md": api((HERE / "api.md").read_text()),
        "design.md": design((HERE / "design.md").read_text()),
    }.items():
        path = HERE / name
        if "--check" in sys.argv[1:]:
            if not path.exists() or path.read_text() != text:
                stale.append(name)
        else:
            path.write_text(text)
    if stale:
        print(f"not up to date: {', '.join(stale)}; run python docs/generate.py", file=sys.stderr)
    return bool(stale)


def configuration() -> str:
    """Return the page about settings."""
    parts: list[str] = []
    parts.append(
        f"# Configuration\n\n{NOTICE}"
        "The configuration is one TOML file, the first of these that is given or exists: `--config FILE`, "
        f"`${ENVIRONMENT_VARIABLE}`, `./{FILE_NAME}`, `{SYSTEM_FILE}`. Every key has a default and an empty file "
        "is valid; an unknown key is an error. `prefork-logd check` prints the effective configuration, or "
        "every error with its line.\n\n"
        f"`./{FILE_NAME}` is the one in the working directory. It has to belong to root or to the user who runs the "
        "command, because it can name commands to run; a file of another user is an error, unless `--config` names it."
        "\n\n"
        "The flags `--bind`, `--workers` and `--state-dir` take the place of the keys of the same name.\n\n"
        "Relative paths of flags start at the working directory, `state_dir` and `unix:` addresses in the file at the "
        "file's directory, and all other paths at `state_dir`. They are resolved at the start and stay the same over "
        "reload and upgrade.\n\n"
        "`prefork-logd reload` applies changes of *live* keys; changes of the others wait for a restart, and reload "
        "names them.\n"
    )
    lists = {
        "web.user": WebUserSettings,
        "listener": ListenerSettings,
        "limit": ClientLimitSettings,
        "sample": SampleSettings,
        "output": OutputSettings,
        "source": NatsSourceSettings,
        "alert": AlertSettings,
    }
    for table, kind in {**TABLES, **lists}.items():
        header = f"[[{table}]]" if table in lists else f"[{table}]"
        parts.append(f"\n## `{header}`\n\n{cleandoc(kind.__doc__ or '')}\n\n")
        # [[web.user]] has a table of its own.
        parts += _rows(
            kind,
            {field.name for field in msgspec.structs.fields(kind)}
            - {"user" if table == "web" else "name" if table == "errors" else ""},
        )
    common = {field.name for field in msgspec.structs.fields(StoreSettings)}
    parts.append(f"\n## `[[store]]`\n\n{cleandoc(StoreSettings.__doc__ or '')} `type` selects the kind.\n\n")
    parts += _rows(StoreSettings, common)
    for name, kind in KINDS.items():
        store = kind.settings
        own = {field.name for field in msgspec.structs.fields(store)} - common
        parts.append(f'\n### `type = "{name}"`\n\n{cleandoc(store.__doc__ or "")}\n\n')
        parts += _rows(store, own)
    shared = {field.name for field in msgspec.structs.fields(ReceiverSettings)}
    parts.append("\n## `[[receiver]]`\n\nWhere notices of alerts are sent. `type` selects the kind.\n\n")
    parts += _rows(ReceiverSettings, shared)
    for name, receiver in RECEIVERS.items():
        parts.append(f'\n### `type = "{name}"`\n\n{(receiver.__doc__ or "").strip()}\n\n')
        parts += _rows(receiver, {field.name for field in msgspec.structs.fields(receiver)} - shared)
    parts.append(
        '\nDurations are a number and `ms`, `s`, `m`, `h`, `d` or `w`, as a string: `"30s"`, `"1d"`. An output '
        "without a name has the name of its file. Each output is an `[[output]]` table; without any there is one "
        "named `records` in `records.jsonl`, which is rotated each day or at 2 GB, "
        "compressed, and kept up to 10 GB. Each store is a `[[store]]` table; without any there is one of type "
        "`parquet`. `store = []` at the top of the file turns it off.\n\n"
        "## The defaults\n\n```toml\n" + effective(loads("", "", {"state_dir": "/var/lib/prefork-logd"})) + "```\n"
    )
    return "".join(parts)


def _rows(kind: type[msgspec.Struct], keys: set[str]) -> list[str]:
    """Return the table of some keys of a Struct."""
    rows = ["| key | type | default | live | meaning |\n|---|---|---|---|---|\n"]
    types = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        if field.name in keys:
            hint = types[field.name]
            meta = next(meta for meta in hint.__metadata__ if isinstance(meta, Meta) and meta.description)
            live = "yes" if is_live(hint) else "no"
            default = _toml(field.default if field.default is not msgspec.NODEFAULT else field.default_factory())
            rows.append(f"| `{field.encode_name}` | {_type(hint)} | `{default}` | {live} | {meta.description} |\n")
    return rows


def _type(hint: Any) -> str:
    schema = msgspec.json.schema(hint)
    if "anyOf" in schema:
        return " or ".join(_type_name(part) for part in schema["anyOf"])
    return _type_name(schema)


def _type_name(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f'`"{value}"`' for value in schema["enum"])
    names = {"integer": "whole number", "array": "list of strings", "object": "table"}
    name = names.get(schema["type"], schema["type"])
    bounds = [f"{word} {schema[key]:,}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return " ".join((name, *bounds))


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return msgspec.json.encode(value).decode()


def api(page: str) -> str:
    """Return the page about the HTTP API, with its calls and types from the OpenAPI document."""
    described = openapi.document(CALLS)
    schemas = described["components"]["schemas"]
    common = {parameter.name for parameter in SEARCH}
    parts = ["\n### Common parameters\n\n", API_TABLE]
    parts += [_api_parameter(one) for one in described["paths"]["/count"]["get"]["parameters"]]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            parts.append(f"\n### `{method.upper()} {path}`\n\n{operation['summary']} {operation['description']}\n")
            own = operation["parameters"]
            if common <= {one["name"] for one in own}:
                own = [one for one in own if one["name"] not in common]
                parts.append(f"\nThe [common parameters](#common-parameters){', and' if own else '.'}\n")
            if own:
                parts += ["\n", API_TABLE, *map(_api_parameter, own)]
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                parts.append(f"\nBody: {_schema_name(schema)}.\n")
            content = operation["responses"]["200"]["content"]
            names = [_schema_name(one["schema"]) if media == JSON else f"`{media}`" for media, one in content.items()]
            parts.append(f"\nAnswer: {', '.join(names)}.\n")
    parts.append("\n## Types\n")
    for name, schema in schemas.items():
        parts.append(f"\n### {name}\n\n{schema['description']}\n\n| field | type | meaning |\n|---|---|---|\n")
        for field, kind in schema["properties"].items():
            parts.append(f"| `{field}` | {_schema_name(kind)} | {kind.get('description', '')} |\n")
    before, rest = page.split(API_BEGIN)
    return f"{before}{API_BEGIN}{''.join(parts)}\n{API_END}{rest.split(API_END)[1]}"


def _api_parameter(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    default = f"`{schema['default']}`" if schema.get("default") not in (None, "") else ""
    if parameter.get("required"):
        default = "required"
    kind = _schema_name(schema.get("items", schema))
    if "items" in schema:
        kind += f", up to {schema['maxItems']} times"
    return f"| `{parameter['name']}` | {kind} | {default} | {parameter['description']} |\n"


def _schema_name(schema: dict[str, Any]) -> str:
    """Return the name of a type in the OpenAPI document."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_schema_name, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_schema_name(schema.get('items', {}))}"
    names = {"integer": "whole number", "string": "text", None: "any JSON"}
    bounds = f" from {_number(schema['minimum'])} to {_number(schema['maximum'])}" if "minimum" in schema else ""
    return f"{names.get(schema.get('type'), schema.get('type'))}{bounds}"


def _number(value: float) -> str:
    """Return a bound with all its digits."""
    return f"{value:,g}" if value != int(value) else f"{int(value):,}"


def signal_page() -> str:
    """Return the page about signals."""
    rows = "".join(
        f"| {use.signal.name} | {f'`{use.verb}`' if use.verb else ''} | {use.meaning} |\n" for use in signals.TABLE
    )
    return (
        f"# Signals\n\n{NOTICE}The master acts on these signals. Send them to the pid in `prefork-logd.pid`, "
        "never to a child. Children ignore the signals that a terminal or `pkill` sends them, except SIGKILL; the "
        f"master forks another for a killed one.\n\n| signal | verb | what it does |\n|---|---|---|\n{rows}\n"
        "`prefork-logd reload` asks on the control socket instead of sending SIGHUP, and prints the outcome; both "
        "do the same. Many signals lead to one reload at a time, and at most one waiting.\n\n"
        "A signal that is sent again before it is delivered is delivered once (signal(7)): five SIGTTIN in quick "
        "succession may add fewer than five workers. `prefork-logd workers COUNT` sets their number.\n"
    )


def processes() -> str:
    """Return the page about the life cycle of a child."""
    states = "".join(f"| {state.name} | {state.value} |\n" for state in State)
    events = "".join(f"| {event.name} | {event.value} |\n" for event in Event)
    actions = "".join(f"| {action.name} | {action.value} |\n" for action in Action)
    table = "".join(
        f"| {state.name} | {event.name} | {transition.state.name} | {transition.action.name} |\n"
        for (state, event), transition in TABLE.items()
    )
    return (
        f"# Processes\n\n{NOTICE}The life cycle of a child, as the master keeps it "
        "(`processes/master/lifecycle.py`).\n\n"
        f"| state | a child that |\n|---|---|\n{states}\n| event | a child |\n|---|---|\n{events}\n"
        f"| action | what the master does |\n|---|---|\n{actions}\n"
        f"| in state | on event | goes to | and the master does |\n|---|---|---|---|\n{table}"
    )


def code_map() -> str:
    """Return the map of the code: each folder and module with the first sentence of its docstring."""
    parts: list[str] = []
    parts.append(
        f"# Map\n\n{NOTICE}Each folder and each module of `prefork_logd/`, with the first sentence of its docstring. "
        "[Design](design.md) describes how they work together.\n"
    )
    for folder in _folders():
        modules = sorted(path for path in folder.iterdir() if path.suffix in {".py", ".pyx"})
        rows = [f"| `{path.name}` | {_sentence(_docstring(path))} |\n" for path in modules if path.stem != "__init__"]
        parts.append(f"\n## {_title(folder)}\n\n{_sentence(_docstring(folder / '__init__.py'))}\n")
        if rows:
            parts += ["\n| module | what it does |\n|---|---|\n", *rows]
    return "".join(parts)


def design(page: str) -> str:
    """Return the page about the design, with the text between its two marks made anew."""
    rows = ["Imports run down only, from floor to floor:\n\n"]
    rows += [f"{number}. {', '.join(f'`{room}`' for room in floor)}\n" for number, floor in enumerate(_floors(), 1)]
    rows += ["\n`tests/unit/test_imports.py` checks it, also for imports that serve types alone.\n\n"]
    rows += ["| folder | what it does | what it does not know |\n|---|---|---|\n"]
    for folder in _folders():
        if folder != PACKAGE:
            text = _docstring(folder / "__init__.py")
            rows.append(f"| `{_title(folder)}` | {_sentence(text)} | {_unknown(text)} |\n")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{''.join(rows)}\n{end}{after}"


def _floors() -> list[list[str]]:
    """Return the rooms of each floor, from the top, as the test of imports has them."""
    for node in ast.parse(IMPORT_TEST.read_text()).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "FLOORS" and node.value:
            return [sorted(rooms) for rooms in ast.literal_eval(node.value)]
    raise ValueError(f"{IMPORT_TEST} has no FLOORS")


def _folders() -> list[Path]:
    return sorted({path.parent for path in PACKAGE.rglob("*.py")})


def _title(folder: Path) -> str:
    return f"{folder.relative_to(PACKAGE.parent).as_posix()}/".removeprefix("prefork_logd/") or "prefork_logd/"


def _docstring(path: Path) -> str:
    """Return the docstring of a module, also of a compiled one."""
    if path.suffix == ".py":
        return ast.get_docstring(ast.parse(path.read_text())) or ""
    found = re.search(r'^"""(.*?)"""', path.read_text(), re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def _sentence(text: str) -> str:
    """Return the first sentence of a docstring, on one line of a table."""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=[.?])\s+(?=[A-Z])", paragraph)[0].replace("|", "\\|")


def _unknown(text: str) -> str:
    """Return what a folder's docstring names after "Does not know", on one line of a table."""
    found = re.search(r"Does not know (.*?)[.:](?:\s|$)", " ".join(text.split()))
    return found[1].replace("|", "\\|") if found else ""


if __name__ == "__main__":
    sys.exit(main())
