"""Makes a store from the user's own code.

Owns the call of that code. Does not know the store that it makes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from prefork_logd.errors import StoreError

if TYPE_CHECKING:
    from prefork_logd.config.stores.custom import CustomStoreSettings
    from prefork_logd.stores.base import Store


def make_store(settings: CustomStoreSettings) -> Store:
    """Return the factory's store for the options. Raises StoreError for any error of the factory."""
    module, _, name = settings.factory.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name)
        store: Store = factory(**settings.options)
    except Exception as error:
        # An error in this code must not end the shipper: it tries again, and `status` shows the error.
        raise StoreError(f"store {settings.name}: cannot make {settings.factory}: {error!r}") from error
    return store
