"""Settings: one declaration per key, from which loading, checking, `check`, reload and the documentation are made.

Owns what a configuration may say and how it is read. Knows nothing of processes, sockets or open files.

A setting is a field of one of the Structs below: type, default, bounds, a sentence of help, and whether a running
collector can take a new value. `load` reports every problem at once, each with its file, line and key.
"""

from __future__ import annotations

import difflib
import importlib.util
import ipaddress
import itertools
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import msgspec
import platformdirs
import tomli_w
from msgspec import Meta

from prefork_logd.errors import ConfigError, Problem

FILE_NAME = "prefork-logd.toml"
ENVIRONMENT_VARIABLE = "PREFORK_LOGD_CONFIG"
SYSTEM_FILE = Path("/etc/prefork-logd") / FILE_NAME

MAX_OUTPUTS = 1024
"""The scoreboard has this many places for outputs."""

LEVELS = {"NOTSET": 0, "DEBUG": 10, "INFO": 20, "WARNING": 30, "WARN": 30, "ERROR": 40, "CRITICAL": 50, "FATAL": 50}
DEFAULT_TEMPLATE = "%(asctime)s %(levelname)s %(name)s %(message)s"

NOT_LIVE = {"live": False}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_TEMPLATE_FIELD = re.compile(r"%(?:%|\(([^()]+)\)[#0\- +]*\d{0,4}(?:\.\d{1,4})?([diouxXeEfFgGcrsa]))")


