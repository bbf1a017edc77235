"""Power losses, and what was published under which ids: a number, and so an id, never names two records."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_logd.journal import record_log
from prefork_logd.journal.commit_entry import NOTHING, Committed
from prefork_logd.journal.record_log import LEAP, Gathered, RecordLog
from prefork_logd.stores.base import Block, Run
from prefork_logd.stores.nats import wire
from prefork_logd.stores.nats.publish_log import PublishLog
from prefork_logd.stores.nats.ranges import Cutter

if TYPE_CHECKING:
    from pathlib import Path

JOURNAL = "ab" * 16


class Edge:
    """A journal, and the window of a store that publishes it; the power fails, and both lose what was not synced."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._journal = directory / "journal"
        self._journal.mkdir()
        self._window_path = directory / "w"
        self._boot = directory / "boot"
        self._boots = itertools.count()
        monkeypatch.setattr(record_log, "BOOT_ID", self._boot)
        self._texts = itertools.count()
        self._synced = NOTHING
        self._window_synced = b""
        self.published: dict[str, dict[int, bytes]] = {}
        """Id to the lines that were published under it, by number."""
        self.named: dict[int, bytes] = {}
        """Number to the line that was ever published under it."""
        self._boot.write_text(str(next(self._boots)))
        self._start()

    def _start(self) -> None:
        self._log = RecordLog(self._journal, 1 << 20, self._synced)
        self._window = PublishLog(self._window_path, JOURNAL, 0)
        if self._window.is_new:
            self._window.begin(0)
        self._cutter = Cutter(self._window)
        self._kept: list[Block] = getattr(self, "_kept", [])
        # What the journal holds still, from where the store wants it, as a shipper reads it.
        wanted = self._window.wanted
        self._kept = [block for block in self._kept if block.first + block.count <= self._synced.records]
        again = [block for block in self._kept if block.first + block.count > wanted]
        if again:
            self._publish(again)

    def commit(self, count: int, *, synced: bool, acked: bool) -> None:
        """Commit records, and publish them; `acked`: the stream says so, which is written down for good."""
        first = self._log.next
        lines = b"".join(b"%d\n" % next(self._texts) for _ in range(count))
        self._log.append([Gathered(bytes(16), ((first + 1, count),), count, lines)], 1)
        self._log.committed()
        block = Block(first, count, bytes(16), (Run(first + 1, count),), lines)
        self._kept.append(block)
        if synced:
            self._synced = Committed(self._synced.turn + 1, self._log.lengths(), {}, self._log.next)
        pieces = self._publish([block])
        if acked:
            for published in pieces:
                published.low = published.high = 1
            self._window.acked(pieces)
            self._window_synced = self._window_path.read_bytes()

    def _publish(self, blocks: list[Block]) -> list:  # type: ignore[type-arg] - of the window's own
        cuts = self._cutter.feed(blocks)
        for published, inside in cuts:
            lines = {
                block.first + index: line
                for block in inside
                for index, line in enumerate(block.lines.splitlines(keepends=True))
            }
            assert all(published.first <= number < published.end for number in lines)
            for number, line in lines.items():
                assert self.named.setdefault(number, line) == line, f"{number} is another record's"
            before = self.published.setdefault(wire.batch_id(JOURNAL, published.first, published.end), lines)
            assert lines.items() <= before.items(), "what comes again says nothing new"
        return [cut.published for cut in cuts]

    def lose_power(self) -> None:
        """Come up again in another boot, with what was synced."""
        self._log.close()
        self._window.close()
        if self._window_synced:
            self._window_path.write_bytes(self._window_synced)
        else:
            self._window_path.unlink()
        self._boot.write_text(str(next(self._boots)))
        self._start()

    def close(self) -> None:
        """Close the files."""
        self._log.close()
        self._window.close()


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.tuples(st.integers(1, 3000), st.booleans(), st.booleans())), min_size=1, max_size=12
    )
)
def test_no_id_names_two_things(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool, bool] | None]
) -> None:
    """Whatever was committed, synced, published and acknowledged when the power failed, and however often it did."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        edge = Edge(tmp_path_factory.mktemp("e"), monkeypatch)
        for step in steps:
            if step is None:
                edge.lose_power()
            else:
                count, synced, acked = step
                edge.commit(count, synced=synced, acked=acked)
        edge.close()


def test_numbers_that_were_published_and_lost_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a boot the range that follows also stands for the numbers between, and says which it has."""
    edge = Edge(tmp_path, monkeypatch)
    edge.commit(10, synced=True, acked=True)
    edge.commit(5, synced=False, acked=False)
    edge.lose_power()
    edge.commit(3, synced=True, acked=True)
    assert sorted(edge.named) == [*range(15), *range(10 + LEAP, 13 + LEAP)]
    assert list(edge.published) == [f"{JOURNAL}-0-10", f"{JOURNAL}-10-15", f"{JOURNAL}-10-{13 + LEAP}"]
    edge.close()
