"""Configuration files: finding, loading, checking, comparing and printing.

Owns how settings are read and what is said of a file that is wrong: every problem at once, each with its file, line and
key. What can be set is declared in settings.py.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec
import tomli_w
from msgspec import Meta

from prefork_logd import destinations
from prefork_logd.errors import ConfigError, Problem
from prefork_logd.nats_settings import file_problems
from prefork_logd.redacting import redacted_dsn
from prefork_logd.settings import (
    MAX_KEY_ID_BYTES,
    MAX_OUTPUTS,
    MAX_SOURCES,
    MAX_STORES,
    MIN_KEY_BYTES,
    TABLES,
    LimitSettings,
    ListenerSettings,
    OutputSettings,
    ServerSettings,
    Settings,
    default_state_dir,
)
from prefork_logd.source_settings import NatsSourceSettings
from prefork_logd.store_settings import (
    HAS_SQLITE,
    STORES,
    AnyStoreSettings,
    NatsStoreSettings,
    PostgresqlStoreSettings,
    SqliteStoreSettings,
    StoreSettings,
)
from prefork_logd.values import NOT_LIVE

FILE_NAME = "prefork-logd.toml"
ENVIRONMENT_VARIABLE = "PREFORK_LOGD_CONFIG"
SYSTEM_FILE = Path("/etc/prefork-logd") / FILE_NAME

_Table = TypeVar(
    "_Table",
    bound=ServerSettings | ListenerSettings | LimitSettings | OutputSettings | StoreSettings | NatsSourceSettings,
)

DEFAULT_STORES: tuple[AnyStoreSettings, ...] = (SqliteStoreSettings(name="sqlite"),) if HAS_SQLITE else ()
"""The stores of a configuration that says nothing of any; `store = []` is none."""


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
        for place in ((table, index, key), (table, index, ""), ("", 0, table), (key, 0, "")):
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
                self.problem(table, index, key, _plain(str(error), types[key]))
        settings = kind(**values)
        for key, message in settings.problems():
            self.problem(table, index, key, message)
        return settings


def _plain(message: str, kind: Any) -> str:
    """Return a validation message of msgspec's without Python types, and with the values to choose from."""
    message = message.partition(" - at ")[0]
    schema = msgspec.json.schema(kind)
    parts = schema.get("anyOf", [schema])
    choices = [f'"{value}"' for part in parts for value in part.get("enum", ())]
    if choices and message.startswith("Invalid enum value"):
        choices += ["a whole number" for part in parts if part.get("type") == "integer"]
        return f"{message[:1].lower()}{message[1:].replace('enum ', '')}; write {' or '.join(choices)}"
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


def absolute(path: str | Path) -> str:
    """Return a path seen from the working directory, symlinks kept. Raises ConfigError if that directory is gone."""
    try:
        return os.path.abspath(path)  # noqa: PTH100 - keeps symlinks
    except FileNotFoundError:
        what = "is relative, and the working directory was removed; give an absolute path"
        raise ConfigError([Problem(str(path), what)]) from None


def load(path: Path | None, overrides: Mapping[str, object] | None = None, state_dir: str = "") -> Settings:
    """Return the settings of a file, or the defaults without one; `overrides` are the flags' values for [server] keys.

    Relative paths in the file are seen from its directory. Outputs, stores and files of secrets are in `state_dir` if
    it is given, whatever the file says: a collector that runs stays where it is. Raises ConfigError with every problem.
    """
    text = ""
    if path is not None:
        try:
            text = path.read_bytes().decode()
        except OSError as error:
            raise ConfigError([Problem(str(path), f"cannot read it: {error.strerror}")]) from error
        except UnicodeDecodeError as error:
            raise ConfigError([Problem(str(path), f"is not UTF-8 at byte {error.start}")]) from error
    directory = os.path.dirname(absolute(path)) if path else ""  # noqa: PTH120 - a str, as the rest is
    return loads(text, str(path) if path else "", overrides, directory=directory, state_dir=state_dir)


