import struct

import pytest

from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.pickles.budget import DEFAULT_BUDGET, Budget
from prefork_logd.inputs.pickles.machine import MAX_MEMO_INDEX
from prefork_logd.inputs.pickles.symbols import Dict
from prefork_logd.inputs.pickles.unpickle import run


def _rejected(frame, budget=DEFAULT_BUDGET):
    with pytest.raises(RecordRejected) as caught:
        run(frame, budget)
    return caught.value.reason


def test_hot_opcodes_push_what_they_hold():
    """The opcodes that the loop writes out read their operands as the pickle protocol has them."""
    frame = b"(X\x02\0\0\0\xc3\xa9\x8c\x01aU\x01bNK\xffG\x3f\xf8\0\0\0\0\0\0l."
    node = run(frame, DEFAULT_BUDGET)
    assert node == ["é", "a", b"b", None, 255, 1.5]
    assert node[2].text() == "b"


def test_memo_gives_back_the_same_node():
    """BINPUT, MEMOIZE and BINGET refer to one value, not to copies."""
    node = run(b"(]q\x00h\x00]\x94h\x01l.", DEFAULT_BUDGET)
    assert node[0] is node[1]
    assert node[2] is node[3]
    assert node[0] is not node[2]


def test_value_may_hold_itself():
    """A cycle is built without being walked."""
    node = run(b"}q\x00X\x01\0\0\0ah\x00s.", DEFAULT_BUDGET)
    assert type(node) is Dict
    assert node.flat[1] is node


@pytest.mark.parametrize(
    "frame",
    [b"", b"N", b"X", b"X\x05\0\0\0abc", b"\x8c", b"\x8c\x05a", b"U\x05a", b"G\0\0", b"K", b"h", b"q", b"I12"]
    + [opcode + struct.pack("<Q", 1 << 62) + b"abcde" for opcode in (b"\x8d", b"\x8e", b"\x96", b"\x95")]
    + [opcode + struct.pack("<I", (1 << 31) - 1) + b"abcde" for opcode in (b"X", b"T", b"B", b"\x8b")],
)
def test_frame_that_ends_early_is_truncated(frame):
    """A length is believed as far as there are bytes."""
    assert _rejected(frame) == "truncated"
    assert _rejected(b"(N" + frame) == "truncated"


@pytest.mark.parametrize(
    "frame", [b".", b"0N.", b"2N.", b"NN.", b"(N.", b"N(.", b"q\x00.", b"\x94N.", b"h\x00.", b"\xff."]
)
def test_stack_must_hold_one_value_at_the_end(frame):
    """Underflow, leftovers, open marks and unknown opcodes are malformed."""
    assert _rejected(frame) == "malformed"


@pytest.mark.parametrize("more", [b"\n", b"N.", b"\0" * 100])
def test_bytes_after_the_end_are_refused(more):
    """No client sends anything after STOP in the same frame."""
    assert _rejected(b"N." + more) == "trailing"


def test_far_memo_index_allocates_nothing():
    """An index beyond what a pickler counts to is refused, in both spellings and below zero."""
    near = struct.pack("<I", MAX_MEMO_INDEX - 1)
    assert run(b"Nr" + near + b"0j" + near + b".", DEFAULT_BUDGET) is None
    assert _rejected(b"Nr" + struct.pack("<I", MAX_MEMO_INDEX) + b".") == "budget"
    assert _rejected(b"Np%d\n." % MAX_MEMO_INDEX) == "budget"
    assert _rejected(b"Np-1\n.") == "malformed"
    assert _rejected(b"Np" + b"9" * 5_000 + b"\n.") == "malformed"


def test_work_is_bounded():
    """Opcodes, memo entries, containers and open marks are counted."""
    assert _rejected(b"N0" * 6 + b"N.", Budget(opcodes=10)) == "budget"
    assert _rejected(b"N" + b"\x94" * 6 + b".", Budget(memo_entries=5)) == "budget"
    assert _rejected(b"N" + b"q\x01" * 6 + b".", Budget(memo_entries=1)) == "budget"
    assert _rejected(b"I1\n0" * 6 + b"N.", Budget(lines=5)) == "budget"
    assert _rejected(b"]0" * 6 + b"N.", Budget(containers=5)) == "budget"
    assert _rejected(b"(" * 300) == "budget"


def test_invalid_utf_8_is_refused_and_surrogates_are_kept():
    """Python 3 writes lone surrogates; nobody writes what is no UTF-8."""
    assert run(b"X\x03\0\0\0\xed\xb2\x80.", DEFAULT_BUDGET) == "\udc80"
    assert _rejected(b"X\x01\0\0\0\xff.") == "malformed"
    assert _rejected(b"\x8c\x01\xff.") == "malformed"
