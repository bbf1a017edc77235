"""The loop that reads a pickle: its own opcodes, its limits, and the errors it makes of everything else."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest

from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.pickles.budget import DEFAULT_BUDGET
from prefork_logd.inputs.pickles.symbols import Dict, OctetText
from prefork_logd.inputs.pickles.unpickle import run


def _rejected(frame: bytes, **budget: int) -> tuple[str, str]:
    with pytest.raises(RecordRejected) as caught:
        run(frame, msgspec.structs.replace(DEFAULT_BUDGET, **budget))
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize(
    ("frame", "value"),
    [
        (b"X\x02\0\0\0\xc3\xa9.", "é"),
        (b"\x8c\x02\xc3\xa9.", "é"),
        (b"\x8c\x03\xed\xb3\xbf.", "\udcff"),
        (b"N.", None),
        (b"K\xff.", 255),
        (b"M\xff\xff.", 65_535),
        (b"G?\xf8\0\0\0\0\0\0.", 1.5),
        (b"Nq\x07h\x07\x850.", None),
        (b"K\x05\x940h\x00.", 5),
        (b"K\x05r\0\x01\0\x000j\0\x01\0\x00.", 5),
    ],
)
def test_the_opcodes_of_the_loop(frame: bytes, value: Any) -> None:
    """Those that make up most of a record: texts, small numbers, and the memo."""
    assert run(frame, DEFAULT_BUDGET) == value


def test_a_text_of_python_2_stays_octets() -> None:
    """What they mean is decided later."""
    node = run(b"U\x02\xc3\xa9.", DEFAULT_BUDGET)
    assert type(node) is OctetText
    assert node == b"\xc3\xa9"


@pytest.mark.parametrize("protocol", range(6))
def test_what_a_pickler_writes_is_read(protocol: int) -> None:
    """In every protocol, with a value that stands twice."""
    text = "a text that is memoized"
    node = run(pickle.dumps({"a": text, "b": [text, 1, 2.5, None, True]}, protocol), DEFAULT_BUDGET)
    assert type(node) is Dict
    assert node.flat == ["a", text, "b", [text, 1, 2.5, None, True]]


def test_every_cut_is_truncated() -> None:
    """A frame that ends early is no whole pickle, wherever it ends."""
    whole = pickle.dumps(["a text", 1, 70_000, 2.5, {"key": (None, b"octets")}], 4)
    for end in range(len(whole)):
        assert _rejected(whole[:end])[0] == "truncated", end


@pytest.mark.parametrize(
    ("frame", "reason", "detail"),
    [
        (b"NN.", "malformed", "STOP with a stack that is not one value near byte 3"),
        (b".", "malformed", "STOP with a stack that is not one value"),
        (b"(N.", "malformed", "STOP with a stack that is not one value"),
        (b"N.N", "trailing", "1 byte after the pickle's end"),
        (b"q\x00N.", "malformed", "underflow"),
        (b"h\x05.", "malformed", "reference to nothing"),
        (b"\xffN.", "malformed", "unknown opcode 0xff"),
        (b"X\x01\0\0\0\xff.", "malformed", "text that cannot be decoded"),
        (b"", "truncated", "ends after 0 bytes, without STOP"),
        (b"X\xff\xff\xff\xff.", "truncated", "are announced"),
        (b"Nr\xff\xff\xff\xff.", "budget", "memo entries"),
    ],
)
def test_what_is_no_pickle_is_rejected(frame: bytes, reason: str, detail: str) -> None:
    """With its reason and where; no other error comes out."""
    found, text = _rejected(frame)
    assert found == reason
    assert detail in text


@pytest.mark.parametrize(
    ("frame", "limit", "budget"),
    [
        (b"N" * 20 + b".", "opcodes", {"opcodes": 10}),
        (b"(" * 20 + b".", "nested containers", {"marks": 10}),
        (b"Nq\0q\1q\2q\3.", "memo entries", {"memo_entries": 3}),
        (b"N\x94\x94\x94\x94.", "memo entries", {"memo_entries": 3}),
        (b"N" + b"".join(b"r%c\0\0\0" % i for i in range(4)) + b".", "memo entries", {"memo_entries": 3}),
    ],
)
def test_the_work_is_bounded(frame: bytes, limit: str, budget: dict[str, int]) -> None:
    """Each budget has its own name in the reason."""
    reason, text = _rejected(frame, **budget)
    assert reason == "budget"
    assert limit in text


def test_the_last_opcode_of_a_budget_is_still_run() -> None:
    """STOP among them."""
    budget = msgspec.structs.replace(DEFAULT_BUDGET, opcodes=2)
    assert run(b"N.", budget) is None
    assert _rejected(b"N0N.", opcodes=2)[0] == "budget"
