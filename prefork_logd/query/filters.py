"""Declares the conditions of a query as plain data, and evaluates them in Python.

Owns the meaning of each condition. Every store compiles the same Filters to its own language, and `matches` is the
specification that they are tested against. Does not know databases, files or clocks.

Times are seconds since 1970 and are compared with `created`. A record must meet every condition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prefork_logd.query import evaluate
from prefork_logd.query.fulltext import Phrase, contains, searchable
from prefork_logd.query.tree import EVERYTHING
from prefork_logd.query.where import Condition, meets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork_logd.query.tree import Node

Order = Literal["oldest", "newest"]
"""Order by `created`; records of the same time come in the order of arrival, or reversed for "newest"."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Conditions, order and number of wanted records; without any condition, all records."""

    since: float | None = None
    """Smallest `created`."""
    until: float | None = None
    """`created` must be before this."""
    level: int | None = None
    """Smallest `levelno`; 0 means no threshold. A record without a level counts as 0."""
    loggers: tuple[str, ...] = ()
    """Names of loggers: one of them must be the record's own or a parent of it."""
    grep: tuple[Phrase, ...] = ()
    """Phrases: each must occur in `message`, `exc_text` or `stack_info`."""
    where: tuple[Condition, ...] = ()
    """Conditions on fields."""
    tree: Node = EVERYTHING
    """Every other condition."""
    limit: int | None = None
    """Most records: the first ones in `order`."""
    order: Order = "oldest"

    @property
    def logger_prefixes(self) -> tuple[str, ...]:
        """Prefixes of the names of children of `loggers`."""
        return tuple(f"{name}." for name in self.loggers)

    def matches(self, record: Mapping[str, Any]) -> bool:
        """Tell whether a stored record, given as the object in its line, meets every condition.

        `limit` and `order` concern many records, and are applied by the caller.
        """
        if self.since is not None and record["created"] < self.since:
            return False
        if self.until is not None and record["created"] >= self.until:
            return False
        if not self.matches_source(record):
            return False
        if not all(meets(record, condition) for condition in self.where):
            return False
        if not evaluate.matches(self.tree, record):
            return False
        return not self.grep or contains(searchable(record), self.grep)

    def matches_source(self, record: Mapping[str, Any]) -> bool:
        """Tell whether `levelno` and `name` meet the conditions on level and logger."""
        if self.level and record.get("levelno", 0) < self.level:
            return False
        if not self.loggers:
            return True
        name = record.get("name", "")
        return name in self.loggers or name.startswith(self.logger_prefixes)
