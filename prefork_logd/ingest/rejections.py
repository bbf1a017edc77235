"""Limits the entries that rejected.jsonl gets from a worker: a second, from each peer and from all.

Owns the rates, and the number of entries left out. Does not know frames. Entries left out are counted (`rejected` in
status), logged, and reported in the peer's next entry.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from prefork_logd.net.peers import peer_key
from prefork_logd.system.log import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_FAILURES = 1000
"""Rejected frames in a row after which a connection is closed."""
PEER_BURST, PEER_PER_S = 5000.0, 20.0
ALL_BURST, ALL_PER_S = 10_000.0, 200.0
MOST_PEERS = 1024
"""Peers that are remembered; a forgotten one gets a new burst."""
REASONS = (
    *("budget", "forbidden", "malformed", "no-json-lines", "no-session", "not-a-record", "not-accepted", "not-json"),
    *("too-large", "trailing", "truncated", "unexpected", "version", "other"),
)
"""The reasons that are counted by themselves; the last one stands for all others."""
_INDEX = {reason: index for index, reason in enumerate(REASONS)}


class _Bucket:
    """A bounded number at once, then a bounded rate."""

    __slots__ = ("last_s", "left_out", "tokens")

    def __init__(self, tokens: float, now_s: float) -> None:
        self.tokens = tokens
        self.last_s = now_s
        self.left_out = 0

    def fill(self, now_s: float, burst: float, per_s: float) -> bool:
        """Add the tokens for the passed time; return whether there is at least one."""
        self.tokens = min(burst, self.tokens + (now_s - self.last_s) * per_s)
        self.last_s = now_s
        return self.tokens >= 1


class Rejections:
    """The entries of one worker."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, counters: memoryview | None = None) -> None:
        """Count rejections in `counters`, in the order of REASONS."""
        self._clock = clock
        self._counters = counters
        self._all = _Bucket(ALL_BURST, clock())
        self._peers: OrderedDict[int, _Bucket] = OrderedDict()
        self._warnings = RateLimitedLog(burst=1, per_second=1 / 60)

    def count(self, reason: str) -> None:
        """Count a rejection."""
        if self._counters is not None:
            self._counters[_INDEX.get(reason, len(REASONS) - 1)] += 1

    def admit_entry(self, peer: str) -> int:
        """Return -1 if an entry about a frame of `peer` is left out; else the number left out before it."""
        now_s = self._clock()
        key = peer_key(peer)
        bucket = self._peers.get(key)
        if bucket is None:
            bucket = self._peers[key] = _Bucket(PEER_BURST, now_s)
            if len(self._peers) > MOST_PEERS:
                self._peers.popitem(last=False)
        else:
            self._peers.move_to_end(key)
        has_one = bucket.fill(now_s, PEER_BURST, PEER_PER_S)
        if not (self._all.fill(now_s, ALL_BURST, ALL_PER_S) and has_one):
            bucket.left_out += 1
            self._warnings.warning(
                "%s: too many rejected frames; rejected.jsonl gets %d a second, the others are only counted",
                *(peer, PEER_PER_S),
            )
            return -1
        bucket.tokens -= 1
        self._all.tokens -= 1
        left_out, bucket.left_out = bucket.left_out, 0
        return left_out
