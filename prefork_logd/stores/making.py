"""Chooses, makes and opens stores: which class serves which type.

A class is imported only when it is needed, for its library may not be installed. Does not know shippers.
"""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError
from prefork_logd.store_settings import (
    CustomStoreSettings,
    NatsStoreSettings,
    PostgresqlStoreSettings,
    SqliteStoreSettings,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_logd.query.search import Search
    from prefork_logd.settings import Settings
    from prefork_logd.store_settings import AnyStoreSettings
    from prefork_logd.stores.base import Store

SEARCHABLE = (SqliteStoreSettings, PostgresqlStoreSettings)

_MODULES = {
    "sqlite": "prefork_logd.stores.sqlite.store",
    "postgresql": "prefork_logd.stores.postgresql.store",
    "nats": "prefork_logd.stores.nats",
}


def choose_store(settings: Settings, name: str | None, *, searched: bool = True) -> AnyStoreSettings:
    """Return the store of this name; without a name the first that can be searched, or the first if not `searched`.

    Raises StoreError if there is none.
    """
    stores = [store for store in settings.store if isinstance(store, SEARCHABLE) or not searched]
    if name is None:
        if stores:
            return stores[0]
        raise StoreError("no store that can be searched is configured; write [[store]] (docs/stores.md)")
    for store in settings.store:
        if store.name == name:
            return store
    known = ", ".join(store.name for store in settings.store) or "none"
    raise StoreError(f"--store {name}: there is no such store; configured: {known}")


def import_early(stores: Iterable[AnyStoreSettings]) -> None:
    """Import what these stores need, as long as it can be read: the collector may be about to become another user.

    What is missing is told by the store's shipper, which tries again.
    """
    for settings in stores:
        with contextlib.suppress(ImportError):
            importlib.import_module(_MODULES.get(settings.type, __name__))


def make_store(settings: AnyStoreSettings) -> Store:
    """Return the store of these settings, not opened yet. Raises StoreError if it cannot be made."""
    if isinstance(settings, CustomStoreSettings):
        return _make_custom(settings)
    try:
        return _make(settings)
    except ImportError as error:
        raise StoreError(f"store {settings.name}: cannot be used: {error}") from error


def _make(settings: AnyStoreSettings) -> Store:
    if isinstance(settings, NatsStoreSettings):
        from prefork_logd.stores.nats import NatsStore  # noqa: PLC0415

        return NatsStore(settings)
    if isinstance(settings, SqliteStoreSettings):
        from prefork_logd.stores.sqlite.store import SqliteStore  # noqa: PLC0415

        return SqliteStore(Path(settings.path), settings.retain_s, settings.full_text)
    if isinstance(settings, PostgresqlStoreSettings):
        from prefork_logd.stores.postgresql.store import PostgresqlStore  # noqa: PLC0415

        return PostgresqlStore(
            settings.dsn, schema=settings.schema, retain_s=settings.retain_s, full_text=settings.full_text
        )
    raise StoreError(f"store {settings.name}: this version has no store of type {settings.type!r}")


def open_search(settings: AnyStoreSettings) -> Search:
    """Return the store of these settings, opened for reading. Raises StoreError if it cannot be searched just now."""
    if isinstance(settings, SqliteStoreSettings):
        from prefork_logd.stores.sqlite.search import SqliteSearch  # noqa: PLC0415

        return SqliteSearch(Path(settings.path))
    if isinstance(settings, PostgresqlStoreSettings):
        from prefork_logd.stores.postgresql.search import PostgresqlSearch  # noqa: PLC0415

        return PostgresqlSearch(settings.dsn, settings.schema)
    raise StoreError(f"store {settings.name}: a store of type {settings.type!r} cannot be searched")


def _make_custom(settings: CustomStoreSettings) -> Store:
    module, _, name = settings.factory.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name)
        store: Store = factory(**settings.options)
    except Exception as error:
        # Whatever somebody else's code raises must not be the end of the shipper.
        raise StoreError(f"store {settings.name}: cannot make {settings.factory}: {error!r}") from error
    return store
