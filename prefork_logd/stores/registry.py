"""Opens stores for shippers, `query` and `check --connect`, by the row of their type (config/stores/kinds.py).

A store's code is imported only when it is used, for its library may not be installed. Does not know types, nor
shippers.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any

from prefork_logd.config.stores.kinds import KINDS
from prefork_logd.errors import StoreError

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
    known = ", ".join(store.name for store in settings.store) or "none"
    raise StoreError(f"--store {name}: there is no such store; configured: {known}")


def import_early(stores: Iterable[StoreSettings]) -> None:
    """Import what these stores need while it can be read: the collector may be about to become another user.

    A missing library is reported by the store's shipper, which tries again.
    """
    for settings in stores:
        with contextlib.suppress(ImportError):
            importlib.import_module(_kind(settings).store.partition(":")[0])


def make_store(settings: StoreSettings) -> Store:
    """Return the store of these settings, not opened yet. Raises StoreError if it cannot be made."""
    store: Store = _call(settings, _kind(settings).store)
    return store


def is_searchable(settings: StoreSettings) -> bool:
    """Tell whether `open_search` works for this type of store."""
    return bool(_kind(settings).search)


def open_search(settings: StoreSettings) -> Search:
    """Return the store of these settings, opened for reading. Raises StoreError if it cannot be searched just now."""
    kind = _kind(settings)
    if not kind.search:
        raise StoreError(f"store {settings.name}: a store of type {settings.type!r} cannot be searched")
    search: Search = _call(settings, kind.search)
    return search


def probe_store(settings: StoreSettings) -> Finding | None:
    """Ask the server of a store what it is like there, and change nothing; None for a type that has none to ask.

    Raises StoreError if the server cannot be reached, or the store could not be used.
    """
    kind = _kind(settings)
    return _call(settings, kind.probe) if kind.probe else None


def _kind(settings: StoreSettings) -> Kind:
    return KINDS[settings.type]


def _call(settings: StoreSettings, place: str) -> Any:
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)(settings)
    except ImportError as error:
        raise StoreError(f"store {settings.name}: cannot be used: {error}") from error
