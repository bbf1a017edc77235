"""Lists the types of stores, each with its settings and the functions that use them.

Owns the table of types. Imports no store. A store's type is the tag of its settings' Struct.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from prefork_logd.config.stores.base import StoreSettings
from prefork_logd.config.stores.custom import CustomStoreSettings
from prefork_logd.config.stores.errors import ErrorsSettings
from prefork_logd.config.stores.nats import NatsStoreSettings
from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.config.stores.postgresql import PostgresqlStoreSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


AnyStoreSettings = StoreSettings


class Kind(NamedTuple):
    """A type of store: its settings, and the names of the functions that use them.

    Each name is "module:function", imported when it is called: a store's library may not be installed, and most
    processes use none. Each function takes the settings. docs/stores.md describes how to add a type.
    """

    settings: type[StoreSettings]
    """The tag is the type's name in the configuration."""
    store: str
    """Returns the Store (stores/base.py), not opened yet."""
    search: str = ""
    """Returns the store opened for reading: a Search (query/search.py). Empty: the store cannot be searched.

    Takes the directory of the journal (a Path or None) besides the settings: a store may read its newest records there.
    """
    searches_journal: bool = False
    """Whether a search finds the records, too, that wait in the journal for the store."""
    probe: str = ""
    """Queries a server for `check --connect` and returns a Finding (stores/base.py). Empty: there is no server."""

    @property
    def type(self) -> str:
        """The name of the type in the configuration."""
        return str(self.settings.__struct_config__.tag)


_ROWS = (
    Kind(
        ParquetStoreSettings,
        store="prefork_logd.stores.parquet.store:make_store",
        search="prefork_logd.stores.parquet.search:open_search",
        searches_journal=True,
    ),
    Kind(
        PostgresqlStoreSettings,
        store="prefork_logd.stores.postgresql.store:make_store",
        search="prefork_logd.stores.postgresql.search:open_search",
    ),
    Kind(
        NatsStoreSettings,
        store="prefork_logd.stores.nats.store:NatsStore",
        probe="prefork_logd.stores.nats.stream:probe",
    ),
    Kind(CustomStoreSettings, store="prefork_logd.stores.custom:make_store"),
)
KINDS = {kind.type: kind for kind in _ROWS}
"""Every type of store: the only place that lists them."""
ERRORS = Kind(ErrorsSettings, store="prefork_logd.stores.errors.store:make_store")
"""The groups of errors, which are shipped like a store and have the table `[errors]`."""

REMOVED = {
    "sqlite": 'is not a type of store any more; write "parquet". The version that had it prints its records by '
    "`prefork-logd query --format json`, and `prefork-logd import` brings them into the new store",
}
"""Types of earlier versions: what to do instead."""

DEFAULT_STORES: tuple[StoreSettings, ...] = (ParquetStoreSettings(name="parquet"),)
"""The stores of a configuration without `store`; `store = []` means none."""


def store_from(plain: Mapping[str, Any]) -> StoreSettings:
    """Return a store's settings from plain values with their type. Raises msgspec.ValidationError."""
    kind = KINDS.get(str(plain.get("type")))
    if kind is None:
        raise msgspec.ValidationError(f"there is no store of type {plain.get('type')!r}")
    return msgspec.convert(plain, kind.settings)
