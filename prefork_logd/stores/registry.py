"""Opens stores for shippers, `query` and `check --connect`, by the row of their type (config/stores/kinds.py).

Owns the imports: a store's code is imported only when it is used, because its library may not be installed. Does not
know the types or shippers.
"""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.config.stores.kinds import ERRORS, KINDS
from prefork_logd.errors import NoSuchStoreError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_logd.config.settings import Settings
    from prefork_logd.config.stores.base import StoreSettings
    from prefork_logd.config.stores.kinds import Kind
    from prefork_logd.query.search import Search
    from prefork_logd.stores.base import Finding, Store


def choose_store(settings: Settings, name: str | None, *, searched: bool = True) -> StoreSettings:
    """Return the store of this name; without a name the first that can be searched, or the first if not `searched`.

    Raises StoreError if there is none.
    """
    if name is None:
        for store in settings.store:
            if is_searchable(store) or not searched:
                return store
        raise StoreError("no store that can be searched is configured; write [[store]] (docs/stores.md)")
    for store in settings.store:
        if store.name == name:
            return store
    raise NoSuchStoreError(name, [store.name for store in settings.store])


def import_early(stores: Iterable[StoreSettings]) -> None:
    """Import the code of these stores while it can be read: the collector may change its user after this.

    A module that imports its libraries later has a function `import_libraries`. A missing library is reported by the
    store's shipper, which tries again.
    """
    for settings in stores:
        with contextlib.suppress(ImportError):
            module = importlib.import_module(_kind(settings).store.partition(":")[0])
            getattr(module, "import_libraries", lambda: None)()


def make_store(settings: StoreSettings) -> Store:
    """Return the store of these settings, not opened yet. Raises StoreError if it cannot be made."""
    store: Store = _call(settings, _kind(settings).store)
    return store


def is_searchable(settings: StoreSettings) -> bool:
    """Return whether `open_search` works for this type of store."""
    return bool(_kind(settings).search)


def searches_journal(settings: StoreSettings) -> bool:
    """Return whether a search finds the records, too, that wait in the journal for this store."""
    return _kind(settings).searches_journal


def open_search(settings: StoreSettings, journal: Path | None = None) -> Search:
    """Return the store of these settings, opened for reading. Raises StoreError if it cannot be searched now.

    `journal` is the directory of the journal, whose newest records may not be in the store yet.
    """
    kind = _kind(settings)
    if not kind.search:
        raise StoreError(f"store {settings.name}: a store of type {settings.type!r} cannot be searched")
    search: Search = _call(settings, kind.search, journal)
    return search


def open_chosen(settings: Settings, name: str | None) -> Search:
    """Return the store that `choose_store` finds, with the newest records of the journal. Raises StoreError."""
    return open_search(choose_store(settings, name), Path(settings.server.state_dir) / JOURNAL_DIRECTORY)


def probe_store(settings: StoreSettings) -> Finding | None:
    """Query the state of a store's server, and change nothing; return None for a type without a server.

    Raises StoreError if the server cannot be reached, or the store cannot be used.
    """
    kind = _kind(settings)
    return _call(settings, kind.probe) if kind.probe else None


def _kind(settings: StoreSettings) -> Kind:
    return ERRORS if settings.type == ERRORS.type else KINDS[settings.type]


def _call(settings: StoreSettings, place: str, *arguments: object) -> Any:
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)(settings, *arguments)
    except ImportError as error:
        raise StoreError(f"store {settings.name}: cannot be used: {error}") from error
