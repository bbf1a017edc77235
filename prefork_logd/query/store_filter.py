"""Writes the filter of a store as the tree of a query.

Does not know how the writer routes records (ingest/routing.py), or stores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.query import tree

if TYPE_CHECKING:
    from prefork_logd.config.stores.base import StoreSettings
    from prefork_logd.query.tree import Node


def tree_of(settings: StoreSettings) -> Node:
    """Return the condition that the records of a store meet; EVERYTHING for a store without a filter."""
    senders = {"service": settings.services, "environment": settings.environments}
    return tree.all_of(
        (
            tree.level_from(settings.levelno),
            *([tree.any_of(map(tree.logger, settings.loggers))] if settings.loggers else []),
            *(
                tree.any_of(tree.Compare((field,), "=", name) for name in names)
                for field, names in senders.items()
                if names
            ),
        )
    )


def describe(settings: StoreSettings) -> str:
    """Return the filter as words for people, such as `level WARNING or above, logger shop`; empty without a filter."""
    parts = [f"level {settings.level} or above"] if settings.levelno else []
    for noun, names in (
        ("logger", settings.loggers),
        ("service", settings.services),
        ("environment", settings.environments),
    ):
        if names:
            parts.append(f"{noun} {' or '.join(names)}")
    return ", ".join(parts)
