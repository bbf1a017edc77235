"""The API of a real collector: records are found at once, and a tail loses none when the page is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support import session_client, wire
from tests.support.harness import Collector, frames, wait_for
from tests.support.page import Client, Event, make_page, make_settings, read_events, seed
from tests.support.page_visitor import browser, page_pid
from tests.support.postgresql import KEPT_WHOLE, Server, find_programs
from tests.support.searching import make_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    Maker = Callable[..., Collector]

PROGRAMS = find_programs()
WEB = """[server]
bind = ["127.0.0.1:0"]
workers = 1
[web]
bind = ["127.0.0.1:0"]
[[store]]
type = "parquet"
"""
API = "/api/v1"


def test_records_are_found_when_they_are_written(make_collector: Maker) -> None:
    """From the journal, before they are in a file of the store; their lines are those of the output."""
    collector = make_collector(WEB).start()
    with browser(collector) as client, collector.connect() as sock:
        for first in (0, 10):
            sock.sendall(frames(f"record {number}" for number in range(first, first + 10)))
            collector.wait_for_records(first + 10)
            wait_for(lambda most=first + 10: client.get(f"{API}/count").json()["count"] == most, "the records")
        page = client.get(f"{API}/records", params={"order": "oldest"}).json()["records"]
        assert [one["record"]["message"] for one in page] == [f"record {number}" for number in range(20)]
        line = client.get(f"{API}/records/{page[3]['id']}/line").content
        assert line in (collector.state_dir / "records.jsonl").read_bytes().splitlines(keepends=True)
        status = client.get(f"{API}/status").json()
        assert status["collector"]["records"] == 20
        assert status["disks"]
        assert "[web]" in client.get(f"{API}/configuration").json()["toml"]
    assert collector.stop() == 0


def test_the_status_names_clients_that_dropped_records(make_collector: Maker) -> None:
    """As they report it, with the number; they are acknowledged as always."""
    collector = make_collector(WEB).start()
    client = session_client.Client(collector)
    with contextlib.closing(client):
        client.welcome(b"s" * 16)
        client.send(wire.gap(1, 7) + session_client.records(8, ["kept"]) + wire.gap(9, 5, reason=b"slow"))
        assert client.acknowledged(13) == 13
    entries = collector.wait_for_records(2, "rejected.jsonl")
    assert [(entry["reason"], entry["count"]) for entry in entries] == [("gap", 7), ("gap", 5)]
    with browser(collector) as page:
        (dropped,) = page.get(f"{API}/status").json()["dropped_by"]
        assert dropped["count"] == 12
        assert "slow" in dropped["detail"]
    status = collector.status()
    assert (status["gaps"], status["dropped"], status["rejected"]) == (12, 12, 0)
    assert collector.stop() == 0


async def _tail(client: httpx.AsyncClient, after: str, seen: list[Event]) -> AsyncIterator[Event]:
    headers = {"Last-Event-ID": after} if after else {}
    async with client.stream("GET", f"{API}/tail", headers=headers) as answer:
        assert answer.status_code == 200
        async for event in read_events(answer):
            assert event.name in {"start", "record", "rate"}
            if event.name == "record":
                seen.append(event)
            yield event


def test_a_tail_sees_every_record_once_though_the_page_is_killed(make_collector: Maker) -> None:
    """In the middle, several times, while records come."""
    collector = make_collector(WEB).start()
    count = 600

    async def main() -> None:
        seen: list[Event] = []
        with browser(collector) as known, collector.connect() as sock:
            url = str(known.base_url)
            async with httpx.AsyncClient(base_url=url, cookies=known.cookies, timeout=20) as client:
                sent = kills = 0
                while len(seen) < count:
                    with contextlib.suppress(httpx.HTTPError):
                        async with asyncio.timeout(20):
                            async for _ in _tail(client, seen[-1].id if seen else "", seen):
                                if len(seen) == sent < count:
                                    sock.sendall(frames(f"record {number}" for number in range(sent, sent + 20)))
                                    sent += 20
                                if len(seen) >= count:
                                    break
                                if kills < 3 and len(seen) > 150 * (kills + 1):
                                    kills += 1
                                    os.kill(page_pid(collector), signal.SIGKILL)
        assert [event.data["record"]["message"] for event in seen] == [f"record {number}" for number in range(count)]
        assert kills == 3

    with collector.connect() as first:
        first.sendall(frames(["begin"]))
        collector.wait_for_records(1)
    asyncio.run(main())
    assert collector.stop() == 0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Return a PostgreSQL server."""
    if PROGRAMS is None:
        pytest.skip("NO POSTGRESQL: its server's programs are nowhere to be found")
    started = Server(PROGRAMS).start()
    yield started
    started.remove()


QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("/records", {"limit": 1000}),
    ("/records", {"limit": 7, "order": "oldest", "q": "order OR id=1"}),
    ("/count", {"q": "level>=ERROR"}),
    ("/histogram", {"slots": 30, "since": "@1795200000", "until": "@1795500000"}),
    ("/facets", {"field": ["name", "level", "lineno"], "top": 1000}),
    ("/fields", {}),
    ("/stats", {"stats": "count, max(lineno), p95(lineno) by level"}),
    ("/levels", {}),
    ("/complete", {"q": "lev"}),
]


def test_stores_answer_alike(server: Server, tmp_path: Path) -> None:
    """The same records in Parquet files and in PostgreSQL have the same answers, but for the order of equal ones."""
    text = f'[[store]]\ntype = "parquet"\n[[store]]\ntype = "postgresql"\nname = "pg"\ndsn = "{server.dsn}"\n'
    settings = make_settings(tmp_path, text)
    lines = [one for one in make_lines() if not KEPT_WHOLE.search(one)]
    seed(settings, lines)
    seed(settings, lines, store=1)
    with contextlib.closing(Client(make_page(settings))) as client:
        for path, params in QUESTIONS:
            ours, theirs = (client.get(path, store=store, **params) for store in ("parquet", "pg"))
            assert ours.status_code == theirs.status_code == 200, (path, ours.text, theirs.text)
            assert _sorted(ours.json()) == _sorted(theirs.json()), path
        page = client.get("/records", store="pg", limit=3).json()
        found = client.get(f"/records/{page['records'][1]['id']}/around", store="pg", before=1, after=1).json()
        assert found["after"][0]["id"] == page["records"][0]["id"]
        assert found["before"][0]["id"] == page["records"][2]["id"]
        ours, theirs = (client.get("/export", store=store).content for store in ("parquet", "pg"))
        assert _sorted([*map(json.loads, ours.splitlines())]) == _sorted([*map(json.loads, theirs.splitlines())])
        assert client.get("/export", store="pg", format="parquet").content[:4] == b"PAR1"


def _sorted(value: Any) -> Any:
    """Return an answer with its lists sorted, without what is of the moment."""
    if isinstance(value, dict):
        return {key: _sorted(inner) for key, inner in value.items() if key not in {"took_s", "cursor"}}
    if isinstance(value, list):
        return sorted(map(_sorted, value), key=lambda inner: json.dumps(inner, sort_keys=True))
    return value
