"""A lasting search finds the records of now, also those of clocks that are ahead, and none that come later."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from prefork_logd.query.filters import Filters
from prefork_logd.query.language import MOST_DEPTH, MOST_TERMS, parse
from prefork_logd.query.lasting import Lasting, make_lasting
from prefork_logd.stores.parquet.search import open_search
from tests.support.parquet_store import JOURNAL, make_store
from tests.support.stores import block, line, never

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prefork_logd.stores.parquet.search import ParquetSearch

NOW = float(int(time.time())) + 0.25


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Callable[..., ParquetSearch]]:
    """Return a function that stores records, each with its texts, time and arrival, and returns the search."""
    store = make_store(tmp_path)
    store.open(JOURNAL)
    count = 0
    opened: list[ParquetSearch] = []

    def write(*records: tuple[str, float, float]) -> ParquetSearch:
        nonlocal count
        lines = [line(received, msg=text, created=created) for text, created, received in records]
        store.write([block(count, lines)], never)
        count += len(lines)
        opened.append(open_search(store._settings))
        return opened[-1]

    yield write
    for search in opened:
        search.close()
    store.close()


def found(search: ParquetSearch, q: str, since: float | None, until: float | None) -> list[str]:
    """Return the texts of the matching records."""
    filters = Filters(since=since, until=until, tree=parse(q, now=NOW))
    return [one.split(b'"message":"')[1].split(b'"')[0].decode() for one in search.lines(filters)]


def test_a_search_without_records_of_the_future_ends_now(write: Callable[..., ParquetSearch]) -> None:
    """Also if others have a time in the future."""
    search = write(("here one", NOW - 5, NOW - 5), ("there two", NOW + 50, NOW - 4))
    for q in ("here", "one OR three"):
        assert make_lasting(search, q, Filters(since=NOW - 60, tree=parse(q, now=NOW)), NOW) == Lasting(q, NOW)


@pytest.mark.parametrize("q", ["", "one", "one OR two", "-three", 'one "a b" OR (two OR one)'])
@pytest.mark.parametrize("since_s", [None, -60, 5])
def test_records_of_the_future_stay_and_later_ones_are_left_out(
    write: Callable[..., ParquetSearch], q: str, since_s: float | None
) -> None:
    """Whatever time the later ones have, and whatever the query is."""
    since = None if since_s is None else NOW + since_s
    search = write(("one", NOW - 5, NOW - 5), ("one two", NOW + 9.00001, NOW - 4), ("two", NOW + 8, NOW - 3))
    before = found(search, q, since, None)
    assert "one two" in before
    lasting = make_lasting(search, q, Filters(since=since, tree=parse(q, now=NOW)), NOW)
    assert NOW + 9.00001 < lasting.until <= NOW + 9.0021
    later = [("one two later", NOW + at, NOW + at) for at in (0.5, 7, 100)] + [("two one far", NOW + 99, NOW + 1)]
    search = write(*later)
    assert len(found(search, q, since, None)) > len(before)
    assert found(search, lasting.q, since, lasting.until) == before


@pytest.mark.parametrize("q", ["(" * MOST_DEPTH + "here" + ")" * MOST_DEPTH, " ".join(["here"] * MOST_TERMS)])
def test_a_query_as_large_as_one_may_be_ends_now(write: Callable[..., ParquetSearch], q: str) -> None:
    """With one more condition it would be refused whenever its link is opened."""
    search = write(("here one", NOW - 5, NOW - 5), ("here two", NOW + 50, NOW - 4))
    assert make_lasting(search, q, Filters(since=NOW - 60, tree=parse(q, now=NOW)), NOW) == Lasting(q, NOW)
