"""Reads one TOML document and collects its problems, each with file, line and key.

Does not know which keys there are. Opens no file.
"""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

import msgspec

from prefork_logd.config.values import TableSettings
from prefork_logd.errors import ConfigError, Problem

Table = TypeVar("Table", bound=TableSettings)

_WORDS = {
    "`str`": "a string",
    "`int`": "a whole number",
    "`float`": "a number",
    "`bool`": "a boolean",
    "`array`": "a list",
    "`object`": "a table",
    "got bool": "got a boolean",
    "enum value": "value",
    "`": "",
}
"""msgspec's words for types, and those of TOML."""
_REMEDIES = {
    "a list, got a string": 'write it in brackets, such as ["..."]',
    "a whole number, got a number": "write it without a fraction",
    "a string, got a whole number": "write it in quotes",
    "a string, got a number": "write it in quotes",
    "number, got a string": "write a number without quotes",
    "a boolean, got a string": "write true or false without quotes",
}


_TOML_REMEDIES = {
    "cannot overwrite a value": "the key is set above already; remove one of the two",
    "cannot declare": "the table is above already; join the two",
    "invalid statement": "write KEY = VALUE, or a table such as [server]",
    "invalid value": "write a text in quotes, a number, true, false or a list",
    "expected ']' at the end of a table declaration": "close the bracket",
    "expected '=' after a key": "write KEY = VALUE",
    "unterminated string": "close the quotes",
    'expected "\'"': "close the quotes",
    "illegal character '\\n'": "close the quotes",
    "expected newline or end of document after a statement": "write each key on a line of its own",
}
"""Remedies for errors of tomllib, by the beginning of its message."""


class LineIndex:
    """The line of each table and key of a TOML text, which tomllib does not report.

    Reads only what the settings need: table headers, and `key =` at the start of a line.
    """

    _HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\"'-]+)\s*\]\]?")
    _KEY = re.compile(r"""\s*["']?([\w-]+)["']?(?:\s*\.\s*["']?([\w-]+)["']?)?\s*=""")

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, int, str], int] = {}
        table, index = "", 0
        counts: dict[str, int] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if header := self._HEADER.match(line):
                table = header[2].strip("\"'")
                index = counts.get(table, 0) if header[1] == "[[" else 0
                counts[table] = index + 1
                self._lines.setdefault((table, index, ""), number)
            elif key := self._KEY.match(line):
                if table == "" and key[2]:
                    self._lines.setdefault((key[1], 0, key[2]), number)
                self._lines.setdefault((table, index, key[1]), number)

    def find(self, table: str, index: int, key: str) -> int:
        """Return the line of a key, else of its table, else 0."""
        parent, _, name = table.rpartition(".")
        for place in ((table, index, key), (table, index, ""), (parent, 0, name), (key, 0, "")):
            if place in self._lines:
                return self._lines[place]
        return 0


