"""What can be set of a store: what all have in common, one Struct for each type, and the table of types.

Owns these settings, their types, defaults, bounds and help. What a store does with them is its own business
(stores/), and reading them from a file is config/load.py's. A store's type is its Struct's tag.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from prefork_logd import nats_settings as nats
from prefork_logd.values import MAY_HOLD_PASSWORD, TimedSettings, durations, is_positive, level_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class StoreSettings(TimedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """What every store has: a name, a filter, and the size of what it is handed at once."""

    DURATIONS = durations(batch_time=None)

    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_.-]*$",
            max_length=64,
            description="What status and messages call it; each name once. Empty: its type.",
        ),
    ] = ""
    level: Annotated[
        str | int,
        Meta(description='Lowest level let through: a name ("WARNING"; docs/query.md has all) or a number (35).'),
    ] = "NOTSET"
    loggers: Annotated[
        tuple[str, ...],
        Meta(description="Logger names let through, each with its children, as logging.Filter does; empty: all."),
    ] = ()
    batch_records: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="Most records handed to the store in one transaction."),
    ] = 20_000
    batch_bytes: Annotated[
        int,
        Meta(ge=1024, le=268_435_456, description="Most bytes of them, as JSON lines."),
    ] = 8_388_608
    batch_time: Annotated[
        str,
        Meta(description="How long the first of them may wait for the others."),
    ] = "100ms"

    @property
    def type(self) -> str:
        """The store's type, as the configuration calls it."""
        return str(self.__struct_config__.tag)

    @property
    def levelno(self) -> int:
        """`level` as a number."""
        return level_number(self.level)

    @property
    def is_filtered(self) -> bool:
        """Whether records are left out."""
        return bool(self.levelno or self.loggers)

    @property
    def batch_time_s(self) -> float:
        """`batch_time` in seconds."""
        return self.seconds("batch_time")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        try:
            level_number(self.level)
        except ValueError as error:
            yield "level", str(error)
        if any(not name for name in self.loggers):
            yield "loggers", "holds an empty name; leave the list empty to let every logger through"
        yield from self.duration_problems(
            "batch_time",
            lambda seconds: seconds <= MOST_BATCH_TIME_S,
            f"must be {MOST_BATCH_TIME_S:g}s or less: records would be seen late for nothing",
        )

    def warnings(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that can be used, and promises less than it seems."""
        yield from ()

    def file_problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every file that these settings name and that cannot be read; paths are absolute."""
        yield from ()

    def resolved(self, state_dir: str) -> StoreSettings:  # noqa: ARG002 - a type with paths makes them absolute
        """Return these settings with every path absolute; relative ones are in `state_dir`."""
        return self

    def own_paths(self) -> tuple[str, ...]:
        """Return the absolute paths that belong to this store, so that no output or other store may have them."""
        return ()

    def is_own_file(self, path: Path) -> bool:  # noqa: ARG002 - a type that makes files under other names knows them
        """Tell whether the store may make a file of this name, beyond `own_paths`; symbolic links are resolved."""
        return False

    def files(self) -> Iterator[Path]:
        """Yield every place where the store may have left a file, which its shipper must be able to write."""
        yield from ()


MOST_BATCH_TIME_S = 60.0
HAS_SQLITE = importlib.util.find_spec("_sqlite3") is not None
"""A Python can be built without it; then there is no store by default."""


def _retain_problems(settings: StoreSettings) -> Iterator[tuple[str, str]]:
    message = 'must be longer than nothing, such as "30d"; empty keeps all'
    yield from settings.duration_problems("retain", is_positive, message)


class SqliteStoreSettings(StoreSettings, frozen=True, kw_only=True, tag="sqlite"):
    """Records in SQLite files, one a day."""

    DURATIONS = durations(StoreSettings.DURATIONS, retain=0.0)

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="Where the files are, relative to state_dir: records.db stands for records-2026-11-23.db "
            "and so on, a file for each day.",
        ),
    ] = "records.db"
    retain: Annotated[
        str,
        Meta(description='How long records are kept, such as "30d"; empty: for ever.'),
    ] = "30d"
    full_text: Annotated[
        bool,
        Meta(description="Keep a full-text index of messages and tracebacks, for new days."),
    ] = True

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        yield from StoreSettings.problems(self)
        yield from _retain_problems(self)
        if not HAS_SQLITE:
            yield "type", '"sqlite" needs the module sqlite3, which this Python was built without'
        if "\0" in self.path:
            yield "path", "holds a NUL character, which no path can"

    def resolved(self, state_dir: str) -> SqliteStoreSettings:
        """Return these settings with every path absolute; relative ones are in `state_dir`."""
        return msgspec.structs.replace(self, path=os.path.normpath(os.path.join(state_dir, self.path)))  # noqa: PTH118

    def own_paths(self) -> tuple[str, ...]:
        """Return the path from which the names of the days' files are made."""
        return (self.path,)

    def is_own_file(self, path: Path) -> bool:
        """Tell whether this is the name of a day's file, or of one that SQLite keeps beside it."""
        base = Path(os.path.realpath(self.path))
        days = rf"{re.escape(base.stem)}-\d{{4}}-\d\d-\d\d{re.escape(base.suffix)}(-wal|-shm)?"
        return path.parent == base.parent and re.fullmatch(days, path.name) is not None

    def files(self) -> Iterator[Path]:
        """Yield the files of the days."""
        path = Path(self.path)
        yield from sorted(path.parent.glob(f"{path.stem}-*{path.suffix}*"))

    @property
    def retain_s(self) -> float:
        """`retain` in seconds; 0 is for ever."""
        return self.seconds("retain")


