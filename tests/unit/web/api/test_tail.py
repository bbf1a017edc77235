"""The tail over HTTP: new records as they come, and none lost or twice after a break."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.web import live
from prefork_logd.web.api import tail
from tests.support.page import Anybody, Client, Event, bounds, make_page, make_settings, read_events, seed, serving
from tests.support.record_logs import GrowingLog
from tests.support.stores import NOW, line, numbered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

JOURNAL = "fedcba9876543210" * 2


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GrowingLog]:
    """Return the journal of a state directory; turns are short."""
    monkeypatch.setattr(live, "TURN_S", 0.005)
    with contextlib.closing(GrowingLog(tmp_path / JOURNAL_DIRECTORY, JOURNAL, 2_000)) as made:
        yield made


async def read(
    client: httpx.AsyncClient,
    count: int,
    log: GrowingLog | None = None,
    left_out: tuple[str, ...] = ("start", "rate"),
    **params: Any,
) -> list[Event]:
    """Return the first so many events of a tail, without some; `log` gets one record once the tail is open."""
    found: list[Event] = []
    headers = params.pop("headers", {})
    async with asyncio.timeout(30), client.stream("GET", "/tail", params=params, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        if log is not None:
            log.add([line(NOW, msg=f"record {log.next}")])
        async for event in read_events(answer):
            if event.name not in left_out:
                found.append(event)
            if len(found) == count:
                break
    return found


def ids(events: list[Event]) -> list[int]:
    """Return the numbers in the ids of events, which have to be in order and about the right records."""
    numbers = []
    for event in events:
        journal, _, number = event.id.partition("-")
        assert (event.name, journal) == ("record", JOURNAL)
        assert event.data["id"] == event.id
        assert event.data["record"]["message"] == f"record {number}"
        numbers.append(int(number))
    return numbers


def test_new_records_are_shown(log: GrowingLog, tmp_path: Path) -> None:
    """Those before the tail are not."""
    log.add(numbered(0, 5))

    async def main() -> None:
        async with serving(make_page(make_settings(tmp_path))) as client:
            assert ids(await read(client, 1, log)) == [5]
            assert ids(await read(client, 1, log, q="record")) == [6]

    asyncio.run(main())


def test_a_tail_goes_on_behind_the_last_record(log: GrowingLog, tmp_path: Path) -> None:
    """By the parameter or the header, over the ends of segments; new records follow."""
    for first in range(0, 40, 4):
        log.add(numbered(first, 4))

    async def main() -> None:
        async with serving(make_page(make_settings(tmp_path))) as client:
            assert ids(await read(client, 33, log, after=f"{JOURNAL}-7")) == [*range(8, 41)]
            found = await read(client, 3, headers={"Last-Event-ID": f"{JOURNAL}-37"})
            assert ids(found) == [38, 39, 40]
            even = await read(client, 3, after=f"{JOURNAL}-33", q="message=~[02468]$")
            assert ids(even) == [34, 36, 38]
            assert ids(await read(client, 1, log, after=f"{JOURNAL}-40")) == [41]
            assert ids(await read(client, 1, log, after=f"{JOURNAL}-999")) == [42]

    asyncio.run(main())


@pytest.mark.parametrize("before", [0, 5])
def test_a_tail_has_a_position_before_its_first_record(log: GrowingLog, tmp_path: Path, before: int) -> None:
    """What comes after the first event is not missed, also in an empty journal."""
    if before:
        log.add(numbered(0, before))

    async def main() -> None:
        async with serving(make_page(make_settings(tmp_path))) as client:
            (start,) = await read(client, 1, left_out=())
            assert (start.name, start.data) == ("start", {"store": None, "filter": ""})
            log.add(numbered(before, 3))
            assert ids(await read(client, 3, after=start.id)) == [before, before + 1, before + 2]

    asyncio.run(main())


def test_a_position_moves_on_with_records_that_do_not_match(log: GrowingLog, tmp_path: Path) -> None:
    """A tail of rare records goes on where it was, not at the last record that matched."""
    log.add(numbered(0, 5))

    async def main() -> None:
        async with serving(make_page(make_settings(tmp_path))) as client:
            start, rate = await read(client, 2, log, left_out=(), q="nothing")
            assert (start.name, rate.name) == ("start", "rate")
            assert rate.id.startswith(f"{JOURNAL}-6@")
            assert ids(await read(client, 1, log, after=rate.id)) == [6]

    asyncio.run(main())


def test_the_filter_of_a_store_is_applied(log: GrowingLog, tmp_path: Path) -> None:
    """The reader of a share link sees what its store keeps, live and from the journal; the first event says so."""
    text = '[[store]]\ntype = "parquet"\n[[store]]\ntype = "parquet"\nname = "alarms"\nlevel = "ERROR"\npath = "a"\n'
    settings = make_settings(tmp_path, text)
    levels = (20, 40, 30, 50)
    log.add([line(NOW, msg=f"record {number}", levelno=levels[number % 4]) for number in range(8)])

    async def main() -> None:
        for backend, params in ((Anybody(bounds=bounds("record", store="alarms")), {}), (None, {"store": "alarms"})):
            async with serving(make_page(settings, backend)) as client:
                (start,) = await read(client, 1, left_out=(), **params)
                assert start.data == {"store": "alarms", "filter": "level ERROR or above"}
                assert ids(await read(client, 4, after=f"{JOURNAL}-0", **params)) == [1, 3, 5, 7]
                one, *_ = await asyncio.gather(read(client, 1, **params), _add(log, levels))
                assert one[0].data["record"]["levelno"] == 40
        async with serving(make_page(settings)) as client:
            answer = await client.get("/tail", params={"store": "none"})
            assert (answer.status_code, answer.json()["error"]["parameter"]) == (400, "store")

    asyncio.run(main())


async def _add(log: GrowingLog, levels: tuple[int, ...]) -> None:
    """Commit records until the test has seen enough."""
    for _ in range(100):
        log.add([line(NOW, msg=f"record {log.next + at}", levelno=levelno) for at, levelno in enumerate(levels)])
        await asyncio.sleep(0.01)


def test_records_that_left_the_journal_come_from_the_store(log: GrowingLog, tmp_path: Path) -> None:
    """They come in the order of their numbers, whatever their times."""
    settings = make_settings(tmp_path)
    made = [line(NOW + number, created=NOW - number, msg=f"record {number}") for number in range(40)]
    for first in range(0, 40, 4):
        log.add(made[first : first + 4])
    seed(settings, made[:32], journal=JOURNAL)
    log.log.remove_below(32)

    async def main() -> None:
        async with serving(make_page(settings)) as client:
            assert ids(await read(client, 33, log, after=f"{JOURNAL}-7")) == [*range(8, 41)]
            # A position has its time with it, so no record before it is needed.
            assert ids(await read(client, 41, after=f"{JOURNAL}-0@{int(NOW)}")) == [*range(41)]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("after", "limits", "part"),
    [
        (f"{'0' * 32}-3", {}, "the journal is another one"),
        (f"{JOURNAL}-3", {"MOST_RESUMED": 10}, "37 records came meanwhile|36 records came meanwhile"),
        (f"{JOURNAL}-3", {"MOST_STORED": 10}, "more than 10 records came meanwhile"),
        (f"{JOURNAL}-3", {"STORED_BYTES": 1_000}, "records came meanwhile"),
    ],
)
def test_what_cannot_be_shown_is_said(
    log: GrowingLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str, limits: dict[str, int], part: str
) -> None:
    """An event tells of records that are left out; then the tail goes on."""
    settings = make_settings(tmp_path)
    for first in range(0, 40, 4):
        log.add(numbered(first, 4))
    seed(settings, numbered(0, 32), journal=JOURNAL)
    log.log.remove_below(32)
    for name, value in limits.items():
        monkeypatch.setattr(tail, name, value)

    async def main() -> None:
        async with serving(make_page(settings)) as client:
            gap = (await read(client, 1, after=after))[0]
            assert gap.name == "gap"
            assert any(one in gap.data["message"] for one in part.split("|"))

    asyncio.run(main())


def test_a_tail_loses_nothing_while_it_catches_up(
    log: GrowingLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If more records come meanwhile than are kept for it, it reads them from the journal, too."""
    monkeypatch.setattr(live, "KEPT_BYTES", 10)
    for first in range(0, 20, 4):
        log.add(numbered(first, 4))
    app = make_page(make_settings(tmp_path))
    between, meanwhile = tail._between, [12, 8, 0]

    async def with_more(*given: Any) -> Any:
        for _ in range(meanwhile.pop(0)):
            log.add([line(NOW, msg=f"record {log.next}")])
            while app.state.context.live._follower.position < log.next:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
        async for data in between(*given):
            yield data

    monkeypatch.setattr(tail, "_between", with_more)

    async def main() -> None:
        async with serving(app) as client:
            assert ids(await read(client, 40, log, after=f"{JOURNAL}-0")) == [*range(1, 41)]

    asyncio.run(main())
    assert not meanwhile


