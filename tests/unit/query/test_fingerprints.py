"""Which errors are one group, and which are not: the keys of fingerprints."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.handlers._exceptions import describe_exceptions
from prefork_logd.query.fingerprints import KEY, Summary, fingerprint, is_error, summary_of
from tests.support.interpreters import require
from tests.support.strategies import bounded
from tests.support.tracebacks import corpus

if TYPE_CHECKING:
    from pathlib import Path

CYTHON = """Traceback (most recent call last):
  File "/srv/releases/1/shop/views.py", line 3, in pay
    charge(1)
  File "shop/fast.pyx", line 10, in shop.fast.charge
ValueError: no"""
WINDOWS = """Traceback (most recent call last):
  File "C:\\\\app\\\\shop\\\\views.py", line 3, in pay
    charge(1)
  File "C:\\\\Python311\\\\Lib\\\\json\\\\decoder.py", line 10, in decode
    raise E
ValueError: no""".replace("\\\\", "\\")


def of_text(text: str, **fields: Any) -> str | None:
    """Return the key of a record with this traceback."""
    return fingerprint({"levelno": 40, "exc_text": text, **fields})


@pytest.mark.parametrize("version", corpus.VERSIONS)
def test_a_key_never_changes(version: str) -> None:
    """Each traceback of the corpus has the key that it has always had, in both releases, from text and from data."""
    found = [one for one in corpus.read() if one["python"] == version]
    assert len({one["name"] for one in found}) >= 40
    for one in found:
        assert of_text(one["exc_text"]) == one["key"], one["name"]
        is_lost = version == "2.7" and one["name"] == "shop.cases.while_imported"  # a failed module has no name there
        if not is_lost:
            data = {"exception": one["exception"], "exc_text": "something else"}
            assert fingerprint(data) == one["key"], one["name"]


def test_every_python_has_the_same_keys() -> None:
    """One error has one key under all nine Pythons, and two errors have two."""
    names: dict[str, set[str]] = defaultdict(set)
    keys: dict[str, set[str]] = defaultdict(set)
    for one in corpus.read():
        names[one["key"]].add(one["name"])
        keys[one["name"]].add(one["key"])
    assert all(len(found) == 1 for found in keys.values()), keys
    assert all(len(found) == 1 for found in names.values()), names


@pytest.mark.slow
@pytest.mark.parametrize("version", corpus.VERSIONS)
def test_the_interpreters_still_raise_the_corpus(tmp_path: Path, version: str) -> None:
    """Real interpreters make tracebacks with the keys of the corpus, whatever the values in them."""
    known = {one["name"]: one["key"] for one in corpus.read() if one["python"] == version}
    found = corpus.raise_errors(require(version), tmp_path, 1, 12_345)
    assert {one["name"]: of_text(one["exc_text"]) for one in found} == known


def test_ten_thousand_values_in_messages_are_one_group() -> None:
    """Values in an f-string or in the text of an exception make no groups."""
    template = corpus.read()[0]["exc_text"].rpartition(":")[0]
    messages = {
        fingerprint({"levelno": 40, "name": "shop", "message": f"order {number} of {number:016x}"})
        for number in range(10_000)
    }
    errors = {of_text(f"{template}: order {number} of u{number}@example.org") for number in range(10_000)}
    assert len(messages) == len(errors) == 1


def _raise(function: Any) -> BaseException:
    try:
        function()
    except Exception as error:  # noqa: BLE001 - whatever is raised
        return error
    raise AssertionError


def _data(error: BaseException) -> str | None:
    return fingerprint({"exception": json.loads(json.dumps(describe_exceptions(error)))})


def _a() -> None:
    raise ValueError("a")


def _b() -> None:
    raise ValueError("b")


def test_a_group_of_equal_exceptions_is_one_of_them() -> None:
    """ExceptionGroup([a, a, a]) is a; the order of its leaves does not count, and other leaves are another group."""
    a, b = _raise(_a), _raise(_b)
    assert _data(ExceptionGroup("x", [a, a, a])) == _data(a)
    assert _data(ExceptionGroup("x", [a, ExceptionGroup("y", [a])])) == _data(a)
    assert _data(ExceptionGroup("x", [a, b])) == _data(ExceptionGroup("other", [b, a, b]))
    assert len({_data(a), _data(b), _data(ExceptionGroup("x", [a, b]))}) == 3


def test_different_causes_are_two_groups() -> None:
    """Two causes of one type, from two functions, behind the same last exception."""
    keys = set()
    for cause in (_raise(_a), _raise(_b)):
        error = RuntimeError("failed")
        error.__cause__ = cause
        keys.add(_data(error))
    assert len(keys) == 2


def test_frames_of_libraries_do_not_count_beside_the_applications() -> None:
    """Those of Cython are the application's; a standard library on Windows is known, too."""
    in_c = CYTHON.replace("line 10", "line 11").replace("releases/1", "releases/2")
    assert of_text(CYTHON) == of_text(in_c)
    assert of_text(CYTHON) != of_text(CYTHON.replace("fast.charge", "fast.other"))
    assert of_text(WINDOWS) == of_text(WINDOWS.replace("in decode", "in scan"))


