"""Shows new records to everybody who watches; each is read once, however many they are.

Owns who watches, and how much of a fast stream is shown. Does not know requests, or where records come from
(following.py).

Viewers with the same filters are a group: they share the bytes of their events. A group keeps its last events for a
moment; a viewer who is too slow for that misses some. Each second a viewer is told the rate, and whether it saw less.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from prefork_logd.config.values import format_count
from prefork_logd.errors import LogdError, NotARecord, describe_unexpected
from prefork_logd.query.tree import EVERYTHING
from prefork_logd.records.stored import read_fields
from prefork_logd.web.following import Follower, open_follower
from prefork_logd.web.positions import Position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from typing import Any

    from prefork_logd.config.settings import Settings
    from prefork_logd.query.filters import Filters
    from prefork_logd.web.following import Committed

log = logging.getLogger("prefork_logd.web")

MOST_VIEWERS = 500
MOST_OF_A_VISITOR = MOST_VIEWERS // 2
SHOWN_PER_S = 1_000
"""Records a second that a viewer is shown; of more a sample."""
EVALUATED_PER_S = 100_000
"""Evaluations of filters a second, of all groups: of more records a sample is looked at."""
CHUNK_BYTES = 2 << 20
"""Most bytes of the events of one turn."""
KEPT_BYTES = 4 << 20
"""Bytes of events that a group keeps, besides those of the last turn."""
FULL_GROUPS = 16
"""Groups that have so many bytes; of more groups each has fewer, so that all together have as many."""
TURN_S = 0.1
TURN_PER_VIEWER_S = 0.002
"""With many viewers turns are longer: each has a cost for each viewer."""
LONGEST_TURN_S = 0.5
COMMENT_S = 15.0
COMMENT = b": \n\n"


class TooManyViewersError(LogdError):
    """Too many tails at once."""

    def __init__(self, most: int, whose: str = "") -> None:
        super().__init__(f"{format_count(most, 'tail')}{whose} open already; close one, or try again later")


class Group:
    """The viewers with the same filters, and their last events."""

    def __init__(self, filters: Filters) -> None:
        self.filters = filters
        self.viewers = 0
        self.share = 1.0
        """Part of CHUNK_BYTES and KEPT_BYTES that the group may have."""
        self.following = 0
        """Ordinal of the next chunk."""
        self.changed = asyncio.Event()
        self._chunks: deque[bytes] = deque()
        self._kept_bytes = 0
        self._matched = self._shown = 0
        self._is_sampled = False
        self.rates = (0.0, 0.0)
        """Matching and shown records a second, of the last whole second."""
        self._since_s = time.monotonic()
        self._room = float(SHOWN_PER_S)
        """Number of records that may be shown now."""

    @property
    def first(self) -> int:
        """Ordinal of the first chunk that is kept."""
        return self.following - len(self._chunks)

    def chunks(self, ordinal: int) -> list[bytes]:
        """Return the chunks from this one on."""
        return [self._chunks[at] for at in range(ordinal - self.first, len(self._chunks))]

    def select(self, lines: Sequence[_Line], step: int, elapsed_s: float) -> tuple[list[_Line], int]:
        """Return the lines that are shown, and the number of matching ones, of which each stands for `step`."""
        is_everything = self.filters.tree == EVERYTHING and self.filters.since is self.filters.until is None
        matching = lines if is_everything else [line for line in lines if line.meets(self.filters)]
        self._room = min(float(SHOWN_PER_S), self._room + SHOWN_PER_S * elapsed_s)
        wanted = min(len(matching), int(self._room))
        shown: list[_Line] = []
        nbytes = 0
        for number in range(wanted):
            line = matching[number * len(matching) // wanted]
            nbytes += len(line.line)
            if shown and nbytes > CHUNK_BYTES * self.share:
                break
            shown.append(line)
        self._room -= len(shown)
        return shown, len(matching) * step

    def add(self, data: bytes, shown: int, matched: int, *, has_more: bool, position: str = "") -> None:
        """Keep the events of a turn, with the rate and the position once a second, and wake the viewers."""
        self._shown += shown
        self._matched += matched
        self._is_sampled |= has_more or shown < matched
        passed_s = time.monotonic() - self._since_s
        if passed_s >= 1:
            self.rates = self._matched / passed_s, self._shown / passed_s
            data += rate_event(*self.rates, is_sampled=self._is_sampled, position=position)
            self._since_s += passed_s
            self._matched = self._shown = 0
            self._is_sampled = False
        if not data:
            return
        while self._chunks and self._kept_bytes > KEPT_BYTES * self.share:
            self._kept_bytes -= len(self._chunks.popleft())
        self._chunks.append(data)
        self._kept_bytes += len(data)
        self.following += 1
        self.wake()

    def wake(self) -> None:
        """Wake the viewers."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class _Line:
    """One record, read and rendered when it is first needed."""

    __slots__ = ("_event", "_fields", "line", "number")

    def __init__(self, number: int | None, line: bytes) -> None:
        self.number = number
        self.line = line
        self._fields: dict[str, Any] | None = None
        self._event = b""

    def meets(self, filters: Filters) -> bool:
        """Tell whether the record meets filters; False for a line that is not a record."""
        if self._fields is None:
            try:
                self._fields = read_fields(self.line)
            except NotARecord:
                self._fields = {}
        return bool(self._fields) and filters.matches(self._fields)

    def event(self, journal: str) -> bytes:
        """Return the event of the record."""
        if not self._event:
            self._event = record_event(journal, self.number, self.line)
        return self._event


