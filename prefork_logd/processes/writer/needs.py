"""Computes which records of the journal the stores still need.

Owns the stores' positions, and which stores may miss records. Does not know segments, limits or clients that wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.ipc.scoreboard import Scoreboard, StoreField

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_logd.ipc.configuration import Configuration


class Needs:
    """The stores of a configuration, and the first record that each of them needs."""

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        self.stores: dict[int, str] = {}
        """Slot of each store to its name."""
        self._required: frozenset[int] = frozenset()
        """Slots of the stores that may miss no record."""
        self.only_required = False
        """Whether the journal is too full to keep records for the other stores."""

    def configure(self, configuration: Configuration) -> None:
        """Take the stores of a configuration."""
        stores = dict(zip(configuration.store_ids, configuration.settings.shipped, strict=True))
        self.stores = {store_id: store.name for store_id, store in stores.items()}
        self._required = frozenset(store_id for store_id, store in stores.items() if not store.MAY_MISS_RECORDS)

    def passed(self) -> int:
        """Return the first record number that some store still needs; 0 without a store."""
        return min((self._position(store_id) for store_id in self._holding()), default=0)

    def slowest(self) -> str:
        """Return the names of the stores that need the oldest record, for messages."""
        positions = {store_id: self._position(store_id) for store_id in self._holding()}
        oldest = min(positions.values(), default=0)
        return _names(self.stores[store_id] for store_id, position in positions.items() if position == oldest)

    def late(self, first: int) -> str:
        """Return the names of the stores that need records before the `first` one that is kept; empty if none does."""
        return _names(name for store_id, name in self.stores.items() if 0 < self._position(store_id) < first)

    def _holding(self) -> list[int]:
        return [store_id for store_id in self.stores if store_id in self._required or not self.only_required]

    def _position(self, store_id: int) -> int:
        store = self._board.store(store_id)
        return int(store[StoreField.POSITION]) if store[StoreField.READY] else 0


def _names(names: Iterable[str]) -> str:
    return " and ".join(f"store {name}" for name in names)
