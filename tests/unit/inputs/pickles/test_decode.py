import pickle
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.pickles.decode import DEFAULT_BUDGET, Budget, decode, decode_symbolically
from prefork_logd.records.values import TRUNCATED
from tests.support import corpus, lines, strategies
from tests.support.contained import contained

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
        ({"n": 1 << 20_000}, "budget"),
        ({"list": [[] for _ in range(21_000)]}, "budget"),
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
        (Budget(opcodes=3), {"msg": "m", "n": 1}),
        (Budget(containers=2), {"msg": [[], []]}),
        (Budget(memo_entries=1), {"msg": "m"}),
        (Budget(integer_bytes=8), {"msg": 1 << 100}),
        (Budget(depth=3), {"msg": [[[["deep"]]]]}),
        (Budget(name_characters=3), {"msg": print}),
    ],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_budget_holds(budget, attributes, protocol):
    """A frame within the default budget is rejected under a smaller one, in the dimension that it exceeds."""
    frame = pickle.dumps(attributes, protocol)
    assert decode(frame, DEFAULT_BUDGET)
    if budget.memo_entries == 1 and protocol >= 1:
        frame = pickle.dumps(attributes | {"more": "text"}, protocol)
    if budget.integer_bytes == 8 and protocol < 2:
        frame = pickle.dumps({"msg": 1 << 600}, protocol)
    with pytest.raises(RecordRejected) as caught:
        decode(frame, budget)
    assert caught.value.reason == "budget"


def test_shared_text_counts_each_time():
    """One long text referred to again and again is paid for each time that it would be written, and then left out."""
    shared = "x" * 500_000
    assert decode(pickle.dumps({"msg": shared, "again": [shared] * 3}, 1))["again"] == [shared] * 3
    again = decode(pickle.dumps({"msg": shared, "again": [shared] * 100, "n": 1}, 1))
    assert again == {"msg": shared, "again": [shared] * (len(again["again"]) - 1) + [TRUNCATED], "n": 1}
    assert 3 < len(again["again"]) < 9


def test_only_what_does_not_fit_is_left_out():
    """Every attribute of a record that is cut is there, and so is whatever stands in its frame once."""
    shared = {"key": "v" * 400, "other": ["w" * 400]}
    values = {"many": [shared] * 3_000, "deep": [[shared] * 9] * 400, "pairs": {f"k{n}": shared for n in range(2_000)}}
    found = decode(pickle.dumps({"msg": "m", **values, "scalar": "\x01" * 900, "n": 1}, 2))
    assert [*found] == ["msg", "many", "deep", "pairs", "scalar", "n"]
    assert (found["msg"], found["scalar"], found["n"]) == ("m", "\x01" * 900, 1)
    assert found["many"][0] == shared
    assert found["many"][-1] == found["deep"] == found["pairs"] == TRUNCATED
    assert len(found["many"]) < 3_000


def test_too_many_values_are_cut():
    """A long list is kept as far as it fits, and later values are, too."""
    found = decode(pickle.dumps({"list": [1] * 59_000, "n": 1}, 2))
    assert found["list"] == [1] * (len(found["list"]) - 1) + [TRUNCATED]
    assert 9_000 < len(found["list"]) <= 10_000
    assert found["n"] == 1


def _mutated(chance, seeds):
    """Return a corpus payload with bits flipped, parts cut, repeated or spliced in, opcodes put in."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(len(data) + 1)
        other = chance.choice(seeds)
        start = chance.randrange(len(other))
        match chance.randrange(5):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.choice((1, 2, 5, 50))]
            case 2:
                data[at:at] = other[start : start + chance.choice((1, 5, 20, 100, 1000))]
            case 3:
                data[at:at] = bytes([chance.choice(b"()012.FGIKNRSUX]abdehiloqstu}\x81\x85\x86\x8f\x90\x93\x94")])
            case 4:
                data[at:at] = data[at : at + 20] * chance.choice((1, 3, 100))
    return bytes(data)


def _fuzz(count):
    chance = random.Random(20_261_123)
    seeds = [payload.data for payload in corpus.frames() if 0 < len(payload.data) < 3_000]
    accepted = 0
    for _ in range(count):
        data = _mutated(chance, seeds)
        attributes = _decoded(data)
        if attributes is not None:
            accepted += 1
            assert attributes == decode_symbolically(data)
            lines.check_lines(attributes)
    return accepted


@pytest.mark.slow
def test_mutated_payloads_do_no_harm():
    """Payloads of the corpus, damaged at random, are rejected or become sound records, and nothing is looked up."""
    decode(corpus.records()[0].data)
    answer = contained(_fuzz, 3_000)
    assert answer["result"] > 100
    assert answer["events"] == []
    assert answer["growth_mib"] <= corpus.MEMORY_LIMIT_MIB
