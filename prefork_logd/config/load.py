"""Finds and reads the configuration file, and resolves its relative paths.

Reports every problem at once, each with its file, line and key. Each setting is declared in the module of
its table (server.py, listeners.py, outputs.py, sources.py, web.py, stores/).
"""

from __future__ import annotations

import itertools
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from prefork_logd.config.alerts import MAX_ALERTS, AlertSettings, AlertsSettings
from prefork_logd.config.checks import check_all
from prefork_logd.config.client_limits import MAX_LIMITS, ClientLimitSettings
from prefork_logd.config.document import Document, explain
from prefork_logd.config.listeners import ListenerSettings
from prefork_logd.config.metrics import MetricsSettings
from prefork_logd.config.output_paths import escape
from prefork_logd.config.outputs import DEFAULT_OUTPUTS, OutputSettings
from prefork_logd.config.paths import default_state_dir
from prefork_logd.config.receivers import MAX_RECEIVERS, RECEIVERS
from prefork_logd.config.redact import RedactSettings
from prefork_logd.config.samples import MAX_SAMPLES, SampleSettings
from prefork_logd.config.server import TABLES, LimitSettings, ServerSettings
from prefork_logd.config.settings import Settings
from prefork_logd.config.sources import NatsSourceSettings
from prefork_logd.config.stores.errors import NAME, ErrorsSettings
from prefork_logd.config.stores.kinds import DEFAULT_STORES, KINDS, REMOVED
from prefork_logd.config.values import MAX_OUTPUTS, MAX_SOURCES, MAX_STORES, path_in
from prefork_logd.config.web import MAX_USERS, WebSettings, WebUserSettings
from prefork_logd.errors import ConfigError, Problem

if TYPE_CHECKING:
    from prefork_logd.config.receivers import AnyReceiver
    from prefork_logd.config.stores.base import StoreSettings

FILE_NAME = "prefork-logd.toml"
ENVIRONMENT_VARIABLE = "PREFORK_LOGD_CONFIG"
SYSTEM_FILE = Path("/etc/prefork-logd") / FILE_NAME


