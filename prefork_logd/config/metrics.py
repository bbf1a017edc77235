"""Declares the settings of `[metrics]`: addresses for metrics and health alone.

Owns their types, defaults and help. Opens no socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from prefork_logd.config.values import TableSettings, address_problems

if TYPE_CHECKING:
    from collections.abc import Iterator


class MetricsSettings(TableSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metrics and health on addresses of their own, with the page or without it."""

    bind: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses that answer `/metrics`, `/healthz` and `/readyz` and nothing else, as in "
            "server.bind. There is no log-in and no TLS: everybody who can reach an address reads the names of "
            "listeners, outputs and stores, and their counters. Empty: the page's addresses alone answer them."
        ),
    ] = ()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        for sentence in address_problems(self.bind):
            yield "bind", sentence
