"""What is read back from a store: the other end of a query.

Owns what passes between a query and a store that is searched. Searching needs no running collector, and disturbs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prefork_logd.query.filters import Filters


class Bar(NamedTuple):
    """How many records of one level fall into one slot of time."""

    slot: int
    """0 for the first slot."""
    levelno: int
    """0 for records without a level."""
    count: int  # type: ignore[assignment]  # hides tuple's, which nobody needs here


def levels_by_name(pairs: Iterable[tuple[str | bytes | None, int | None]]) -> dict[str, int]:
    """Return the number of each name, in capitals; the least where there are several, so that a filter finds all."""
    levels: dict[str, int] = {}
    for name, levelno in pairs:
        if isinstance(name, str) and name and levelno is not None:
            key = name.strip().upper()
            levels[key] = min(levels.get(key, levelno), levelno)
    return levels


class Search(Protocol):
    """A store opened for reading. Every method raises StoreError when it cannot be read just now."""

    def lines(self, filters: Filters) -> Iterator[bytes]:
        """Yield the line of each record that matches, as it was stored, in the order and number that are asked for.

        Takes memory for a few of them, 64 of the largest at most, however many there are.
        """

    def count(self, filters: Filters) -> int:
        """Return how many records match; `limit` and `order` do not matter."""

    def span(self) -> tuple[float, float] | None:
        """Return the least and the greatest `created` there is; None without a record."""

    def histogram(self, filters: Filters, start: float, slot_s: float, slots: int) -> list[Bar]:
        """Return how many matching records fall into each of `slots` slots of time from `start` on; no empty ones."""

    def levels(self) -> dict[str, int]:
        """Return the levels that records carry by name, in capitals: all of them, or those of the latest records."""

    def close(self) -> None:
        """Let go of every resource; never raises."""
