"""New records go to everybody who watches: once each, in order, a sample of them if there are too many."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.query.filters import Filters
from prefork_logd.query.language import parse
from prefork_logd.web import live
from prefork_logd.web.following import Committed
from prefork_logd.web.live import Group, LiveRecords, TooManyViewersError, rate_event, record_event
from tests.support.page import make_settings
from tests.support.record_logs import GrowingLog
from tests.support.stores import NOW, line, numbered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_logd.web.live import Viewer

JOURNAL = "fedcba9876543210" * 2


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GrowingLog]:
    """Return the journal of a state directory; turns are short."""
    monkeypatch.setattr(live, "TURN_S", 0.005)
    with contextlib.closing(GrowingLog(tmp_path / JOURNAL_DIRECTORY, JOURNAL)) as made:
        yield made


def events(data: bytes) -> list[tuple[str, str, Any]]:
    """Return name, id and JSON of the events in some bytes."""
    found = []
    for block in data.decode().split("\n\n"):
        if block and not block.startswith(":"):
            fields = dict(one.split(": ", 1) for one in block.split("\n"))
            found.append((fields["event"], fields.get("id", ""), json.loads(fields["data"])))
    return found


async def watch(viewer: Viewer, count: int) -> list[str]:
    """Return the messages of so many records."""
    found: list[str] = []
    async with asyncio.timeout(30):
        async for data in viewer.events():
            found += [event[2]["record"]["message"] for event in events(data) if event[0] == "record"]
            if len(found) >= count:
                break
    return found


def test_everybody_sees_their_records(log: GrowingLog, tmp_path: Path) -> None:
    """Records before the viewer are not shown; each filter has its own."""
    log.add(numbered(0, 5))

    async def main() -> None:
        records = LiveRecords(make_settings(tmp_path))
        odd = Filters(tree=parse("message=~[13579]$", now=NOW))
        async with contextlib.AsyncExitStack() as stack:
            viewers = [await stack.enter_async_context(records.watching(one)) for one in (Filters(), odd, odd)]
            counts = (8, 4, 4)
            watching = [asyncio.ensure_future(watch(*one)) for one in zip(viewers, counts, strict=True)]
            log.add(numbered(5, 4))
            log.add(numbered(9, 4))
            found = await asyncio.gather(*watching)
        everything = [f"record {number}" for number in range(5, 13)]
        assert found == [everything, everything[::2], everything[::2]]
        records.close()

    asyncio.run(main())


def test_it_reads_only_while_somebody_watches(log: GrowingLog, tmp_path: Path) -> None:
    """The last viewer's end is the reader's; the next viewer begins anew."""

    async def main() -> None:
        records = LiveRecords(make_settings(tmp_path))
        for number in (0, 1):
            async with records.watching(Filters()) as viewer:
                watching = asyncio.ensure_future(watch(viewer, 1))
                log.add([line(NOW, msg=f"seen {number}")])
                assert await watching == [f"seen {number}"]
                task = records._task
                assert task is not None
            await task
            assert records._task is None
            assert records._follower is None
            log.add([line(NOW, msg="not seen")])
        records.close()

    asyncio.run(main())


def test_viewers_are_bounded(log: GrowingLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is refused."""
    monkeypatch.setattr(live, "MOST_VIEWERS", 1)
    assert log.next == 0

    async def main() -> None:
        records = LiveRecords(make_settings(tmp_path))
        async with records.watching(Filters()):
            with pytest.raises(TooManyViewersError):
                async with records.watching(Filters()):
                    pass
        async with records.watching(Filters()):
            pass
        records.close()

    asyncio.run(main())


