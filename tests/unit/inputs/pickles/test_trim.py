"""A pickle that is too large becomes a smaller one, which builds the same but for what is left out."""

from __future__ import annotations

import pickle
import time
from typing import Any

import pytest

from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.pickles import trim, unpickle
from prefork_logd.inputs.pickles.budget import TRIMMED_BUDGET
from prefork_logd.inputs.pickles.symbols import Cut, Dict, Object, Set, Tuple


def _plain(node: Any) -> Any:
    """Return a node as a value to compare."""
    if isinstance(node, Cut):
        return ("cut", node.text or node.count)
    if isinstance(node, list):
        return [_plain(one) for one in node]
    if isinstance(node, (Tuple, Set)):
        return (type(node).__name__, [_plain(one) for one in node.items])
    if isinstance(node, Dict):
        return {"flat": [_plain(one) for one in node.flat]}
    if isinstance(node, Object):
        return {"call": node.path, "args": _plain(node.args), "state": _plain(node.state), "items": _plain(node.items)}
    return node


@pytest.fixture(autouse=True)
def _for_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python read pickles of any length, where there is no compiled core."""
    if trim.trim is trim._trim_for_a_while:
        monkeypatch.setattr(trim, "trim", trim.trim_in_python)


def _trimmed(frame: bytes) -> Any:
    smaller = trim.trimmed(frame, 0)
    assert smaller is not None
    return _plain(unpickle.run(smaller, TRIMMED_BUDGET, is_trimmed=True))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_small_pickle_is_the_same(protocol: int) -> None:
    """Whatever it holds, and the memo too."""
    shared = ["again"]
    frame = pickle.dumps({"msg": "m", "x": [shared, {"a": shared, (1, 2): {3}}], "y": ValueError("no", 1)}, protocol)
    assert trim.trimmed(frame, 1_000) is None
    assert _trimmed(frame) == _plain(unpickle.run(frame, TRIMMED_BUDGET))


def _value(value: bytes) -> Any:
    """Return what becomes of one attribute's value, which is large."""
    found = _trimmed(b"}(X\1\0\0\0xq\x01" + value + b"X\1\0\0\0yK\x05u.")["flat"]
    assert found[0] == "x"
    assert found[2:] == ["y", 5]
    return found[1]


BIG = 60_000


