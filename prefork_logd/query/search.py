"""Declares the contract for reading records back from a store.

Owns the calls of a query to a store. Does not know any store. Searching needs no running collector, and does not
disturb one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prefork_logd.query.filters import Filters


class Bar(NamedTuple):
    """Number of records of one level in one slot of time."""

    slot: int
    """0 for the first slot."""
    levelno: int
    """0 for records without a level."""
    count: int  # type: ignore[assignment]  # hides tuple.count, which is not used here


def levels_by_name(pairs: Iterable[tuple[str | bytes | None, int | None]]) -> dict[str, int]:
    """Return the number of each level name, in capitals; of several numbers the least, so that a filter finds all."""
    levels: dict[str, int] = {}
    for name, levelno in pairs:
        if isinstance(name, str) and name and levelno is not None:
            key = name.strip().upper()
            levels[key] = min(levels.get(key, levelno), levelno)
    return levels


class Search(Protocol):
    """A store opened for reading. Every method raises StoreError if it cannot be read now."""

    def lines(self, filters: Filters) -> Iterator[bytes]:
        """Yield the stored line of each matching record, with the filters' order and limit.

        Holds a few records in memory, at most 64 of the largest, however many match.
        """

    def count(self, filters: Filters) -> int:
        """Return how many records match; `limit` and `order` are ignored."""

    def span(self) -> tuple[float, float] | None:
        """Return the least and the greatest `created` of all records; None without a record."""

    def histogram(self, filters: Filters, start: float, slot_s: float, slots: int) -> list[Bar]:
        """Return the number of matching records in each of `slots` slots of time from `start` on, no empty ones."""

    def levels(self) -> dict[str, int]:
        """Return the levels that records carry by name, in capitals: all of them, or those of the latest records."""

    def close(self) -> None:
        """Release every resource; never raises."""
