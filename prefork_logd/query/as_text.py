"""Writes the flags of `query` and `tail` as a query in the query language, for a collector on another host.

Owns how a value is quoted. Does not know what a condition means; parse.py reads the same flags as a tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.query.where import items_of, split_condition

if TYPE_CHECKING:
    from prefork_logd.query.written import Written


def query_text(written: Written) -> str:
    """Return a query that finds the same records as `parse.make_filters` does with these conditions.

    Raises ValueError with a sentence for the user.
    """
    sender = {"service": written.service, "environment": written.environment, "host": written.host}
    parts = [f"level>={quoted(written.level)}"] if written.level else []
    if written.loggers:
        parts.append(f"({' OR '.join(f'logger={quoted(name)}' for name in written.loggers)})")
    for one in written.grep:
        parts += map(quoted, items_of(one))
    parts += (f"{field}={quoted(name)}" for field, name in sender.items() if name)
    for one in written.conditions:
        path, operator, value = split_condition(one)
        # Keys in quotes are never short names.
        parts.append(f"{'.'.join(quoted(key) for key in path)}{operator}{quoted(value)}")
    if written.text.strip():
        parts.append(f"({written.text})" if parts else written.text)
    return " ".join(parts)


def quoted(text: str) -> str:
    """Return a text as a quoted value of a query."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
