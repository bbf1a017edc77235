"""Reads output paths with fields, such as `logs/{service}/{logger}-{date}.jsonl`: checks them, and renders file names.

Owns the names of the fields, and the form of a value in a file name. Does not know records, and opens no file.

A value becomes a part of one file name. Letters, digits, ".", "_" and "-" stay; every other byte of its UTF-8 becomes
"%" and two hexadecimal digits, and so does a dot at the beginning. The end of a long value is replaced by "%-" and a
hash of the whole value. No value that is not empty gets the name of another one, or that of MISSING or OTHER.
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FIELDS = ("service", "environment", "host", "version", "logger", "level", "date")
"""The fields that a path may contain. `date` is the day of `received` in UTC, such as 2026-11-29."""
MISSING, OTHER = "_none", "_other"
"""The names of a value that a record lacks, and of all values when there are too many files."""
MOST_VALUE_BYTES, LEAST_VALUE_BYTES = 100, 48
"""The longest name of a value, and the least room for one that a path must leave."""

_NAME_BYTES = 255
"""The longest name of a file on Linux (NAME_MAX)."""
_ADDED_BYTES = 40
"""Room for what rotation, compression and recovery add to a file's name."""
_DATE_BYTES = len("2026-11-29")
_HASH_BYTES = 12
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_UNSAFE = re.compile(rb"[^A-Za-z0-9._-]")
_ENDING = re.compile(r"[^{}]*\.(?!(?:gz|zst|tmp)\Z)[A-Za-z][A-Za-z0-9_-]*")
_VALUE, _DATE = "[A-Za-z0-9._%-]+", "[0-9]{4}-[0-9]{2}-[0-9]{2}"


class Field(NamedTuple):
    """A field in a path."""

    name: str


Part = str | Field


def value_name(value: str, most_bytes: int = MOST_VALUE_BYTES) -> str:
    """Return the form of a field's value in a file name of this output; never empty, and no longer than `most_bytes`.

    An empty value becomes MISSING.
    """
    if not value:
        return MISSING
    octets = value.encode("utf-8", "surrogatepass")
    # A longer beginning than fits: the rest of a very long value is only hashed.
    name = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], octets[: most_bytes + 1]).decode()
    if name.startswith(".") or name in (MISSING, OTHER):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) <= most_bytes:
        return name
    digest = hashlib.blake2b(octets, digest_size=_HASH_BYTES).hexdigest()
    beginning = re.sub("%[0-9A-F]?$", "", name[: most_bytes - 2 - 2 * _HASH_BYTES])
    return f"{beginning}%-{digest}"


def escape(path: str) -> str:
    """Return the setting for a path without fields, in which braces are doubled."""
    return path.replace("{", "{{").replace("}", "}}")


@functools.lru_cache(maxsize=1024)
def parse(path: str) -> tuple[tuple[Part, ...], ...]:
    """Return the parts of each component of a path. Raises ValueError with a sentence for the user."""
    return tuple(tuple(_parse_component(component)) for component in path.split("/"))


def _parse_component(component: str) -> Iterator[Part]:
    end, literal = 0, ""
    for match in _TOKEN.finditer(component):
        literal += component[end : match.start()]
        end = match.end()
        if match[0] in ("{{", "}}"):
            literal += match[0][0]
        elif match[1] is None:
            raise ValueError(f"has a {match[0]!r} without its partner; write {match[0] * 2!r} for the character itself")
        else:
            _require_field(match[1])
            yield literal
            yield Field(match[1])
            literal = ""
    yield literal + component[end:]


def _require_field(name: str) -> None:
    """Raise ValueError if there is no such field."""
    if name in FIELDS:
        return
    if name == "peer":
        raise ValueError("has the field {peer}, which differs for each connection; use {host}")
    known = ", ".join(f"{{{field}}}" for field in FIELDS)
    raise ValueError(f"has an unknown field {{{name}}}; known ones are {known}; write {{{{ for a brace")


def literal_path(path: str) -> str:
    """Return the path of an output without fields, as the system knows it. Raises ValueError."""
    return "/".join("".join(part if isinstance(part, str) else "" for part in component) for component in parse(path))


def has_fields(path: str) -> bool:
    """Return whether a path has fields. Raises ValueError."""
    return ("{" in path or "}" in path) and any(_is_varied(component) for component in parse(path))


def _is_varied(component: Sequence[Part]) -> bool:
    return any(isinstance(part, Field) for part in component)


def problems(path: str) -> Iterator[str]:
    """Yield a sentence for each reason why an output cannot have this path."""
    try:
        if not has_fields(path):
            return
        components = parse(path)
    except ValueError as error:
        yield str(error)
        return
    first = next(index for index, component in enumerate(components) if _is_varied(component))
    if any(component in (("",), (".",), ("..",)) for component in components[first:]):
        yield 'has an empty, "." or ".." component after a field; leave it out'
    ending = components[-1][-1]
    if not isinstance(ending, str) or not _ENDING.fullmatch(ending):
        yield "needs an extension after its last field, such as .jsonl or .log, and not .gz, .zst or .tmp"
    if _room(components) < LEAST_VALUE_BYTES:
        yield "has too many fields between two slashes for a file name of 255 bytes; write some as directories"


