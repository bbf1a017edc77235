"""Compares two configurations: the changes that a running collector applies, and those that wait for a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec
from msgspec import Meta

from prefork_logd.config.server import TABLES, ServerSettings
from prefork_logd.config.values import NOT_LIVE

if TYPE_CHECKING:
    from prefork_logd.config.settings import Settings


def changes(old: Settings, new: Settings) -> tuple[list[str], list[str]]:
    """Return the keys that differ: those that a running collector applies, and those that wait for a restart."""
    live: list[str] = []
    waiting: list[str] = []
    for table, kind in TABLES.items():
        for key, hint in get_type_hints(kind, include_extras=True).items():
            if getattr(getattr(old, table), key) != getattr(getattr(new, table), key):
                (live if is_live(hint) else waiting).append(f"{table}.{key}")
    if old.listener != new.listener:
        waiting.append("listener")
    if old.sources != new.sources:
        waiting.append("source")
    tables = ("limit", "sample", "output", "store", "alert", "receiver")
    live += [table for table in tables if getattr(old, table) != getattr(new, table)]
    return live, waiting


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
