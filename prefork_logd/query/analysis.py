"""Computes facets, fields, statistics and patterns from records in memory: the specification of a search's answers.

Owns which values count as one, and the bounds of what is held. Does not know stores: a search passes it records, newest
first, as the objects in their lines.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from prefork_logd.query.evaluate import MISSING, value_at
from prefork_logd.query.long_values import key_of, value_of_key
from prefork_logd.query.patterns import MOST_CHARACTERS, pattern_of
from prefork_logd.query.search import Facet, FacetValue, FieldFound, Pattern
from prefork_logd.query.statistics import MOST_GROUPS, Accumulator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prefork_logd.query.conditions import Field
    from prefork_logd.query.statistics import Statistics

MOST_VALUES = 200_000
"""Different values, groups or patterns that are held; records with later ones count as others."""
MOST_FIELDS = 2_000
MOST_DEPTH = 4
"""Keys of a field; the value at that depth is an object, whatever is in it."""
_TYPES = {str: "text", int: "number", float: "number", bool: "boolean", dict: "object", list: "list"}
_PLAIN = set('"=!<>~:.,;*() \t\n\r')


def value_of(record: Mapping[str, Any], field: Field) -> Any:
    """Return the value at the first path of a field that leads to one other than null, else MISSING."""
    for path in field.paths:
        value = value_at(record, path)
        if value is not MISSING and value is not None:
            return value
    return MISSING


def facets_of(records: Iterable[Mapping[str, Any]], fields: Sequence[Field], top: int) -> list[Facet]:
    """Return the facets of some records."""
    counts: list[Counter[str]] = [Counter() for _ in fields]
    missing, others = [0] * len(fields), [0] * len(fields)
    for record in records:
        for index, field in enumerate(fields):
            value = value_of(record, field)
            if value is MISSING:
                missing[index] += 1
            elif (key := key_of(value)) in counts[index] or len(counts[index]) < MOST_VALUES:
                counts[index][key] += 1
            else:
                others[index] += 1
    found = []
    for index, field in enumerate(fields):
        best = sorted(counts[index].items(), key=lambda pair: (-pair[1], pair[0]))[:top]
        rest = counts[index].total() - sum(count for _, count in best) + others[index]
        values = [FacetValue(value_of_key(key), count) for key, count in best]
        found.append(Facet(field.written, values, rest, missing[index]))
    return found


def stats_of(records: Iterable[Mapping[str, Any]], statistics: Statistics) -> tuple[list[list[Any]], int]:
    """Return the rows of the answer, at most MOST_GROUPS, and the number of groups that are left out."""
    groups: dict[tuple[str, ...], list[Accumulator]] = {}
    left_out: set[tuple[str, ...]] = set()
    for record in records:
        values = [value_of(record, field) for field in statistics.by]
        key = tuple("null" if value is MISSING else key_of(value) for value in values)
        if key not in groups:
            if len(groups) >= MOST_VALUES:
                if len(left_out) < MOST_VALUES:
                    left_out.add(key)
                continue
            groups[key] = [Accumulator(aggregate) for aggregate in statistics.aggregates]
        for accumulator, aggregate in zip(groups[key], statistics.aggregates, strict=True):
            accumulator.add(value_of(record, aggregate.field) if aggregate.field else None)
    if not groups and not statistics.by:
        groups[()] = [Accumulator(aggregate) for aggregate in statistics.aggregates]
    rows = [[*map(value_of_key, key), *(one.result() for one in found)] for key, found in groups.items()]
    return sort_rows(rows, len(statistics.by))[:MOST_GROUPS], len(left_out) + max(0, len(rows) - MOST_GROUPS)


def sort_rows(rows: list[list[Any]], groups: int) -> list[list[Any]]:
    """Return rows by their first aggregate, the largest first, those without one last; equal ones by their group."""
    return sorted(
        rows,
        key=lambda row: (
            row[groups] is None,
            -(row[groups] or 0),
            [json.dumps(value, sort_keys=True) for value in row[:groups]],
        ),
    )


def fields_of(records: Iterable[Mapping[str, Any]]) -> list[FieldFound]:
    """Return the fields that some records have, the most frequent first; the nested keys of objects, too."""
    counts: dict[tuple[str, ...], Counter[tuple[str, type]]] = {(): Counter()}
    entered: Counter[tuple[str, ...]] = Counter()
    for record in records:
        _count_keys(record, (), counts, entered, is_full=sum(map(len, counts.values())) >= MOST_FIELDS)
    types: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for path, keys in counts.items():
        for (key, kind), count in keys.items():
            here = (*path, key)
            if kind is dict:
                # The keys of these objects were counted instead.
                count -= entered[here]  # noqa: PLW2901
            if count and here != ("extra",) and kind in _TYPES and '"' not in key and key:
                types[here][_TYPES[kind]] += count
    found = [FieldFound(written(path), dict(sorted(kinds.items()))) for path, kinds in types.items()]
    return sorted(found, key=lambda one: (-one.records, one.field))[:MOST_FIELDS]


def _count_keys(
    value: Mapping[str, Any],
    path: tuple[str, ...],
    counts: dict[tuple[str, ...], Counter[tuple[str, type]]],
    entered: Counter[tuple[str, ...]],
    *,
    is_full: bool,
) -> None:
    """Count the keys of an object at `path` with the types of their values, and those of the objects in it.

    `is_full`: only keys that are there already. Counter.update counts in C, which a loop over the keys would take ten
    times as long for.
    """
    known = counts[path]
    pairs = zip(value, map(type, value.values()), strict=True)
    known.update(filter(known.__contains__, pairs) if is_full else pairs)
    if len(path) + 1 >= MOST_DEPTH:
        return
    for key, inner in value.items():
        if type(inner) is dict and inner and key and '"' not in key:  # such keys cannot be written
            here = (*path, key)
            if here not in counts:
                if is_full:
                    continue
                counts[here] = Counter()
            entered[here] += 1
            _count_keys(inner, here, counts, entered, is_full=is_full)


def written(path: tuple[str, ...]) -> str:
    """Return a path as it is written in a query."""
    return ".".join(f'"{key}"' if not key or _PLAIN & set(key) or key[0].isdigit() else key for key in path)


def patterns_of(messages: Iterable[tuple[str, float]], top: int) -> tuple[list[Pattern], int]:
    """Return the patterns of messages with their times, newest first, and the number of messages with other ones."""
    found: dict[str, list[Any]] = {}
    others = 0
    for message, created in messages:
        text = pattern_of(message)
        entry = found.get(text)
        if entry is not None:
            entry[0] += 1
            entry[1], entry[2] = min(entry[1], created), max(entry[2], created)
        elif len(found) < MOST_VALUES:
            found[text] = [1, created, created, message[:MOST_CHARACTERS]]
        else:
            others += 1
    best = sorted(found.items(), key=lambda pair: (-pair[1][0], pair[0]))[:top]
    others += sum(entry[0] for entry in found.values()) - sum(entry[0] for _, entry in best)
    return [Pattern(text, *entry) for text, entry in best], others
