"""What to look for: conditions on stored records as plain data, and a matcher that decides in Python.

Owns what each condition means; every store compiles the same Filters to its own language, and `matches` is the
specification that they are tested against. Knows no database, file or clock.

Times are seconds since 1970 and are compared with `created`. A record has to meet every condition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prefork_logd.query.fulltext import Phrase, contains, searchable
from prefork_logd.query.where import Condition, meets

if TYPE_CHECKING:
    from collections.abc import Mapping

Order = Literal["oldest", "newest"]
"""Which record comes first, by `created`; records of the same time come as they arrived, or the other way round."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which records are wanted, in which order and how many; without any condition, all of them."""

    since: float | None = None
    """`created` from here on."""
    until: float | None = None
    """`created` before this."""
    level: int | None = None
    """`levelno` from here on; 0 is no threshold, and a record without a level has 0."""
    loggers: tuple[str, ...] = ()
    """Names of loggers, of which one has to be the record's own or a parent of it."""
    grep: tuple[Phrase, ...] = ()
    """What has to occur in `message`, `exc_text` or `stack_info`, in any of them each."""
    where: tuple[Condition, ...] = ()
    """Conditions on fields."""
    limit: int | None = None
    """How many records at most: the first ones in `order`."""
    order: Order = "oldest"

    @property
    def logger_prefixes(self) -> tuple[str, ...]:
        """What the name of a child of one of `loggers` begins with."""
        return tuple(f"{name}." for name in self.loggers)

    def matches(self, record: Mapping[str, Any]) -> bool:
        """Tell whether a stored record, as the object that is in its line, meets every condition.

        `limit` and `order` are about many records, and left to those who have them.
        """
        if self.since is not None and record["created"] < self.since:
            return False
        if self.until is not None and record["created"] >= self.until:
            return False
        if not self.matches_source(record):
            return False
        if not all(meets(record, condition) for condition in self.where):
            return False
        return not self.grep or contains(searchable(record), self.grep)

    def matches_source(self, record: Mapping[str, Any]) -> bool:
        """Tell whether `levelno` and `name` alone meet the conditions on level and logger."""
        if self.level and record.get("levelno", 0) < self.level:
            return False
        if not self.loggers:
            return True
        name = record.get("name", "")
        return name in self.loggers or name.startswith(self.logger_prefixes)
