"""Parameters: known ones only, within their bounds; an error names the parameter and a remedy."""

from __future__ import annotations

import datetime as dt
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.query.tree import And, Words
from prefork_logd.web.api.parameters import (
    MOST_BYTES,
    ORDER,
    SEARCH,
    Parameter,
    ParameterError,
    TooLargeError,
    make_filters,
    read_parameters,
    read_zone,
)
from tests.support.page import bounds

LIMIT = Parameter(name="limit", meaning="Most records.", kind="whole number", default=50, least=1, most=1000)
MANY = Parameter(name="field", meaning="A field.", most_values=2, is_required=True, most=10)
ALL = (*SEARCH, ORDER, LIMIT)


def test_defaults_are_filled_in() -> None:
    """A request without parameters has each one's default; an empty value counts as none."""
    values = read_parameters(b"since=&limit=", ALL)
    assert values == {
        "q": "", "since": None, "until": None, "tz": None, "store": None, "deadline_s": None, "order": "newest",
        "limit": 50,
    }  # fmt: skip
    assert read_parameters(b"field=a&field=b", [MANY]) == {"field": ["a", "b"]}


@pytest.mark.parametrize(
    ("query", "parameter", "part"),
    [
        (b"x=1", "x", "not a parameter of this call; it has q, since"),
        (b"limit=0", "limit", "limit is a whole number from 1 to 1,000, not '0'"),
        (b"limit=1001", "limit", "from 1 to 1,000"),
        (b"limit=1e2", "limit", "whole number"),
        (b"limit=%D9%A1", "limit", "whole number"),
        (b"deadline_s=nan", "deadline_s", "is a number from 0.1 to 86,400"),
        (b"order=random", "order", "write one of oldest, newest"),
        (b"q=a&q=b", "q", "q may be written once"),
        (b"q=" + b"a" * 16_385, "q", "at most 16,384 characters"),
        (b"q=%ff", "", "not percent-encoded UTF-8"),
        (b"q=%ed%b0%80", "", "not percent-encoded UTF-8"),
        (b"\xff", "", "not percent-encoded UTF-8"),
        (b"&".join([b"q=a"] * 1001), "", "at most 1,000 fields"),
    ],
)
def test_what_cannot_be_read_is_refused(query: bytes, parameter: str, part: str) -> None:
    """The error names the parameter."""
    with pytest.raises(ParameterError) as caught:
        read_parameters(query, ALL)
    assert caught.value.parameter == parameter
    assert part in str(caught.value)


def test_a_large_bound_is_written_in_full() -> None:
    """Not as 1e+06, which the parameter does not take."""
    with pytest.raises(ParameterError, match="from 0 to 1,000,000, not '-1'"):
        read_parameters(b"offset=-1", [Parameter(name="offset", meaning="Left out.", kind="whole number", most=1e6)])


def test_too_many_bytes_are_refused_unread() -> None:
    """The size is looked at first."""
    with pytest.raises(TooLargeError, match="65,536 bytes"):
        read_parameters(b"q" * (MOST_BYTES + 1), ALL)


@given(st.dictionaries(st.sampled_from([one.name for one in ALL]), st.text(max_size=30)))
def test_any_text_is_read_or_refused(values: dict[str, str]) -> None:
    """No text raises another error, also with NULs; what is read is within its bounds."""
    query = urlencode(values, errors="surrogatepass").encode()
    try:
        found = read_parameters(query, ALL)
        filters = make_filters(found, dict)
    except ParameterError as error:
        refused = error.parameter
    else:
        refused = None
        assert 1 <= found["limit"] <= 1000
        assert filters.limit == found["limit"]
        assert filters.order in {"oldest", "newest"}
    assert refused in {*values, "", None}


@pytest.mark.parametrize("name", ["../etc/passwd", "/etc/passwd", "Europe", "x" * 64, "a\0b", "Mars/Olympus", "Ä"])
def test_an_odd_zone_is_refused(name: str) -> None:
    """No file outside of the zones is opened."""
    with pytest.raises(ParameterError, match="is not a time zone; write UTC or a name such as"):
        read_zone(name)


def test_a_zone_is_found() -> None:
    """Names of the database are zones; no name is the server's."""
    assert read_zone(None) is None
    zone = read_zone("Europe/Rome")
    assert zone is not None
    assert zone.utcoffset(dt.datetime(2026, 7, 1)) == dt.timedelta(hours=2)  # noqa: DTZ001 - of a wall clock


def test_errors_of_a_query_have_a_column() -> None:
    """The column counts characters from 1; times have none."""
    with pytest.raises(ParameterError) as caught:
        make_filters({"q": "disk (full"}, dict)
    assert (caught.value.parameter, caught.value.column) == ("q", 6)
    with pytest.raises(ParameterError) as caught:
        make_filters({"since": "soon"}, dict)
    assert (caught.value.parameter, caught.value.column) == ("since", None)


def test_bounds_hold_whatever_is_asked_for() -> None:
    """A query under bounds finds nothing outside of them."""
    shared = bounds("disk", "@100", "@200")
    wide = make_filters({"q": "full OR empty", "since": "@50", "until": "@300"}, dict, shared)
    assert (wide.since, wide.until) == (100, 200)
    assert isinstance(wide.tree, And)
    assert Words(("disk",)) in wide.tree.parts
    narrow = make_filters({"since": "@150", "until": "@160"}, dict, shared)
    assert (narrow.since, narrow.until) == (150, 160)
    assert make_filters({}, dict, shared).since == 100
    with pytest.raises(ParameterError, match="column 1"):
        make_filters({}, dict, bounds("level>=AUDIT"))
