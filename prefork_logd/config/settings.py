"""What can be set: one declaration per key, from which everything that speaks of settings is made.

Owns the settings, their types, defaults, bounds and help, and what a single value means. Does not know how they
are read from a file (config/load.py), nor processes, sockets or open files.

A setting is a field of one of the Structs below: type, default, bounds, a sentence of help, and whether a running
collector can take a new value. The loader, `check`, reload and docs/configuration.md are all made from these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from prefork_logd.config.listeners import ListenerSettings  # noqa: TC001 - msgspec reads the annotation
from prefork_logd.config.outputs import OutputSettings
from prefork_logd.config.server import LimitSettings, ServerSettings
from prefork_logd.config.sources import NatsSourceSettings  # noqa: TC001 - msgspec reads the annotation
from prefork_logd.config.stores.base import StoreSettings  # noqa: TC001 - msgspec reads the annotation
from prefork_logd.config.stores.kinds import store_from

if TYPE_CHECKING:
    from collections.abc import Mapping


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One whole configuration, every default filled in and every path absolute."""

    server: ServerSettings = ServerSettings()
    listener: tuple[ListenerSettings, ...] = ()
    limits: LimitSettings = LimitSettings()
    output: tuple[OutputSettings, ...] = (OutputSettings(),)
    store: tuple[StoreSettings, ...] = ()
    sources: tuple[NatsSourceSettings, ...] = ()
    source: str = ""
    """The file it came from; empty when there is none."""

    @property
    def listeners(self) -> tuple[tuple[str, str], ...]:
        """(address, what is let in: `ListenerSettings.admits`) of every listener."""
        return (
            *((address, "any") for address in self.server.bind),
            *((listener.address, listener.admits) for listener in self.listener),
        )


def settings_from(plain: Mapping[str, Any]) -> Settings:
    """Return settings from plain values, the form that msgspec encodes them in.

    Each store's table is decoded as its kind says (store_settings.py). Raises msgspec.ValidationError.
    """
    tables = msgspec.convert(plain.get("store", ()), list[dict[str, Any]])
    stores = tuple(map(store_from, tables))
    return msgspec.structs.replace(msgspec.convert({**plain, "store": ()}, Settings), store=stores)
