"""Defines a type of store that needs only one row to be added: settings, store, search and probe in this file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from prefork_logd.config.stores.base import StoreSettings
from prefork_logd.config.stores.kinds import Kind
from prefork_logd.config.values import MAY_HOLD_PASSWORD, durations, is_positive
from prefork_logd.query.by_lines import SearchByLines
from prefork_logd.records.stored import read_fields
from prefork_logd.stores.base import Finding
from tests.support.file_store import FileStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.query.filters import Filters
    from prefork_logd.query.search import Bar


class ToyStoreSettings(StoreSettings, frozen=True, kw_only=True, tag="toy"):
    """Records in one file."""

    DURATIONS = durations(StoreSettings.DURATIONS, patience=None)

    directory: Annotated[str, Meta(min_length=1, description="Where the file is, relative to state_dir.")] = "toys"
    patience: Annotated[str, Meta(description="A duration.")] = "3s"
    server: Annotated[str, Meta(description="A URL.", extra=MAY_HOLD_PASSWORD["url"])] = ""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value that cannot be used."""
        yield from StoreSettings.problems(self)
        yield from self.duration_problems("patience", is_positive, "must be longer than 0")

    def warnings(self) -> Iterator[tuple[str, str]]:
        """Warn of little patience."""
        if self.patience_s < 1:
            yield "patience", "is short"

    def resolved(self, state_dir: str) -> ToyStoreSettings:
        """Return these settings with the directory absolute."""
        return msgspec.structs.replace(self, directory=os.path.join(state_dir, self.directory))  # noqa: PTH118

    def own_paths(self) -> tuple[str, ...]:
        """Return the file."""
        return (f"{self.directory}/records",)

    def files(self) -> Iterator[Path]:
        """Yield the file."""
        yield Path(self.directory) / "records"

    @property
    def patience_s(self) -> float:
        """`patience` in seconds."""
        return self.seconds("patience")


class ToySearch(SearchByLines):
    """The store opened for reading."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def lines(self, filters: Filters) -> Iterator[bytes]:
        """Yield the lines that match."""
        yield from (line for line in self._path.read_bytes().splitlines(True) if filters.matches(read_fields(line)))

    def count(self, filters: Filters) -> int:
        """Return how many match."""
        return sum(1 for _ in self.lines(filters))

    def span(self) -> tuple[float, float] | None:
        """Return nothing."""
        return None

    def histogram(self, filters: Filters, start: float, slot_s: float, slots: int) -> list[Bar]:
        """Return no bars."""
        return []

    def levels(self) -> dict[str, int]:
        """Return no levels."""
        return {}

    def close(self) -> None:
        """Release nothing."""


def make_store(settings: ToyStoreSettings) -> FileStore:
    """Return the store."""
    return FileStore(settings.directory)


def open_search(settings: ToyStoreSettings, journal: Path | None = None) -> ToySearch:
    """Return it opened for reading."""
    return ToySearch(Path(settings.directory) / "records")


def probe(settings: ToyStoreSettings) -> Finding:
    """Return what there is."""
    return Finding(f"a toy in {Path(settings.directory).name}", ("it may break",))


ROW = Kind(
    ToyStoreSettings,
    store="tests.support.toy_store:make_store",
    search="tests.support.toy_store:open_search",
    probe="tests.support.toy_store:probe",
)