def test_a_viewer_leaves_with_its_connection(log: GrowingLog, tmp_path: Path) -> None:
    """Nothing is kept of it."""
    app = make_page(make_settings(tmp_path))

    async def main() -> None:
        async with serving(app) as client:
            assert ids(await read(client, 1, log)) == [0]
            async with asyncio.timeout(30):
                while app.state.context.live._groups:  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0)

    asyncio.run(main())


def test_without_a_store_an_output_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records have no ids; without an output the error says what to configure."""
    monkeypatch.setattr(live, "TURN_S", 0.005)
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"".join(numbered(0, 3)))

    async def main() -> None:
        async with serving(make_page(make_settings(tmp_path, "store = []"))) as client:
            async with client.stream("GET", "/tail") as answer:
                with path.open("ab") as file:
                    file.write(numbered(3, 1)[0])
                async with asyncio.timeout(30):
                    async for event in read_events(answer):
                        if event.name == "record":
                            break
            assert event.data["id"] is None
            assert event.data["record"]["message"] == "record 3"

    asyncio.run(main())
    text = 'store = []\n[[output]]\npath = "a.txt"\nformat = "text"\n'
    with contextlib.closing(Client(make_page(make_settings(tmp_path, text)))) as client:
        answer = client.get("/tail")
        assert answer.status_code == 503
        assert "neither a store nor an output" in answer.json()["error"]["message"]


def test_levels_of_records_can_be_named(log: GrowingLog, tmp_path: Path) -> None:
    """The store knows the number of a level that a service has made."""
    settings = make_settings(tmp_path)
    seed(settings, [line(NOW, levelno=35, levelname="AUDIT")])

    async def main() -> None:
        async with serving(make_page(settings)) as client:
            assert ids(await read(client, 1, after=None, q="level>=AUDIT OR record", log=log)) == [0]
            answer = await client.get("/tail", params={"q": "level>=NOTHING"})
            assert answer.status_code == 400
            assert answer.json()["error"]["column"] == 1

    asyncio.run(main())


@pytest.mark.parametrize("after", ["7", "x" * 65, f"{JOURNAL}-{'9' * 19}"])
def test_a_wrong_id_is_refused(log: GrowingLog, tmp_path: Path, after: str) -> None:
    """By the parameter and by the header."""
    assert log.next == 0
    with contextlib.closing(Client(make_page(make_settings(tmp_path)))) as client:
        for answer in (
            client.get("/tail", after=after),
            client.request("GET", "/tail", headers={"Last-Event-ID": after}),
        ):
            assert answer.status_code == 400
            assert answer.json()["error"]["parameter"] == "after"