def parse_duration(text: str) -> float:
    """Return the seconds that a duration such as "500ms", "30s", "5m", "1h", "1d" or "2w" stands for.

    Raises ValueError with a sentence for the user.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f'{text!r} is no duration; write a number and ms, s, m, h, d or w, such as "30s" or "1d"')
    return float(match[1]) * _DURATION_UNITS[match[2]]


def default_state_dir() -> str:
    """Return where state is kept when nothing says otherwise: the system's place for root, else the user's own."""
    return "/var/lib/prefork-logd" if os.geteuid() == 0 else platformdirs.user_state_dir("prefork-logd")


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The collector as a whole: where it listens, with how many processes, and where it keeps its state."""

    bind: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description='Addresses to listen on: "host:port", "[::1]:port" or "unix:/path"; port 0 picks a free one. '
            "Sockets inherited by systemd activation (LISTEN_FDS) take the place of these.",
            extra=NOT_LIVE,
        ),
    ] = ("127.0.0.1:9020",)
    workers: Annotated[
        Annotated[int, Meta(ge=1, le=256)] | Literal["auto"],
        Meta(description='Worker processes, 1 to 256; "auto" is one for each usable core.'),
    ] = "auto"
    state_dir: Annotated[
        str,
        Meta(
            description="Directory of the pid file, the control socket, the log of a daemon, rejected.jsonl and every "
            "output whose path is relative. Empty: /var/lib/prefork-logd for root, else the user's state directory.",
            extra=NOT_LIVE,
        ),
    ] = ""
    durability: Annotated[
        Literal["synced", "written"],
        Meta(
            description='When a record that its client wants acknowledged is committed: "synced" after a group '
            'fdatasync, "written" after write(2). Plain SocketHandler clients are not acknowledged.',
        ),
    ] = "synced"
    user: Annotated[
        str,
        Meta(description="Drop root privileges to this user after the sockets are bound. Empty: stay.", extra=NOT_LIVE),
    ] = ""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        for address in self.bind:
            try:
                split_address(address)
            except ValueError as error:
                yield "bind", str(error)
        if len(set(self.bind)) < len(self.bind):
            yield "bind", "lists an address twice; name each once"
        if "\0" in self.state_dir:
            yield "state_dir", "holds a NUL character, which no path can"

    @property
    def worker_count(self) -> int:
        """The number of workers, "auto" resolved to the cores this process may use."""
        return max(1, len(os.sched_getaffinity(0))) if self.workers == "auto" else self.workers


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one client, and all of them together, may cost."""

    max_record_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=64 * 1024 * 1024,
            description="Largest frame taken, in bytes; a larger one is skipped without being held, and counted.",
        ),
    ] = 1_048_576
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Connections held at once, over all workers; further ones wait in the kernel's backlog.",
        ),
    ] = 10_000
    record_timeout: Annotated[
        str,
        Meta(
            description="Time a record may take from its first byte to its last; a slower connection is closed. "
            "An idle connection is never closed.",
        ),
    ] = "30s"
    drain_timeout: Annotated[
        str,
        Meta(description="How long a stop goes on reading what clients have already sent."),
    ] = "10s"
    queue_bytes: Annotated[
        int,
        Meta(
            ge=262_144,
            le=1_073_741_824,
            description="High-water mark of one worker's lines on their way to the writer, in bytes: above it the "
            "worker stops reading until half of it is committed.",
        ),
    ] = 8_388_608

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        for key in ("record_timeout", "drain_timeout"):
            try:
                if parse_duration(getattr(self, key)) <= 0:
                    yield key, 'must be longer than nothing, such as "10s"'
            except ValueError as error:
                yield key, str(error)

    @property
    def record_timeout_s(self) -> float:
        """`record_timeout` in seconds."""
        return parse_duration(self.record_timeout)

    @property
    def drain_timeout_s(self) -> float:
        """`drain_timeout` in seconds."""
        return parse_duration(self.drain_timeout)


class OutputSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file that records are written to; a record goes to every output that lets it through."""

    name: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9_.-]+$", description="What status and messages call it; each name once."),
    ] = "records"
    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="The file; relative to state_dir. Missing directories are created.",
        ),
    ] = "records.jsonl"
    format: Annotated[
        Literal["json", "text"],
        Meta(description='"json": one object a line; "text": `template`, continuation lines start with a tab.'),
    ] = "json"
    template: Annotated[
        str,
        Meta(
            description="Text format only: logging's own % names (those of LogRecord, asctime, and any attribute of "
            "`extra`).",
        ),
    ] = DEFAULT_TEMPLATE
    level: Annotated[
        str | int,
        Meta(description='Lowest level let through: a name of logging\'s, or a number such as "WARNING" or 25.'),
    ] = "NOTSET"
    loggers: Annotated[
        tuple[str, ...],
        Meta(description="Logger names let through, each with its children, as logging.Filter does; empty: all."),
    ] = ()
    rotate_bytes: Annotated[
        int,
        Meta(ge=0, description="Rotate when the file has grown to this many bytes; 0: never by size."),
    ] = 0
    rotate_every: Annotated[
        str,
        Meta(description='Rotate after this time, such as "1h" or "1d"; empty: never by time.'),
    ] = ""
    keep: Annotated[
        int,
        Meta(ge=0, description="Rotated files kept by our own rotation, the newest; 0: all."),
    ] = 10
    keep_bytes: Annotated[
        int,
        Meta(ge=0, description="Rotated files are removed, the oldest first, above this many bytes; 0: no bound."),
    ] = 0
    compress: Annotated[
        Literal["none", "gzip", "zstd"],
        Meta(description='Compress rotated files; "zstd" needs the extra: pip install "prefork-logd[zstd]".'),
    ] = "none"
    mode: Annotated[
        str,
        Meta(pattern=r"^0?[0-7]{3}$", description="Permissions of the file, octal; directories get x where it has r."),
    ] = "0640"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        if "\0" in self.path:
            yield "path", "holds a NUL character, which no path can"
        try:
            level_number(self.level)
        except ValueError as error:
            yield "level", str(error)
        yield from (("template", problem) for problem in template_problems(self.template))
        if any(not name for name in self.loggers):
            yield "loggers", "holds an empty name; leave the list empty to let every logger through"
        if self.rotate_every:
            try:
                if parse_duration(self.rotate_every) < 1:
                    yield "rotate_every", 'must be one second or more, such as "1h"'
            except ValueError as error:
                yield "rotate_every", str(error)
        if self.compress == "zstd" and importlib.util.find_spec("zstandard") is None:
            yield "compress", 'zstd needs a package that is not installed: pip install "prefork-logd[zstd]"'

    @property
    def levelno(self) -> int:
        """`level` as a number."""
        return level_number(self.level)

    @property
    def rotate_every_s(self) -> float:
        """`rotate_every` in seconds; 0 is never."""
        return parse_duration(self.rotate_every) if self.rotate_every else 0.0

    @property
    def file_mode(self) -> int:
        """`mode` as a number."""
        return int(self.mode, 8)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One whole configuration, every default filled in and every path absolute."""

    server: ServerSettings = ServerSettings()
    limits: LimitSettings = LimitSettings()
    output: tuple[OutputSettings, ...] = (OutputSettings(),)
    source: str = ""
    """The file it came from; empty when there is none."""


TABLES: dict[str, type[ServerSettings | LimitSettings]] = {"server": ServerSettings, "limits": LimitSettings}


def split_address(address: str) -> tuple[str, int] | str:
    """Return (host, port) of "host:port" or "[::1]:port", or the path of "unix:/path".

    Raises ValueError with a sentence for the user.
    """
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        if not path or "\0" in path:
            raise ValueError(f'{address!r} names no path; write "unix:/run/prefork-logd.sock"')
        return path
    host, colon, port = address.rpartition(":")
    if not colon or not host:
        raise ValueError(f'{address!r} is no address; write "host:port", "[::1]:port" or "unix:/path"')
    if not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError(f"{address!r} has no port from 0 to 65535 after its last colon")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            raise ValueError(f"{address!r} has no IPv6 address between its brackets") from None
    elif ":" in host:
        raise ValueError(f'{address!r} is ambiguous; put an IPv6 address in brackets, such as "[::1]:9020"')
    return host, int(port)


def level_number(level: str | int) -> int:
    """Return the number of a level given by logging's name for it, or as a number.

    Raises ValueError with a sentence for the user.
    """
    if isinstance(level, int):
        return level
    if level.upper() in LEVELS:
        return LEVELS[level.upper()]
    if re.fullmatch(r"-?\d{1,9}", level):
        return int(level)
    raise ValueError(f"{level!r} is no level; write one of {', '.join(LEVELS)}, or a number")


def template_problems(template: str) -> Iterator[str]:
    """Yield a sentence for each directive in a text template that could not be filled in."""
    rest = _TEMPLATE_FIELD.sub("", template)
    if "%" in rest:
        place = rest[rest.index("%") :][:12]
        yield f"{place!r} is no directive; write %(name)s, with a width below 10000, and %% for a percent sign"
    if not template.strip():
        yield "is empty, so every line would be; leave it out for the default"


_Table = TypeVar("_Table", ServerSettings, LimitSettings, OutputSettings)


class _Lines:
    """Where each table and key of a TOML text stands: tomllib does not tell, and an error without its line is a riddle.

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
        for place in ((table, index, key), (table, index, ""), ("", 0, table)):
            if place in self._lines:
                return self._lines[place]
        return 0


