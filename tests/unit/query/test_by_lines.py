"""Answers from lines alone, for stores without a quicker way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from prefork_logd.errors import QueryCancelledError, QueryTimeoutError, StoreError
from prefork_logd.query import by_lines
from prefork_logd.query.by_lines import SearchByLines
from prefork_logd.query.filters import Filters
from prefork_logd.query.language import parse_field
from prefork_logd.query.search import Limits, RecordId
from prefork_logd.query.statistics import parse
from tests.support.stores import line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Lines(SearchByLines):
    """A store with ten records, that calls back before each one."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    def lines(self, filters: Filters) -> Iterator[bytes]:
        assert filters.order == "newest"
        for number in range(10)[: filters.limit]:
            self._meanwhile()
            yield line(lineno=number, msg=f"took {number} ms")


def test_answers_and_what_they_are_about() -> None:
    """All records, or the newest ones."""
    search = Lines()
    assert search.facets(Filters(), [parse_field("name")], 5) == ([("name", [("shop.orders", 10)], 0, 0)], (10, True))
    assert search.stats(Filters(), parse("max(lineno)")) == (["max(lineno)"], [[9.0]], 0, (10, True))
    search.limits = Limits(most_records=4)
    assert search.stats(Filters(), parse("max(lineno)")) == (["max(lineno)"], [[3.0]], 0, (4, False))
    assert search.patterns(Filters(), 5).patterns[0].count == 4
    assert search.fields(Filters()).coverage == (4, False)


@pytest.mark.parametrize(("nlines", "coverage"), [(3, (3, False)), (10, (10, True)), (11, (10, True))])
def test_fields_are_read_of_a_bounded_number_of_bytes(
    monkeypatch: pytest.MonkeyPatch, nlines: int, coverage: tuple[int, bool]
) -> None:
    """A client whose lines have megabytes takes no more time than others; what was not read is said."""
    monkeypatch.setattr(by_lines, "SAMPLED_BYTES", nlines * len(line(lineno=0, msg="took 0 ms")))
    assert Lines().fields(Filters()).coverage == coverage
    assert Lines().patterns(Filters(), 5).coverage == (10, True)


def test_a_call_ends_at_its_deadline_or_when_it_is_cancelled() -> None:
    """With an error of its own, and the next call works."""
    slow = Lines(lambda: time.sleep(0.002))
    slow.limits = Limits(deadline_s=0.001)
    with pytest.raises(QueryTimeoutError, match=r"took longer than 0.001 s"):
        slow.stats(Filters(), parse("count"))
    search = Lines()
    search._meanwhile = search.cancel
    with pytest.raises(QueryCancelledError):
        search.facets(Filters(), [parse_field("name")], 5)
    search._meanwhile = lambda: None
    assert search.stats(Filters(), parse("count")).rows == [[10]]


def test_there_are_no_ids() -> None:
    """So no pages."""
    for call in (lambda: Lines().page(Filters()), lambda: Lines().get(RecordId("0" * 32, 1))):
        with pytest.raises(StoreError, match="no ids of records"):
            call()
