"""Arrays and scalars of numpy whose form is not what numpy writes stay data, and cost no more than others."""

import pickle

import pytest

from prefork_logd.inputs.pickles.decode import decode
from tests.support.assemble import call, named, record, text

MODULE = "numpy.core.multiarray"
DTYPE = named("numpy", "dtype")
np = pytest.importorskip("numpy")


def _dtype(code):
    return call(DTYPE, text(code), b"\x89", b"\x88")


@pytest.mark.parametrize(
    "args",
    [
        [],
        [b"K\x01", b"C\x01a"],
        [_dtype("i8"), b"C\x01a"],
        [_dtype("i8"), b"K\x01"],
        [_dtype("U0"), b"C\x00"],
        [_dtype("S99999999999"), b"C\x01a"],
        [_dtype("f16"), b"C\x10" + b"\0" * 16],
        [_dtype("M8"), b"C\x08" + b"\0" * 8],
        [_dtype("i1"), call(named("_codecs", "encode"), text("€"), text("latin1"))],
    ],
)
def test_scalars_that_numpy_does_not_write(args):
    """A wrong length, an unknown type, a unit that is missing."""
    got = decode(record(call(named(MODULE, "scalar"), *args)))["x0"]
    assert got["__class__"] == f"{MODULE}.scalar"


@pytest.mark.parametrize("shape", [b"(K\x02t", b"(K\x01K\xfft", b"(J\xff\xff\xff\xfft", b"(" + b"K\x01" * 40 + b"t"])
def test_shapes_that_do_not_fit(shape):
    """The product of a shape is compared with the octets that are there, before anything is made of it."""
    array = call(named(MODULE, "_reconstruct"), named("numpy", "ndarray"), b"(K\x00t", b"C\x01b")
    got = decode(record(array + b"(K\x01" + shape + _dtype("i1") + b"\x89C\x01at" + b"b"))["x0"]
    assert got["__class__"] == f"{MODULE}._reconstruct"


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(protocol):
    """Protocol 5 sends the octets in another call."""
    got = decode(pickle.dumps({"x": np.arange(6).reshape(2, 3), "y": np.float32(0.5)}, protocol))
    assert got == {"x": [[0, 1, 2], [3, 4, 5]], "y": 0.5}


def test_large_array_of_columns_has_no_first_items():
    """They are far apart in its octets."""
    got = decode(pickle.dumps({"x": np.asfortranarray(np.zeros((20, 20)))}, 1))["x"]
    assert got == {"__class__": "numpy.ndarray", "shape": [20, 20], "dtype": "float64", "first": []}
