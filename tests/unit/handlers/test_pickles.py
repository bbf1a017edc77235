"""Records as pickles: bounded, and whole where that is possible."""

from __future__ import annotations

import logging
import pickle
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.handlers import make_pickle
from prefork_logd.inputs.pickles.decode import decode
from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json


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


def test_a_short_pickle_has_what_a_collector_needs() -> None:
    """It lacks what is empty, and what follows from `created`; a record is stored the same."""
    made = record("hello %s", "you", order=17)
    whole, short = pickle.loads(make_pickle(made)), pickle.loads(make_pickle(made, is_short=True))
    assert whole.keys() - short.keys() == {"args", "exc_info", "exc_text", "msecs", "relativeCreated"}
    assert short == {name: whole[name] for name in short}
    lines = [render_json(make_record(decode(make_pickle(made, is_short=one)), "", 1.0)) for one in (False, True)]
    assert lines[0] == lines[1]
    del made.msecs
    assert pickle.loads(make_pickle(made, is_short=True))["order"] == 17


def test_a_text_that_comes_often_is_sent_once() -> None:
    """In a large record; in a small one the reference would cost more than it saves."""
    text = "a text of thirty thousand characters" * 1000
    data = make_pickle(record("message", **{f"x{number}": text for number in range(20)}))
    assert len(data) < 2 * len(text)
    assert pickle.loads(data)["x19"] == text


def test_threads_pickle_at_the_same_time() -> None:
    """Each with a buffer of its own."""
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(200):
            found = pickle.loads(make_pickle(record("message", who=number, turn=turn, more=[turn] * 20)))
            if (found["who"], found["turn"]) != (number, turn):
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong
