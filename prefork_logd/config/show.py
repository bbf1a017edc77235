"""Settings as TOML: whole, or without passwords for a person to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import tomli_w

from prefork_logd.config.redacting import redacted_dsn, redacted_url
from prefork_logd.store_settings import NatsStoreSettings, PostgresqlStoreSettings

if TYPE_CHECKING:
    from prefork_logd.settings import Settings


def printable(settings: Settings) -> str:
    """Return the same as `effective` without passwords: what `check` prints."""
    stores = tuple(
        msgspec.structs.replace(store, dsn=redacted_dsn(store.dsn))
        if isinstance(store, PostgresqlStoreSettings)
        else msgspec.structs.replace(store, servers=tuple(map(redacted_url, store.servers)))
        if isinstance(store, NatsStoreSettings)
        else store
        for store in settings.store
    )
    sources = tuple(
        msgspec.structs.replace(source, servers=tuple(map(redacted_url, source.servers))) for source in settings.sources
    )
    return effective(msgspec.structs.replace(settings, store=stores, sources=sources))


def effective(settings: Settings) -> str:
    """Return the whole configuration as TOML, defaults included."""
    document = msgspec.to_builtins(settings)
    document["source"] = document.pop("sources")
    return tomli_w.dumps(document)
