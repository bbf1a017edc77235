"""Lines come out whole, whatever pieces their bytes arrive in, and each stands for a record or is rejected."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
import tracemalloc
from typing import TYPE_CHECKING, get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.config.listeners import ListenerSettings
from prefork_logd.errors import RecordRejected
from prefork_logd.inputs import cut_lines, json_lines
from prefork_logd.inputs.base import Event, InputError, Terms, Texts, TooLarge
from prefork_logd.inputs.detect import INPUTS, choose
from prefork_logd.inputs.json_lines import JsonLinesInput, decode_line
from prefork_logd.inputs.json_records import LONG_NUMBER
from prefork_logd.inputs.pickles.budget import DEFAULT_BUDGET
from prefork_logd.records.redaction import Redactor
from prefork_logd.records.render import render_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefork_logd.records.record import Record

MAX = 1000
GOOD = b'{"message":"x"}'
NOW = 1_795_404_245.125


def lines(limit: int = MAX) -> JsonLinesInput:
    return JsonLinesInput(Terms(limit))


def told(events: Sequence[Event]) -> tuple[list[bytes], list[TooLarge]]:
    """Return the lines of some events, and those that were skipped."""
    bodies = [body for event in events if isinstance(event, Texts) for body in event.bodies]
    return bodies, [event for event in events if isinstance(event, TooLarge)]


def feed(one: JsonLinesInput, data: bytes) -> list[Event]:
    """Return what some bytes lead to; what is left of them is given again."""
    events = list(one.receive(data))
    while one.left:
        data = data[len(data) - one.left :]
        events += one.receive(data)
    return events


def decode(line: bytes | dict[str, object]) -> Record:
    return decode_line(line if isinstance(line, bytes) else json.dumps(line).encode(), "10.0.0.1:5", NOW)


def test_the_settings_have_a_choice_for_each_input() -> None:
    """A listener may name each row of the list."""
    choices = get_args(get_type_hints(ListenerSettings)["protocol"])
    assert set(choices) == {"any", *(row.name for row in INPUTS)}


def test_a_first_byte_chooses_it() -> None:
    """On a listener that takes everything; one for JSON lines takes them whatever comes first."""
    assert isinstance(choose(b"{", "any", Terms(MAX)), JsonLinesInput)
    for first in (b"{", b"\xef", b" ", b"\n", b"\xf7", b"\0", b"G"):
        assert isinstance(choose(first, "json", Terms(MAX)), JsonLinesInput)


@given(
    st.lists(st.integers(0, 2 * MAX), max_size=6),
    st.lists(st.integers(0, 6000), max_size=12),
    st.lists(st.booleans(), max_size=12),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_any_split_and_move_gives_the_same_lines(
    sizes: list[int], places: list[int], moves: list[bool], end: bytes
) -> None:
    """Where the network cuts makes no difference, nor does a move to another process in between."""
    bodies = [GOOD, *(json.dumps({"message": "y" * size}).encode() for size in sizes)]
    data = b"".join(body + end for body in bodies)
    edges = sorted({0, len(data), *(min(place, len(data)) for place in places)})
    one = lines()
    events: list[Event] = []
    for index, (begin, stop) in enumerate(itertools.pairwise(edges)):
        events += feed(one, data[begin:stop])
        if index < len(moves) and moves[index]:
            one = JsonLinesInput.load_state(one.dump_state(), Terms(1))
    found, skipped = told(events)
    assert [body.removesuffix(b"\r") for body in found] == [body for body in bodies if len(body) <= MAX]
    assert [event.head for event in skipped] == [body[:256] for body in bodies if len(body) > MAX]
    assert not one.pending
    assert one.held_bytes == 0


def test_of_a_line_that_is_too_large_little_is_held() -> None:
    """Its beginning and its end; the middle is passed over, and the next line is taken."""
    one = lines()
    feed(one, GOOD + b"\n")
    for _ in range(100):
        assert feed(one, b"x" * 100_000) == []
    assert one.pending
    assert one.held_bytes <= 2 * MAX
    found, skipped = told(feed(one, b"\n" + GOOD + b"\n"))
    assert found == [GOOD]
    assert [event._replace(decode=None) for event in skipped] == [
        TooLarge(0, 10_000_000, b"x" * 256, b"x" * MAX, MAX - MAX // 4)
    ]
    assert skipped[0].decode is not None
    with pytest.raises(RecordRejected):
        skipped[0].decode("", NOW)


def test_a_line_of_a_version_that_holds_nothing_of_it_goes_on() -> None:
    """It is passed over to its end, as that version does."""
    one = lines()
    feed(one, GOOD + b"\n" + b"x" * 5000)
    state = msgspec.msgpack.decode(one.dump_state())
    del state["excerpt"]
    assert (state["skipped"], state["head"]) == (5000, b"x" * 256)
    two = JsonLinesInput.load_state(msgspec.msgpack.encode(state), Terms(1))
    found, skipped = told(feed(two, b"x" * 1000 + b"\n" + GOOD + b"\n"))
    assert (found, skipped) == ([GOOD], [TooLarge(0, 6000, b"x" * 256)])


def test_a_line_without_an_end_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a frame of that length does."""
    monkeypatch.setattr(cut_lines, "LARGEST_HONEST_LINE", 5000)
    one = lines()
    feed(one, GOOD + b"\n")
    feed(one, b"x" * 4000)
    with pytest.raises(InputError, match="no end after 5,001 bytes"):
        feed(one, b"x" * 4000)


