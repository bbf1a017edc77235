"""Declares the settings of `[errors]`: the groups of errors, which a shipper counts like a store.

Owns their types, defaults, bounds and help. Opens no file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from prefork_logd.config.stores.base import StoreSettings
from prefork_logd.config.values import path_in

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "errors"
"""The name in status and messages."""


class ErrorsSettings(StoreSettings, frozen=True, kw_only=True, tag="errors"):
    """Groups of errors: what goes wrong, since when, how often, and where (docs/errors.md)."""

    # Counts are worth less than clients that do not wait.
    MAY_MISS_RECORDS: ClassVar[bool] = True

    name: Annotated[str, Meta(description="Its name in status and messages; always the same.")] = NAME
    enabled: Annotated[
        bool | Literal["auto"],
        Meta(description='Whether errors are grouped; "auto": if there is a store that can be searched.'),
    ] = "auto"
    path: Annotated[str, Meta(min_length=1, description="The file of the groups, relative to state_dir.")] = "groups.db"
    most_groups: Annotated[
        int,
        Meta(ge=10, le=1_000_000, description="Most groups; above it the longest unseen ones are removed."),
    ] = 5_000
    new_groups_per_hour: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Most new groups in an hour for each service, and ten times as many for all; further errors "
            "are counted in one group.",
        ),
    ] = 100
    batch_time: Annotated[
        str,
        Meta(description="Longest time that an error waits until it is counted."),
    ] = "1s"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        yield from StoreSettings.problems(self)
        if self.name != NAME:
            yield "name", f'is always "{NAME}"; leave it out'
        if "\0" in self.path:
            yield "path", "holds a NUL character, which a path cannot"

    def resolved(self, state_dir: str) -> ErrorsSettings:
        """Return these settings with every path absolute; relative ones are in `state_dir`."""
        return msgspec.structs.replace(self, path=path_in(state_dir, self.path))

    def own_paths(self) -> tuple[str, ...]:
        """Return the file, and those that SQLite puts beside it."""
        return (self.path, f"{self.path}-wal", f"{self.path}-shm")

    def files(self) -> Iterator[Path]:
        """Yield the same paths."""
        yield from map(Path, self.own_paths())
