"""Limits how often somebody may try to log in: from one address, and in total.

Owns the numbers and the memory of addresses, which is bounded. Does not know passwords or requests.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES, A_MINUTE = 10, 5.0
"""Failures of one address at once, and how many more it may have each minute."""
TOTAL_FAILURES, TOTAL_A_MINUTE = 100, 60.0
MOST_ADDRESSES = 4096


class _Bucket:
    """A number of tries, which comes back with time."""

    __slots__ = ("_at_s", "_most", "_per_s", "left")

    def __init__(self, most: float, a_minute: float, now_s: float) -> None:
        self.left = self._most = most
        self._per_s = a_minute / 60
        self._at_s = now_s

    def fill(self, now_s: float) -> None:
        """Add the tries that have come back since the last call."""
        self.left = min(self._most, self.left + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = now_s

    def wait_s(self) -> float:
        """Return the seconds until a try is left."""
        return max(0.0, (1 - self.left) / self._per_s)


class Attempts:
    """The tries of late."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._total = _Bucket(TOTAL_FAILURES, TOTAL_A_MINUTE, clock())
        self._addresses: OrderedDict[str, _Bucket] = OrderedDict()

    def begin(self, address: str) -> float:
        """Take one try of an address; return 0, or the seconds to wait if none is left."""
        now_s = self._clock()
        key = address_key(address)
        bucket = self._addresses.pop(key, None) or _Bucket(FAILURES, A_MINUTE, now_s)
        self._addresses[key] = bucket
        if len(self._addresses) > MOST_ADDRESSES:
            self._addresses.popitem(last=False)
        for one in (bucket, self._total):
            one.fill(now_s)
        wait_s = max(bucket.wait_s(), self._total.wait_s())
        if not wait_s:
            bucket.left -= 1
            self._total.left -= 1
        return wait_s

    def succeeded(self, address: str) -> None:
        """Give the last try of an address back: only failures count."""
        self._total.left += 1
        bucket = self._addresses.get(address_key(address))
        if bucket is not None:
            bucket.left += 1


def address_key(address: str) -> str:
    """Return the text under which an address is counted: of IPv6 its network of 64 bits, which one host may have."""
    try:
        number = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if number.version == 6 and number.ipv4_mapped is None:
        return str(ipaddress.ip_network((number, 64), strict=False))
    return str(getattr(number, "ipv4_mapped", None) or number)
