"""Chooses which of too many remembered items to forget, so that no peer displaces the items of another.

Owns the order: the peer with the most items loses the one of least worth, and of several the least recently used.
Does not know more of an item than its key, peer and worth. Every step takes constant time.
"""

from __future__ import annotations

from collections import OrderedDict

MOST_RANKS = 33
"""Items of worth 0, 1, 2 to 3, 4 to 7 and so on have the same rank."""

# A plain dict finds its first key more slowly the more keys before it were removed.
_Keys = OrderedDict[bytes, None]


class FairOrder:
    """The order in which items are forgotten."""

    def __init__(self) -> None:
        self._ranks: dict[int, list[_Keys | None]] = {}
        """Peer to its keys by rank, the least recently used first."""
        self._counts: dict[int, int] = {}
        self._peers: dict[int, OrderedDict[int, None]] = {}
        """Number of items to the peers that have so many."""
        self._most = 0

    def __len__(self) -> int:
        return sum(self._counts.values())

    def count(self, peer: int) -> int:
        """Return how many items a peer has."""
        return self._counts.get(peer, 0)

    def add(self, key: bytes, peer: int, worth: int) -> None:
        """Add an item, as the most recently used."""
        ranks = self._ranks.get(peer)
        if ranks is None:
            ranks = self._ranks[peer] = [None] * MOST_RANKS
        self._keys(ranks, worth)[key] = None
        self._move(peer, 1)

    def use(self, key: bytes, peer: int, worth: int, worth_now: int) -> None:
        """Mark an item as used now, with its present worth."""
        ranks = self._ranks[peer]
        del self._keys(ranks, worth)[key]
        self._keys(ranks, worth_now)[key] = None

    def remove(self, key: bytes, peer: int, worth: int) -> None:
        """Remove an item."""
        del self._keys(self._ranks[peer], worth)[key]
        self._move(peer, -1)

    def first(self, peer: int | None = None) -> bytes:
        """Return the key of the item to forget: of a peer, or of the peer with the most. There must be one."""
        if peer is None:
            peer = next(iter(self._peers[self._most]))
        return next(next(iter(keys)) for keys in self._ranks[peer] if keys)

    @staticmethod
    def _keys(ranks: list[_Keys | None], worth: int) -> _Keys:
        rank = min(worth.bit_length(), MOST_RANKS - 1)
        keys = ranks[rank]
        if keys is None:
            keys = ranks[rank] = OrderedDict()
        return keys

    def _move(self, peer: int, step: int) -> None:
        """Count one item more, or one less, of a peer."""
        count = self._counts.get(peer, 0)
        if count:
            peers = self._peers[count]
            del peers[peer]
            if not peers:
                del self._peers[count]
        count += step
        if count:
            self._counts[peer] = count
            self._peers.setdefault(count, OrderedDict())[peer] = None
        else:
            del self._counts[peer], self._ranks[peer]
        if count > self._most or self._most not in self._peers:
            self._most = count if self._peers else 0
