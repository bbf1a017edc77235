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
    from collections.abc import Callable, Mapping
    from typing import Literal

    from prefork_logd.query.written import Written


def make_filters(
    written: Written,
    *,
    since: str | None = None,
    until: str | None = None,
    carried: Callable[[], Mapping[str, int]] = dict,
    limit: int | None = None,
    order: Literal["oldest", "newest"] = "oldest",
) -> Filters:
    """Return the filters of conditions and of a range of time, as both are written.

    Raises ValueError with a sentence for the user. `carried` returns the names of levels that records carry; it is
    called for a level that levels.LEVELS lacks.
    """
    now = time.time()
    if any(not name for name in written.loggers):
        raise ValueError("--logger: a name is empty; leave the flag out for every logger")
    sender = {"service": written.service, "environment": written.environment, "host": written.host}
    node = tree.all_of(
        (
            tree.level_from(_level(written.level, carried)) if written.level else tree.EVERYTHING,
            *([tree.any_of(map(tree.logger, written.loggers))] if written.loggers else []),
            *map(parse_words, written.grep),
            *(tree.Compare((field,), "=", name) for field, name in sender.items() if name),
            *map(parse_condition, written.conditions),
            language.parse(written.text, now=now, carried=carried),
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
