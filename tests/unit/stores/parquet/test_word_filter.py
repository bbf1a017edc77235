"""A filter has every word that was put into it, and few others."""

import pytest

from prefork_logd.stores import rows_core
from prefork_logd.stores.parquet import word_filter
from prefork_logd.stores.parquet.word_filter import make_filter

LINES = b"".join(b'{"message":"word%d"}\n' % at for at in range(3000))


def finder(made):
    """Return the function that looks for words in a filter in memory."""
    return word_filter.finder(lambda at, size: made[at : at + size], len(made))


@pytest.fixture(params=["compiled", "python"])
def core(request, monkeypatch):
    """Make filters with each core."""
    if request.param == "python":
        monkeypatch.setattr(rows_core, "WordSet", None)
        monkeypatch.setattr(rows_core, "fill_filter", None)
    elif rows_core.WordSet is None:
        pytest.skip("not compiled")


@pytest.mark.usefixtures("core")
def test_words_are_found_and_others_seldom():
    """With ten bits a word, about one of 70 others is."""
    first, second = LINES[: LINES.index(b"word700") - 12], LINES[LINES.index(b"word700") - 12 :]
    made = make_filter([first, second])
    has = finder(made)
    assert len(made) == pytest.approx(3000 * word_filter.BITS / 8, rel=0.02)
    assert all(has(b"word%d" % at) for at in range(3000))
    assert sum(has(b"other%d" % at) for at in range(3000)) < 150


@pytest.mark.usefixtures("core")
def test_no_words_and_too_many(monkeypatch):
    """A filter without words has none; of too many words there is no filter."""
    assert not finder(make_filter([b'{"name":"x"}\n']))(b"x")
    monkeypatch.setattr(word_filter, "MOST_WORDS", 100)
    assert make_filter([LINES]) == b""


def test_both_cores_make_the_same_filter(monkeypatch):
    """To the bit."""
    if rows_core.WordSet is None:
        pytest.skip("not compiled")
    made = make_filter([LINES])
    monkeypatch.setattr(rows_core, "WordSet", None)
    monkeypatch.setattr(rows_core, "fill_filter", None)
    assert make_filter([LINES]) == made
