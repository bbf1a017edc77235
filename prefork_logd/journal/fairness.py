"""Which of many remembered things goes first when there are too many, so that no peer pushes out those of another.

Owns the order: the peer that has most gives up the one that is worth least, and of several the one used longest ago.
Knows nothing of the things but a key, a peer and a worth. Every step takes the same time, however many there are.
"""

from __future__ import annotations

from collections import OrderedDict

MOST_RANKS = 33
"""Worth 0, 1, 2 and 3, 4 to 7 and so on count the same."""

# A dict would do, but looking for its first key costs the more, the more were removed before it.
_Keys = OrderedDict[bytes, None]


class FairOrder:
    """The order in which things go."""

    def __init__(self) -> None:
        self._ranks: dict[int, list[_Keys | None]] = {}
        """Peer to its keys by rank, in each the one used longest ago first."""
        self._counts: dict[int, int] = {}
        self._peers: dict[int, OrderedDict[int, None]] = {}
        """Count to the peers that have so many."""
        self._most = 0

    def __len__(self) -> int:
        return sum(self._counts.values())

    def count(self, peer: int) -> int:
        """Return how many a peer has."""
        return self._counts.get(peer, 0)

    def add(self, key: bytes, peer: int, worth: int) -> None:
        """Add a thing; it was used last."""
        ranks = self._ranks.get(peer)
        if ranks is None:
            ranks = self._ranks[peer] = [None] * MOST_RANKS
        self._keys(ranks, worth)[key] = None
        self._move(peer, 1)

    def use(self, key: bytes, peer: int, worth: int, worth_now: int) -> None:
        """Note that an entry was used, and its present worth."""
        ranks = self._ranks[peer]
        del self._keys(ranks, worth)[key]
        self._keys(ranks, worth_now)[key] = None

    def remove(self, key: bytes, peer: int, worth: int) -> None:
        """Remove a thing."""
        del self._keys(self._ranks[peer], worth)[key]
        self._move(peer, -1)

    def first(self, peer: int | None = None) -> bytes:
        """Return the key of what goes first: of a peer, or of the one that has most. There has to be one."""
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
        """Note that a peer has one more, or one less."""
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