@pytest.mark.parametrize(
    ("value", "rest"),
    [
        (b"](" + b"N" * BIG + b"e", BIG),
        (b"]" + b"Na" * BIG, BIG),
        (b"]" + b"(NNNe" * (BIG // 3), BIG),
        (b"(" + b"N" * BIG + b"l", BIG),
        (b"](" + b"]" * BIG + b"e", BIG),
        (b"](" + b"N\x85" * BIG + b"e", BIG),
    ],
)
def test_items_of_a_list_are_counted(value: bytes, rest: int) -> None:
    """However they got into it."""
    *first, (mark, count) = _value(value)
    assert mark == "cut"
    assert len(first) + count == rest
    assert len(first) > 1_000


@pytest.mark.parametrize("value", [b"}(" + b"NN" * BIG + b"u", b"}" + b"NNs" * BIG, b"(" + b"NN" * BIG + b"d"])
def test_pairs_of_a_dict_are_counted(value: bytes) -> None:
    """As pairs; a key without its value gets a mark as one."""
    *first, _, (mark, count) = _value(value)["flat"]
    assert mark == "cut"
    assert len(first) // 2 + count == BIG


def test_containers_around_are_ended() -> None:
    """What was begun before the share was used up is there, with a mark in each of them."""
    value = _value(b"](]}X\1\0\0\0k](" + b"N" * BIG + b"esa]NNe")
    inner, *others = value
    assert inner[0]["flat"][0] == "k"
    assert inner[0]["flat"][1][-1][0] == "cut"
    assert others == [("cut", 3)]


@pytest.mark.parametrize(
    "value",
    [
        b"N" + b"\x85" * BIG,
        b"(" * 190 + b"N" * BIG + b"t" * 190,
        b"(" + b"N" * BIG + b"tq\x05",
        b"cshop\nOrder\n(" + b"N" * BIG + b"tR}X\1\0\0\0aNsb",
        b"cshop\nOrder\n)R](" + b"N" * BIG + b"eb",
        b"(cshop\nOrder\n" + b"N" * BIG + b"o",
        b"(" + b"N" * BIG + b"ishop\nOrder\n",
        b"\x8f(" + b"N" * BIG + b"\x90",
        b"(" + b"N" * BIG + b"\x91",
        b"N" + b"0N" * BIG,
        b"N" + b"(1" * BIG,
        b"N" + b"2" * BIG + b"0" * BIG,
        b"N" + b"\x94" * BIG,
        b"X\1\0\0\0a" + b"\x8c\1a\x930X\1\0\0\0a" * BIG,
    ],
)
def test_every_opcode_is_passed_over(value: bytes) -> None:
    """The record is a whole one behind it, and the smaller pickle is small."""
    _value(value)
    smaller = trim.trimmed(b"}(X\1\0\0\0x" + value + b"u.", 0)
    assert smaller is not None
    assert len(smaller) < 120_000


def test_a_name_that_is_left_out_is_written_where_it_is_used() -> None:
    """Python writes equal names once: a later key may refer to one that is in the part that is left out."""
    name = b"X\4\0\0\0lastq\x07"
    frame = b"}(X\1\0\0\0x](" + b"N" * BIG + name + b"eh\x07K\1X\1\0\0\0yh\x07X\1\0\0\0zh\x07u."
    assert _trimmed(frame)["flat"][2:] == ["last", 1, "y", "last", "z", "last"]


def test_a_reference_to_what_is_left_out() -> None:
    """Is a mark, and a call of it too."""
    frame = b"}(X\1\0\0\0x](" + b"N" * BIG + b"]q\x07ca\nb\nq\x08eX\1\0\0\0yh\x07X\1\0\0\0zh\x08)Ru."
    assert _trimmed(frame)["flat"][2:] == ["y", ("cut", 0), "z", ("cut", 0)]


def test_an_attribute_beyond_all_shares_is_counted() -> None:
    """Those of LogRecord are kept."""
    many = b"".join(b"X\5\0\0\0%05dN" % number for number in range(14_999))
    for end in (b"u", b""):
        pairs = many if end else many.replace(b"N", b"Ns")
        own = b"X\3\0\0\0msgN" + (b"" if end else b"s")
        found = _trimmed(b"}" + (b"(" if end else b"") + pairs + own + end + b".")["flat"]
        assert found[-4:-2] == ["msg", None]
        assert found[-1] == ("cut", 15_000 - (len(found) - 2) // 2)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [(b"}(NN", "truncated"), (b"}(N\xffu.", "malformed"), (b"Pa\n.", "forbidden"), (b"}.N", "trailing")],
)
def test_what_is_no_pickle_is_rejected(frame: bytes, reason: str) -> None:
    """Also where it would be left out."""
    with pytest.raises(RecordRejected) as caught:
        trim.trimmed(frame, 0)
    assert caught.value.reason == reason


def test_the_new_opcodes_are_of_no_client() -> None:
    """A frame that has one is malformed."""
    for opcode in (trim.CUT, trim.REST, trim.CUT_TEXT):
        for read in (lambda frame: trim.trimmed(frame, 0), lambda frame: unpickle.run(frame, TRIMMED_BUDGET)):
            with pytest.raises(RecordRejected):
                read(bytes([opcode]) + b"\0\0\0\0.")


def test_python_gives_up_after_many_opcodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the compiled core a megabyte of opcodes would take more than a second."""
    frame = pickle.dumps({"msg": "m", "v": [1] * 10_000}, 2)
    assert trim._trim_for_a_while(frame, 0, 0, 0) == trim.trim_in_python(frame, 0, 0, 0)
    monkeypatch.setattr(trim, "trim", trim._trim_for_a_while)
    monkeypatch.setattr(trim, "MOST_STEPS_IN_PYTHON", 10_000)
    with pytest.raises(RecordRejected, match="without the compiled core") as rejected:
        trim.trimmed(frame, 0)
    assert rejected.value.reason == "budget"


def test_the_most_that_python_cuts_takes_less_than_a_second() -> None:
    """Of the slowest opcodes that are known: meanwhile the worker serves nobody else."""
    deep = b"N" + b"\x85" * 180
    frame = b"}(X\3\0\0\0msgX\1\0\0\0mX\1\0\0\0v](" + deep * ((trim.MOST_STEPS_IN_PYTHON - 100) // len(deep)) + b"eu."
    begin = time.process_time()
    assert isinstance(trim._trim_for_a_while(frame, 0, 0, 0), bytes)
    assert time.process_time() - begin < 1.0