class Source:
    """Where the settings come from; calling it reads them again, wherever the working directory is by then."""

    def __init__(self, path: Path | None, overrides: Mapping[str, object], directory: str = "") -> None:
        """Read `path` (absolute), with the values of flags, in which paths are absolute.

        The newly installed program is looked for from `directory`, else from here.
        """
        self.path = path
        self.overrides = dict(overrides)
        self._state_dir = ""
        try:
            self.directory = directory or str(Path.cwd())
        except OSError:
            # It was removed meanwhile.
            self.directory = "/"

    def pin(self, state_dir: str) -> None:
        """Keep paths relative to the state directory, although the file or the user changes."""
        self._state_dir = state_dir

    def __call__(self) -> Settings:
        """Raise ConfigError with every problem."""
        return load(self.path, self.overrides, self._state_dir)


def is_readable(path: Path | None) -> bool:
    """Tell whether a file can be read as TOML, valid settings or not; also True without a file."""
    try:
        return path is None or tomllib.loads(path.read_text()) is not None
    except (OSError, ValueError):
        return False


def names_addresses(path: Path | None) -> bool:
    """Tell whether a file says itself where to listen."""
    return "bind" in _server_table(path) or "listener" in _document(path)


def _document(path: Path | None) -> dict[str, Any]:
    """Return a file's document; nothing if it cannot be read."""
    try:
        return tomllib.loads(path.read_text()) if path else {}
    except (OSError, ValueError):
        return {}


def _server_table(path: Path | None) -> Mapping[str, Any]:
    server = _document(path).get("server")
    return server if isinstance(server, Mapping) else {}


def state_dir_of(path: Path | None) -> str | None:
    """Return the state directory that a file names, however wrong the rest of it is; None if it names none."""
    named = _server_table(path).get("state_dir")
    if path is None or not isinstance(named, str) or not named:
        return None
    return os.path.join(os.path.dirname(absolute(path)), named)  # noqa: PTH118, PTH120 - a str, as the rest is


def loads(
    text: str,
    source: str = "",
    overrides: Mapping[str, object] | None = None,
    *,
    directory: str = "",
    state_dir: str = "",
) -> Settings:
    """Return the settings of a TOML text; as `load`, with relative paths seen from `directory`, else from here."""
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
    listeners = _load_listeners(loader, document.pop("listener", []))
    sources = _load_sources(loader, document.pop("source", []))
    stores = _load_stores(loader, document.pop("store", None))
    for key in document:
        known = {**TABLES, **dict.fromkeys(("listener", "output", "store", "source"))}
        loader.problem("", 0, key, f"unknown key or table{_suggest(key, known)}")
    server = _override(loader, server, overrides or {})
    home = state_dir or _state_dir(loader, server, directory)
    settings = _resolve(
        home,
        directory,
        Settings(
            server=server,
            limits=limits,
            output=outputs,
            listener=listeners,
            store=stores,
            sources=sources,
            source=source,
        ),
    )
    _check_paths(loader, home, settings)
    _check_listeners(loader, settings)
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


def _load_listeners(loader: _Loader, document: object) -> tuple[ListenerSettings, ...]:
    if not isinstance(document, Sequence) or isinstance(document, str):
        loader.problem("listener", 0, "", "must be a list of tables; write [[listener]] with two brackets")
        return ()
    return tuple(loader.table(ListenerSettings, "listener", index, table) for index, table in enumerate(document))


def _check_listeners(loader: _Loader, settings: Settings) -> None:
    """Note what is wrong with the listeners together, and with the keys that they ask for."""
    addresses = [address for address, _ in settings.listeners]
    if not addresses:
        loader.problem("server", 0, "bind", "is empty, and there is no [[listener]]; name an address")
    for index, listener in enumerate(settings.listener):
        if addresses.count(listener.address) > 1:
            loader.problem("listener", index, "address", f"{listener.address!r} is listened on already; name it once")
    if any(accept == "authenticated" for _, accept in settings.listeners):
        try:
            load_keys(Path(settings.server.keys_file))
        except ValueError as error:
            loader.problem("server", 0, "keys_file", str(error))