class _Loader:
    """Turns one TOML document into Settings, gathering problems on the way."""

    def __init__(self, source: str, text: str) -> None:
        self.problems: list[Problem] = []
        self._source = source
        self._lines = _Lines(text)

    def problem(self, table: str, index: int, key: str, message: str) -> None:
        """Note a problem under the file and line of a key."""
        line = self._lines.find(table, index, key)
        place = f"{self._source}:{line}: " if line else f"{self._source}: " if self._source else ""
        name = table if not index else f"{table}[{index + 1}]"
        self.problems.append(Problem(f"{place}{name}{'.' if key and name else ''}{key}", message))

    def table(self, kind: type[_Table], table: str, index: int, document: object) -> _Table:
        """Return the Struct of one table; values with a problem keep their default."""
        if not isinstance(document, Mapping):
            self.problem(table, index, "", f"must be a table; write [{table}] on a line of its own")
            return kind()
        types = get_type_hints(kind, include_extras=True)
        values: dict[str, Any] = {}
        for key, value in document.items():
            if key not in types:
                self.problem(table, index, key, f"unknown key{_suggest(key, types)}")
                continue
            try:
                values[key] = msgspec.convert(value, types[key])
            except msgspec.ValidationError as error:
                self.problem(table, index, key, _plain(str(error)))
        settings = kind(**values)
        for key, message in settings.problems():
            self.problem(table, index, key, message)
        return settings


def _plain(message: str) -> str:
    """Return a validation message of msgspec's as a sentence that names no Python type."""
    message = message.partition(" - at ")[0]
    for technical, word in (("`str`", "a string"), ("`int`", "a whole number"), ("`array`", "a list"), ("`", "")):
        message = message.replace(technical, word)
    return message[:1].lower() + message[1:]


