"""Why a query may have found nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from prefork_logd.query.by_lines import SearchByLines
from prefork_logd.query.filters import Filters
from prefork_logd.query.hints import MOST, MOST_ASKED, hints_of
from prefork_logd.query.language import parse, problem_of, read_terms
from tests.support import shop
from tests.support.stores import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.query.hints import Hint
    from prefork_logd.query.search import Search

_EVERYTHING = Filters()

EXTRA = {"trace_id": "34a0ff4a900f9ace", "tenant": "north", "request": {"status": 500, "id": "r-1"}, "version": "7"}
KINDS = [
    shop.Kind(0, "billing", name, "ERROR", "", 1, "charge", "KeyError: 1")
    for name in ("billing.gateway", "billing.tasks")
]
LINES = [
    shop.render(
        {**shop.record_of(KINDS[number % 2], NOW + number, "could not be charged"), "version": None, "extra": EXTRA}
    )
    for number in range(4)
]


class Few(SearchByLines):
    """A store with a few records; it counts how often it is asked."""

    asked = 0

    def lines(self, filters: Filters) -> Iterator[bytes]:
        self.asked += 1
        yield from LINES[:0] if filters.since else LINES


def _hints(query: str, filters: Filters = _EVERYTHING, search: Search | None = None) -> list[Hint]:
    return hints_of(query, search or cast("Search", Few()), filters)


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("srevice:billing", "service:billing"),
        ("a -srevice:billing", "a -service:billing"),
        ("Tenants=north", "tenant=north"),
        ("status>=500", "request.status>=500"),
        ('"status">=500', "request.status>=500"),
        ("service:biling", "service:billing"),
        ('service="BILLING" x', "service=billing x"),
        ("levelname:error", "levelname:ERROR"),
        ("logger:biling", "logger:billing"),
        ("logger:billing.gatway", "logger:billing.gateway"),
        ("service:billing,mailer", "service:(billing OR mailer)"),
        ("not charged", "NOT charged"),
        ("timeout and order", "timeout AND order"),
        ("timeout or", ""),
        ("34a0ff4a900f9ace", "(request.id=34a0ff4a900f9ace OR trace_id=34a0ff4a900f9ace)"),
        ("since:2h", "created>=2h"),
        ("has:tenant", "tenant:*"),
        ("sort:desc", ""),
        ("x version=7", "x extra.version=7"),
    ],
)
def test_what_may_be_meant(query: str, meant: str) -> None:
    """One hint, with the column of the condition; the query that may be meant can be read."""
    (hint,) = _hints(query)
    assert hint.query == meant
    assert hint.sentence
    assert not problem_of(hint.query)
    assert 1 <= hint.column <= len(query)


@pytest.mark.parametrize(
    "query",
    [
        "", "*", "timeout",
        "service:(biling OR x)",
        "level>=ERROR", "service:billing", "logger:billing", "request.status=7", "tenant:*", '"not"',
        "service:zzz", "lineno=99", "message:charged", "exc:KeyError", "created>=1h", "fingerprint=g1:4d96b4c00d4337c3",
        "service=billing", "request:*", "extra.tenant=north", "service~BILL", "(", "peer:10.0.0.9",
    ],
)  # fmt: skip
def test_queries_without_a_hint(query: str) -> None:
    """What records have, what cannot be known, and what is no query."""
    assert _hints(query) == []


def test_no_hints_about_fields_without_records() -> None:
    """A range of time without records says nothing about its fields; there are never more than some hints."""
    assert _hints("srevice:billing", Filters(since=NOW)) == []
    assert len(_hints("a=1 b=2 c=3 d=4")) == MOST


def test_a_long_query_costs_a_few_searches() -> None:
    """However many conditions it has, and however long its names and values are."""
    few = Few()
    assert _hints(" ".join(f"service:x{number:04}" for number in range(500)), search=cast("Search", few)) == []
    assert few.asked == 1 + MOST_ASKED
    assert _hints(f"service:{'b' * 9_000}") == []
    (hint,) = _hints(f"{'n' * 9_000}:x")
    assert hint.query == ""


def test_terms_have_their_places() -> None:
    """Each condition, from its field to the end of its value; a text that is not a query has none."""
    text = 'a (service:(x OR "y z") -b!=3 ) "c d"'
    assert [(text[one.start : one.stop], one.name, one.sign) for one in read_terms(text)] == [
        ("a", "", ""), ("x", "", ":"), ('"y z"', "", ":"), ("b!=3", "b", "!="), ('"c d"', "", ""),
    ]  # fmt: skip
    assert read_terms("(a") == []
    assert parse(text, now=0.0)