def test_a_new_limit_holds_for_the_line_at_hand() -> None:
    """A reload may change it."""
    one = lines()
    feed(one, GOOD + b"\n" + b'{"message":"' + b"x" * 500)
    one.limit(100)
    assert told(feed(one, b'"}\n' + GOOD + b"\n"))[0] == [GOOD]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nContent-Type: text/plain\r\n\r\n" + GOOD + b"\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\xf7\x50\x01",
        b"\x00\x00\x01",
        b"[" + GOOD + b"]\n",
        b'"text"\n',
        b"{GET / HTTP/1.1}\n",
        b'{"neither":"message nor time"}\n',
        b"{\n",
        b'{"message' + b"x" * MAX + b'"}\n',
        b'{"message" ' + b"x" * 2 * MAX + b"\n",
    ],
)
def test_a_stranger_gets_no_further_than_its_first_line(data: bytes) -> None:
    """What holds no record ends the connection; nothing behind it is looked at."""
    for pieces in ([data], [data[index : index + 1] for index in range(len(data))]):
        one = lines()
        with pytest.raises(InputError, match="these are not JSON lines") as caught:
            assert [event for piece in pieces for event in feed(one, piece)] == []
        assert caught.value.events == []


def test_later_lines_may_be_bad() -> None:
    """They are for whoever decodes them to reject."""
    one = lines()
    assert told(feed(one, GOOD + b"\nnonsense\n\n\r\n \0 \n" + GOOD + b"\n"))[0] == [GOOD, b"nonsense", GOOD]


@pytest.mark.parametrize("begin", [b"\xef\xbb\xbf", b"\xef\xbb\xbf ", b" ", b"\r\n", b"\0"])
def test_a_byte_order_mark_and_blanks_may_come_first(begin: bytes) -> None:
    """In any pieces."""
    data = begin + GOOD + b"\n"
    one = lines()
    events = [event for index in range(len(data)) for event in feed(one, data[index : index + 1])]
    assert [decode(body).message for body in told(events)[0]] == ["x"]


