"""What a query asks, from the words of a command line; and the store that it asks.

Owns the choice of a store, and the flags' meaning. Prints nothing and picks no status.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError
from prefork_logd.query import fulltext, times, where
from prefork_logd.query.filters import Filters
from prefork_logd.store_settings import PostgresqlStoreSettings, SqliteStoreSettings
from prefork_logd.values import level_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal

    from prefork_logd.settings import Settings
    from prefork_logd.store_settings import AnyStoreSettings

SEARCHABLE = (SqliteStoreSettings, PostgresqlStoreSettings)


def make_filters(
    *,
    since: str | None = None,
    until: str | None = None,
    level: str | None = None,
    carried: Callable[[], Mapping[str, int]] = dict,
    loggers: Sequence[str] = (),
    grep: Sequence[str] = (),
    conditions: Sequence[str] = (),
    limit: int | None = None,
    order: Literal["oldest", "newest"] = "oldest",
) -> Filters:
    """Return the filters that flags stand for. Raises ValueError with a sentence for the user.

    `carried` is asked for the names of levels that records carry, when `level` is none that every collector knows.
    """
    now = time.time()
    if any(not name for name in loggers):
        raise ValueError("--logger: a name is empty; leave the flag out for every logger")
    return Filters(
        since=times.parse_time(since, now) if since else None,
        until=times.parse_time(until, now) if until else None,
        level=_level(level, carried) if level else None,
        loggers=tuple(loggers),
        grep=tuple(phrase for text in grep for phrase in fulltext.parse(text)),
        where=tuple(where.parse(text) for text in conditions),
        limit=limit,
        order=order,
    )


def _level(level: str, carried: Callable[[], Mapping[str, int]]) -> int:
    try:
        return level_number(level)
    except ValueError:
        return level_number(level, carried())


def choose_store(settings: Settings, name: str | None, *, searched: bool = True) -> AnyStoreSettings:
    """Return the store of this name, else the first that can be `searched`. Raises StoreError when there is none."""
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
