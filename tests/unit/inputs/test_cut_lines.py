"""Of a JSON line that is too large a record is made, wherever its middle is missing."""

from __future__ import annotations

import itertools
import json
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.cut_lines import LineExcerpt
from prefork_logd.records.render import render_json

if TYPE_CHECKING:
    from prefork_logd.records.record import Record

MAX = 400
TAIL = MAX // 4
NOW = 1_795_404_245.125


def excerpt_of(line: bytes, pieces: list[int] | None = None, largest: int = MAX) -> LineExcerpt:
    """Return the excerpt of a line that arrives in pieces, and moves to another process between them."""
    excerpt = LineExcerpt.begin_line(largest)
    edges = sorted({0, len(line), *(min(place, len(line)) for place in pieces or ())})
    for begin, stop in itertools.pairwise(edges):
        excerpt.take(memoryview(line[begin:stop]))
        excerpt = msgspec.msgpack.decode(msgspec.msgpack.encode(excerpt), type=LineExcerpt)
    return excerpt


def cut(line: bytes | dict[str, Any], pieces: list[int] | None = None, largest: int = MAX) -> Record:
    """Return the record of a line of which `largest` bytes are kept; its line can be written and read."""
    data = line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode()
    event = excerpt_of(data, pieces, largest).end()
    assert (event.size, len(event.body)) == (len(data), largest)
    assert event.decode is not None
    record = event.decode("10.0.0.1:5", NOW)
    assert json.loads(render_json(record))["peer"] == "10.0.0.1:5"
    return record


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    """Everything behind it is there, as in a pickle."""
    record = cut({"message": "begin " + "x" * 3000 + " end", "level": "error", "logger": "shop", "order": 17})
    assert record.message.startswith("begin xxx")
    assert record.message.endswith("xxx end")
    assert "x... (" in record.message
    assert len(record.message) < MAX
    assert (record.levelno, record.name, record.extra) == (40, "shop", {"order": 17})
    assert record.truncated == ["message"]


@pytest.mark.parametrize(
    ("name", "path"),
    [("event", "message"), ("exc_info", "exc_text"), ("note", "extra.note"), ("n.\\u00f6", "extra.n.ö")],
)
def test_the_path_is_that_of_the_stored_record(name: str, path: str) -> None:
    """Of the field that the name means, else of the attribute."""
    line = '{{"time":1,"{}":"{}","n":1}}'.format(name, "t" * 1000)
    assert cut(line.encode()).truncated == [path]


def test_a_text_within_a_value_is_cut_in_its_place() -> None:
    """Lists and objects around it stay whole."""
    record = cut({"message": "m", "request": {"body": ["a", "b" * 2000], "method": "PUT"}, "level": "info"})
    request: Any = record.extra["request"]
    assert (request["body"][0], request["method"], record.levelno) == ("a", "PUT", 20)
    assert " bytes cut) ..." in request["body"][1]
    assert record.truncated == ["extra.request"]


def test_a_long_list_keeps_its_first_items_and_what_comes_behind_it() -> None:
    """A library may write the message last."""
    record = cut({"ids": list(range(1000)), "event": "sync failed", "level": "error", "timestamp": 1.0})
    ids: Any = record.extra["ids"]
    assert ids == list(range(len(ids)))
    assert len(ids) > 20
    assert (record.message, record.levelno, record.created) == ("sync failed", 40, 1.0)
    assert str(record.extra["..."]).endswith(" bytes cut")
    assert record.truncated == ["extra.ids", "extra"]


def test_members_in_the_middle_are_missing() -> None:
    """Those before and behind it are whole."""
    record = cut({"message": "m", **{f"name{number}": number for number in range(300)}, "level": "error"})
    assert (record.message, record.levelno, record.extra["name0"], record.extra["name299"]) == ("m", 40, 0, 299)
    assert record.truncated == ["extra"]


def test_two_long_texts_are_not_joined() -> None:
    """The second one would end the first: its name is within the middle."""
    record = cut({"message": "a" * 1000, "password": "b" * 1000, "level": "error"})
    assert record.message.startswith("aaa")
    assert "b" not in record.message.replace("bytes", "")
    assert record.levelno == 40
    assert "password" not in record.extra
    assert record.truncated == ["message", "extra"]