def test_a_receive_takes_a_bounded_number_of_lines() -> None:
    """What is left is given again."""
    one = lines()
    data = (GOOD + b"\n") * (json_lines.MOST_LINES + 5) + b'{"mess'
    assert len(told(one.receive(data))[0]) == json_lines.MOST_LINES
    assert one.left == 5 * (len(GOOD) + 1) + 6
    assert len(told(one.receive(data[-one.left :]))[0]) == 5
    assert (one.left, one.held_bytes) == (0, 6)


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b" ", b" \t\r\n", b"\0"])
def test_blanks_between_lines_cost_nothing(blank: bytes) -> None:
    """A million of them are passed over in one step, and they begin no line: their client may be idle for ever."""
    one = lines()
    assert feed(one, blank * 1_000_000) == []
    assert (one.pending, one.left) == (False, 0)
    feed(one, GOOD + b"\n")
    assert one.receive(blank * 1_000_000) == []
    assert (one.pending, one.left, one.held_bytes) == (False, 0, 0)
    assert told(feed(one, blank * 1_000_000 + GOOD + b"\n" + blank * 3))[0] == [GOOD]
    assert not one.pending


@pytest.mark.parametrize(
    "line",
    [
        b'{"message":"' + b",:" * 20_000 + b"t" * 1_000_000 + b'"}',
        b'{"message":"' + b"[{" * 200 + b"t" * 1_000_000 + b'"}',
        b'{"message":"' + b"[{" * 200 + b"\\n" * 500_000 + b'"}',
        b'{"message":"m","x":"' + b",:" * 20_000 + b"t" * 1_000_000,
    ],
    ids=["commas", "brackets", "escapes", "no end"],
)
def test_a_line_takes_a_bounded_multiple_of_its_size_in_memory(line: bytes) -> None:
    """Whatever is in its texts, they are passed over without remembering each step."""
    tracemalloc.start()
    try:
        with contextlib.suppress(RecordRejected):
            decode(line)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * len(line)


@pytest.mark.parametrize(
    ("rest", "taken"), [(GOOD, [GOOD]), (GOOD + b"\r", [GOOD + b"\r"]), (GOOD[:-1], []), (b"", [])]
)
def test_a_last_line_may_lack_its_end(rest: bytes, taken: list[bytes]) -> None:
    """A whole object is one; anything less was cut short."""
    one = lines()
    feed(one, GOOD + b"\n" + rest)
    assert told(one.finish())[0] == taken
    assert one.pending is (bool(rest) and not taken)


def test_a_last_line_that_is_the_first_is_judged_as_that() -> None:
    """What holds no record ends in an error."""
    one = lines()
    feed(one, b'{"neither":1}')
    with pytest.raises(InputError, match="neither a message nor a time"):
        one.finish()


# What a line means


@pytest.mark.parametrize(
    ("name", "value", "created"),
    [
        ("timestamp", 1795404245.5, 1795404245.5),
        ("time", 1795404245500, 1795404245.5),
        ("ts", 1795404245, 1795404245.0),
        ("@timestamp", "2026-11-23T03:24:05.5Z", 1795404245.5),
        ("timestamp", "2026-11-23T04:24:05.500+01:00", 1795404245.5),
        ("time", "2026-11-23 03:24:05,5+00:00", 1795404245.5),
        ("timestamp", "yesterday", NOW),
    ],
)
def test_a_time_is_understood_by_its_names_and_forms(name: str, value: object, created: float) -> None:
    """Seconds, milliseconds, and ISO 8601; without a time it is that of arrival."""
    record = decode({name: value, "message": "m"})
    assert (record.created, record.received, record.peer) == (created, NOW, "10.0.0.1:5")
    assert record.extra == ({} if created != NOW else {"timestamp": "yesterday"})


@pytest.mark.parametrize(
    ("level", "levelno"), [("info", 20), ("WARNING", 30), (40, 40), ("50", 50), ("warn", 30), ("critical", 50)]
)
def test_a_level_is_a_name_or_a_number(level: object, levelno: int) -> None:
    """Case does not count."""
    assert decode({"level": level, "event": "e"}).levelno == levelno


def test_the_rest_is_extra() -> None:
    """Nothing that a client sends is lost."""
    record = decode({"event": "login", "logger": "app.web", "user": 7, "nested": {"a": [1, None]}})
    assert (record.message, record.name, record.extra) == ("login", "app.web", {"user": 7, "nested": {"a": [1, None]}})


