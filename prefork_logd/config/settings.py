"""Declares one whole configuration, made of the settings of each table.

Owns the list of tables. Does not know how they are read from a file (load.py), nor processes, sockets or open files.

A setting is a field of the Struct of its table (server.py, listeners.py, outputs.py, sources.py, web.py, alerts.py,
receivers.py, stores/): type, default, bounds, a sentence of help, and whether a running collector applies a new value.
The loader, `check`, reload and docs/configuration.md all derive from these fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from prefork_logd.config.alerts import AlertSettings, AlertsSettings
from prefork_logd.config.client_limits import ClientLimitSettings
from prefork_logd.config.listeners import ListenerSettings
from prefork_logd.config.metrics import MetricsSettings
from prefork_logd.config.outputs import DEFAULT_OUTPUTS, OutputSettings
from prefork_logd.config.receivers import AnyReceiver
from prefork_logd.config.redact import RedactSettings
from prefork_logd.config.samples import SampleSettings
from prefork_logd.config.server import LimitSettings, ServerSettings
from prefork_logd.config.sources import NatsSourceSettings
from prefork_logd.config.stores.base import StoreSettings
from prefork_logd.config.stores.errors import ErrorsSettings
from prefork_logd.config.stores.kinds import KINDS, store_from
from prefork_logd.config.web import WebSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One whole configuration, every default filled in and every path absolute."""

    server: ServerSettings = ServerSettings()
    listener: tuple[ListenerSettings, ...] = ()
    limits: LimitSettings = LimitSettings()
    limit: tuple[ClientLimitSettings, ...] = ()
    sample: tuple[SampleSettings, ...] = ()
    redact: RedactSettings = RedactSettings()
    web: WebSettings = WebSettings()
    metrics: MetricsSettings = MetricsSettings()
    output: tuple[OutputSettings, ...] = DEFAULT_OUTPUTS
    store: tuple[StoreSettings, ...] = ()
    sources: tuple[NatsSourceSettings, ...] = ()
    errors: ErrorsSettings = ErrorsSettings()
    alerts: AlertsSettings = AlertsSettings()
    alert: tuple[AlertSettings, ...] = ()
    receiver: tuple[AnyReceiver, ...] = ()
    path: str = ""
    """Path of the configuration file; empty for none."""

    @property
    def shipped(self) -> tuple[StoreSettings, ...]:
        """The stores that have a shipper: those of `[[store]]`, then the groups of errors if there are any."""
        enabled = self.errors.enabled
        if enabled == "auto":
            enabled = any(KINDS[store.type].search for store in self.store)
        return (*self.store, *((self.errors,) if enabled and self.store else ()))

    @property
    def listeners(self) -> tuple[tuple[str, str], ...]:
        """(address, accepted clients as in `ListenerSettings.admits`) of every listener."""
        return (
            *((address, "any") for address in self.server.bind),
            *((listener.address, listener.admits) for listener in self.listener),
        )

    @property
    def tls_listeners(self) -> dict[str, ListenerSettings]:
        """The listeners that speak TLS, by their addresses."""
        return {listener.address: listener for listener in self.listener if listener.tls != "off"}


def settings_from(plain: Mapping[str, Any]) -> Settings:
    """Return settings from plain values, the form that msgspec encodes them in.

    Each store's table is decoded by its type (stores/kinds.py). Raises msgspec.ValidationError.
    """
    tables = msgspec.convert(plain.get("store", ()), list[dict[str, Any]])
    stores = tuple(map(store_from, tables))
    return msgspec.structs.replace(msgspec.convert({**plain, "store": ()}, Settings), store=stores)
