"""What stores are like where they are, for those who are about to use them.

Owns the sentences of `check --connect`. Changes nothing anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.display import duration
from prefork_logd.store_settings import NatsStoreSettings
from prefork_logd.stores.nats_connection import look as look_at_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.settings import Settings


def look(settings: Settings) -> Iterator[tuple[str, list[str]]]:
    """Yield a sentence, and warnings, about each store that has servers. Raises StoreError if it cannot be used."""
    for store in settings.store:
        if isinstance(store, NatsStoreSettings):
            found = look_at_stream(store)
            whose = f"store {store.name!r}: stream {found['stream']}"
            if found["messages"] is None:
                yield f"{whose} is not there; it will be made", []
                continue
            replicas = f"replicas {found['replicas']} ({found['replicas_in_step']} in step)"
            window = f"duplicate_window {duration(found['duplicate_window_s'])}"
            sentence = f"{whose}: {replicas}, {window}, {found['messages']:,} messages, {found['bytes']:,} bytes"
            yield sentence, [f"store {store.name!r}: {warning}" for warning in found["warnings"]]
