"""Computes the time between attempts: doubled after each failure, up to a limit.

Owns the arithmetic. Does not know clocks, timers or the attempted work.
"""

from __future__ import annotations

import random

_MOST_DOUBLINGS = 64
"""Most doublings: more would overflow a float after a year of failures, and every limit is reached long before."""


def delay_s(failures: int, first_s: float, longest_s: float) -> float:
    """Return the seconds to wait after so many failures in a row (1 or more)."""
    return min(longest_s, first_s * 2.0 ** min(max(failures, 1) - 1, _MOST_DOUBLINGS))


class Backoff:
    """The failures in a row of one operation, and the time to wait after the last one."""

    def __init__(self, first_s: float, longest_s: float, spread: tuple[float, float] = (1.0, 1.0)) -> None:
        """Wait `first_s` seconds after the first failure, and at most `longest_s`.

        Each delay is multiplied by a random number in `spread`, so that operations that failed together are not
        repeated together.
        """
        self.failures = 0
        """Failures since the last success."""
        self._first_s, self._longest_s = first_s, longest_s
        self._spread = spread

    def failed(self) -> float:
        """Count a failure; return the seconds to wait before the next attempt."""
        self.failures += 1
        return delay_s(self.failures, self._first_s, self._longest_s) * random.uniform(*self._spread)

    def worked(self) -> None:
        """Forget the failures: after the next one the wait is `first_s` again."""
        self.failures = 0