class Document:
    """A TOML text, its tables as Structs, and the problems found so far."""

    def __init__(self, text: str, path: str = "") -> None:
        """Parse a text. `path` is the file's name for problems. Raises ConfigError for a text that is not TOML."""
        self.problems: list[Problem] = []
        self._path = path
        self._lines = LineIndex(text)
        try:
            self._tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError([_syntax_problem(str(error), path)]) from error
        except ValueError as error:
            # int() refuses more than 4,300 digits (sys.set_int_max_str_digits), and tomllib lets that pass.
            raise ConfigError(
                [Problem(path, "has a number that is too long to be read; write a smaller one")]
            ) from error
        except RecursionError as error:
            raise ConfigError([Problem(path, "has lists or tables that are nested too deeply")]) from error

    def take(self, name: str, default: object) -> object:
        """Remove a top-level key or table and return its plain value; `default` if there is none."""
        return self._tables.pop(name, default)

    def refuse_rest(self, known: Mapping[str, object]) -> None:
        """Add a problem for each top-level key or table that was not taken."""
        for key in self._tables:
            self.add_problem("", 0, key, f"unknown key or table{suggest(key, known)}")

    def add_problem(self, table: str, index: int, key: str, message: str) -> None:
        """Add a problem under the file and line of a key."""
        line = self._lines.find(table, index, key)
        place = f"{self._path}:{line}: " if line else f"{self._path}: " if self._path else ""
        name = table if not index else f"{table}[{index + 1}]"
        self.problems.append(Problem(f"{place}{name}{'.' if key and name else ''}{key}", message))

    def read_table(self, kind: type[Table], table: str, index: int, content: object) -> Table:
        """Return the Struct of one table; a value with a problem is replaced by its default."""
        if not isinstance(content, Mapping):
            self.add_problem(table, index, "", f"must be a table; write [{table}] on a line of its own")
            return kind()
        attributes, types = _keys_of(kind)
        values: dict[str, Any] = {}
        unread = []
        for key, value in content.items():
            if key not in types:
                self.add_problem(table, index, key, f"unknown key{suggest(key, types)}")
                continue
            try:
                values[attributes[key]] = msgspec.convert(value, types[key])
            except msgspec.ValidationError as error:
                self.add_problem(table, index, key, explain(error, types[key]))
                unread.append(key)
        settings = kind(**values)
        for key, message in settings.problems():
            # A sentence such as `has no effect with tls = "off"` is about the default of a value that was not read.
            if not any(f"{other} = " in message for other in unread):
                self.add_problem(table, index, key, message)
        return settings

    def read_tables(self, kind: type[Table], table: str, tables: object, most: int = 0) -> tuple[Table, ...]:
        """Return the Structs of a list of tables, of which there may be `most`; 0: any number."""
        listed = self.list_of_tables(table, tables, most)
        return tuple(self.read_table(kind, table, index, content) for index, content in enumerate(listed))

    def read_kinds(
        self,
        kinds: Mapping[str, type[Table]],
        table: str,
        tables: object,
        most: int,
        removed: Mapping[str, str] = MappingProxyType({}),
    ) -> list[tuple[int, Table]]:
        """Return the Structs of a list of tables, each of the kind that its key `type` names, with its place.

        `removed`: types of earlier versions, with the sentence about each.
        """
        found: list[tuple[int, Table]] = []
        for index, content in enumerate(self.list_of_tables(table, tables, most)):
            if not isinstance(content, Mapping):
                self.add_problem(table, index, "", f"must be a table; write [[{table}]] on a line of its own")
                continue
            kind = content.get("type")
            if not isinstance(kind, str) or kind not in kinds:
                others = f"must be one of {', '.join(kinds)}"
                self.add_problem(table, index, "type", removed.get(kind, others) if isinstance(kind, str) else others)
                continue
            own = {key: value for key, value in content.items() if key != "type"}
            found.append((index, self.read_table(kinds[kind], table, index, own)))
        return found

    def list_of_tables(self, table: str, tables: object, most: int = 0) -> Sequence[object]:
        """Return a list of tables, of which there may be `most` (0: any number); an empty one if it is not a list."""
        if not isinstance(tables, Sequence) or isinstance(tables, str):
            self.add_problem(table, 0, "", f"must be a list of tables; write [[{table}]] with two brackets")
            return ()
        if most and len(tables) > most:
            self.add_problem(table, most, "", f"exceeds the limit of {most} of these tables; leave some out")
        return tables

    def refuse_repeated(self, table: str, names: Iterable[tuple[int, str]]) -> None:
        """Add a problem for each name, given with its place in the list, that a table above it has."""
        seen: set[str] = set()
        for index, name in names:
            if name in seen:
                self.add_problem(table, index, "name", f"{name!r} is taken by a table above; choose another")
            seen.add(name)


@functools.cache
def _keys_of(kind: type[TableSettings]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the attribute and the type of each key of a table: its annotations take longer to read than its values."""
    hints = get_type_hints(kind, include_extras=True)
    # A key such as `for` is not the name of an attribute.
    attributes = {field.encode_name: field.name for field in msgspec.structs.fields(kind)}
    return attributes, {key: hints[name] for key, name in attributes.items()}


def _syntax_problem(message: str, path: str) -> Problem:
    """Return an error of tomllib as a problem with its line, and with a remedy if it is a common one."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    what, line, column = found.groups() if found else (message, "", "")
    what = what[:1].lower() + what[1:]
    remedy = next((f"; {remedy}" for start, remedy in _TOML_REMEDIES.items() if what.startswith(start)), "")
    return Problem(f"{path}:{line}" if line else path, f"{f'column {column}: ' if column else ''}{what}{remedy}")


def explain(error: msgspec.ValidationError, kind: Any) -> str:
    """Return msgspec's message without the names of Python types, and with the values to choose from."""
    message = str(error).partition(" - at ")[0]
    schema = msgspec.json.schema(kind)
    if "matching regex" in message:
        return f'is not of the right form; write one such as "{schema["examples"][0]}"'
    parts = [*schema.get("anyOf", [schema]), schema.get("items", {})]
    choices = [f'"{value}"' for part in parts for value in part.get("enum", ())]
    for technical, word in _WORDS.items():
        message = message.replace(technical, word)
    message = message[:1].lower() + message[1:]
    if choices:
        choices += ["a whole number" for part in parts if part.get("type") == "integer"]
        return f"{message}; write {' or '.join(choices)}"
    for got, remedy in _REMEDIES.items():
        if message.endswith(got):
            return f"{message}; {remedy}"
    return message


def suggest(key: str, known: Mapping[str, object]) -> str:
    """Return the end of a sentence about an unknown key: the nearest known key, else all of them."""
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known ones are {', '.join(known)}"