def find_file(explicit: str | None = None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the configuration file to read: the flag's, the environment's, ./prefork-logd.toml, the system's, or None.

    A named file that is missing is returned all the same; loading it raises the error. Raises ConfigError for a
    ./prefork-logd.toml of another user: it can name commands and code, and was found because of the directory alone.
    """
    if explicit:
        return Path(explicit)
    if named := environment.get(ENVIRONMENT_VARIABLE):
        return Path(named)
    here = Path(FILE_NAME)
    if here.is_file():
        _require_own(here)
        return here
    return SYSTEM_FILE if SYSTEM_FILE.is_file() else None


def _require_own(path: Path) -> None:
    """Raise ConfigError if a file belongs to another user than this one and root, or every user may write it."""
    for status in (path.lstat(), path.stat()):
        is_open = not stat.S_ISLNK(status.st_mode) and status.st_mode & stat.S_IWOTH
        if is_open or status.st_uid not in (0, os.geteuid()):
            what = "can be written by every user" if is_open else f"belongs to another user (uid {status.st_uid})"
            remedy = f"to use it, write --config {path}; else run this in another directory"
            raise ConfigError([Problem(os.path.abspath(path), f"{what}; {remedy}")])  # noqa: PTH100 - a str


def absolute(path: str | Path, directory: str = "") -> str:
    """Return a path as `path_in` does, but an empty `directory` is the working directory.

    Raises ConfigError if that was removed, and the path is relative.
    """
    try:
        return os.path.abspath(os.path.join(directory, path))  # noqa: PTH100, PTH118 - pathlib keeps `..`
    except FileNotFoundError:
        what = "is relative, and the working directory was removed; give an absolute path"
        raise ConfigError([Problem(str(path), what)]) from None


def absolute_address(address: str, directory: str = "") -> str:
    """Return an address with the path of a Unix socket seen from a directory; empty: the working directory."""
    path = address.removeprefix("unix:")
    if path == address or not path:
        return address
    return f"unix:{absolute(path, directory)}"


class ConfigSource:
    """The origin of the settings, which can be read again from any working directory."""

    def __init__(self, path: Path | None, overrides: Mapping[str, object], directory: str = "") -> None:
        """Remember `path` (absolute) and the values of flags, in which paths are absolute.

        The newly installed program is looked for from `directory`, else from the working directory.
        """
        self.path = path
        self.overrides = dict(overrides)
        self._state_dir = ""
        try:
            self.directory = directory or str(Path.cwd())
        except OSError:
            # The working directory was removed.
            self.directory = "/"

    def pin(self, state_dir: str) -> None:
        """Keep paths relative to this state directory, even if the file or the user changes."""
        self._state_dir = state_dir

    def __call__(self) -> Settings:
        """Read the settings. Raises ConfigError with every problem."""
        return load(self.path, self.overrides, self._state_dir)


def is_readable(path: Path | None) -> bool:
    """Tell whether a file can be read as TOML, valid settings or not; also True without a file."""
    try:
        return path is None or tomllib.loads(path.read_text()) is not None
    except (OSError, ValueError):
        return False


def names_addresses(path: Path | None) -> bool:
    """Tell whether a file names addresses to listen on."""
    return "bind" in _server_table(path) or "listener" in _tables(path)


def state_dir_of(path: Path | None) -> str | None:
    """Return the state directory that a file names, even if the rest of it is invalid; None if it names none."""
    named = _server_table(path).get("state_dir")
    if path is None or not isinstance(named, str) or not named:
        return None
    return path_in(str(Path(absolute(path)).parent), named)


def _server_table(path: Path | None) -> Mapping[str, Any]:
    server = _tables(path).get("server")
    return server if isinstance(server, Mapping) else {}


def _tables(path: Path | None) -> dict[str, Any]:
    """Return the tables of a file; none if it cannot be read."""
    try:
        return tomllib.loads(path.read_text()) if path else {}
    except (OSError, ValueError):
        return {}


_LISTS = ("listener", "limit", "sample", "output", "store", "source", "alert", "receiver")
"""Names of the tables that may occur more than once."""


def load(path: Path | None, overrides: Mapping[str, object] | None = None, state_dir: str = "") -> Settings:
    """Return the settings of a file, or the defaults without one; `overrides` are the flags' values for [server] keys.

    Relative paths in the file are seen from its directory. Outputs, stores and files of secrets are in `state_dir` if
    it is given, whatever the file names: a running collector does not move. Raises ConfigError with every problem.
    """
    text = ""
    if path is not None:
        try:
            text = path.read_bytes().decode()
        except OSError as error:
            right = "give this user the right to read it, or " if isinstance(error, PermissionError) else ""
            what = f"cannot read it: {error.strerror}; {right}name another file with --config"
            raise ConfigError([Problem(str(path), what)]) from error
        except UnicodeDecodeError as error:
            raise ConfigError([Problem(str(path), f"is not UTF-8 at byte {error.start}; save it as UTF-8")]) from error
    directory = str(Path(absolute(path)).parent) if path else ""
    return loads(text, str(path) if path else "", overrides, directory=directory, state_dir=state_dir)


def loads(
    text: str,
    path: str = "",
    overrides: Mapping[str, object] | None = None,
    *,
    directory: str = "",
    state_dir: str = "",
) -> Settings:
    """Return the settings of a TOML text; as `load`, with relative paths seen from `directory`, else from here."""
    document = Document(text, path)
    settings = _read_tables(document, path)
    server = _override(document, settings.server, overrides or {})
    home = state_dir or _state_dir(document, server, directory)
    settings = _resolve(home, directory, msgspec.structs.replace(settings, server=server))
    check_all(document, home, settings)
    if document.problems:
        raise ConfigError(document.problems)
    return settings


def _read_tables(document: Document, path: str) -> Settings:
    """Return the settings as they are written: paths stay relative, and no table is compared with another."""
    settings = Settings(
        server=document.read_table(ServerSettings, "server", 0, document.take("server", {})),
        limits=document.read_table(LimitSettings, "limits", 0, document.take("limits", {})),
        redact=document.read_table(RedactSettings, "redact", 0, document.take("redact", {})),
        web=_load_web(document, document.take("web", {})),
        metrics=document.read_table(MetricsSettings, "metrics", 0, document.take("metrics", {})),
        errors=document.read_table(ErrorsSettings, "errors", 0, document.take("errors", {})),
        alerts=document.read_table(AlertsSettings, "alerts", 0, document.take("alerts", {})),
        alert=document.read_tables(AlertSettings, "alert", document.take("alert", []), MAX_ALERTS),
        receiver=_load_receivers(document, document.take("receiver", [])),
        output=_load_outputs(document, document.take("output", None)),
        listener=document.read_tables(ListenerSettings, "listener", document.take("listener", [])),
        limit=_load_limits(document, document.take("limit", [])),
        sample=document.read_tables(SampleSettings, "sample", document.take("sample", []), MAX_SAMPLES),
        sources=_load_sources(document, document.take("source", [])),
        store=_load_stores(document, document.take("store", None)),
        path=path,
    )
    document.refuse_rest({**TABLES, **dict.fromkeys(_LISTS)})
    return settings


def _load_outputs(document: Document, tables: object) -> tuple[OutputSettings, ...]:
    if tables is None:
        return DEFAULT_OUTPUTS
    if tables == []:
        document.add_problem("output", 0, "", "is empty, so every record would be lost; leave it out for the default")
    outputs: list[OutputSettings] = []
    for index, table in enumerate(document.list_of_tables("output", tables, MAX_OUTPUTS)):
        taken = {output.name for output in outputs}
        own = _with_own_name_and_path(table, taken) if isinstance(table, Mapping) else table
        outputs.append(document.read_table(OutputSettings, "output", index, own))
    document.refuse_repeated("output", enumerate(output.name for output in outputs))
    return tuple(outputs)


def _with_own_name_and_path(table: Mapping[str, Any], taken: AbstractSet[str]) -> Mapping[str, Any]:
    """Fill in what an output leaves out: a name from its path, or a path from its name."""
    name, path = table.get("name"), table.get("path")
    if path is None and isinstance(name, str):
        return {**table, "path": f"{name}.{'log' if table.get('format') == 'text' else 'jsonl'}"}
    if name is None and isinstance(path, str):
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(path).stem.replace("{", "").replace("}", "")) or "records"
        return {**table, "name": _free_name(stem, taken)}
    return table


def _free_name(name: str, taken: AbstractSet[str]) -> str:
    """Return the name, or one with a number if it is taken."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def _load_limits(document: Document, tables: object) -> tuple[ClientLimitSettings, ...]:
    """Return the limits of clients, each with a name."""
    limits = tuple(
        limit if limit.name else msgspec.structs.replace(limit, name=f"limit-{number}")
        for number, limit in enumerate(document.read_tables(ClientLimitSettings, "limit", tables, MAX_LIMITS), 1)
    )
    document.refuse_repeated("limit", enumerate(limit.name for limit in limits))
    return limits


def _load_web(document: Document, table: object) -> WebSettings:
    """Return the page's settings, with the tables `[[web.user]]`."""
    if not isinstance(table, Mapping):
        return document.read_table(WebSettings, "web", 0, table)
    users = document.read_tables(WebUserSettings, "web.user", table.get("user", []), MAX_USERS)
    web = document.read_table(WebSettings, "web", 0, {key: value for key, value in table.items() if key != "user"})
    document.refuse_repeated("web.user", enumerate(user.name for user in users))
    return msgspec.structs.replace(web, user=users)


def _load_sources(document: Document, tables: object) -> tuple[NatsSourceSettings, ...]:
    sources = document.read_tables(NatsSourceSettings, "source", tables, MAX_SOURCES)
    for index, source in enumerate(sources):
        if any((other.stream, other.group) == (source.stream, source.group) for other in sources[:index]):
            message = "reads the same stream in the same group as a source above; name another group"
            document.add_problem("source", index, "group", message)
    return sources


def _load_stores(document: Document, tables: object) -> tuple[StoreSettings, ...]:
    """Return the stores, each with a name."""
    if tables is None:
        return DEFAULT_STORES
    stores: dict[int, StoreSettings] = {}
    """By the place in the list."""
    kinds = {name: kind.settings for name, kind in KINDS.items()}
    for index, store in document.read_kinds(kinds, "store", tables, MAX_STORES, REMOVED):
        if store.name == NAME:
            problem = f"{NAME!r} is the name of the groups of errors; choose another"
            document.add_problem("store", index, "name", problem)
        name = store.name or _free_name(store.type, {other.name for other in stores.values()})
        stores[index] = msgspec.structs.replace(store, name=name)
    document.refuse_repeated("store", ((index, store.name) for index, store in stores.items()))
    return tuple(stores.values())


def _load_receivers(document: Document, tables: object) -> tuple[AnyReceiver, ...]:
    receivers: dict[int, Any] = dict(document.read_kinds(RECEIVERS, "receiver", tables, MAX_RECEIVERS))
    document.refuse_repeated("receiver", ((index, receiver.name) for index, receiver in receivers.items()))
    return tuple(receivers.values())


def _override(document: Document, server: ServerSettings, overrides: Mapping[str, object]) -> ServerSettings:
    """Apply the values of --bind, --workers and --state-dir."""
    types = get_type_hints(ServerSettings, include_extras=True)
    for key, value in overrides.items():
        flag = f"--{key.replace('_', '-')}"
        try:
            changed = msgspec.structs.replace(server, **{key: msgspec.convert(value, types[key])})
        except msgspec.ValidationError as error:
            document.problems.append(Problem(flag, explain(error, types[key])))
            continue
        for problem_key, message in changed.problems():
            if problem_key == key:
                document.problems.append(Problem(flag, message))
        server = changed
    return server


def _state_dir(document: Document, server: ServerSettings, directory: str) -> str:
    """Return the absolute path of the state directory, and note it if there is none."""
    try:
        return absolute(server.state_dir or default_state_dir(), directory)
    except ValueError as error:
        document.add_problem("server", 0, "state_dir", str(error))
        return "/"


def _resolve(home: str, directory: str, settings: Settings) -> Settings:
    """Return the settings with absolute paths, which hold in any working directory.

    The state directory and sockets are seen from `directory`, everything else from the state directory `home`.
    """
    server = settings.server
    state_dir = absolute(server.state_dir, directory) if server.state_dir else home
    return msgspec.structs.replace(
        settings,
        server=msgspec.structs.replace(
            server,
            state_dir=state_dir,
            bind=tuple(absolute_address(address, directory) for address in server.bind),
            keys_file=path_in(home, server.keys_file),
        ),
        web=msgspec.structs.replace(
            settings.web,
            bind=tuple(absolute_address(address, directory) for address in settings.web.bind),
            certificate=path_in(home, settings.web.certificate),
            key=path_in(home, settings.web.key),
        ),
        metrics=msgspec.structs.replace(
            settings.metrics,
            bind=tuple(absolute_address(address, directory) for address in settings.metrics.bind),
        ),
        listener=tuple(
            listener.resolved(home, absolute_address(listener.address, directory)) for listener in settings.listener
        ),
        output=tuple(
            msgspec.structs.replace(output, path=path_in(escape(home), output.path)) for output in settings.output
        ),
        store=tuple(store.resolved(home).with_minimum(settings.limits.min_free_bytes) for store in settings.store),
        sources=tuple(source.resolved(home) for source in settings.sources),
        errors=settings.errors.resolved(home),
        receiver=tuple(receiver.resolved(home) for receiver in settings.receiver),
    )
