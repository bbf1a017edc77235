"""Declares the settings that every store has.

Owns their types, defaults, bounds and help. Does not know any type of store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from prefork_logd.config.values import MOST_BYTES, TimedSettings, durations, is_positive, level_number, sender_problems

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StoreSettings(TimedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """Settings of every store: a name, a filter, and the size of a batch."""

    DURATIONS = durations(batch_time=None)
    MAY_MISS_RECORDS: ClassVar[bool] = False
    """Whether the journal may drop records that this store alone has not read yet, once it is half full."""

    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_.-]*\Z",
            examples=["archive"],
            max_length=64,
            description="Its name in status and messages, unique. Empty: its type.",
        ),
    ] = ""
    level: Annotated[
        str | int,
        Meta(description='Lowest level stored: a name ("WARNING"; docs/query.md has all) or a number (35).'),
    ] = "NOTSET"
    loggers: Annotated[
        tuple[str, ...],
        Meta(description="Loggers stored, each with its children, as logging.Filter does; empty: all."),
    ] = ()
    services: Annotated[
        tuple[str, ...],
        Meta(description="Services whose records are stored, by the field `service`; empty: all, also without one."),
    ] = ()
    environments: Annotated[
        tuple[str, ...],
        Meta(description="Environments whose records are stored, by the field `environment`; empty: all."),
    ] = ()
    batch_records: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="Most records handed to the store in one transaction."),
    ] = 20_000
    batch_bytes: Annotated[
        int,
        Meta(ge=1024, le=268_435_456, description="Most bytes of records in one transaction, as JSON lines."),
    ] = 8_388_608
    batch_time: Annotated[
        str,
        Meta(description="Longest time that the first record of a transaction waits for others."),
    ] = "100ms"
    dead_letter_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_BYTES,
            description="Most bytes of the file of records that the store refuses for good "
            "([stores](stores.md#what-a-store-refuses)); further ones are not kept, but counted as `lost`. 0: none is.",
        ),
    ] = 268_435_456

    @property
    def type(self) -> str:
        """The store's type, by its name in the configuration."""
        return str(self.__struct_config__.tag)

    @property
    def levelno(self) -> int:
        """`level` as a number."""
        return level_number(self.level)

    @property
    def is_filtered(self) -> bool:
        """Whether `level`, `loggers`, `services` or `environments` leave records out."""
        return bool(self.levelno or self.loggers or self.services or self.environments)

    @property
    def batch_time_s(self) -> float:
        """`batch_time` in seconds."""
        return self.seconds("batch_time")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        try:
            level_number(self.level)
        except ValueError as error:
            yield "level", str(error)
        if any(not name for name in self.loggers):
            yield "loggers", "holds an empty name; leave the list empty to store every logger"
        yield from sender_problems(self.services, self.environments)
        yield from self.duration_problems(
            "batch_time",
            lambda seconds: seconds <= MOST_BATCH_TIME_S,
            f"must be {MOST_BATCH_TIME_S:g}s or less: a longer one only delays records",
        )

    def warnings(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every usable value that weakens a guarantee."""
        yield from ()

    def file_problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every file that these settings name and that cannot be read; paths are absolute."""
        yield from ()

    def resolved(self, state_dir: str) -> StoreSettings:  # noqa: ARG002 - a type with paths makes them absolute
        """Return these settings with every path absolute; relative ones are in `state_dir`."""
        return self

    def with_minimum(self, min_free_bytes: int) -> StoreSettings:  # noqa: ARG002 - a type that removes records takes it
        """Return these settings with limits.min_free_bytes, for a store that makes room on a nearly full disk."""
        return self

    def own_paths(self) -> tuple[str, ...]:
        """Return the absolute paths that belong to this store; no output or other store may use them."""
        return ()

    def is_own_file(self, path: Path) -> bool:  # noqa: ARG002 - a type that makes files under other names knows them
        """Tell whether the store may make a file of this name, beyond `own_paths`; symbolic links are resolved."""
        return False

    def files(self) -> Iterator[Path]:
        """Yield every path where the store may have left a file, which its shipper must be able to write."""
        yield from ()


MOST_BATCH_TIME_S = 600.0


def _retain_problems(settings: StoreSettings) -> Iterator[tuple[str, str]]:
    message = 'must be longer than 0, such as "30d"; empty keeps all'
    yield from settings.duration_problems("retain", is_positive, message)
