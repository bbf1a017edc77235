"""What stores and sources are like where they are, for those who are about to use them.

Owns the sentences of `check --connect`. Changes nothing anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.store_settings import NatsStoreSettings
from prefork_logd.stores.nats_group import look as look_at_source
from prefork_logd.stores.nats_stream import look as look_at_store
from prefork_logd.values import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.settings import Settings


def look(settings: Settings) -> Iterator[tuple[str, list[str]]]:
    """Yield a sentence, and warnings, about each store and source that has servers.

    Raises StoreError if one cannot be used.
    """
    for store in settings.store:
        if isinstance(store, NatsStoreSettings):
            found = look_at_store(store)
            whose = f"store {store.name!r}: stream {found['stream']}"
            if found["messages"] is None:
                yield f"{whose} is not there; it will be made", []
                continue
            replicas = f"replicas {found['replicas']} ({found['replicas_in_step']} in step)"
            window = f"duplicate_window {format_duration(found['duplicate_window_s'])}"
            sentence = f"{whose}: {replicas}, {window}, {found['messages']:,} messages, {found['bytes']:,} bytes"
            yield sentence, [f"store {store.name!r}: {warning}" for warning in found["warnings"]]
    for source in settings.sources:
        whose = f"source {source.stream!r}"
        found = look_at_source(source)
        if found["partitions"] is None:
            yield f"{whose}: stream {source.stream} is not there; the first collector with a [[store]] makes it", []
            continue
        owned = sum(found["owners"].values())
        owners = f"{owned} of {found['partitions']} partitions have an owner ({len(found['owners'])} members)"
        waiting = "nobody has read yet" if found["messages_waiting"] is None else _messages(found["messages_waiting"])
        yield f"{whose}: stream {source.stream}, group {source.group!r}: {owners}, {waiting}", []


def _messages(count: int) -> str:
    return f"{count:,} messages wait"
