"""Estimates how long DuckDB needs for a block of records, in which it cannot be interrupted.

Owns the weights of conditions. Does not know SQL or how a call is ended.

A block has 2,048 records, and where a condition is about one column DuckDB looks at all of a row group before it
notices an interruption. An expression that needs many states of RE2 may take a minute for a megabyte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.query.tree import Compare, Words, leaves

if TYPE_CHECKING:
    from prefork_logd.query.tree import Node

_WORDS = 20
"""The time for a phrase, as a multiple of that for `~`."""
MOST = 200_000
"""Conditions like `~` times compressed octets of a record that take up to half a second for a block."""


def ends_late(node: Node, octets: float) -> bool:
    """Tell whether a block may take longer than half a second; `octets` is the size of a record in its file."""
    weight = 0
    for leaf in leaves(node):
        if isinstance(leaf, Compare) and leaf.operator == "=~":
            return True
        weight += _WORDS if isinstance(leaf, Words) else 1
    return weight * octets > MOST