class PostgresqlStoreSettings(StoreSettings, frozen=True, kw_only=True, tag="postgresql"):
    """Records in a PostgreSQL database."""

    DURATIONS = durations(StoreSettings.DURATIONS, retain=0.0)

    dsn: Annotated[
        str,
        Meta(
            description='Where the database is and how it is spoken to (TLS too), as libpq takes it: "host=db1 '
            'dbname=logs sslmode=verify-full" or "postgresql://db1/logs". Empty: what libpq\'s environment says. Keep '
            "the password in libpq's own password file.",
            extra=MAY_HOLD_PASSWORD["dsn"],
        ),
    ] = ""
    schema: Annotated[
        str,
        Meta(
            pattern=r"^[a-z_][a-z0-9_]{0,47}$",
            description="The schema of its tables; made if there is none. Collectors may share it.",
        ),
    ] = "prefork_logd"
    retain: Annotated[
        str,
        Meta(
            description='How long records are kept after their arrival, in whole days, such as "30d"; empty: for ever.'
        ),
    ] = "30d"
    full_text: Annotated[
        bool,
        Meta(description="Have full-text indexes built, each when its part of a day is complete."),
    ] = True

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        yield from StoreSettings.problems(self)
        yield from _retain_problems(self)
        if importlib.util.find_spec("psycopg") is None:
            yield "type", '"postgresql" needs psycopg: pip install "prefork-logd[postgresql]"'

    @property
    def retain_s(self) -> float:
        """`retain` in seconds; 0 is for ever."""
        return self.seconds("retain")


