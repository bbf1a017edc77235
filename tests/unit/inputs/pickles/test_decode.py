import pickle
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.pickles.decode import DEFAULT_BUDGET, Budget, decode, decode_holed, decode_symbolically
from tests.support import corpus, lines, strategies
from tests.support.contained import contained
from tests.support.corpus import mutated

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def _decoded(data):
    try:
        return decode(data)
    except RecordRejected:
        return None


@pytest.mark.slow
@strategies.bounded
@given(st.dictionaries(strategies.texts, strategies.plain, max_size=8), st.sampled_from(PROTOCOLS))
def test_plain_values_come_back_equal(attributes, protocol):
    """A dict of plain values is the same after pickling and decoding, by every protocol."""
    assert decode(pickle.dumps(attributes, protocol)) == attributes


@pytest.mark.slow
@strategies.bounded
@given(strategies.flat_attributes, st.sampled_from(PROTOCOLS))
def test_fast_path_and_machine_agree(attributes, protocol):
    """A flat record reads the same by either way, type by type."""
    frame = pickle.dumps(attributes, protocol)
    by_machine = decode_symbolically(frame)
    either = decode(frame)
    assert either == by_machine
    assert [type(value) for value in either.values()] == [type(value) for value in by_machine.values()]


@pytest.mark.slow
@strategies.bounded
@given(st.binary(max_size=600))
@example(b"")
@example(b".")
@example(b"\x80")
@example(b"}q\x00(u.")
def test_any_bytes_are_a_record_or_rejected(data):
    """Whatever the bytes are, nothing but RecordRejected is raised."""
    _decoded(data)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_every_buffer_is_taken(kind):
    """A frame may be bytes, a bytearray or a memoryview; the result does not refer to it."""
    frame = pickle.dumps({"msg": "hello", "extra": [1]}, 1)
    assert decode(kind(frame)) == {"msg": "hello", "extra": [1]}
    assert decode(kind(pickle.dumps({"msg": "hello", "n": 1}, 1))) == {"msg": "hello", "n": 1}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1], "not-a-record"),
        ("text", "not-a-record"),
        (None, "not-a-record"),
    ],
)
def test_reason_says_what_is_wrong(value, reason):
    """Every rejection has a stable code and a sentence."""
    with pytest.raises(RecordRejected) as caught:
        decode(pickle.dumps(value, 2))
    assert caught.value.reason == reason
    assert caught.value.detail


