"""What can be set of a store: what all have in common, and one Struct for each type.

Owns these settings, their types, defaults, bounds and help. What a store does with them is its own business
(stores/), and reading them from a file is config.py's. A store's type is its Struct's tag.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

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
        Meta(description='Lowest level let through: a name of logging\'s, or a number such as "WARNING" or 25.'),
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
        Meta(min_length=1, description="Where the files are; relative to state_dir."),
    ] = "records.db"
    retain: Annotated[
        str,
        Meta(description='How long records are kept, such as "30d"; empty: for ever.'),
    ] = "30d"
    full_text: Annotated[
        bool,
        Meta(description="Keep a full-text index of messages."),
    ] = True

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        yield from StoreSettings.problems(self)
        yield from _retain_problems(self.retain)
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
        Meta(description="Where the database is, as libpq takes it; empty: what libpq's environment says."),
    ] = ""
    retain: Annotated[
        str,
        Meta(description='How long records are kept, such as "30d"; empty: for ever.'),
    ] = "30d"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that has the right type and cannot be used."""
        yield from StoreSettings.problems(self)
        yield from _retain_problems(self.retain)

    @property
    def retain_s(self) -> float:
        """`retain` in seconds; 0 is for ever."""
        return parse_duration(self.retain) if self.retain else 0.0


class NatsStoreSettings(StoreSettings, frozen=True, kw_only=True, tag="nats"):
    """Records in a stream of NATS JetStream."""

    servers: Annotated[
        tuple[str, ...],
        Meta(description="URLs of the servers of one cluster."),
    ] = ("nats://127.0.0.1:4222",)
    stream: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9_-]+$", description="The stream; made if there is none."),
    ] = "LOGS"


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
