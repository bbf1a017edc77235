"""Compares two configurations: the changes that a running collector applies, and those that wait for a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import msgspec
from msgspec import Meta

from prefork_logd.config.server import TABLES, ServerSettings
from prefork_logd.config.values import NOT_LIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_logd.config.settings import Settings

_Table = TypeVar("_Table", bound=msgspec.Struct)


def changes(old: Settings, new: Settings) -> tuple[list[str], list[str]]:
    """Return the keys that differ: those that a running collector applies, and those that wait for a restart.

    A key of a listener or a source is named with its table: "listener 127.0.0.1:9022: tls".
    """
    live: list[str] = []
    waiting: list[str] = []
    for table, kind in TABLES.items():
        for key, hint in get_type_hints(kind, include_extras=True).items():
            if getattr(getattr(old, table), key) != getattr(getattr(new, table), key):
                (live if is_live(hint) else waiting).append(f"{table}.{key}")
    waiting += _changes_of_tables("listener", old.listener, new.listener, lambda one: one.address)
    waiting += _changes_of_tables("source", old.sources, new.sources, lambda one: f"{one.stream} ({one.group})")
    tables = ("limit", "sample", "output", "store", "alert", "receiver")
    live += [table for table in tables if getattr(old, table) != getattr(new, table)]
    return live, waiting


def _changes_of_tables(
    kind: str, old: Iterable[_Table], new: Iterable[_Table], name_of: Callable[[_Table], str]
) -> list[str]:
    """Return a line for each changed key of the tables of a kind, and for each table that is new or gone."""
    before = {name_of(one): one for one in old}
    after = {name_of(one): one for one in new}
    found = [f"{kind} {name}, which is new" for name in after if name not in before]
    found += [f"{kind} {name}, which is gone" for name in before if name not in after]
    for name in after.keys() & before.keys():
        was, is_now = before[name], after[name]
        found += [f"{kind} {name}: {key}" for key in was.__struct_fields__ if getattr(was, key) != getattr(is_now, key)]
    return sorted(found)


def is_live(hint: Any) -> bool:
    """Tell whether a running collector applies a new value of the field with this annotation."""
    return not any(meta.extra == NOT_LIVE for meta in hint.__metadata__ if isinstance(meta, Meta))


def with_live_changes(old: Settings, new: Settings) -> Settings:
    """Return `new`, with the values of `old` for every key that waits for a restart."""
    kept = {
        key: getattr(old.server, key)
        for key, hint in get_type_hints(ServerSettings, include_extras=True).items()
        if not is_live(hint)
    }
    return msgspec.structs.replace(
        new,
        server=msgspec.structs.replace(new.server, **kept),
        listener=old.listener,
        sources=old.sources,
    )
