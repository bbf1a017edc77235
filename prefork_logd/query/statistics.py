"""Reads the text of a question for statistics, such as `count, p95(extra.duration_ms) by name`.

Owns the functions, and what each computes: `Accumulator` is the specification that every store is tested against. Does
not know stores or how a table is printed.

Aggregates other than `count` and `distinct` are of numbers: values of another type, booleans too, and missing ones do
not count. Without a number the result is null. A percentile between two values is interpolated linearly.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefork_logd.query.evaluate import MISSING
from prefork_logd.query.language import parse_field
from prefork_logd.query.long_values import key_of

if TYPE_CHECKING:
    from prefork_logd.query.conditions import Field

FUNCTIONS = ("count", "distinct", "sum", "avg", "min", "max", "median")
"""And p0 to p100, also with a fraction: p99.9."""
MOST_AGGREGATES = 16
MOST_GROUPING = 4
"""Most fields behind `by`."""
MOST_GROUPS = 1_000
"""Most rows of a table; the number of the other groups is given."""

_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d{1,3})?)", re.ASCII)
_BY = re.compile(r"\s+by\s+")
_AGGREGATE = re.compile(r"\s*([a-z][a-z0-9.]*)\s*(?:\((.*)\))?\s*", re.DOTALL)
_QUOTES = re.compile(r'"[^"]*"')


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One value that is computed for each group."""

    written: str
    function: str
    """One of FUNCTIONS other than median, or `percentile`."""
    field: Field | None = None
    """None for the count of records."""
    fraction: float = 0.0
    """Of a percentile, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """A question for statistics."""

    aggregates: tuple[Aggregate, ...]
    by: tuple[Field, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the answer."""
        return [*(field.written for field in self.by), *(one.written for one in self.aggregates)]


def parse(text: str) -> Statistics:
    """Return the question of a text AGGREGATE, ... [by FIELD, ...]. Raises ValueError with a sentence for the user."""
    written, *groups = _split(text, _BY)
    if len(groups) > 1:
        raise ValueError(f"{text!r}: `by` stands twice; write all fields behind one, with commas")
    aggregates = tuple(_aggregate(part) for part in _split(written, re.compile(",")))
    by = tuple(parse_field(part.strip()) for part in _split(groups[0], re.compile(","))) if groups else ()
    if len(aggregates) > MOST_AGGREGATES or len(by) > MOST_GROUPING:
        raise ValueError(
            f"{text!r}: at most {MOST_AGGREGATES} aggregates and {MOST_GROUPING} fields behind `by`; leave some out"
        )
    return Statistics(aggregates, by)


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    """Split outside of double quotes."""
    masked = _QUOTES.sub(lambda match: "x" * len(match[0]), text)
    parts, at = [], 0
    for match in separator.finditer(masked):
        parts.append(text[at : match.start()])
        at = match.end()
    return [*parts, text[at:]]


def _aggregate(text: str) -> Aggregate:
    match = _AGGREGATE.fullmatch(text)
    name = match[1] if match else ""
    percentile = _PERCENTILE.fullmatch(name)
    if match is None or not (name in FUNCTIONS or (percentile and float(percentile[1]) <= 100)):
        raise ValueError(f"{text.strip()!r} is not an aggregate; write {', '.join(FUNCTIONS)} or p95 of a field")
    field = parse_field(match[2].strip()) if match[2] is not None and match[2].strip() else None
    if field is None and name != "count":
        raise ValueError(f"{name}: of which field? write {name}(FIELD), such as {name}(extra.duration_ms)")
    written = f"{name}({field.written})" if field else name
    if name == "median":
        return Aggregate(written, "percentile", field, 0.5)
    if percentile:
        return Aggregate(written, "percentile", field, float(percentile[1]) / 100)
    return Aggregate(written, name, field)


class Accumulator:
    """Computes one aggregate of one group, value by value."""

    def __init__(self, aggregate: Aggregate) -> None:
        self._aggregate = aggregate
        self._count = 0
        self._distinct: set[str] = set()
        self._numbers: list[float] = []

    def add(self, value: Any) -> None:
        """Add the value of one record, or MISSING; of a count of records anything."""
        if self._aggregate.field is None:
            self._count += 1
        elif value is not MISSING and value is not None:
            self._count += 1
            if self._aggregate.function == "distinct":
                self._distinct.add(key_of(value))
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                self._numbers.append(float(value))

    def result(self) -> float | None:
        """Return the aggregate; None without a number."""
        numbers = self._numbers
        match self._aggregate.function:
            case "count":
                return self._count
            case "distinct":
                return len(self._distinct)
            case _ if not numbers:
                return None
            case "sum":
                return math.fsum(numbers)
            case "avg":
                return math.fsum(numbers) / len(numbers)
            case "min":
                return min(numbers)
            case "max":
                return max(numbers)
        numbers.sort()
        place = self._aggregate.fraction * (len(numbers) - 1)
        low = math.floor(place)
        high = min(low + 1, len(numbers) - 1)
        return numbers[low] + (numbers[high] - numbers[low]) * (place - low)
