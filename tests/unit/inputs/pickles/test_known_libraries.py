"""Objects of libraries, pickled by the real ones, are stored as people write them, and without their secrets."""

import pickle

import pytest

from prefork_logd.inputs.pickles.decode import decode
from tests.support.assemble import call, named, record, text

foreign_values = pytest.importorskip("tests.support.foreign_values", reason="not all libraries are installed")
ALL = foreign_values.NUMBERS + foreign_values.TIMES + foreign_values.OBJECTS


@pytest.mark.parametrize(("value", "expected"), ALL, ids=lambda one: type(one).__qualname__)
def test_values_as_people_write_them(value, expected):
    """By protocol 1, which every SocketHandler of the standard library uses."""
    got = decode(pickle.dumps({"x": value, "in": [value]}, 1))
    assert got == {"x": expected, "in": [expected]}
    assert type(got["x"]) is type(expected)


def test_public_fields_that_repr_leaves_out_are_stored():
    """A pickle does not tell which they are: docs/values.md says so."""
    got = decode(pickle.dumps({"model": foreign_values.Shown(user="ada"), "door": foreign_values.Door(1)}, 1))
    assert got["model"] == {"user": "ada", "pin": "1234", "note": "n"}
    assert got["door"]["state"] == {"id": 1, "pin": "1234"}


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_no_protocol_shows_a_secret(protocol):
    """Whatever the form, private state is not stored."""
    for value, _ in ALL:
        try:
            frame = pickle.dumps({"x": value}, protocol)
        except TypeError:  # a class that this protocol cannot carry
            continue
        assert "hunter2" not in str(decode(frame))
        assert "s3cret" not in str(decode(frame))


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (call(named("sqlalchemy.engine.url", "URL")), {"__class__": "sqlalchemy.engine.url.URL"}),
        (call(named("yarl", "URL")), {"__class__": "yarl.URL"}),
        (call(named("httpx", "URL")) + b"}" + text("_uri_reference") + b"K\x01sb", {"__class__": "httpx.URL"}),
        (call(named("re", "_compile"), b"K\x01"), {"__class__": "re._compile", "args": [1]}),
        (call(named("array", "array"), b"K\x01", b"]"), {"__class__": "array.array", "args": [1, []]}),
        (call(named("collections", "UserDict")), {"__class__": "collections.UserDict"}),
        (
            call(named("copy_reg", "_reconstructor"), named("m", "C"), named("__builtin__", "str"), b"K\x01"),
            {"__class__": "m.C", "args": [1]},
        ),
        (
            call(named("copy_reg", "_reconstructor"), named("m", "C"), named("__builtin__", "new"), b"K\x01"),
            {"__class__": "m.C", "args": [1]},
        ),
    ],
)  # fmt: skip
def test_forms_that_are_not_theirs_stay_data(node, expected):
    """A name alone is no proof: what its class would not send is an object like any other."""
    assert decode(record(node))["x0"] == expected


def test_private_state_that_is_shared_is_paid_for():
    """Attributes that are left out count, too: an object may be referred to in every second byte."""
    state = b"}(" + b"".join(text(f"_{number}") + b"N" for number in range(300)) + b"u"
    frame = (
        b"}(" + text("x") + named("m", "C") + b")R" + state + b"bq\x01" + text("y") + b"](" + b"h\x01" * 2_000 + b"eu."
    )
    assert decode(frame)["y"][-1].keys() == {"..."}