@pytest.mark.parametrize("escape", ['\\"', "\\\\", "\\u00e9", "\\n", "é", "€", "𝄞", '\\\\\\"'])
@pytest.mark.parametrize("shift", range(8))
def test_no_escape_or_character_is_cut_in_two(escape: str, shift: int) -> None:
    """Wherever the middle begins and ends: what is left are whole ones."""
    line = '{{"message":"{}{}","level":"error"}}'.format("x" * shift, escape * 1000).encode()
    record = cut(line)
    whole = json.loads(f'"{escape}"')
    head, _, rest = record.message.partition("... (")
    tail = rest.partition(") ...")[2]
    assert head.strip("x") == whole * (len(head.strip("x")) // len(whole)) or head.endswith(whole[:1])
    assert set(tail) <= {*whole, *"0123456789abcdef"}
    assert (record.levelno, record.truncated) == (40, ["message"])


def test_a_name_that_was_cut_is_told() -> None:
    record = cut(b'{"message":"the message","%b":1,"level":"error"}' % (b"n" * 1000))
    (name,) = record.extra
    assert name.startswith("nn")
    assert "bytes cut" in name
    assert (record.levelno, record.truncated) == (40, ["extra"])


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=300) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=6),
    max_leaves=30,
)


@given(st.dictionaries(st.text(max_size=12), values, max_size=8), st.integers(10, 60), st.lists(st.integers(0, 4000)))
def test_whatever_is_cut_the_message_and_whole_values_stay(
    members: dict[str, Any], largest: int, pieces: list[int]
) -> None:
    """In any pieces; a value that is there is the one that was sent, or named in `truncated`."""
    line = json.dumps({"message": "the message", "filler": "-" * 40, **members}).encode()
    largest = 44 + largest * 4
    if len(line) <= largest:
        return
    record = cut(line, pieces, largest)
    assert cut(line, None, largest) == record
    assert record.truncated


@pytest.mark.parametrize(
    "line",
    [
        b"x" * 1000,
        b"[" + b"1," * 500 + b"1]",
        b'{"neither":"' + b"x" * 1000 + b'"}',
        b'{"message":"m"}' + b" " * 1000 + b'{"a":1}',
        b'{"message":"m","x":' + b"]" * 1000 + b"}",
        b'{"message":"m",,,,"x":"' + b"x" * 1000 + b'"}',
        b'{{"message":"' + b"x" * 1000 + b'"}',
    ],
)
def test_what_is_no_record_is_rejected(line: bytes) -> None:
    """Also as far as it was kept."""
    event = excerpt_of(line).end()
    assert event.decode is not None
    with pytest.raises(RecordRejected):
        event.decode("", NOW)


SIZE = 1 << 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        b'{"message":"m","x":' + b"[" * (2 * SIZE),
        b'{"message":"m","x":[' + b"[]," * SIZE,
        b'{"message":"m","x":"' + b'\\"' * SIZE,
        b'{"message":"m","x":["' + b'","' * SIZE,
        b'{"message":"m",' + b'"":1,' * SIZE,
        b'{"message":"m","x":[' + b"1," * SIZE + b"NaN]}",
        b'{"message":"' + b"\\" * (2 * SIZE) + b'"}',
        b'{"message":"m","x":[' + b"]}" * SIZE,
    ],
    ids=["depth", "lists", "escaped quotes", "texts", "names", "numbers", "backslashes", "closed"],
)
def test_a_line_costs_no_more_than_one_that_is_whole(line: bytes) -> None:
    """Measured in CPU time; what decides is that nothing grows faster than the line."""

    def measure() -> float:
        start = time.thread_time()
        event = excerpt_of(line, list(range(0, len(line), 1 << 18)), SIZE).end()
        try:
            assert event.decode is not None
            render_json(event.decode("", NOW))
        except RecordRejected:
            pass
        return time.thread_time() - start

    assert any(measure() < 1.0 for _ in range(2))