def test_a_client_cannot_say_where_or_when_a_record_arrived() -> None:
    """These two the collector knows best; the client's are kept beside them."""
    record = decode({"message": "m", "peer": "10.9.9.9:1", "peer_name": "admin", "received": 1.0})
    assert (record.peer, record.received) == ("10.0.0.1:5", NOW)
    assert record.peer_name is None
    assert record.extra == {"peer": "10.9.9.9:1", "peer_name": "admin", "received": 1.0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"message":"a\\u0000b"}', "a\0b"),
        (b'{"message":"a\0b"}', "a\0b"),
        (b'{"message":"\\ud800"}', "\ud800"),
        (b'{"message":"\xff"}', "\udcff"),
        (b'{"message":"first","message":"last"}', "last"),
        (b'\xef\xbb\xbf{"message":"m"}\r', "m"),
        (b'{"message":1e999}', "1e999"),
        (b'{"message":' + b"9" * 5000 + b"}", "9" * 5000),
        (b'{"message":NaN}', "nan"),
        (b'{"message":"m"}\0\0', "m"),
    ],
)
def test_odd_values_become_text(line: bytes, message: str) -> None:
    """And a line of JSON that can be written."""
    record = decode(line)
    assert record.message == message
    assert json.loads(render_json(record))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nonsense", "not-json"),
        (b"[]", "not-json"),
        (GOOD + GOOD, "not-json"),
        (b'{"message":"m"', "not-json"),
        (b"{}", "not-a-record"),
        (b'{"user":7}', "not-a-record"),
        (b"{" + b'"":' * 3, "not-json"),
    ],
)
def test_what_is_no_record_is_rejected(line: bytes, reason: str) -> None:
    """With a reason."""
    with pytest.raises(RecordRejected) as caught:
        decode(line)
    assert caught.value.reason == reason


@pytest.mark.parametrize("depth", [300, 20_000])
def test_what_lies_too_deep_becomes_text(depth: int) -> None:
    """Up to the number of values that a line may have."""
    record = decode(b'{"message":"m","x":' + b"[" * depth + b"]" * depth + b"}")
    assert record.message == "m"
    assert json.loads(render_json(record))["extra"]["x"]


def test_an_object_with_too_many_values_keeps_its_lists_as_text() -> None:
    """They are not read: a frame of that size may not have as many either."""
    values = "[" + "1," * DEFAULT_BUDGET.nodes + "1]"
    record = decode(b'{"event":"e","n":5,"x":' + values.encode() + b',"t":"\\u00e9"}')
    assert (record.message, record.extra) == ("e", {"n": 5, "x": values, "t": "é"})


@pytest.mark.parametrize("odd", [b"NaN", b"-Infinity", b'"\xff"', b'"\x01"', b'"\\ud800"', b"1e999", b"[{}]"])
def test_odd_values_among_too_many_cost_no_record(odd: bytes) -> None:
    """As little as among few: Python's json writes NaN, and a text may hold anything."""
    values = b"[" + b"1.5," * DEFAULT_BUDGET.nodes + odd + b"]"
    record = decode(b'{"message":"m","n":5,"ratio":NaN,"x":' + values + b"}")
    assert (record.message, record.extra["n"], record.extra["ratio"]) == ("m", 5, "nan")
    assert record.extra["x"].encode("utf-8", "surrogateescape") == values
    assert json.loads(render_json(record))


@pytest.mark.parametrize("line", [b"{%b", b"{%b}}", b"{%b,}", b"[%b]"])
def test_what_is_no_json_is_that_however_long(line: bytes) -> None:
    """Not a line with too many values."""
    with pytest.raises(RecordRejected) as caught:
        decode(line % (b'"message":"m","x":[' + b"1," * DEFAULT_BUDGET.nodes + b"1]"))
    assert caught.value.reason == "not-json"


def test_commas_in_text_are_no_values() -> None:
    """Only their number makes a line be looked at more closely."""
    text = ",:[{" * DEFAULT_BUDGET.nodes
    assert decode({"message": text, "x": [1]}).extra == {"x": [1]}


