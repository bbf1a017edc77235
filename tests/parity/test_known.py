"""Records with values of known types are written by the compiled core, by every protocol that a client may use."""

import datetime as dt
import decimal
import pickle
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
        dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    ],
    ids=repr,
)
def test_values_of_known_types_need_no_python(core, value, protocol):
    """One such value in a record costs nobody else the core's speed."""
    assert sides.agree(core, pickle.dumps(USUAL | {"held": value, "more": {"within": [value]}}, protocol))


@pytest.mark.parametrize("digits", ["-1", str(1 << 128), "9" * 40, "0" * 50 + "7"])
def test_number_that_is_no_uuid(core, digits):
    """A UUID's number beyond 128 bits stays data, whoever reads it."""
    frame = pickle.dumps(USUAL | {"held": uuid.UUID(int=1 << 100)}, 1)
    sides.agree(core, frame.replace(b"%d" % (1 << 100), digits.encode()))