def load_keys(path: Path) -> dict[bytes, bytes]:
    """Return the secrets of a keys file by their ids. Raises ValueError with a sentence for the user."""
    if path == Path():
        raise ValueError('is needed for accept = "authenticated"; name a file with a line "ID SECRET" for each key')
    try:
        if path.stat().st_mode & 0o077:
            raise ValueError(f"{path} can be read by others; do: chmod 600 {path}")
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ValueError(f"{path}: cannot read it: {error.strerror}") from error
    keys: dict[bytes, bytes] = {}
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or fields[0].startswith(b"#"):
            continue
        if len(fields) != 2 or len(fields[0]) > MAX_KEY_ID_BYTES or len(fields[1]) < MIN_KEY_BYTES:
            raise ValueError(
                f"{path}:{number}: write an id of up to {MAX_KEY_ID_BYTES} characters, a space, and a secret of "
                f"{MIN_KEY_BYTES} or more"
            )
        if fields[0] in keys:
            raise ValueError(f"{path}:{number}: this id is taken by a line above; choose another")
        keys[fields[0]] = fields[1]
    if not keys:
        raise ValueError(f"{path} holds no key; write a line with an id and a secret")
    return keys


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


def _load_sources(loader: _Loader, document: object) -> tuple[NatsSourceSettings, ...]:
    if not isinstance(document, Sequence) or isinstance(document, str):
        loader.problem("source", 0, "", "must be a list of tables; write [[source]] with two brackets")
        return ()
    sources = tuple(loader.table(NatsSourceSettings, "source", index, table) for index, table in enumerate(document))
    if len(sources) > MAX_SOURCES:
        loader.problem("source", MAX_SOURCES, "", f"is one too many; at most {MAX_SOURCES} sources are possible")
    for index, source in enumerate(sources):
        if any((other.stream, other.group) == (source.stream, source.group) for other in sources[:index]):
            loader.problem("source", index, "group", "reads the same stream in the same group as a source above")
    return sources


def _load_stores(loader: _Loader, document: object) -> tuple[AnyStoreSettings, ...]:
    if document is None:
        return DEFAULT_STORES
    if not isinstance(document, Sequence) or isinstance(document, str):
        loader.problem("store", 0, "", "must be a list of tables; write [[store]] with two brackets")
        return ()
    if len(document) > MAX_STORES:
        loader.problem("store", MAX_STORES, "", f"is one too many; at most {MAX_STORES} stores are possible")
    stores: list[AnyStoreSettings] = []
    for index, table in enumerate(document):
        if not isinstance(table, Mapping):
            loader.problem("store", index, "", "must be a table; write [[store]] on a line of its own")
            continue
        kind = table.get("type")
        if not isinstance(kind, str) or kind not in STORES:
            what = f"must be one of {', '.join(STORES)}"
            loader.problem("store", index, "type", what)
            continue
        store = loader.table(STORES[kind], "store", index, {key: table[key] for key in table if key != "type"})
        taken = {store.name for store in stores}
        if not store.name:
            numbered = (f"{kind}-{number}" for number in itertools.count(2))
            name = kind if kind not in taken else next(n for n in numbered if n not in taken)
            store = msgspec.structs.replace(store, name=name)
        elif store.name in taken:
            loader.problem("store", index, "name", f"{store.name!r} is taken by a store above; choose another")
        stores.append(store)
    return tuple(stores)


def _override(loader: _Loader, server: ServerSettings, overrides: Mapping[str, object]) -> ServerSettings:
    """Apply the values of --bind, --workers and --state-dir."""
    types = get_type_hints(ServerSettings, include_extras=True)
    for key, value in overrides.items():
        flag = f"--{key.replace('_', '-')}"
        try:
            changed = msgspec.structs.replace(server, **{key: msgspec.convert(value, types[key])})
        except msgspec.ValidationError as error:
            loader.problems.append(Problem(flag, _plain(str(error), types[key])))
            continue
        for problem_key, message in changed.problems():
            if problem_key == key:
                loader.problems.append(Problem(flag, message))
        server = changed
    return server


def _state_dir(loader: _Loader, server: ServerSettings, directory: str) -> str:
    """Return the absolute path of the state directory, and note it if there is none."""
    try:
        return absolute(os.path.join(directory, server.state_dir or default_state_dir()))  # noqa: PTH118 - a str
    except ValueError as error:
        loader.problem("server", 0, "state_dir", str(error))
        return "/"


