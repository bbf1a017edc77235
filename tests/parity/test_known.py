"""Records with values of known types are written by the compiled core, by every protocol that a client may use."""

import collections
import datetime as dt
import decimal
import fractions
import http
import ipaddress
import pathlib
import pickle
import signal
import uuid

import pytest

from tests.parity import sides

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
USUAL = {"name": "n", "msg": "m", "args": None, "created": 1.5, "levelno": 20}


@pytest.fixture(scope="module")
def core():
    """Return a compiled core with the outputs of `sides`."""
    return sides.core()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        *(uuid.UUID(int=number) for number in (0, 7, (1 << 63) - 1, 1 << 63, 1 << 64, 10**38, (1 << 128) - 1)),
        decimal.Decimal("12.50"),
        *(decimal.Decimal("-Infinity"), fractions.Fraction(1, 3), fractions.Fraction(10**30, 7), 1 + 2j, range(3)),
        *(ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("2001:db8::1"), ipaddress.ip_network("10.0.0.0/8")),
        *(ipaddress.ip_interface("2001:db8::1/64"), http.HTTPStatus.NOT_FOUND, signal.SIGTERM),
        *(pathlib.PureWindowsPath("c:/x"), pathlib.PurePosixPath("a\n/\u00e9"), ValueError("it's", [1, {"a": None}])),
        *({1: "a", (1, 2): "b", None: 1}, {"1": 1, 1: 2}, collections.OrderedDict([((1,), [range(2)])])),
        *(10**60, -(10**60), dt.timedelta(days=99_999_999), dt.time(1, 2, tzinfo=dt.UTC), uuid.UUID),
        dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    ],
    ids=repr,
)
def test_values_of_known_types_need_no_python(core, value, protocol):
    """One such value in a record costs nobody else the core's speed."""
    assert sides.agree(core, pickle.dumps(USUAL | {"held": value, "more": {"within": [value]}}, protocol))


@pytest.mark.parametrize("protocol", [1, 2, 4])
def test_values_of_libraries_need_no_python(core, protocol):
    """The rest of such a record is the core's."""
    foreign_values = pytest.importorskip("tests.support.foreign_values", reason="not all libraries are installed")
    values = foreign_values.NUMBERS + foreign_values.TIMES + foreign_values.OBJECTS
    frames = []
    for value, _ in values:
        try:
            frames.append(pickle.dumps(USUAL | {"held": value, "more": {"within": [value]}}, protocol))
        except TypeError:  # a class that this protocol cannot carry
            assert protocol < 2
    assert [frame for frame in frames if not sides.agree(core, frame)] == []


@pytest.mark.parametrize("digits", ["-1", str(1 << 128), "9" * 40, "0" * 50 + "7"])
def test_number_that_is_no_uuid(core, digits):
    """A UUID's number beyond 128 bits stays data, whoever reads it."""
    frame = pickle.dumps(USUAL | {"held": uuid.UUID(int=1 << 100)}, 1)
    sides.agree(core, frame.replace(b"%d" % (1 << 100), digits.encode()))


@pytest.mark.parametrize(
    ("attributes", "native"),
    [
        ({"extra": {"user": "ada", "n": [1], "password": "s"}, "order": 7}, True),
        ({"extra": {}}, True),
        ({"extra": [1]}, True),
        ({"extra": {"user": "ada"}, "user": 1}, False),
        ({"extra": {"extra": 1}}, False),
        ({"extra": {1: 2}}, False),
        ({"extra": collections.OrderedDict(a=1)}, False),
        ({"msg": {"event": "paid", "order": 7}}, False),
    ],
)
def test_dicts_that_are_unfolded(core, attributes, native):
    """The core takes what loguru sends, and leaves names that come twice to Python."""
    for protocol in (1, 4):
        assert sides.agree(core, pickle.dumps(USUAL | attributes, protocol)) == native
