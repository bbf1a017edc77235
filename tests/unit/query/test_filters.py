"""What each condition means: the matcher that every store is held to."""

import datetime as dt
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.query import times
from prefork_logd.query.filters import Filters
from prefork_logd.query.tree import any_of, level_from, logger
from prefork_logd.query.where import parse_words
from prefork_logd.query.words import words_of
from tests.support.queries import RECORD
from tests.support.strategies import bounded, texts


def finds(**conditions):
    return Filters(**conditions).matches(RECORD)


def test_no_condition_finds_everything():
    """Filters without conditions let every record through, also one with a time alone."""
    assert finds()
    assert Filters().matches({"created": 0.0})


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ({"since": 1_795_429_550.25}, True),
        ({"since": 1_795_429_550.26}, False),
        ({"until": 1_795_429_550.25}, False),
        ({"until": 1_795_429_550.26}, True),
        ({"tree": level_from(30)}, True),
        ({"tree": level_from(31)}, False),
        ({"tree": level_from(0)}, True),
        ({"tree": logger("shop")}, True),
        ({"tree": any_of((logger("other"), logger("shop.cart")))}, True),
        ({"tree": logger("shop.c")}, False),
        ({"tree": logger("shop.cart.x")}, False),
    ],
)
def test_time_level_and_logger(conditions, found):
    """Time is half-open, a level is a threshold, and a logger has its children with it."""
    assert finds(**conditions) is found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("stock", True),
        ("STOCK low", True),
        ("sto", False),
        ("sto*", True),
        ('"low stock"', True),
        ('"stock low"', False),
        ("a-2207", True),
        ("2207-a", False),
        ("grüsse", True),
        ("GRÜSSE", True),
        ("GRÜßE", True),
        ("space stock", True),
        ('"München OSError"', False),
        ("errno 28", True),
        ("missing stock", False),
        ('"for it*"', True),
    ],
)
def test_full_text(text, found):
    """Words in any order and case, phrases in theirs, a star for the rest of a word; message and traceback."""
    assert finds(tree=parse_words(text)) is found


@pytest.mark.parametrize("text", ["", "  ", "-- _ !", '""', "*"])
def test_full_text_without_a_word_is_refused(text):
    """There has to be something to look for."""
    with pytest.raises(ValueError, match="does not hold a word"):
        parse_words(text)


@bounded
@given(texts, st.integers(0, 20), st.integers(1, 5))
def test_every_word_of_a_text_finds_it(text, start, count):
    """Whatever a message holds, its words are found, alone and as a phrase."""
    found = words_of(text)[start : start + count]
    if found:
        record = {"created": 0.0, "message": text}
        assert Filters(tree=parse_words(" ".join(found))).matches(record)
        assert Filters(tree=parse_words(f'"{" ".join(found)}"')).matches(record)


NOW = 1_795_429_550.25


def _local(*parts):
    return dt.datetime(*parts).timestamp()  # noqa: DTZ001 - local time is what is asked for


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("now", NOW),
        ("2h", NOW - 7200),
        ("90m", NOW - 5400),
        ("500ms", NOW - 0.5),
        ("1.5d", NOW - 129_600),
        ("2026-11-23T10:25:50.25Z", NOW),
        ("2026-11-23T11:25:50.250000+01:00", NOW),
        ("2026-11-23 10:25", _local(2026, 11, 23, 10, 25)),
        ("2026-11-23", _local(2026, 11, 23)),
        ("@1795429550.25", NOW),
    ],
)
def test_times(text, want):
    """Durations count back from now; everything else is a point in time, local unless it says otherwise."""
    assert times.parse_time(text, NOW) == want


def test_times_of_today():
    """A clock time is today's, and days begin at local midnight."""
    day = dt.datetime.fromtimestamp(NOW).astimezone().replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
    assert times.parse_time("today", NOW) == day.timestamp()
    assert times.parse_time("yesterday", NOW) == (day - dt.timedelta(days=1)).timestamp()
    assert times.parse_time("14:05", NOW) == day.replace(hour=14, minute=5).timestamp()
    assert times.parse_time("9:05:30", NOW) == day.replace(hour=9, minute=5, second=30).timestamp()


def test_a_zone_takes_the_place_of_local_time() -> None:
    """Texts without a zone are in it, also over a change of its clocks; others keep their own."""
    rome = zoneinfo.ZoneInfo("Europe/Rome")
    noon = dt.datetime(2026, 3, 29, 12, tzinfo=rome).timestamp()
    assert times.parse_time("today", noon, rome) == noon - 11 * 3600  # the night of summer time
    assert times.parse_time("yesterday", noon, rome) == noon - 35 * 3600
    assert times.parse_time("12:00", noon, rome) == noon
    assert times.parse_time("2026-03-29 12:00", noon, rome) == noon
    assert times.parse_time("2026-03-29T10:00Z", noon, rome) == noon
    assert times.parse_time("1h", noon, rome) == noon - 3600


@pytest.mark.parametrize("text", ["", "soon", "2x", "25:00", "2026-13-01", "h", "1e9h", "@"])
def test_a_time_that_is_none_says_what_to_write(text):
    """The error names every form."""
    with pytest.raises(ValueError, match='is not a time; write one of "2h"'):
        times.parse_time(text, NOW)


def test_an_enormous_duration_is_a_time():
    """A time long before 1970 is before everything."""
    assert times.parse_time("99999999999d", NOW) < -(10**12)
