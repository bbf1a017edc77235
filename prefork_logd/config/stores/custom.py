"""Declares the settings of a store with a class of the user's own.

Owns their types, defaults, bounds and help. Imports no class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from prefork_logd.config.stores.base import StoreSettings

if TYPE_CHECKING:
    from collections.abc import Iterator


class CustomStoreSettings(StoreSettings, frozen=True, kw_only=True, tag="custom"):
    """A store of your own (docs/stores.md)."""

    factory: Annotated[
        str,
        Meta(description='Callable that makes the store, "package.module:name"; its module must be importable.'),
    ] = ""
    options: Annotated[
        dict[str, str | int | float | bool],
        Meta(description="Keyword arguments of `factory`."),
    ] = {}  # noqa: RUF012 - msgspec makes a new one for each

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        yield from StoreSettings.problems(self)
        module, colon, name = self.factory.partition(":")
        if not (module and colon and name.isidentifier()):
            yield "factory", 'must name the callable that makes the store, such as "company.logs:Archive"'
