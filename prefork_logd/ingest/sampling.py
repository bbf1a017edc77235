"""Chooses the records that are kept, where `[[sample]]` says that only some are.

Owns the counters of each key, and the mark of a kept record. Does not know how a record is read: the compiled core and
the dispatcher find the rule that matches.

One of N: the first kept record of a key is chosen at random among N, so that sums of the marks are right on average for
keys with few records, too. At most N a second: a kept record stands for itself and for those that were dropped before
it, so that sums are right but for the last ones.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefork_logd.config.samples import SampleSettings
    from prefork_logd.records.record import Record
    from prefork_logd.records.sender import Sender

MOST_KEYS = 4096
"""Keys that are remembered; the one that came first is forgotten."""
KEY_BYTES = 256
"""Bytes of a logger's name that tell keys apart."""
MARK = "sample_rate"
"""The attribute of `extra` that a kept record gets."""
MARK_BYTES = 48
"""Most bytes that the mark takes in a line: `,"extra":{"sample_rate":N}` (the compiled core has this number, too)."""
MOST_MARKED = 1024
"""Senders that are remembered with a mark."""
MOST_RATE = 999_999_999
NO_RULE = -1


class _Key:
    """The counters of one key."""

    __slots__ = ("count", "last_s", "tokens")

    def __init__(self, count: int, tokens: float, last_s: float) -> None:
        self.count = count
        """Records dropped since the last kept one."""
        self.tokens = tokens
        self.last_s = last_s


class Sampler:
    """Decides about the records of one worker."""

    def __init__(
        self,
        samples: Sequence[SampleSettings],
        workers: int,
        clock: Callable[[], float] = time.monotonic,
        choose: Callable[[int], int] = random.randrange,
    ) -> None:
        """Keep this worker's share of `keep_per_second`; `choose(N)` returns a random number below N."""
        self._samples = tuple(samples)
        self._rules = [
            (
                *(sample.keep_one_of, sample.keep_per_second / workers),
                *("service" in sample.per, "logger" in sample.per, "level" in sample.per),
            )
            for sample in samples
        ]
        self._clock, self._choose = clock, choose
        self._names = [tuple((f"{name}.", name) for name in sample.loggers) for sample in samples]
        self._keys: dict[tuple[Any, ...], _Key] = {}
        self._marked: dict[tuple[int, int], tuple[Sender, Sender]] = {}
        self._last: tuple[_Key, int, float, float] | None = None
        """The key of the last decision, and its counters before that."""
        self.dropped = 0
        """Records that were dropped since `take_dropped`."""
        self.service = ""
        """The service of the present sender."""

    def rules(self) -> list[tuple[Any, ...]]:
        """Return what the compiled core compares with a record."""
        return [
            (
                *(sample.levelno, sample.loggers, sample.services, sample.environments),
                *(sample.below_levelno, tuple(sample.fields.items())),
            )
            for sample in self._samples
        ]

    def judge(self, record: Record, sender: Sender) -> Sender | None:
        """Return the sender that signs a record, with a mark if necessary; None: the record is dropped."""
        rate = self.sample(record, sender)
        return self.mark(sender, rate) if rate else None

    def sample(self, record: Record, sender: Sender) -> int:
        """Decide about a record that its sender has not signed yet; return the value of `decide`, 1 without a rule."""
        if not self._samples:
            return 1
        service, environment = record.service or sender.service, record.environment or sender.environment
        name, levelno = record.name or "", record.levelno or 0
        for index, sample in enumerate(self._samples):
            if (
                sample.below_levelno > levelno
                and (not sample.levelno or levelno >= sample.levelno)
                and (not sample.loggers or any(name == own or name.startswith(dot) for dot, own in self._names[index]))
                and (not sample.services or service in sample.services)
                and (not sample.environments or environment in sample.environments)
                and all(_has(record.extra, sender.fields, key, value) for key, value in sample.fields.items())
            ):
                self.service = service
                return self.decide(index, name.encode("utf-8", "surrogatepass"), levelno)
        return 1

    def decide(self, index: int, name: bytes, levelno: int) -> int:
        """Decide about a record of the rule `index`: return 0 to drop it, else the number of records it stands for.

        1 is not marked. `service` is that of the record.
        """
        one_of, share, by_service, by_logger, by_level = self._rules[index]
        place = (
            index,
            self.service if by_service else None,
            (name if len(name) <= KEY_BYTES else name[:KEY_BYTES]) if by_logger else None,
            levelno if by_level else None,
        )
        key = self._keys.get(place)
        if key is None:
            key = self._add_key(place, one_of, share)
        count = key.count + 1
        self._last = key, count - 1, key.tokens, key.last_s
        if one_of:
            is_kept = count >= one_of
        else:
            now_s = self._clock()
            key.tokens = min(max(1.0, share), key.tokens + (now_s - key.last_s) * share)
            key.last_s = now_s
            is_kept = key.tokens >= 1
            key.tokens -= is_kept
        if is_kept:
            key.count = 0
            return one_of or min(count, MOST_RATE)
        key.count = count
        self.dropped += 1
        return 0

    def _add_key(self, place: tuple[Any, ...], one_of: int, share: float) -> _Key:
        """Remember a new key, and forget the oldest one if there are too many."""
        if len(self._keys) >= MOST_KEYS:
            del self._keys[next(iter(self._keys))]
        key = _Key(self._choose(one_of) if one_of else 0, max(1.0, share), self._clock())
        self._keys[place] = key
        return key

    def undo(self) -> None:
        """Take the last decision back: its record is judged once more."""
        if self._last is not None:
            key, count, tokens, last_s = self._last
            self.dropped -= key.count > count
            key.count, key.tokens, key.last_s = count, tokens, last_s
            self._last = None

    def take_dropped(self) -> int:
        """Return the number of records that were dropped since the last call."""
        count, self.dropped = self.dropped, 0
        return count

    def mark(self, sender: Sender, rate: int) -> Sender:
        """Return a sender whose records stand for `rate` records each; a field of its own with that name stays."""
        if rate == 1:
            return sender
        known = self._marked.get((id(sender), rate))
        if known is None or known[0] is not sender:
            if len(self._marked) >= MOST_MARKED:
                self._marked.clear()
            marked = sender
            if MARK not in sender.fields:
                marked = sender._replace(fields={**sender.fields, MARK: rate}, nbytes=sender.nbytes + MARK_BYTES)
            known = self._marked[id(sender), rate] = sender, marked
        return known[1]


def _has(extra: Any, own: Any, key: str, value: str | bool | int) -> bool:
    """Tell whether a record, or its sender, has an attribute with a value of the same type."""
    found = extra[key] if key in extra else own.get(key)
    return type(found) is type(value) and found == value
