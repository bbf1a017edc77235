"""Queries the servers of configured stores and sources for `check --connect`.

Owns the sentences of `check --connect`. Does not change a server, and does not know the kinds of stores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.stores.nats.group import query_group
from prefork_logd.stores.registry import probe_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.config.settings import Settings


def probe_servers(settings: Settings) -> Iterator[tuple[str, list[str]]]:
    """Yield a sentence, and warnings, about each store and source that has servers.

    Raises StoreError if one cannot be used.
    """
    for store in settings.store:
        finding = probe_store(store)
        if finding is not None:
            whose = f"store {store.name!r}"
            yield f"{whose}: {finding.sentence}", [f"{whose}: {warning}" for warning in finding.warnings]
    for source in settings.sources:
        whose = f"source {source.stream!r}"
        found = query_group(source)
        if found["partitions"] is None:
            yield f"{whose}: stream {source.stream} is not there; the first collector with a [[store]] makes it", []
            continue
        owned = sum(found["owners"].values())
        members = format_count(len(found["owners"]), "member")
        owners = f"{owned} of {format_count(found['partitions'], 'partition')} owned by {members}"
        waiting = "none has read yet" if found["messages_waiting"] is None else _messages(found["messages_waiting"])
        yield f"{whose}: stream {source.stream}, group {source.group!r}: {owners}, {waiting}", []


def _messages(count: int) -> str:
    return f"{format_count(count, 'message')} waiting"
