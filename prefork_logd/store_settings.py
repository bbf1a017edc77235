"""What can be set of a store: what all have in common, and one Struct for each type.

Owns these settings, their types, defaults, bounds and help. What a store does with them is its own business
(stores/), and reading them from a file is config/load.py's. A store's type is its Struct's tag.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from prefork_logd import nats_settings as nats
from prefork_logd.values import level_number, parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """What every store has: a name, a filter, and the size of what it is handed at once."""

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
        return parse_duration(self.batch_time)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        try:
            level_number(self.level)
        except ValueError as error:
            yield "level", str(error)
        if any(not name for name in self.loggers):
            yield "loggers", "holds an empty name; leave the list empty to let every logger through"
        try:
            if parse_duration(self.batch_time) > MOST_BATCH_TIME_S:
                yield "batch_time", f"must be {MOST_BATCH_TIME_S:g}s or less: records would be seen late for nothing"
        except ValueError as error:
            yield "batch_time", str(error)

    def resolved(self, state_dir: str) -> StoreSettings:  # noqa: ARG002 - a type with paths makes them absolute
        """Return these settings with every path absolute; relative ones are in `state_dir`."""
        return self


MOST_BATCH_TIME_S = 60.0
HAS_SQLITE = importlib.util.find_spec("_sqlite3") is not None
"""A Python can be built without it; then there is no store by default."""


def _retain_problems(retain: str) -> Iterator[tuple[str, str]]:
    try:
        if retain and parse_duration(retain) <= 0:
            yield "retain", 'must be longer than nothing, such as "30d"; empty keeps all'
    except ValueError as error:
        yield "retain", str(error)


class SqliteStoreSettings(StoreSettings, frozen=True, kw_only=True, tag="sqlite"):
    """Records in SQLite files, one a day."""

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
        yield from _retain_problems(self.retain)
        if not HAS_SQLITE:
            yield "type", '"sqlite" needs the module sqlite3, which this Python was built without'
        if "\0" in self.path:
            yield "path", "holds a NUL character, which no path can"

    def resolved(self, state_dir: str) -> SqliteStoreSettings:
        """Return these settings with every path absolute; relative ones are in `state_dir`."""
        return msgspec.structs.replace(self, path=os.path.normpath(os.path.join(state_dir, self.path)))  # noqa: PTH118

    @property
    def retain_s(self) -> float:
        """`retain` in seconds; 0 is for ever."""
        return parse_duration(self.retain) if self.retain else 0.0


class PostgresqlStoreSettings(StoreSettings, frozen=True, kw_only=True, tag="postgresql"):
    """Records in a PostgreSQL database."""

    dsn: Annotated[
        str,
        Meta(
            description='Where the database is and how it is spoken to (TLS too), as libpq takes it: "host=db1 '
            'dbname=logs sslmode=verify-full" or "postgresql://db1/logs". Empty: what libpq\'s environment says. Keep '
            "the password in libpq's own password file.",
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
        yield from _retain_problems(self.retain)
        if importlib.util.find_spec("psycopg") is None:
            yield "type", '"postgresql" needs psycopg: pip install "prefork-logd[postgresql]"'

    @property
    def retain_s(self) -> float:
        """`retain` in seconds; 0 is for ever."""
        return parse_duration(self.retain) if self.retain else 0.0


class NatsStoreSettings(StoreSettings, frozen=True, kw_only=True, tag="nats"):
    """Records in a stream of NATS JetStream (docs/nats.md)."""

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
        yield from _retain_problems(self.retain)
        yield from nats.server_problems(self)
        if self.replicas not in (1, 3, 5):
            yield "replicas", "must be 1, 3 or 5: an even number survives no more than the odd one below it"
        for key in ("duplicate_window", "sync_wait", "timeout"):
            try:
                if parse_duration(getattr(self, key)) <= 0:
                    yield key, 'must be longer than nothing, such as "5m"'
            except ValueError as error:
                yield key, str(error)
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

    @property
    def retain_s(self) -> float:
        """`retain` in seconds; 0 is for ever."""
        return parse_duration(self.retain) if self.retain else 0.0

    @property
    def duplicate_window_s(self) -> float:
        """`duplicate_window` in seconds."""
        return parse_duration(self.duplicate_window)

    @property
    def sync_wait_s(self) -> float:
        """`sync_wait` in seconds."""
        return parse_duration(self.sync_wait)

    @property
    def timeout_s(self) -> float:
        """`timeout` in seconds."""
        return parse_duration(self.timeout)


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
    ] = {}

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        yield from StoreSettings.problems(self)
        module, colon, name = self.factory.partition(":")
        if not (module and colon and name.isidentifier()):
            yield "factory", 'must name what makes the store, such as "company.logs:Archive"'


AnyStoreSettings = SqliteStoreSettings | PostgresqlStoreSettings | NatsStoreSettings | CustomStoreSettings

STORES: dict[str, type[AnyStoreSettings]] = {
    "sqlite": SqliteStoreSettings,
    "postgresql": PostgresqlStoreSettings,
    "nats": NatsStoreSettings,
    "custom": CustomStoreSettings,
}
"""Type to its settings."""
