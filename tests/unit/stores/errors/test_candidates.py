"""Which lines of a block are looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.query.fingerprints import is_error
from prefork_logd.records.stored import read_fields
from prefork_logd.stores import rows_core
from prefork_logd.stores.errors.candidates import error_lines, find_error_lines
from tests.support.searching import make_lines
from tests.support.stores import line
from tests.support.strategies import bounded

ERROR = line(levelno=40, msg="failed")
INFO = line(levelno=20, msg="fine")


def test_errors_are_found_with_their_indexes() -> None:
    """By level and by exception, also at the ends of a block, each once."""
    warned = line(levelno=30, exc_text="Traceback (most recent call last):\nKeyError: 1")
    described = line(levelno=10, **{"prefork_logd.exception": [{"type": "A"}]})
    both = line(levelno=50, exc_text="x", levelname="CRITICAL")
    block = [ERROR, INFO, INFO, warned, described, INFO, both, both]
    assert list(error_lines(b"".join(block))) == [(0, ERROR), (3, warned), (4, described), (6, both), (7, both)]
    assert list(error_lines(INFO)) == list(error_lines(b"")) == []
    assert list(error_lines(line(levelno=100))) == [(0, line(levelno=100))]


def test_a_text_cannot_look_like_an_error() -> None:
    """Its quotes are escaped; a key of `extra` can, and its line is looked at."""
    text = line(levelno=20, msg='"levelno":40,"exc_text":"x"')
    assert list(error_lines(text)) == []
    key = line(levelno=20, data={"exc_text": "x"})
    assert list(error_lines(INFO + key)) == [(1, key)]


@bounded
@given(st.lists(st.sampled_from([*make_lines(60), ERROR, INFO]), max_size=12))
def test_no_error_is_missed(lines: list[bytes]) -> None:
    """Every line that is an error is found, with its own index."""
    found = dict(error_lines(b"".join(lines)))
    wanted = {index for index, one in enumerate(lines) if is_error(read_fields(one))}
    assert found.keys() >= wanted
    assert all(lines[index] == one for index, one in found.items())


LATER = line(levelno=20, data={"levelno": 50})
PIECES = st.sampled_from(
    [
        b'"levelno":',
        b"4",
        b"40",
        b"123",
        b"39",
        b'"exc_text":"',
        b'"exception":[',
        b'"ex',
        b"x",
        b"\n",
        b'"',
        b",",
        b"e",
    ]
)


def test_a_later_level_is_not_the_records() -> None:
    """It is a key of `extra`."""
    assert list(error_lines(LATER)) == list(find_error_lines(LATER)) == []


@pytest.mark.skipif(rows_core.error_lines is None, reason="there is no compiled core with this function")
@bounded
@given(st.lists(PIECES, max_size=40).map(b"".join) | st.lists(st.sampled_from([ERROR, INFO, LATER])).map(b"".join))
def test_the_compiled_core_finds_the_same_lines(octets: bytes) -> None:
    """Whatever is in a block, also signs that are cut off at its end."""
    assert list(rows_core.error_lines(octets)) == list(find_error_lines(octets))
