"""What an object of an unknown class is, is told by its form, or not at all."""

import pickle

import pytest

from prefork_logd.inputs.pickles.decode import decode
from tests.support.assemble import call, named, record, text


class Words(list):
    """A subclass of list with attributes of its own."""


class Name(str):  # noqa: SLOT000 - it is to have a dict
    """A subclass of str with attributes of its own."""


@pytest.mark.parametrize("protocol", range(6))
def test_subclass_with_attributes_is_its_base(protocol):
    """The attributes are left out."""
    words, name = Words([1, 2]), Name("ada")
    words.source = name.source = "file"
    assert decode(pickle.dumps({"x": words, "y": name}, protocol)) == {"x": [1, 2], "y": "ada"}


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (call(named("m", "C"), text("s")), {"__class__": "m.C", "args": ["s"]}),
        (named("m", "C") + text("s") + b"\x85\x81", "s"),
        (named("m", "C") + b"K\x01K\x02\x86\x81", {"__class__": "m.C", "args": [1, 2]}),
        (call(named("m", "C"), b"C\x0a" + b"\xff" * 10), {"__class__": "m.C", "args": [r"\xff" * 10]}),
        (call(named("m", "C")) + b"}" + text("_a") + b"K\x01sb", {"__class__": "m.C"}),
        (call(named("m", "C")) + b"}" + text("__dict__") + b"}sb", {"__class__": "m.C"}),
        (call(named("m", "C")) + b"}(" + text("_sa_instance_state") + b"N" + text("a") + b"K\x01ub", {"a": 1}),
    ],
)
def test_forms(node, expected):
    """A class that is called with a text may be anything; one that is made of a text is a text."""
    assert decode(record(node))["x0"] == expected
