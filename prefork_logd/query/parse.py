"""Turns the text and the flags of `query` and `tail` into filters.

Does not know the command line: its input is text, and it raises ValueError.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prefork_logd.config.values import level_number
from prefork_logd.query import language, times, tree
from prefork_logd.query.filters import Filters
from prefork_logd.query.where import parse_condition, parse_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal


def make_filters(
    text: str = "",
    *,
    since: str | None = None,
    until: str | None = None,
    level: str | None = None,
    carried: Callable[[], Mapping[str, int]] = dict,
    loggers: Sequence[str] = (),
    grep: Sequence[str] = (),
    conditions: Sequence[str] = (),
    service: str | None = None,
    environment: str | None = None,
    host: str | None = None,
    limit: int | None = None,
    order: Literal["oldest", "newest"] = "oldest",
) -> Filters:
    """Return the filters for a query in the query language and flags: each has to be met.

    Raises ValueError with a sentence for the user. `carried` returns the names of levels that records carry; it is
    called for a level that levels.LEVELS lacks.
    """
    now = time.time()
    if any(not name for name in loggers):
        raise ValueError("--logger: a name is empty; leave the flag out for every logger")
    sender = {"service": service, "environment": environment, "host": host}
    node = tree.all_of(
        (
            tree.level_from(_level(level, carried)) if level else tree.EVERYTHING,
            *([tree.any_of(map(tree.logger, loggers))] if loggers else []),
            *map(parse_words, grep),
            *(tree.Compare((field,), "=", name) for field, name in sender.items() if name),
            *map(parse_condition, conditions),
            language.parse(text, now=now, carried=carried),
        )
    )
    first = times.parse_time(since, now) if since else None
    last = times.parse_time(until, now) if until else None
    return Filters(since=first, until=last, tree=node, limit=limit, order=order).with_range()


def _level(level: str, carried: Callable[[], Mapping[str, int]]) -> int:
    try:
        return level_number(level)
    except ValueError:
        return level_number(level, carried())