@pytest.mark.parametrize("beside", [b"", b',"odd":NaN', b',"many":[' + b"1," * DEFAULT_BUDGET.nodes + b"NaN]"])
def test_what_lies_deeper_than_a_line_may_have_values_is_text(beside: bytes) -> None:
    """However deep, and whatever is beside it."""
    deep = b"[" * 100_000 + b'"]"' + b"]" * 100_000
    record = decode(b'{"message":"m","x":' + deep + b', "level" : "error"' + beside + b"}")
    assert (record.message, record.levelno, record.extra["x"]) == ("m", 40, deep.decode())
    assert json.loads(render_json(record))["extra"]["x"] == deep.decode()


@pytest.mark.parametrize("end", [b"", b"]", b"]}", b"]]}}", b']],"y"}', b']],"y":}', b"]] 1}"])
def test_a_deep_line_without_its_end_is_no_json(end: bytes) -> None:
    """Brackets are counted, also where nothing is read."""
    with pytest.raises(RecordRejected) as caught:
        decode(b'{"message":"m","x":' + b"[" * 100_000 + b"]" * 99_998 + end)
    assert caught.value.reason == "not-json"


def test_wide_values_beside_odd_ones_are_text() -> None:
    """However many brackets or names they have."""
    objects = b'[{"a":[NaN]}' + b',{"a":[1]}' * DEFAULT_BUDGET.nodes + b"]"
    record = decode(b'{"x":' + objects + b' , "message" : "m\xff", "y":{}, "ratio":-Infinity,"n":5}\r')
    assert (record.message, record.truncated) == ("m\udcff", [])
    assert record.extra == {"x": objects.decode(), "y": "{}", "ratio": "-inf", "n": 5}
    with pytest.raises(RecordRejected) as caught:
        decode(b'{"message":"m","x":' + objects + b"} more}")
    assert caught.value.reason == "not-json"


@pytest.mark.parametrize(
    ("odd", "count"),
    [(b"1", DEFAULT_BUDGET.nodes), (b"NaN", DEFAULT_BUDGET.nodes - 100), (b"NaN", 3 * DEFAULT_BUDGET.nodes)],
)
@pytest.mark.parametrize("length", [b"%d", b"%d-and-a-longer-name"])
def test_an_object_with_too_many_names_is_cut(odd: bytes, count: int, length: bytes) -> None:
    """Its first names stay, and all that lead to a field, wherever they are; the others are counted."""
    names = b",".join(b'"' + length % number + b'":1' for number in range(count))
    line = b'{"odd":%b,%b,"level":"error","Message":"m","log.logger":"a","last":1}' % (odd, names)
    record = decode(line)
    assert (record.message, record.levelno, record.name) == ("m", 40, "a")
    assert record.truncated == ["extra"]
    kept = len(record.extra) - 1
    assert kept == DEFAULT_BUDGET.nodes // 8
    assert list(record.extra)[1] == (length % 0).decode()
    assert record.extra["..."] == 1 + count + 1 - kept
    assert json.loads(render_json(record))["truncated"] == ["extra"]


def test_names_that_differ_in_case_only_are_not_all_kept() -> None:
    """A client may write one name in thousands of ways."""
    names = {
        "".join(one) for one in itertools.islice(itertools.product(*zip("levelname", "LEVELNAME", strict=True)), 400)
    }
    padding = ",".join(f'"{number}":1' for number in range(DEFAULT_BUDGET.nodes))
    more = ",".join(f'"{name}":"x"' for name in sorted(names))
    record = decode(f'{{"message":"m",{padding},{more}}}'.encode())
    assert len(record.extra) <= DEFAULT_BUDGET.nodes // 8 + 2


SIZE = 1 << 20


