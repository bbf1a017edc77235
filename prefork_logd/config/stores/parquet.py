"""Declares the settings of a store of type "parquet".

Owns their types, defaults, bounds and help. Opens no file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from prefork_logd.config.stores.base import StoreSettings, _retain_problems
from prefork_logd.config.values import MOST_BYTES, durations, path_in

if TYPE_CHECKING:
    from collections.abc import Iterator


class ParquetStoreSettings(StoreSettings, frozen=True, kw_only=True, tag="parquet"):
    """Records in Parquet files, a directory a day."""

    DURATIONS = durations(StoreSettings.DURATIONS, retain=0.0)

    path: Annotated[
        str,
        Meta(min_length=1, description="Directory of the files, relative to state_dir."),
    ] = "records"
    retain: Annotated[
        str,
        Meta(description='How long records are kept, such as "30d"; empty: for ever.'),
    ] = "30d"
    retain_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_BYTES,
            description="Most bytes of all files; the oldest records are removed first. 0: any number.",
        ),
    ] = 20_000_000_000
    min_free_bytes: Annotated[
        int,
        Meta(
            ge=-1,
            le=MOST_BYTES,
            description="With less free disk space the oldest records are removed. -1: limits.min_free_bytes. 0: none.",
        ),
    ] = -1
    memory_bytes: Annotated[
        int,
        Meta(ge=64 << 20, le=64 << 30, description="Memory for writing and merging files."),
    ] = 192 << 20
    batch_records: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="Most records of a file when it is written; files are merged later."),
    ] = 50_000
    batch_bytes: Annotated[
        int,
        Meta(ge=1024, le=268_435_456, description="Most bytes of records of such a file, as JSON lines."),
    ] = 33_554_432
    batch_time: Annotated[
        str,
        Meta(description="Longest time that a record waits in the journal, where queries find it, too."),
    ] = "5m"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        yield from StoreSettings.problems(self)
        yield from _retain_problems(self)
        if "\0" in self.path:
            yield "path", "holds a NUL character, which a path cannot"

    def resolved(self, state_dir: str) -> ParquetStoreSettings:
        """Return these settings with every path absolute; relative ones are in `state_dir`."""
        return msgspec.structs.replace(self, path=path_in(state_dir, self.path))

    def with_minimum(self, min_free_bytes: int) -> ParquetStoreSettings:
        """Return these settings with limits.min_free_bytes, unless they have a minimum of their own."""
        if self.min_free_bytes >= 0:
            return self
        return msgspec.structs.replace(self, min_free_bytes=min_free_bytes)

    def own_paths(self) -> tuple[str, ...]:
        """Return the directory of the files."""
        return (self.path,)

    def is_own_file(self, path: Path) -> bool:
        """Tell whether this is a name in the directory of the files."""
        return "\0" not in self.path and Path(os.path.realpath(self.path)) in path.parents

    def files(self) -> Iterator[Path]:
        """Yield the directory, and each day's directory with its files."""
        root = Path(self.path)
        if root.is_dir():
            yield root
            # glob() passes over a directory that cannot be read; iterdir() raises an error.
            for day in sorted(root.glob("*")):
                if day.is_dir() and not day.is_symlink() and re.fullmatch(r"\d{4}-\d\d-\d\d", day.name):
                    yield day
                    yield from sorted(day.glob("*"))
                elif day.is_file() and not day.is_symlink():
                    yield day

    @property
    def retain_s(self) -> float:
        """`retain` in seconds; 0: for ever."""
        return self.seconds("retain")
