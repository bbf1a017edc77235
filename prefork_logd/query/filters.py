"""Declares a query as plain data: a range of time, a tree of conditions, an order and a number.

Every store compiles the same Filters to its own language, and `matches` is the specification that they are tested
against. Does not know databases, files, clocks or how a query is written.

Times are seconds since 1970 and are compared with `created`. A record must meet every condition.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from prefork_logd.query import evaluate
from prefork_logd.query.tree import EVERYTHING, Compare, all_of, conjuncts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork_logd.query.tree import Node

Order = Literal["oldest", "newest"]
"""Order by `created`; records of the same time come in the order of arrival, or reversed for "newest"."""

_FAR_S = 1e12
"""Seconds beyond every time of a record."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Conditions, order and number of wanted records; without any condition, all records."""

    since: float | None = None
    """Smallest `created`."""
    until: float | None = None
    """`created` must be before this."""
    tree: Node = EVERYTHING
    """Every other condition."""
    limit: int | None = None
    """Most records: the first ones in `order`."""
    order: Order = "oldest"

    def matches(self, record: Mapping[str, Any]) -> bool:
        """Tell whether a stored record, given as the object in its line, meets every condition.

        `limit` and `order` concern many records, and are applied by the caller.
        """
        if self.since is not None and record["created"] < self.since:
            return False
        if self.until is not None and record["created"] >= self.until:
            return False
        return evaluate.matches(self.tree, record)

    def with_range(self) -> Filters:
        """Return the same filters with the tree's bounds of `created` in `since` and `until`, where stores use them."""
        since, until, others = self.since, self.until, []
        for node in conjuncts(self.tree):
            match node:
                case Compare(("created",), ">=" | "<" as operator, _) if (number := node.number) is not None:
                    bound = float(min(max(number, -_FAR_S), _FAR_S))
                    if operator == ">=":
                        since = bound if since is None else max(since, bound)
                    else:
                        until = bound if until is None else min(until, bound)
                case _:
                    others.append(node)
        return replace(self, since=since, until=until, tree=all_of(others))