def test_one_visitor_has_half_of_the_tails(log: GrowingLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have theirs."""
    monkeypatch.setattr(live, "MOST_OF_A_VISITOR", 1)
    assert log.next == 0

    async def main() -> None:
        records = LiveRecords(make_settings(tmp_path))
        async with records.watching(Filters(), "ada"), records.watching(Filters(), "bob"):
            with pytest.raises(TooManyViewersError, match="1 tail of yours"):
                async with records.watching(Filters(), "ada"):
                    pass
        async with records.watching(Filters(), "ada"):
            pass
        records.close()

    asyncio.run(main())


def test_many_filters_share_the_memory(log: GrowingLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each group keeps less, and shows less at once, the more of them there are."""
    monkeypatch.setattr(live, "FULL_GROUPS", 1)
    monkeypatch.setattr(live, "KEPT_BYTES", 40_000)
    monkeypatch.setattr(live, "CHUNK_BYTES", 20_000)

    async def main() -> None:
        records = LiveRecords(make_settings(tmp_path))
        async with contextlib.AsyncExitStack() as stack:
            for number in range(10):
                await stack.enter_async_context(records.watching(Filters(tree=parse(f"-x{number}", now=NOW))))
            for number in range(20):
                log.add(numbered(number * 100, 100))
                ordinal = log.next
                async with asyncio.timeout(30):
                    while (await records.place(next(iter(records._groups.values()))))[0] < ordinal:  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
            kept = [len(b"".join(group.chunks(group.first))) for group in records._groups.values()]
            assert len(kept) == 10
            assert 1_000 < max(kept) < (40_000 + 2 * 20_000) // 10
        records.close()

    asyncio.run(main())


def test_the_end_of_the_page_ends_the_events(log: GrowingLog, tmp_path: Path) -> None:
    """No viewer waits on."""
    assert log.next == 0

    async def main() -> None:
        records = LiveRecords(make_settings(tmp_path))
        async with records.watching(Filters()) as viewer:
            watching = asyncio.ensure_future(watch(viewer, 1))
            await asyncio.sleep(0)
            records.close()
            assert await watching == []

    asyncio.run(main())


def _lines(count: int, size: int = 0) -> list[live._Line]:
    return [live._Line(number, line(NOW, msg=f"{number}{'x' * size}")) for number in range(count)]


def test_a_fast_stream_is_sampled_evenly() -> None:
    """No more are shown than the rate allows; the sample covers all of the time."""
    group = Group(Filters())
    shown, matched = group.select(_lines(5_000), 1, 1.0)
    assert matched == 5_000
    assert len(shown) == live.SHOWN_PER_S
    numbers = [one.number or 0 for one in shown]
    assert numbers == sorted(set(numbers))
    assert numbers[0] < 10
    assert numbers[-1] > 4_990
    assert len(group.select(_lines(100), 1, 0.05)[0]) == 50
    assert len(group.select(_lines(100), 1, 10.0)[0]) == 100


def test_the_bytes_of_a_turn_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large records are sampled, too; one is always shown."""
    monkeypatch.setattr(live, "CHUNK_BYTES", 5_000)
    assert len(Group(Filters()).select(_lines(100, 1_000), 1, 1.0)[0]) in {3, 4}
    assert len(Group(Filters()).select(_lines(2, 10_000), 1, 1.0)[0]) == 1


def test_the_rate_says_what_was_left_out() -> None:
    """Matching and shown records a second, and whether they differ."""
    group = Group(Filters())
    group._since_s -= 1.0
    group.add(b"", 100, 400, has_more=False)
    ((name, _, data),) = events(group.chunks(0)[0])
    assert name == "rate"
    assert data["sampled"] is True
    assert data["per_s"] == pytest.approx(400, rel=0.2)
    assert data["shown_per_s"] == pytest.approx(100, rel=0.2)
    group._since_s -= 1.0
    group.add(b"", 5, 5, has_more=False)
    assert events(group.chunks(1)[0])[0][2]["sampled"] is False


def test_a_group_keeps_its_last_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older ones are dropped."""
    monkeypatch.setattr(live, "KEPT_BYTES", 100)
    group = Group(Filters())
    for number in range(20):
        group.add(b"%019d\n" % number, 1, 1, has_more=False)
    assert group.following == 20
    assert group.first == 14
    assert group.chunks(18) == [b"%019d\n" % 18, b"%019d\n" % 19]


def test_a_slow_viewer_misses_some_and_hears_of_it(log: GrowingLog, tmp_path: Path) -> None:
    """It goes on with what is kept."""
    assert log.next == 0

    async def main() -> None:
        records = LiveRecords(make_settings(tmp_path))
        async with records.watching(Filters()) as viewer:
            group = records._groups[Filters()]
            group.add(b"first\n\n", 1, 1, has_more=False)
            reading = viewer.events()
            assert await anext(reading) == b"first\n\n"
            group.add(b"x" * live.KEPT_BYTES * 2, 1, 1, has_more=False)
            group.add(b"last\n\n", 1, 1, has_more=False)
            group.rates = (70.0, 50.0)
            assert events(await anext(reading))[0][2] == {"per_s": 70.0, "shown_per_s": 50.0, "sampled": True}
            assert await anext(reading) == b"last\n\n"
            await reading.aclose()  # type: ignore[attr-defined]
        records.close()

    asyncio.run(main())


def test_too_many_records_for_the_filters_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more records than can be evaluated each so many is; the rate counts all of them."""
    monkeypatch.setattr(live, "EVALUATED_PER_S", 1_000)
    found = Committed([*enumerate(numbered(0, 4_000))], passed_over=4_000)
    some = Filters(tree=parse("record", now=NOW))
    for _, shown, matched in live._turn(found, JOURNAL, [Group(some), Group(Filters())], 1.0):
        assert 400 <= shown <= 500
        assert matched == 8_000


def test_events_are_one_line_of_json() -> None:
    """Nothing in a record can end its event; without a number there is no id."""
    odd = b'{"created":1,"message":"a\\n\\r\\u2028 event: x"}\r\n'
    ((name, key, data),) = events(record_event(JOURNAL, 7, odd))
    assert (name, key) == ("record", f"{JOURNAL}-7")
    assert data == {"id": key, "record": {"created": 1, "message": "a\n\r\u2028 event: x"}}
    assert b"\r" not in record_event(JOURNAL, 7, odd)
    assert b"id:" not in record_event("", None, odd)
    assert b'"id":null' in record_event("", None, odd)
    assert (
        rate_event(1, 0.5, is_sampled=False)
        == b'event: rate\ndata: {"per_s":1.0,"shown_per_s":0.5,"sampled":false}\n\n'
    )


def test_a_line_that_is_no_record_meets_nothing() -> None:
    """It does not end the turn."""
    found = Committed([(0, b"not json\n"), (1, line(NOW, msg="good"))])
    ((data, shown, matched),) = live._turn(found, JOURNAL, [Group(Filters(tree=parse("good", now=NOW)))], 1.0)
    assert (shown, matched) == (1, 1)
    assert events(data)[0][1] == f"{JOURNAL}-1"
