"""Records that are too large: the allowance is used, heads and tails are kept, and what is cut is named."""

from __future__ import annotations

import pickle
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.handlers import _cutting, make_pickle
from tests.support.log_records import record

MOST = 1 << 20


def cut(*args: Any, most: int = MOST, **extra: Any) -> dict[str, Any]:
    data = make_pickle(record(*args, **extra), None, most)
    assert len(data) <= most
    found: dict[str, Any] = pickle.loads(data)
    found["size"] = len(data)
    return found


def test_a_message_uses_the_allowance_and_keeps_its_ends() -> None:
    found = cut("begin" + "x" * 3_000_000 + "end", user=17)
    assert found["size"] > MOST * 0.98
    assert found["msg"].startswith("beginxxx")
    assert found["msg"].endswith("xxxend")
    assert found["user"] == 17
    assert found["prefork_logd.truncated"] == ["message"]


def test_a_traceback_keeps_its_end() -> None:
    made = record("failed")
    try:
        raise RuntimeError("y" * 2_000_000 + " the last words")  # noqa: TRY301 - for its traceback
    except RuntimeError:
        made.exc_info = sys.exc_info()
    found = pickle.loads(make_pickle(made))
    assert found["exc_text"].startswith("Traceback (most recent call last)")
    assert found["exc_text"].endswith(" the last words")
    assert found["prefork_logd.truncated"] == ["exc_text"]


def test_small_values_are_whole_and_large_ones_share_the_rest() -> None:
    found = cut(
        "m" * 800_000,
        text="\u2603" * 900_000,
        rows=[{"id": n, "note": f"{n:0300}"} for n in range(9_000)],
        user=[1, 2, 3],
    )
    assert found["user"] == [1, 2, 3]
    assert found["size"] > MOST * 0.9
    assert len(found["msg"]) > 250_000
    assert len(found["text"].encode()) > 250_000
    assert found["rows"][0] == {"id": 0, "note": "0" * 300}
    assert found["rows"][-1] == {"...": 9_000 - (len(found["rows"]) - 1)}
    assert {"message", "extra.text", "extra.rows"} <= set(found["prefork_logd.truncated"])
    assert not any("user" in path for path in found["prefork_logd.truncated"])


def test_a_large_object_keeps_its_first_keys_and_a_count() -> None:
    found = cut("m", most=20_000, by_id={f"key {number}": f"{number:090}" for number in range(5_000)})
    kept = found["by_id"]
    assert kept["key 0"] == "0" * 90
    assert kept["..."] == 5_000 - (len(kept) - 1)
    assert found["size"] > 10_000


def test_what_was_cut_before_is_still_named() -> None:
    found = cut("m" * 2_000_000, ids=list(range(60_000)))
    assert found["prefork_logd.truncated"] == ["extra.ids", "message"]


@given(st.text(max_size=400), st.integers(0, 500), st.floats(0, 1))
def test_a_text_is_cut_between_characters(text: str, room: int, head: float) -> None:
    found = _cutting._cut_text(text, room, head)
    if len(text.encode("utf-8", "surrogatepass")) <= room:
        assert found == text
    else:
        assert len(found.encode("utf-8", "surrogatepass")) <= max(room, _cutting._MARK)
        first, _, last = found.partition("... (")
        assert text.startswith(first)
        assert text.endswith(last.partition(" characters cut) ...")[2])


@pytest.mark.parametrize("most", [600, 5_000])
def test_a_record_of_too_many_attributes_says_so(most: int) -> None:
    found = cut("m", most=most, **{f"attribute {number}": number for number in range(3_000)})
    assert "too many values to keep" in found["msg"]
    assert found["prefork_logd.truncated"] == ["extra"]


def test_the_paths_of_many_cut_values_are_bounded() -> None:
    found = cut("m", most=300_000, **{f"text {number}": f"{number:02000}" for number in range(500)})
    assert len(found["prefork_logd.truncated"]) == 33
    assert found["prefork_logd.truncated"][-1] == "..."


def test_a_hundred_thousand_attributes_take_no_longer_than_they_are() -> None:
    """Within `log.info` of a service: the square of their number would take minutes."""
    fields = {f"a number {number:09}": number for number in range(100_000)}
    began_s = time.process_time()
    found = cut("m", **fields)
    assert time.process_time() - began_s < 10
    assert (found["msg"], found["name"], found["a number 000009000"]) == ("m", "shop", 9_000)
    assert found["..."] == 90_000
    assert found["prefork_logd.truncated"] == ["extra"]


@pytest.mark.parametrize("name", [1, None, (1, 2)])
def test_a_record_with_an_attribute_whose_name_is_no_text_is_cut(name: Any) -> None:
    made = record("m")
    made.__dict__[name] = "x" * 3_000_000
    data = make_pickle(made, None, MOST)
    found = pickle.loads(data)
    assert MOST * 0.9 < len(data) <= MOST
    assert found["msg"] == "m"
    assert len(found["prefork_logd.truncated"]) == 1


def test_an_integer_that_is_too_large_is_named_by_its_size() -> None:
    """Its text would take Python 2.7 and 3.6 minutes."""
    found = cut("m", number=1 << 9_000_000, numbers=[1, 1 << 9_000_000])
    assert found["number"] == "(an integer of 9000001 bits)"
    assert found["numbers"] == [1, "(an integer of 9000001 bits)"]
    assert sorted(found["prefork_logd.truncated"]) == ["extra.number", "extra.numbers"]