@pytest.mark.parametrize(
    ("budget", "attributes"),
    [
        (Budget(containers=2), {"msg": [[], []]}),
        (Budget(integer_bytes=8), {"msg": 1 << 600}),
        (Budget(depth=3), {"msg": [[[["deep"]]]]}),
        (Budget(name_characters=3), {"msg": print}),
    ],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_budget_holds(budget, attributes, protocol):
    """A record within the default budget is cut under a smaller one; its other attributes are whole."""
    frame = pickle.dumps(attributes | {"n": 1}, protocol)
    whole, cut = decode(frame, DEFAULT_BUDGET), decode(frame, budget)
    assert whole["n"] == cut["n"] == 1
    if budget.containers != 2:  # which leaves out nothing that the smaller pickle has no room for
        assert "truncated" in str(cut["msg"])
        assert "truncated" not in str(whole["msg"])


def _deep(levels, make):
    value = 1
    for _ in range(levels):
        value = make(value)
    return value


LARGE = {
    "integers": list(range(60_000)),
    "keys": {str(n): n for n in range(26_000)},
    "dicts": [{"a": 1} for _ in range(21_000)],
    "lists": [[] for _ in range(21_000)],
    "rows": [tuple(range(10)) for _ in range(5_000)],
    "deep": _deep(250, lambda value: [value]),
    "deep dicts": _deep(250, lambda value: {"a": value, "b": 1}),
    "deep tuples": _deep(250, lambda value: (value, 1)),
    "integer": 1 << 14_000,
    "shared": [list(range(300))] * 300,
    "text": ["z" * 30_000] * 80,
    "set": set(range(60_000)),
    "inner": {"rows": list(range(60_000)), "last": [1, 2]},
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_large_or_deep_value_costs_itself_alone(name, protocol):
    """The record is there with all its other attributes, and which of them was cut."""
    record = {"name": "shop", "msg": "sync failed", "ids": LARGE[name], "created": 1.5, "levelno": 20}
    found = decode(pickle.dumps(record | {"last": {"x": [1]}}, protocol))
    value = found.pop("ids")
    del record["ids"]
    assert found == record | {"last": {"x": [1]}}
    assert found.truncated == ["ids"]
    lines.check_lines({"msg": "m", "created": 1.5, "ids": value})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_rest_is_counted(protocol):
    """First items and the number of those that are left out make up the whole value."""
    found = decode(pickle.dumps({"msg": "m", "ids": LARGE["integers"]}, protocol))
    assert found.truncated == ["ids"]
    *first, rest = found["ids"]
    assert first == LARGE["integers"][: len(first)]
    assert len(first) > 500
    assert rest == {"...": 60_000 - len(first)}
    # Apart: without the compiled core a record of both has too many opcodes.
    found = decode(pickle.dumps({"msg": "m", "map": LARGE["keys"]}, protocol))
    assert found.truncated == ["map"]
    left = found["map"].pop("...")
    assert left == 26_000 - len(found["map"])
    inner = decode(pickle.dumps({"msg": "m", "v": LARGE["inner"]}, protocol))["v"]
    assert inner["rows"][-1] == {"...": 60_000 - len(inner["rows"]) + 1}


@pytest.mark.parametrize(
    ("make", "least"),
    [(int, 500), (str, 2_500), (lambda n: n / 7, 300), (lambda n: (n, "x"), 50), (lambda n: b"%d" % n, 50)],
    ids=["int", "str", "float", "tuple", "bytes"],
)
@pytest.mark.parametrize("protocol", [1, 2, 4])
def test_the_keys_of_a_large_dict_leave_room_for_their_values(make, least, protocol):
    """First keys with their values and the number of the others, whatever the keys are.

    As many as can be read without the compiled core: a key of bytes takes ten opcodes.
    """
    found = decode(pickle.dumps({"msg": "m", "map": {make(n): n for n in range(19_000)}, "n": 1}, protocol))
    assert (found["n"], found.truncated) == (1, ["map"])
    left = found["map"].pop("...")
    assert left == 19_000 - len(found["map"])
    assert len(found["map"]) >= least
    whole = [n for n, value in enumerate(found["map"].values()) if value == n]
    assert len(whole) >= len(found["map"]) - 1


@pytest.mark.parametrize(
    "value",
    [
        {**{n: n for n in range(10_000)}, "...": 16_000},
        {**{str(n): () for n in range(10_000)}, "...": 16_000},
        [*[()] * 10_000, {"...": 16_000}],
    ],
    ids=["numbers as keys", "texts as keys", "list"],
)
def test_what_the_handler_has_left_out_is_counted_too(value):
    found = decode(pickle.dumps({"msg": "m", "v": value}, 4))["v"]
    left = found.pop("...") if isinstance(found, dict) else found.pop()["..."]
    assert left == 26_000 - len(found)
    assert len(found) > 500


def _of_python_2(values):
    """Return the pickle of a flat dict whose keys are texts of Python 2."""
    items = b"".join(
        b"U%c%b" % (len(key), key) + (b"K%c" % value if isinstance(value, int) else b"U%c%b" % (len(value), value))
        for key, value in values.items()
    )
    return b"}(" + items + b"u"


def test_large_dicts_of_python_2_keep_their_first_keys():
    """Its texts are octets, which cost more than others."""
    large = _of_python_2({b"key %d" % n: n % 256 for n in range(26_000)})
    found = decode(b"\x80\x02}(U\x03msgU\x01mU\x03map" + large + b"U\x01nK\x01u.")
    assert (found["msg"], found["n"], found["map"]["key 1000"]) == ("m", 1, 1000 % 256)
    assert found["map"]["..."] == 26_000 - (len(found["map"]) - 1)


def test_many_attributes_of_python_2_leave_the_records_own():
    record = _of_python_2({b"key %d" % n: n % 256 for n in range(9_000)} | {b"msg": b"m", b"levelno": 20})
    found = decode(b"\x80\x02" + record + b".")
    assert (found["msg"], found["levelno"], found["key 1000"]) == ("m", 20, 1000 % 256)
    assert found["..."] == 9_000 - (len(found) - 3)


def test_many_attributes_leave_the_records_own():
    """Of too many attributes the first are kept, and those of LogRecord, wherever they are."""
    record = {f"k{n}": n for n in range(30_000)} | {"msg": "m", "created": 1.5}
    found = decode(pickle.dumps(record, 1))
    assert (found["msg"], found["created"], found["k0"]) == ("m", 1.5, 0)
    assert found["..."] == 30_000 - (len(found) - 3)
    assert found.truncated == ["..."]


def test_a_hole_in_a_text_costs_its_middle():
    """Behind a text of which only the beginning and the end are there, everything is."""
    frame = pickle.dumps({"name": "shop", "msg": "é" * 50_000 + "end", "lineno": 7, "created": 1.5}, 1)
    found = decode_holed(frame[:20_001] + frame[90_000:], 20_001, 90_000 - 20_001)
    assert found["msg"].startswith("é" * 9_000)
    assert found["msg"].endswith("éend")
    assert "bytes cut) ..." in found["msg"]
    assert (found["name"], found["lineno"], found["created"]) == ("shop", 7, 1.5)
    assert found.truncated == ["msg"]


@pytest.mark.parametrize("protocol", PROTOCOLS[1:])
def test_a_hole_elsewhere_ends_the_record(protocol):
    """What is in front of it is read, also the beginning of a value."""
    record = {"name": "shop", "msg": "m", "lineno": 7, "x": {"a": 1, "rows": [[n, n] for n in range(9_000)]}, "last": 1}
    frame = pickle.dumps(record, protocol)
    found = decode_holed(frame[:40_000] + frame[-50:], 40_000, len(frame) - 40_050)
    assert (found["name"], found["msg"], found["lineno"]) == ("shop", "m", 7)
    assert found["x"]["a"] == 1
    assert found["x"]["rows"][:3] == [[0, 0], [1, 1], [2, 2]]
    assert found["..."] == f"{len(frame) - 40_050} bytes cut"
    assert "last" not in found
    assert found.truncated == ["x", "..."]


def test_shared_text_counts_each_time():
    """One long text referred to again and again is paid for each time that it would be written, and then left out."""
    shared = "x" * 500_000
    assert decode(pickle.dumps({"msg": shared, "again": [shared] * 3}, 1))["again"] == [shared] * 3
    again = decode(pickle.dumps({"msg": shared, "again": [shared] * 100, "n": 1}, 1))
    kept = len(again["again"]) - 1
    assert again == {"msg": shared, "again": [shared] * kept + [{"...": 100 - kept}], "n": 1}
    assert 3 < len(again["again"]) < 9


def test_only_what_does_not_fit_is_left_out():
    """Every attribute of a record that is cut is there, and so is whatever stands in its frame once."""
    shared = {"key": "v" * 400, "other": ["w" * 400]}
    values = {"many": [shared] * 3_000, "deep": [[shared] * 9] * 400, "pairs": {f"k{n}": shared for n in range(2_000)}}
    found = decode(pickle.dumps({"msg": "m", **values, "scalar": "\x01" * 900, "n": 1}, 2))
    assert [*found] == ["msg", "many", "deep", "pairs", "scalar", "n"]
    assert (found["msg"], found["scalar"], found["n"]) == ("m", "\x01" * 900, 1)
    assert found["many"][0] == found["deep"][0][0] == found["pairs"]["k0"] == shared
    assert found["many"][-1] == {"...": 3_000 - len(found["many"]) + 1}
    assert found["deep"][-1] == {"...": 400 - len(found["deep"]) + 1}
    assert found["pairs"]["..."] == 2_000 - len(found["pairs"]) + 1
    assert found.truncated == ["many", "deep", "pairs"]


def test_too_many_values_are_cut():
    """A long list is kept as far as it fits, and later values are, too."""
    found = decode(pickle.dumps({"list": [1] * 59_000, "n": 1}, 2))
    assert found["list"] == [1] * (len(found["list"]) - 1) + [{"...": 59_001 - len(found["list"])}]
    assert 9_000 < len(found["list"]) <= 10_000
    assert found["n"] == 1


def _fuzz(count):
    chance = random.Random(20_261_123)
    seeds = [payload.data for payload in corpus.frames() if 0 < len(payload.data) < 3_000]
    accepted = 0
    for _ in range(count):
        data = mutated(chance, seeds)
        attributes = _decoded(data)
        if attributes is not None:
            accepted += 1
            assert attributes == decode_symbolically(data)
            lines.check_lines(attributes)
    return accepted


@pytest.mark.slow
def test_mutated_payloads_do_no_harm():
    """Payloads of the corpus, damaged at random, are rejected or become sound records, and nothing is looked up."""
    for payload in corpus.frames():
        _decoded(payload.data)  # the files of the time zones that the corpus names are read now
    answer = contained(_fuzz, 3_000)
    assert answer["result"] > 100
    assert answer["events"] == []
    assert answer["growth_mib"] <= corpus.MEMORY_LIMIT_MIB