def _suggest(key: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known ones are {', '.join(known)}"


def find_file(explicit: str | None = None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the configuration file to read: the flag's, the environment's, ./prefork-logd.toml, the system's, or None.

    A file that was named and is missing is returned all the same, so that loading it says so.
    """
    if explicit:
        return Path(explicit)
    if named := environment.get(ENVIRONMENT_VARIABLE):
        return Path(named)
    return next((path for path in (Path(FILE_NAME), SYSTEM_FILE) if path.is_file()), None)


def load(path: Path | None, overrides: Mapping[str, object] | None = None) -> Settings:
    """Return the settings of a file, or the defaults without one; `overrides` are the flags' values for [server] keys.

    Raises ConfigError with every problem.
    """
    text = ""
    if path is not None:
        try:
            text = path.read_bytes().decode()
        except OSError as error:
            raise ConfigError([Problem(str(path), f"cannot read it: {error.strerror}")]) from error
        except UnicodeDecodeError as error:
            raise ConfigError([Problem(str(path), f"is not UTF-8 at byte {error.start}")]) from error
    return loads(text, str(path) if path else "", overrides)


def state_dir_of(path: Path | None) -> str | None:
    """Return the state directory that a file names, however wrong the rest of it is; None if it names none."""
    try:
        document = tomllib.loads(path.read_text()) if path else {}
    except (OSError, ValueError):
        return None
    server = document.get("server")
    named = server.get("state_dir") if isinstance(server, Mapping) else None
    return named if isinstance(named, str) else None


def loads(text: str, source: str = "", overrides: Mapping[str, object] | None = None) -> Settings:
    """Return the settings of a TOML text; as `load`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, line = str(error), re.search(r"at line (\d+)", str(error))
        place = f"{source}:{line[1]}" if line else source
        raise ConfigError([Problem(place, message[:1].lower() + message[1:])]) from error
    loader = _Loader(source, text)
    server = loader.table(ServerSettings, "server", 0, document.pop("server", {}))
    limits = loader.table(LimitSettings, "limits", 0, document.pop("limits", {}))
    outputs = _load_outputs(loader, document.pop("output", None))
    _check_stores(loader, document.pop("store", []))
    for key in document:
        loader.problem("", 0, key, f"unknown key or table{_suggest(key, {**TABLES, 'output': 0, 'store': 0})}")
    server = _override(loader, server, overrides or {})
    settings = _resolve(Settings(server=server, limits=limits, output=outputs, source=source))
    _check_paths(loader, settings)
    if loader.problems:
        raise ConfigError(loader.problems)
    return settings


def _load_outputs(loader: _Loader, document: object) -> tuple[OutputSettings, ...]:
    if document is None:
        return (OutputSettings(),)
    if not isinstance(document, Sequence) or isinstance(document, str):
        loader.problem("output", 0, "", "must be a list of tables; write [[output]] with two brackets")
        return (OutputSettings(),)
    outputs: list[OutputSettings] = []
    for index, table in enumerate(document):
        if isinstance(table, Mapping):
            table = _with_own_name_and_path(table, {output.name for output in outputs})  # noqa: PLW2901
        outputs.append(loader.table(OutputSettings, "output", index, table))
    if not outputs:
        loader.problem("output", 0, "", "is empty, so every record would be lost; leave it out for the default")
    if len(outputs) > MAX_OUTPUTS:
        loader.problem("output", MAX_OUTPUTS, "", f"is one too many; at most {MAX_OUTPUTS} outputs are possible")
    seen: set[str] = set()
    for index, output in enumerate(outputs):
        if output.name in seen:
            loader.problem("output", index, "name", f"{output.name!r} is taken by an output above; choose another")
        seen.add(output.name)
    return tuple(outputs)


def _with_own_name_and_path(table: Mapping[str, Any], taken: AbstractSet[str]) -> Mapping[str, Any]:
    """Fill in what an output leaves out: a name from its path, or a path from its name."""
    name, path = table.get("name"), table.get("path")
    if path is None and isinstance(name, str):
        return {**table, "path": f"{name}.{'log' if table.get('format') == 'text' else 'jsonl'}"}
    if name is None and isinstance(path, str):
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(path).stem) or "records"
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        return {**table, "name": stem if stem not in taken else next(n for n in numbered if n not in taken)}
    return table


def _check_stores(loader: _Loader, document: object) -> None:
    if document == []:
        return
    loader.problem("store", 0, "", "this version writes files only; take the table out, or write `store = []`")


def _override(loader: _Loader, server: ServerSettings, overrides: Mapping[str, object]) -> ServerSettings:
    """Apply the values of --bind, --workers and --state-dir."""
    types = get_type_hints(ServerSettings, include_extras=True)
    for key, value in overrides.items():
        flag = f"--{key.replace('_', '-')}"
        try:
            changed = msgspec.structs.replace(server, **{key: msgspec.convert(value, types[key])})
        except msgspec.ValidationError as error:
            loader.problems.append(Problem(flag, _plain(str(error))))
            continue
        for problem_key, message in changed.problems():
            if problem_key == key:
                loader.problems.append(Problem(flag, message))
        server = changed
    return server


def _resolve(settings: Settings) -> Settings:
    """Return the settings with absolute paths, since a daemon leaves the working directory."""
    state_dir = os.path.abspath(settings.server.state_dir or default_state_dir())  # noqa: PTH100 - keeps symlinks
    bind = tuple(
        f"unix:{os.path.abspath(address[5:])}" if address.startswith("unix:") else address  # noqa: PTH100
        for address in settings.server.bind
    )
    return msgspec.structs.replace(
        settings,
        server=msgspec.structs.replace(settings.server, state_dir=state_dir, bind=bind),
        output=tuple(
            msgspec.structs.replace(output, path=os.path.normpath(os.path.join(state_dir, output.path)))  # noqa: PTH118
            for output in settings.output
        ),
    )


def _check_paths(loader: _Loader, settings: Settings) -> None:
    """Note outputs that would write into one another's file, or into one of the collector's own."""
    own = {os.path.join(settings.server.state_dir, name): name for name in OWN_FILES}  # noqa: PTH118
    taken: dict[str, str] = {}
    for index, output in enumerate(settings.output):
        if output.path in own:
            loader.problem("output", index, "path", f"{own[output.path]} is the collector's own file; choose another")
        if output.path in taken:
            loader.problem("output", index, "path", f"is the file of output {taken[output.path]!r}; choose another")
        taken[output.path] = output.name


OWN_FILES = ("prefork-logd.pid", "prefork-logd.log", "control.sock", "rejected.jsonl")
"""What the collector itself keeps in state_dir."""
PID_FILE, LOG_FILE, CONTROL_SOCKET, REJECTED_FILE = OWN_FILES


def effective(settings: Settings) -> str:
    """Return the whole configuration as TOML, defaults included: what `check` prints."""
    document = msgspec.to_builtins(settings)
    del document["source"]
    return tomli_w.dumps({**document, "store": []} if not document.get("store") else document)


def changes(old: Settings, new: Settings) -> tuple[list[str], list[str]]:
    """Return the keys that differ: those a running collector takes live, and those that wait for a restart."""
    live: list[str] = []
    waiting: list[str] = []
    for table, kind in TABLES.items():
        for key, hint in get_type_hints(kind, include_extras=True).items():
            if getattr(getattr(old, table), key) != getattr(getattr(new, table), key):
                (live if is_live(hint) else waiting).append(f"{table}.{key}")
    if old.output != new.output:
        live.append("output")
    return live, waiting


def is_live(hint: Any) -> bool:
    """Tell whether a running collector takes a new value of the field with this annotation."""
    return not any(meta.extra == NOT_LIVE for meta in hint.__metadata__ if isinstance(meta, Meta))


def with_live_changes(old: Settings, new: Settings) -> Settings:
    """Return `new`, with the values of `old` for every key that waits for a restart."""
    kept = {
        key: getattr(old.server, key)
        for key, hint in get_type_hints(ServerSettings, include_extras=True).items()
        if not is_live(hint)
    }
    return msgspec.structs.replace(new, server=msgspec.structs.replace(new.server, **kept))


def template_fields(template: str) -> frozenset[str]:
    """Return the names that a text template uses."""
    return frozenset(match[1] for match in _TEMPLATE_FIELD.finditer(template) if match[1])
