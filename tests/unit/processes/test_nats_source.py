"""A source that meets a message at which its code fails: that message is given up, and no other."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.processes import nats_source
from prefork_logd.processes.control import Configuration
from prefork_logd.processes.nats_partition import Item
from prefork_logd.processes.nats_source import NatsSource
from prefork_logd.scoreboard import Field, Scoreboard
from prefork_logd.settings import OutputSettings, ServerSettings, Settings
from prefork_logd.source_settings import NatsSourceSettings
from prefork_logd.stores import nats_wire as wire
from prefork_logd.stores.nats_order import JournalOrder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JOURNAL = "ab" * 16
LINE = b'{"created":1.5,"time":"1970-01-01T00:00:01.500000Z","message":"%d"}\n'


class Namespace(SimpleNamespace):
    """One that may be a key."""

    __hash__ = object.__hash__


class Rig:
    """A source without servers and without a writer, and one partition of it."""

    def __init__(self, state_dir: Path) -> None:
        settings = Settings(
            server=ServerSettings(state_dir=str(state_dir)), output=(OutputSettings(name="a", path="a"),)
        )
        self.board = Scoreboard()
        self.ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        configuration = Configuration(1, settings, (1,), ())
        self.source = NatsSource(1, self.board, self._theirs, configuration, NatsSourceSettings())
        self.done: list[int] = []
        self.partition: Any = Namespace(
            number=0, orders={JOURNAL: JournalOrder(0)}, waiting={}, closed=False, done=self.done.append, saved={},
            committed={}, to_acknowledge=lambda: None,
        )  # fmt: skip
        self.source._partitions[0] = self.partition
        self.source._epochs[bytes.fromhex(JOURNAL)] = 1
        self.source._floors[bytes.fromhex(JOURNAL)] = 1
        self.sent: list[Any] = []
        self.source._link.send = lambda batch, receipts: self.sent.append(batch)  # type: ignore[method-assign]
        self.failed: list[str] = []
        self.source._fail = self.failed.append  # type: ignore[method-assign]
        self.source._work_on = lambda: None  # type: ignore[method-assign]

    def offer(
        self, first: int, count: int = 3, floor: int = 0, body: bytes | None = None, journal: str = JOURNAL
    ) -> None:
        """Let a message arrive, and be worked on."""
        it = wire.Range(journal, first, first + count, floor, "none")
        lines = b"".join(LINE % number for number in range(first, first + count)) if body is None else body
        self.source._arrived.append(Item(self.partition, first + 1, it, {}, lines))
        self.source._work()

    def lines(self) -> bytes:
        """Return what was sent to the writer."""
        return b"".join(bytes(piece) for batch in self.sent for piece in batch.pieces)

    @property
    def rejected(self) -> int:
        """How many messages and lines were refused."""
        return int(self.board.slot(1)[Field.REJECTED])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Return a source and what is around it."""
    loop = asyncio.new_event_loop()
    rig = Rig(tmp_path)
    with contextlib.closing(loop), rig.ours, rig._theirs:
        yield rig


@pytest.mark.parametrize("error", [ValueError("odd"), RecursionError("deep"), MemoryError(), RuntimeError("boom")])
@pytest.mark.parametrize("step", ["unpack", "read_numbers", "dispatch"])
def test_one_message_costs_itself_alone(rig: Rig, error: Exception, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised while its lines are read: it is kept in rejected.jsonl, and the next ones are taken."""
    real_unpack, real_numbers = wire.unpack, wire.read_numbers
    dispatcher = rig.source._dispatcher
    real_dispatch = dispatcher.dispatch_line

    def unpack(body: bytes, encoding: str) -> bytes:
        if step == "unpack" and b'"4"' in body:
            raise error
        return real_unpack(body, encoding)

    def read_numbers(headers: Any, it: wire.Range, lines: int) -> list[range]:
        if step == "read_numbers" and it.first == 3:
            raise error
        return real_numbers(headers, it, lines)

    def dispatch(line: bytes) -> bool:
        if step == "dispatch" and b'"4"' in line:
            raise error
        return real_dispatch(line)

    monkeypatch.setattr(wire, "unpack", unpack)
    monkeypatch.setattr(wire, "read_numbers", read_numbers)
    monkeypatch.setattr(dispatcher, "dispatch_line", dispatch)
    monkeypatch.setattr(dispatcher, "dispatch_lines", lambda *_: False)
    for first in (0, 3, 6):
        rig.offer(first)
    sent = rig.lines()
    taken = [number for number in range(9) if LINE % number in sent]
    assert taken == ([0, 1, 2, 3, 5, 6, 7, 8] if step == "dispatch" else [0, 1, 2, 6, 7, 8])
    assert rig.rejected == 1
    assert type(error).__name__.encode() in sent
    assert rig.failed == []
    assert [item.sequence for _, items, _ in rig.source._sent for item in items] == [1, 4, 7], "acknowledged in the end"


def test_a_message_that_fails_twice_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not known how far it came, reading begins anew; the second time it is passed over."""

    class Failing(JournalOrder[Item]):
        def offer(self, it: wire.Range, item: Item, nbytes: int = 0) -> Any:
            if it.first == 3:
                raise KeyError("no")
            return super().offer(it, item, nbytes)

    for attempt in range(2):
        rig.partition.closed = False
        rig.partition.orders[JOURNAL] = Failing(0)
        rig.source._dispatcher.batch.build(0)
        rig.offer(0)
        rig.offer(3)
        assert len(rig.failed) == 1
        assert rig.partition.closed == (attempt == 0)
    rig.offer(6, floor=6)
    assert rig.done == [4]
    assert rig.rejected == 1
    assert LINE % 6 in rig.lines()


def test_messages_that_wait_for_others_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal whose beginning never comes holds only so much; an honest one beside it loses nothing."""
    monkeypatch.setattr(nats_source, "MOST_HELD_BYTES", 10_000)
    other = "cd" * 16
    rig.partition.orders[other] = JournalOrder(0)
    rig.source._epochs[bytes.fromhex(other)] = 1
    rig.source._floors[bytes.fromhex(other)] = 1
    rig.offer(3, journal=other)
    for first in range(10, 1000, 10):
        rig.offer(first, body=LINE % first * 3)
    assert sum(order.held_bytes for order in rig.partition.orders.values()) <= 10_000
    assert rig.rejected == len(rig.done) > 20
    rig.offer(0, journal=other)
    assert all(LINE % number in rig.lines() for number in range(6))


def test_journals_that_a_stranger_invents_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group's table has to fit into a message."""
    monkeypatch.setattr(nats_source, "MOST_JOURNALS", 5)
    for number in range(20):
        rig.offer(0, journal=f"{number:032x}")
    assert len(rig.partition.waiting) + len(rig.partition.orders) == 5
    assert rig.rejected == 16
    assert rig.source._waiting_bytes == 4 * 3 * len(LINE % 0)