class NatsStoreSettings(StoreSettings, frozen=True, kw_only=True, tag="nats"):
    """Records in a stream of NATS JetStream (docs/nats.md)."""

    DURATIONS = durations(StoreSettings.DURATIONS, retain=0.0, duplicate_window=None, sync_wait=None, timeout=None)

    servers: nats.Servers = ("nats://127.0.0.1:4222",)
    stream: nats.Stream = "LOGS"
    subject: nats.Subject = "logs"
    partitions: nats.Partitions = 16
    format: Annotated[
        Literal["batch", "json"],
        Meta(
            description='"batch": many records a message, packed, for collectors that read the stream with [[source]]; '
            '"json": one record a message, under its logger\'s name, for every other user of NATS as well.'
        ),
    ] = "batch"
    compress: Annotated[
        Literal["none", "deflate", "zstd"], Meta(description='How messages of format "batch" are packed.')
    ] = "zstd"
    replicas: Annotated[
        int, Meta(ge=1, le=5, description="On how many servers the stream is: 1, 3 or 5. With 3, one may fail.")
    ] = 1
    retain: Annotated[str, Meta(description='How long the stream keeps a message, such as "7d"; empty: for ever.')] = (
        "7d"
    )
    max_bytes: Annotated[
        int,
        Meta(ge=0, description="Bytes the stream may hold; above it records wait in the journal. 0: no bound."),
    ] = 0
    duplicate_window: Annotated[
        str, Meta(description="How long servers remember the ids of messages, to take none of them twice.")
    ] = "10m"
    sync_wait: Annotated[
        str,
        Meta(
            description="How long after the servers' acknowledgement the journal keeps a record: longer than they take "
            "to sync it to their disks (sync_interval, 2 minutes unless set)."
        ),
    ] = "5m"
    checkpoint: Annotated[
        str,
        Meta(
            description="File that remembers what was published and is not safe yet; relative to state_dir. Empty: "
            "the store's name and .window."
        ),
    ] = ""
    timeout: nats.Timeout = "10s"
    user: nats.User = ""
    password_file: nats.PasswordFile = ""
    token_file: nats.TokenFile = ""
    nkey_file: nats.NkeyFile = ""
    credentials_file: nats.CredentialsFile = ""
    tls_ca_file: nats.TlsCaFile = ""
    tls_cert_file: nats.TlsCertFile = ""
    tls_key_file: nats.TlsKeyFile = ""
    tls_hostname: nats.TlsHostname = ""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        yield from StoreSettings.problems(self)
        yield from _retain_problems(self)
        yield from nats.server_problems(self)
        if self.replicas not in (1, 3, 5):
            yield "replicas", "must be 1, 3 or 5: an even number survives no more than the odd one below it"
        for key in ("duplicate_window", "sync_wait", "timeout"):
            yield from self.duration_problems(key, is_positive, 'must be longer than nothing, such as "5m"')
        if self.compress == "zstd" and self.format == "batch" and importlib.util.find_spec("zstandard") is None:
            yield "compress", 'zstd needs a package that is not installed: pip install "prefork-logd[nats]"'

    def warnings(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that can be used, and promises less than it seems."""
        if self.replicas == 1:
            yield "replicas", "is 1: what the stream holds is lost with its server's disk; 3 survive one of them"
        if self.sync_wait_s < SYNC_INTERVAL_S:
            yield "sync_wait", "is below NATS's sync_interval (2m unless set): a power loss may cost records"
        if self.duplicate_window_s < self.sync_wait_s:
            yield "duplicate_window", "is below sync_wait: other readers than collectors may see messages twice"

    def resolved(self, state_dir: str) -> NatsStoreSettings:
        """Return these settings with every path absolute; relative ones are in `state_dir`."""
        checkpoint = os.path.join(state_dir, self.checkpoint or f"{self.name or self.type}.window")  # noqa: PTH118
        return msgspec.structs.replace(self, checkpoint=checkpoint, **nats.resolved_files(self, state_dir))

    def file_problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every file of secrets or certificates that cannot be used."""
        yield from nats.file_problems(self)

    def files(self) -> Iterator[Path]:
        """Yield the file that remembers what was published."""
        yield Path(self.checkpoint)

    @property
    def retain_s(self) -> float:
        """`retain` in seconds; 0 is for ever."""
        return self.seconds("retain")

    @property
    def duplicate_window_s(self) -> float:
        """`duplicate_window` in seconds."""
        return self.seconds("duplicate_window")

    @property
    def sync_wait_s(self) -> float:
        """`sync_wait` in seconds."""
        return self.seconds("sync_wait")

    @property
    def timeout_s(self) -> float:
        """`timeout` in seconds."""
        return self.seconds("timeout")


SYNC_INTERVAL_S = 120.0
"""After which nats-server syncs a stream to its disk, unless its configuration says otherwise."""


class CustomStoreSettings(StoreSettings, frozen=True, kw_only=True, tag="custom"):
    """A store of your own (docs/stores.md)."""

    factory: Annotated[
        str,
        Meta(description='What makes it, "package.module:name", called with `options`; its module must be importable.'),
    ] = ""
    options: Annotated[
        dict[str, str | int | float | bool],
        Meta(description="Handed to the factory as keyword arguments."),
    ] = {}  # noqa: RUF012 - msgspec makes a new one for each

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        yield from StoreSettings.problems(self)
        module, colon, name = self.factory.partition(":")
        if not (module and colon and name.isidentifier()):
            yield "factory", 'must name what makes the store, such as "company.logs:Archive"'


AnyStoreSettings = StoreSettings


class Kind(NamedTuple):
    """A type of store: its settings, and the names of the functions that make what uses them.

    Each name is "module:function", imported when it is called: a store's library may not be installed, and most
    processes need none. Each function takes the settings. docs/stores.md says how a type is added.
    """

    settings: type[StoreSettings]
    """The tag is the type's name in the configuration."""
    store: str
    """Returns the Store (stores/base.py), not opened yet."""
    search: str = ""
    """Returns the store opened for reading: a Search (query/search.py). Empty: it cannot be searched."""
    probe: str = ""
    """Asks a server for `check --connect` and returns a Finding (stores/base.py). Empty: there is nothing to ask."""

    @property
    def type(self) -> str:
        """The name of the type in the configuration."""
        return str(self.settings.__struct_config__.tag)


_ROWS = (
    Kind(
        SqliteStoreSettings,
        store="prefork_logd.stores.sqlite.store:make_store",
        search="prefork_logd.stores.sqlite.search:open_search",
    ),
    Kind(
        PostgresqlStoreSettings,
        store="prefork_logd.stores.postgresql.store:make_store",
        search="prefork_logd.stores.postgresql.search:open_search",
    ),
    Kind(
        NatsStoreSettings,
        store="prefork_logd.stores.nats:NatsStore",
        probe="prefork_logd.stores.nats_stream:probe",
    ),
    Kind(CustomStoreSettings, store="prefork_logd.stores.custom:make_store"),
)
KINDS = {kind.type: kind for kind in _ROWS}
"""Every type of store: the only place that lists them."""

DEFAULT_STORES: tuple[StoreSettings, ...] = (SqliteStoreSettings(name="sqlite"),) if HAS_SQLITE else ()
"""The stores of a configuration without `store`; `store = []` is none."""


def store_from(plain: Mapping[str, Any]) -> StoreSettings:
    """Return a store's settings from plain values with their type. Raises msgspec.ValidationError."""
    kind = KINDS.get(str(plain.get("type")))
    if kind is None:
        raise msgspec.ValidationError(f"there is no store of type {plain.get('type')!r}")
    return msgspec.convert(plain, kind.settings)
