"""Declares the settings of a store of type "sqlite".

Owns their types, defaults, bounds and help. Opens no database.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from prefork_logd.config.stores.base import StoreSettings, _retain_problems
from prefork_logd.config.values import durations

if TYPE_CHECKING:
    from collections.abc import Iterator


HAS_SQLITE = importlib.util.find_spec("_sqlite3") is not None
"""Python can be built without the module sqlite3; then the default is no store."""


class SqliteStoreSettings(StoreSettings, frozen=True, kw_only=True, tag="sqlite"):
    """Records in SQLite files, one a day."""

    DURATIONS = durations(StoreSettings.DURATIONS, retain=0.0)

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="Path of the files, relative to state_dir: records.db stands for records-2026-11-23.db "
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
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        yield from StoreSettings.problems(self)
        yield from _retain_problems(self)
        if not HAS_SQLITE:
            yield "type", '"sqlite" needs the module sqlite3, which this Python was built without'
        if "\0" in self.path:
            yield "path", "holds a NUL character, which a path cannot"

    def resolved(self, state_dir: str) -> SqliteStoreSettings:
        """Return these settings with every path absolute; relative ones are in `state_dir`."""
        return msgspec.structs.replace(self, path=os.path.normpath(os.path.join(state_dir, self.path)))  # noqa: PTH118

    def own_paths(self) -> tuple[str, ...]:
        """Return the path from which the names of the days' files derive."""
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
        """`retain` in seconds; 0: for ever."""
        return self.seconds("retain")
