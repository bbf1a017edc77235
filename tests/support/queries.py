"""Holds a record for conditions to be tried on, and histograms of given times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.query.search import Bar

if TYPE_CHECKING:
    from collections.abc import Callable

RECORD = {
    "created": 1_795_429_550.25,
    "name": "shop.cart",
    "levelno": 30,
    "message": "Low stock for item A-2207: Grüße aus München",
    "exc_text": "OSError: [Errno 28] No space left on device",
    "extra": {"item": 42, "ratio": 0.5, "ok": True, "none": None, "text": "42", "a.b": "dot", "list": [1, {"x": "y"}]},
}

NOON = 1_795_435_200.0


def histogram_of(times: list[float]) -> Callable[[float, float, int], list[Bar]]:
    """Return what a store would say of records of these times."""

    def histogram(start: float, slot_s: float, slots: int) -> list[Bar]:
        edges = [start + slot_s * number for number in range(slots + 1)]
        found = []
        for slot in range(slots):
            count = sum(edges[slot] <= one < edges[slot + 1] for one in times)
            if count:
                found.append(Bar(slot, 20, count))
        return found

    return histogram