def _room(components: Sequence[Sequence[Part]]) -> int:
    """Return how long a value's name may be, so that no component becomes too long for the file system."""
    room = MOST_VALUE_BYTES
    for component in filter(_is_varied, components):
        literal_bytes = sum(len(part.encode("utf-8", "surrogateescape")) for part in component if isinstance(part, str))
        fields = [part.name for part in component if isinstance(part, Field)]
        values = [name for name in fields if name != "date"]
        left = _NAME_BYTES - _ADDED_BYTES - literal_bytes - _DATE_BYTES * (len(fields) - len(values))
        room = min(room, left // len(values) if values else room if left >= 0 else 0)
    return room


class PathPattern:
    """A path with fields, which `problems` has found usable."""

    def __init__(self, path: str) -> None:
        components = parse(path)
        first = next(index for index, component in enumerate(components) if _is_varied(component))
        self.base = "/".join("".join(map(str, component)) for component in components[:first]) or "/"
        """The directory in which the components with fields begin."""
        self.names = tuple(part.name for component in components for part in component if isinstance(part, Field))
        """The fields in the order in which `render` takes their values; one may come twice."""
        self.components = components[first:]
        self._room = _room(components)
        self._frame = "/".join(
            "".join(part.replace("%", "%%") if isinstance(part, str) else "%s" for part in component)
            for component in self.components
        )
        self._forms = [re.compile(_form(component)) for component in self.components]
        last = self.components[-1]
        self._stem = re.compile(_form((*last[:-1], str(last[-1]).rpartition(".")[0])))

    def render(self, values: Sequence[str]) -> str:
        """Return the path below `base` of the file for the values of `names`, each in the form of a file name."""
        return self._frame % tuple(
            value if name == "date" else value_name(value, self._room)
            for name, value in zip(self.names, values, strict=True)
        )

    def render_other(self, date: str) -> str:
        """Return the path below `base` of the file for records that get no file of their own."""
        return self._frame % tuple(date if name == "date" else OTHER for name in self.names)

    def is_directory(self, depth: int, name: str) -> bool:
        """Return whether a file of the pattern can have a directory of this name, `depth` directories below `base`."""
        return self._forms[depth].fullmatch(name) is not None

    def is_file(self, name: str) -> bool:
        """Return whether a file of the pattern can have this name, without its directories."""
        return self._forms[-1].fullmatch(name) is not None

    def begins(self, name: str) -> bool:
        """Return whether a name begins like that of a file of the pattern, so that it may be a renamed one."""
        return self._stem.match(name) is not None

    def has(self, relative: str) -> bool:
        """Return whether this is the path below `base` of a file of the pattern."""
        names = relative.split("/")
        return len(names) == len(self._forms) and all(
            form.fullmatch(name) is not None for form, name in zip(self._forms, names, strict=True)
        )

    def date_of(self, relative: str) -> str:
        """Return the date in the path of a file of the pattern; "" for a path without one."""
        if "date" not in self.names:
            return ""
        for form, name in zip(self._forms, relative.split("/"), strict=True):
            match = form.fullmatch(name) if "date" in form.groupindex else None
            if match is not None:
                return match["date"]
        return ""


def _form(component: Sequence[Part]) -> str:
    """Return the regular expression of a component; its group "date" is the first date."""
    form, has_date = "", False
    for part in component:
        if isinstance(part, str):
            form += re.escape(part)
        elif part.name == "date":
            form += _DATE if has_date else f"(?P<date>{_DATE})"
            has_date = True
        else:
            form += _VALUE
    return form


def may_meet(one: Sequence[Sequence[Part]], other: Sequence[Sequence[Part]]) -> bool:
    """Return whether two paths may lead to one file, or one to a file that is a directory of the other.

    Fields are taken for any text, so it may be that no values exist for which it happens.
    """
    return all(_component_may_meet(*pair) for pair in zip(one, other, strict=False))


def _component_may_meet(one: Sequence[Part], other: Sequence[Part]) -> bool:
    rows, columns = _letters(one), _letters(other)
    # Whether the first letters of both can be the same text; None stands for any text.
    reached = [True]
    for letter in columns:
        reached.append(reached[-1] and letter is None)
    for row in rows:
        above, reached = reached, [reached[0] and row is None]
        for index, column in enumerate(columns):
            if row is None or column is None:
                reached.append(
                    (row is None and (above[index + 1] or reached[index]))
                    or (column is None and (reached[index] or above[index + 1]))
                )
            else:
                reached.append(above[index] and row == column)
    return reached[-1]


def _letters(component: Sequence[Part]) -> list[str | None]:
    return [letter for part in component for letter in (part if isinstance(part, str) else [None])]
