"""The outline of a pickle: where each attribute is, and where it is none."""

from __future__ import annotations

import pickle

import pytest

from prefork_logd.inputs.pickles import outline
from prefork_logd.inputs.pickles.opcodes import HANDLERS
from prefork_logd.inputs.pickles.outline import Broken, Reader


def _pairs(frame: bytes, hole: int = 0, hole_bytes: int = 0) -> list[tuple[bytes, bytes]]:
    found = outline.outline(Reader(frame, hole, hole_bytes)).pairs
    return [(frame[pair.key : pair.value], frame[pair.value : pair.end]) for pair in found]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_attribute_is_found(protocol: int) -> None:
    """In their order, in every protocol, one or many in a batch, with whatever they hold."""
    values = {"msg": "m", "x": {"a": [1, (2, 3)], "b": {4}}, **{f"k{n}": [n] for n in range(2_100)}}
    for size in (1, 3, len(values)):
        some = dict(list(values.items())[:size])
        pairs = _pairs(pickle.dumps(some, protocol))
        assert [key for key in some if not any(key.encode() in found for found, _ in pairs)] == []
        assert len(pairs) == size


def test_costs_are_those_of_the_machine() -> None:
    """An opcode of another module's table is counted, and long numbers are counted twice."""
    found = outline.outline(Reader(b"}(X\1\0\0\0aN" + b"L" + b"9" * 4_000 + b"L\n0X\1\0\0\0bNu.", 0, 0))
    assert found.opcodes < 60
    assert sum(pair.cost for pair in found.pairs) > 400


def test_every_opcode_has_operands_and_an_effect() -> None:
    """What the machine knows is known here, too, and nothing else."""
    frequent = {0x71, 0x58, 0x8C, 0x55, 0x94, 0x68, 0x4E, 0x4B, 0x47, 0x28, 0x2E}
    known = {code for code in range(256) if outline.OPERANDS[code] != outline.UNKNOWN}
    assert known == HANDLERS.keys() | frequent


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", outline.TRUNCATED),
        (b"X\xff\0\0\0a.", outline.TRUNCATED),
        (b"I1", outline.TRUNCATED),
        (b"N.N", outline.TRAILING),
        (b"\xff.", outline.MALFORMED),
        (b"e.", outline.MALFORMED),
        (b"Na.", outline.MALFORMED),
        (b"0.", outline.MALFORMED),
        (b"(e.", outline.MALFORMED),
        (b"P1\n.", outline.UNSAFE),
    ],
)
def test_what_is_no_pickle(frame: bytes, reason: int) -> None:
    """It has a reason."""
    with pytest.raises(Broken) as caught:
        _pairs(frame)
    assert caught.value.reason == reason


def test_attributes_in_front_of_a_hole() -> None:
    """The last one may be unfinished."""
    frame = pickle.dumps({"msg": "m", "x": list(range(50)), "y": 1}, 1)
    cut = frame.index(b"K\x14")
    assert [key[5:].partition(b"q")[0] for key, _ in _pairs(frame[:cut], cut, 30)] == [b"msg", b"x"]
