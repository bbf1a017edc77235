"""Records as pickles: bounded, and whole where that is possible."""

from __future__ import annotations

import logging
import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.handlers import make_pickle


def record(message: str = "hello %s", *args: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("shop").makeRecord(
        "shop", logging.INFO, "x.py", 1, message, args, None, "f", extra or None
    )


@given(st.text(max_size=5000), st.integers(600, 4000))
def test_a_pickle_is_never_larger_than_it_may_be(text: str, max_bytes: int) -> None:
    """Texts are cut, and the record says so."""
    data = make_pickle(record("message", text=text, more=[text] * 3), None, max_bytes)
    assert len(data) <= max_bytes
    assert pickle.loads(data)["name"] == "shop"


def test_chained_exceptions_are_told_as_a_whole() -> None:
    """The cause is in exc_text beside the exception itself."""
    made = record("failed")
    try:
        try:
            {}["first"]
        except KeyError as error:
            raise RuntimeError("second") from error
    except RuntimeError:
        made.exc_info = sys.exc_info()
    told = pickle.loads(make_pickle(made))
    assert told["exc_info"] is None
    assert "KeyError: 'first'" in told["exc_text"]
    assert "direct cause" in told["exc_text"]
    assert "RuntimeError: second" in told["exc_text"]


@pytest.mark.parametrize("exc_text", [None, "", "\n"])
def test_a_newline_as_exc_text_is_not_a_traceback(exc_text: str | None) -> None:
    """Loguru sets it, so that formatters leave the traceback out."""
    made = record("failed")
    try:
        {}["discount"]
    except KeyError:
        made.exc_info = sys.exc_info()
    made.exc_text = exc_text
    assert pickle.loads(make_pickle(made))["exc_text"].endswith("KeyError: 'discount'")
    made.exc_text = "rendered before"
    assert pickle.loads(make_pickle(made))["exc_text"] == "rendered before"
