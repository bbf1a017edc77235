"""Calls and names in a pickle become data."""

import pytest

from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.pickles.budget import DEFAULT_BUDGET
from prefork_logd.inputs.pickles.symbols import Dict, Object, Symbol
from prefork_logd.inputs.pickles.unpickle import run


def _run(frame):
    return run(frame, DEFAULT_BUDGET)


def _reason(frame):
    with pytest.raises(RecordRejected) as caught:
        _run(frame)
    return caught.value.reason


@pytest.mark.parametrize(
    ("frame", "args"),
    [
        (b"cm\nn\n(K\x01tR.", [1]),
        (b"\x8c\x01m\x8c\x01n\x93)R.", []),
        (b"cm\nn\nK\x01\x85\x81.", [1]),
        (b"(cm\nn\nK\x01o.", [1]),
        (b"(K\x01im\nn\n.", [1]),
        (b"ccopy_reg\n_reconstructor\n(cm\nn\nc__builtin__\nobject\nNtR.", []),
        (b"ccopyreg\n_reconstructor\n(cm\nn\nc__builtin__\nstr\nK\x01tR.", [1]),
        (b"ccopyreg\n__newobj__\n(cm\nn\nK\x01tR.", [1]),
        (b"c__builtin__\ngetattr\n(cm\nx\nX\x01\0\0\0ytR)R.", []),
    ],
)
def test_every_way_to_make_an_object_becomes_one(frame, args):
    """REDUCE, NEWOBJ, OBJ, INST and copyreg's helpers all say: this class, these arguments."""
    node = _run(frame)
    assert type(node) is Object
    assert node.path in {"m.n", "m.x.y"}
    assert node.args == args
    assert node.is_bare


def test_keyword_arguments_are_kept():
    """NEWOBJ_EX and its helper below protocol 4 keep them apart."""
    for frame in (b"cm\nn\n)}K\x01K\x02s\x92.", b"ccopyreg\n__newobj_ex__\n(cm\nn\n)}K\x01K\x02stR."):
        node = _run(frame)
        assert type(node.kwargs) is Dict
        assert node.kwargs.flat == [1, 2]


@pytest.mark.parametrize(
    "frame",
    [
        b"ccopy_reg\n_reconstructor\n)R.", b"ccopyreg\n__newobj__\n)R.", b"ccopyreg\n__newobj__\n(NtR.",
        b"ccopyreg\n__newobj_ex__\n(NtR.", b"c__builtin__\ngetattr\n(NX\x01\0\0\0ytR.",
        b"c__builtin__\ngetattr\n(cm\nx\nX\xff\0\0\0" + b"y" * 255 + b"tR.",
    ],
)  # fmt: skip
def test_helpers_with_other_arguments_are_objects_themselves(frame):
    """A helper that is given what it never gets is kept as data, like any other call."""
    assert _run(frame).path.startswith(("copyreg.", "getattr"))


def test_state_and_items_are_attached():
    """BUILD, SETITEMS, APPENDS and ADDITEMS on an object say what was to be done to it."""
    node = _run(b"cm\nn\n)R(K\x01e(K\x02K\x03u(K\x04\x90K\x05b.")
    assert (node.items, node.flat, node.state, node.has_state) == ([1, 4], [2, 3], 5, True)
    assert not node.is_bare


@pytest.mark.parametrize(
    "frame",
    [
        b"X\x01\0\0\0m)R.", b"N)R.", b"])R.", b"cm\nn\nNR.", b"cm\nn\n]R.", b"cm\nn\nNN\x92.", b"(o.", b"(No.",
        b"}Nb.", b"]Nb.", b"NNb.", b"cm\nn\nNb.", b"cm\nn\n)RNbNb.", b"NN\x93.", b"\x8c\x01mN\x93.",
        b"cm\nn\n)R)R)R.", b"cm\xff\nn\n.", b"\x8c\x01aC\x01b\x93.",
    ],
)  # fmt: skip
def test_calls_of_what_is_no_class(frame):
    """Only a name, or once the result of a call, can be called; only a new object has state."""
    assert _reason(frame) == "malformed"


def test_result_of_a_call_may_be_called_once():
    """functools.partial is pickled so."""
    node = _run(b"cfunctools\npartial\n)R)R.")
    assert node.path == "functools.partial()"
    assert type(node.callee.callee) is Symbol