def record_event(journal: str, number: int | None, line: bytes) -> bytes:
    """Return the event of a record, as Server-Sent Events have it; without an id if it has no number."""
    stripped = line.strip().replace(b"\r", b" ")
    if number is None:
        return b'event: record\ndata: {"id":null,"record":%b}\n\n' % stripped
    name = b"%b-%d" % (journal.encode(), number)
    return b'event: record\nid: %b\ndata: {"id":"%b","record":%b}\n\n' % (name, name, stripped)


def rate_event(per_s: float, shown_per_s: float, *, is_sampled: bool, position: str = "") -> bytes:
    """Return the event about the rate of matching records; its id is the position behind the records looked at."""
    sampled = b"true" if is_sampled else b"false"
    name = b"id: %b\n" % position.encode() if position else b""
    return b'event: rate\n%bdata: {"per_s":%.1f,"shown_per_s":%.1f,"sampled":%b}\n\n' % (
        name,
        per_s,
        shown_per_s,
        sampled,
    )


class Viewer:
    """Somebody who watches one group."""

    def __init__(self, live: LiveRecords, group: Group, position: int, ordinal: int) -> None:
        self.filters = group.filters
        self.journal = live.journal
        self.position = position
        """Number of the first record that `events` may show."""
        self._live = live
        self._group = group
        self._ordinal = ordinal

    async def events(self) -> AsyncIterator[bytes]:
        """Yield events until the page ends."""
        group = self._group
        while not self._live.is_closed:
            if self._ordinal < group.first:
                self._ordinal = group.first
                yield rate_event(*group.rates, is_sampled=True)
            if self._ordinal < group.following:
                chunks = group.chunks(self._ordinal)
                self._ordinal = group.following
                for chunk in chunks:
                    yield chunk
                continue
            try:
                async with asyncio.timeout(COMMENT_S):
                    await group.changed.wait()
            except TimeoutError:
                yield COMMENT

    async def catch_up(self) -> int | None:
        """Return the number before which records are in no chunk that `events` yields, so that they have to be read.

        None: there are none besides those before `position` or the last result.
        """
        if self._ordinal >= self._group.first:
            return None
        position, self._ordinal = await self._live.place(self._group)
        return position