def _resolve(home: str, directory: str, settings: Settings) -> Settings:
    """Return the settings with absolute paths, which hold in whatever directory a process works.

    The state directory and sockets are seen from `directory`, everything else from the state directory `home`.
    """
    server = settings.server
    state_dir = absolute(os.path.join(directory, server.state_dir)) if server.state_dir else home  # noqa: PTH118 - a str
    return msgspec.structs.replace(
        settings,
        server=msgspec.structs.replace(
            server,
            state_dir=state_dir,
            bind=tuple(absolute_address(address, directory) for address in server.bind),
            keys_file=os.path.join(home, server.keys_file) if server.keys_file else "",  # noqa: PTH118
        ),
        listener=tuple(
            msgspec.structs.replace(listener, address=absolute_address(listener.address, directory))
            for listener in settings.listener
        ),
        output=tuple(
            msgspec.structs.replace(output, path=os.path.normpath(os.path.join(home, output.path)))  # noqa: PTH118
            for output in settings.output
        ),
        store=tuple(store.resolved(home) for store in settings.store),
        sources=tuple(source.resolved(home) for source in settings.sources),
    )


def absolute_address(address: str, directory: str = "") -> str:
    """Return an address with the path of a Unix socket seen from a directory; empty: the working directory."""
    path = address.removeprefix("unix:")
    if path == address or not path:
        return address
    return f"unix:{absolute(os.path.join(directory, path))}"  # noqa: PTH118 - a str, as sockets want it


def _check_paths(loader: _Loader, home: str, settings: Settings) -> None:
    """Note outputs that would write into one another's file, or into one of the collector's own."""
    for table, index, message in destinations.problems(home, settings):
        loader.problem(table, index, "path", message)
    for index, store in enumerate(settings.store):
        if isinstance(store, NatsStoreSettings):
            for key, message in file_problems(store):
                loader.problem("store", index, key, message)

    for index, source in enumerate(settings.sources):
        for key, message in file_problems(source):
            loader.problem("source", index, key, message)


def warnings(settings: Settings) -> list[str]:
    """Return a sentence for each value that can be used, and promises less than it seems."""
    return [
        f"store {store.name!r}: {key} {sentence}"
        for store in settings.store
        if isinstance(store, NatsStoreSettings)
        for key, sentence in store.warnings()
    ]


_URL_PASSWORD = re.compile(r"(://[^/?@:]*:).*@|((?:^|[?&])(?:ssl)?password=)[^&]*")


def _without_passwords(url: str) -> str:
    """Return a URL of a server with *** in the place of a password."""
    return _URL_PASSWORD.sub(lambda match: f"{match[1]}***@" if match[1] else f"{match[2]}***", url)


def printable(settings: Settings) -> str:
    """Return the same as `effective` with no password in it: what `check` prints."""
    stores = tuple(
        msgspec.structs.replace(store, dsn=redacted_dsn(store.dsn))
        if isinstance(store, PostgresqlStoreSettings)
        else msgspec.structs.replace(store, servers=tuple(map(_without_passwords, store.servers)))
        if isinstance(store, NatsStoreSettings)
        else store
        for store in settings.store
    )
    sources = tuple(
        msgspec.structs.replace(source, servers=tuple(map(_without_passwords, source.servers)))
        for source in settings.sources
    )
    return effective(msgspec.structs.replace(settings, store=stores, sources=sources))


def effective(settings: Settings) -> str:
    """Return the whole configuration as TOML, defaults included."""
    document = msgspec.to_builtins(settings)
    document["source"] = document.pop("sources")
    return tomli_w.dumps(document)


def changes(old: Settings, new: Settings) -> tuple[list[str], list[str]]:
    """Return the keys that differ: those a running collector takes live, and those that wait for a restart."""
    live: list[str] = []
    waiting: list[str] = []
    for table, kind in TABLES.items():
        for key, hint in get_type_hints(kind, include_extras=True).items():
            if getattr(getattr(old, table), key) != getattr(getattr(new, table), key):
                (live if is_live(hint) else waiting).append(f"{table}.{key}")
    if old.listener != new.listener:
        waiting.append("listener")
    if old.sources != new.sources:
        waiting.append("source")
    if old.output != new.output:
        live.append("output")
    if old.store != new.store:
        live.append("store")
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
    return msgspec.structs.replace(
        new,
        server=msgspec.structs.replace(new.server, **kept),
        listener=old.listener,
        sources=old.sources,
    )