def test_a_message_with_a_traceback_is_a_message() -> None:
    """Neither frames nor types in a message count."""
    head = CYTHON.rpartition(":")[0]
    inner = 'remote:\nTraceback (most recent call last):\n  File "/r.py", line 7, in run\n    x\nKeyError: 1'
    assert of_text(f"{head}: {inner}") == of_text(CYTHON)
    assert fingerprint({"levelno": 40, "message": inner}) != of_text(CYTHON)


def test_the_senders_own_fingerprint_wins() -> None:
    """An attribute `fingerprint` overrides everything else; a list of texts is one, an empty text none."""
    plain = of_text(CYTHON)
    assert of_text(CYTHON, extra={"fingerprint": "pay"}) == of_text("no traceback", extra={"fingerprint": ["pay"]})
    assert len({plain, of_text(CYTHON, extra={"fingerprint": "pay"}), of_text(CYTHON, extra={"fingerprint": "x"})}) == 3
    assert of_text(CYTHON, extra={"fingerprint": ""}) == plain == of_text(CYTHON, extra={"fingerprint": {"a": 1}})


def test_errors_without_exceptions() -> None:
    """The logger and the template count; without a template the form of the first two lines."""
    one = {"levelno": 40, "name": "shop", "message": "order 7 paid", "msg": "order %s paid"}
    assert fingerprint(one) == fingerprint(one | {"message": "order x paid"})
    assert fingerprint(one) != fingerprint(one | {"name": "billing"})
    lines = {"levelno": 50, "name": "shop", "message": "first\nsecond\nthird"}
    assert fingerprint(lines) == fingerprint(lines | {"message": "first\nsecond\nother"})
    assert fingerprint(lines) != fingerprint(lines | {"message": "first\nother\nthird"})


def test_which_records_are_errors() -> None:
    """From ERROR on, and every record with an exception."""
    assert not is_error({"levelno": 30, "message": "slow"})
    assert not is_error({"message": "no level"})
    assert not is_error({"levelno": 30, "exc_text": "NoneType: None"})
    assert is_error({"levelno": 40})
    assert is_error({"levelno": 45})
    assert is_error({"levelno": 20, "exc_text": CYTHON})
    assert is_error({"exception": [{"type": "A"}]})
    assert fingerprint({"levelno": 30}) is None


def test_summaries() -> None:
    """The title has the form of the message, the culprit names the innermost function of the application."""
    record = {"levelno": 40, "name": "shop", "exc_text": CYTHON.replace("no", "order 17 not found")}
    assert summary_of(record) == Summary("ValueError: order <number> not found", "charge in fast", "fast:10")
    described = {"exception": [{"type": "ValueError", "frames": []}], **record}
    assert summary_of(described).title == "ValueError: order <number> not found"
    message = {"levelno": 40, "name": "shop", "message": "order 17\nmore", "module": "cart", "lineno": 9}
    assert summary_of(message) == Summary("order <number>", "shop", "cart:9")
    assert summary_of({"levelno": 40}).title == "(no message)"


def test_a_long_chain_and_a_deep_stack_are_cut_as_the_handler_cuts_them() -> None:
    """Text with more exceptions or frames than the handler sends has the handler's key."""
    names = {"shop.chains.twenty", "shop.cases.deep", "shop.chains.endless"}
    found = [one for one in corpus.read() if one["name"] in names and one["python"] == "3.11"]
    assert len(found) == 6
    assert all(len(one["exception"]) <= 16 for one in found)


PARTS = st.sampled_from([
    "Traceback (most recent call last):", '  File "/a/b.py", line 1, in f', "    code", "ValueError: x", "", "  | x",
    "  + Exception Group Traceback (most recent call last):", "  +-+---------------- 1 ----------------",
    "    +------------------------------------", "  [Previous line repeated 9 more times]", "\x00", "\ud800", "é" * 99,
    "The above exception was the direct cause of the following exception:", "x" * 500, "a.b.C", ":", " ",
])  # fmt: skip


@given(st.lists(PARTS, max_size=40))
@bounded
def test_any_text_has_a_key(parts: list[str]) -> None:
    """No text raises an error, and each has a key of the documented form."""
    record = {"levelno": 40, "exc_text": "\n".join(["Traceback (most recent call last):", *parts]), "name": "x"}
    key = fingerprint(record)
    assert key is not None
    assert re.fullmatch(KEY, key)
    assert summary_of(record).title


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["type", "module", "frames", "in_group", "lineno", "function"]), inner)
        ),
    )
)
@bounded
def test_any_data_has_a_key(value: Any) -> None:
    """A client may send any list of objects as `exception`."""
    record = {"levelno": 40, "exception": [value] if isinstance(value, dict) else [{"type": "A", "frames": value}]}
    assert KEY.fullmatch(fingerprint(record) or "")
    assert summary_of(record).title


def test_the_time_is_linear() -> None:
    """A text of a megabyte, of the kinds that make expressions slow, takes as many steps a byte as a small one."""
    texts = ['  File "' + "a" * 1_000_000, "+-" * 500_000, " " * 1_000_000, "x.\n" * 300_000, "  + " * 250_000]
    for text in texts:
        steps = []
        for size in (50_000, 100_000):
            count = 0

            def trace(frame: Any, event: str, argument: Any) -> Any:
                nonlocal count
                count += 1
                return trace

            sys.settrace(trace)
            try:
                of_text("Traceback (most recent call last):\n" + text[:size])
            finally:
                sys.settrace(None)
            steps.append(count)
        assert steps[1] < 3 * steps[0] + 100