class LiveRecords:
    """Everybody who watches the records of one collector."""

    def __init__(self, settings: Settings) -> None:
        """Read nothing before somebody watches."""
        self._settings = settings
        self._groups: dict[Filters, Group] = {}
        self._viewers: Counter[str] = Counter()
        """Number of viewers of each visitor."""
        self._follower: Follower | None = None
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        """Held while records are read and given to the groups."""
        self.is_closed = False

    @property
    def journal(self) -> str:
        """The journal's id; empty if records have no numbers."""
        return self._follower.journal if self._follower is not None else ""

    @contextlib.asynccontextmanager
    async def watching(self, filters: Filters, visitor: str = "") -> AsyncIterator[Viewer]:
        """Give a viewer of the records that meet these filters from now on, to a visitor.

        Raises TooManyViewersError, and ProcessError if there are no records to follow.
        """
        if self._viewers.total() >= MOST_VIEWERS:
            raise TooManyViewersError(MOST_VIEWERS)
        if self._viewers[visitor] >= MOST_OF_A_VISITOR:
            raise TooManyViewersError(MOST_OF_A_VISITOR, " of yours")
        async with self._turn:
            if self._follower is None:
                self._follower = await asyncio.to_thread(open_follower, self._settings)
            group = self._groups.setdefault(filters, Group(filters))
            group.viewers += 1
            self._viewers[visitor] += 1
            viewer = Viewer(self, group, self._follower.position, group.following)
            if self._task is None:
                self._task = asyncio.create_task(self._run())
        try:
            yield viewer
        finally:
            group.viewers -= 1
            self._viewers[visitor] -= 1
            if not self._viewers[visitor]:
                del self._viewers[visitor]
            if not group.viewers:
                del self._groups[filters]

    async def place(self, group: Group) -> tuple[int, int]:
        """Return the number of the record, and the ordinal of the chunk of a group, that come next."""
        async with self._turn:
            return (self._follower.position if self._follower is not None else 0), group.following

    async def _run(self) -> None:
        """Take turns while somebody watches."""
        last_s = time.monotonic()
        while self._groups:
            await asyncio.sleep(min(LONGEST_TURN_S, TURN_S + self._viewers.total() * TURN_PER_VIEWER_S))
            now_s = time.monotonic()
            async with self._turn:
                try:
                    await self._take_turn(now_s - last_s)
                except Exception as error:  # noqa: BLE001 - the next turn may be better
                    log.warning("tail: records could not be read: %s", describe_unexpected(error))
            last_s = now_s
        self._task = None
        if self._follower is not None:
            self._follower.close()
            self._follower = None

    async def _take_turn(self, elapsed_s: float) -> None:
        follower, groups, began_s = self._follower, [*self._groups.values()], time.time()
        if follower is None:
            return
        for group in groups:
            group.share = min(1.0, FULL_GROUPS / len(groups))
        found = await asyncio.to_thread(follower.read)
        made = await asyncio.to_thread(_turn, found, follower.journal, groups, elapsed_s)
        position = str(Position(follower.journal, follower.position, int(began_s))) if follower.journal else ""
        for group, (data, shown, matched) in zip(groups, made, strict=True):
            group.add(data, shown, matched, has_more=found.passed_over > 0, position=position)

    def close(self) -> None:
        """End every viewer's events."""
        self.is_closed = True
        for group in self._groups.values():
            group.wake()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._follower is not None and not self._turn.locked():
            self._follower.close()
            self._follower = None


def _turn(found: Committed, journal: str, groups: Iterable[Group], elapsed_s: float) -> list[tuple[bytes, int, int]]:
    """Return the events of each group, the number of them, and the number of matching records."""
    groups = [*groups]
    room = max(1, int(EVALUATED_PER_S * min(1.0, elapsed_s) / max(1, len(groups))))
    step = -(-len(found.lines) // room)
    lines = [_Line(number, line) for number, line in found.lines[:: max(1, step)]]
    made = []
    for group in groups:
        shown, matched = group.select(lines, max(1, step), elapsed_s)
        if found.lines and matched:
            matched += matched * found.passed_over // len(found.lines)
        made.append((b"".join(line.event(journal) for line in shown), len(shown), matched))
    return made