def _dear() -> dict[str, bytes]:
    """Return lines of a mebibyte that are as dear as can be, each in its own way."""
    body = b'{"message":"m","x":'
    room = SIZE - 100
    underscores = ",".join(f'"a{"_" * number}":1' for number in range(1000))
    return {
        "numbers": body + b"[" + b"1," * (room // 2) + b"1]}",
        "just below the most values": body + b"[" + b"1.5e3," * 12_000 + b"1]}",
        "names": b"{" + b",".join(b'"%d":1' % number for number in range(12_000)) + b',"message":"m"}',
        "depth": body + b"[" * (room // 2) + b"]" * (room // 2) + b"}",
        "digits": body + b"[" + b",".join([b"9" * 4000] * (room // 4001)) + b"]}",
        "exponents": body + b"[" + b"1e-300," * 12_000 + b"1]}",
        "escapes": b'{"message":"' + b"\\u00e9" * (room // 6) + b'"}',
        "control characters": b'{"message":"' + b"\x01" * room + b'"}',
        "no utf-8": b'{"message":"' + b"\xff" * room + b'"}',
        "backslashes without an end": b'{"message":"' + b"\\" * room,
        "quotes": b'{"message":"m",' + b'"' * room,
        "escaped quotes without an end": b'{"message":"m","x":"' + b'\\",' * (room // 3),
        "escaped quotes without an end, and depth": body + b"[" * 300 + b'"' + b'\\"' * (room // 2),
        "escaped quotes without an end in a text": b'{"message":"[\\"' + b'\\\\\\"' * (room // 4) + b'"}',
        "depth and NaN": body + b"[" * (room // 2 - 10) + b"NaN" + b"]" * (room // 2 - 10) + b"}",
        "brackets and NaN": body + b"[" + b"[]," * (room // 3 - 10) + b"NaN]}",
        "too many numbers, and NaN": body + b"[" + b"1," * (room // 2) + b"NaN]}",
        "just below the most brackets, and NaN": body + b"[" + b"[]," * 26_000 + b"NaN]}",
        "too many names, and NaN": b'{"message":NaN,'
        + b",".join(b'"%d":1' % number for number in range(80_000))
        + b"}",
        "twice too many names, and NaN": b'{"message":NaN,' + b'"":1,' * (room // 5) + b'"n":1}',
        "nested values, and NaN": b'{"message":NaN,' + b'"":[[[[[[[[]]]]]]]],' * (room // 21) + b'"n":1}',
        "a value without an end, and NaN": body + b"NaN," + b'"y":[[[[[[[' + b'"":' * (room // 3),
        "digits and NaN": b'{"message":NaN,'
        + b",".join(b'"%d":' % n + b"9" * 4000 for n in range(room // 4010))
        + b"}",
        "too many names": b'{"message":1,' + b",".join(b'"%d":1' % number for number in range(80_000)) + b"}",
        "keys that collide": f'{{"message":"m","extra":{{{underscores}}},{underscores}}}'.encode(),
    }


def _least_s(function: Callable[[bytes], object], line: bytes) -> float:
    """Return the CPU time that a function takes for a line, at best of several times."""
    best = 1e9
    for _ in range(5):
        start = time.thread_time()
        function(line)
        best = min(best, time.thread_time() - start)
    return best


@pytest.mark.parametrize("digits", [150, LONG_NUMBER - 1, LONG_NUMBER])
def test_a_look_for_long_numbers_costs_little(digits: int) -> None:
    """Numbers that are a little shorter than long ones were read once for each of their digits."""
    line = b'{"message":"m","x":[' + b",".join([b"9" * digits] * (SIZE // 4 // digits)) + b"]}"
    assert _least_s(decode, line) < 15 * _least_s(json.loads, line)


@pytest.fixture(scope="module")
def dear() -> dict[str, bytes]:
    """Return the lines, made once: they take longer to make than to read."""
    return _dear()


@pytest.mark.slow
@pytest.mark.parametrize("name", _dear())
def test_a_line_costs_no_more_than_a_frame_of_its_size(dear: dict[str, bytes], name: str) -> None:
    """Measured in CPU time; what decides is that nothing grows faster than the line."""

    def measure() -> float:
        start = time.thread_time()
        with contextlib.suppress(RecordRejected):
            record = decode(dear[name])
            Redactor(["*password*"]).redact_unread(record)
            render_json(record)
        return time.thread_time() - start

    # 2 ms to 0.34 s on a machine at rest; what grows with the square of a megabyte takes minutes.
    assert any(measure() < 0.7 for _ in range(3))
