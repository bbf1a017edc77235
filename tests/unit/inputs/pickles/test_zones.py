"""Zones have the offset of this machine's database, and a name that is not in it stays a name."""

import datetime as dt
import pickle

import pytest

from prefork_logd.inputs.pickles.decode import decode
from prefork_logd.inputs.pickles.zones import named
from tests.support.assemble import call, record, text
from tests.support.assemble import named as symbol

PACKED = b"C\x0a" + bytes([7, 234, 7, 2, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    "key",
    ["../../etc/passwd", "/etc/localtime", "Europe", "Europe/", "Mars/Olympus", "a" * 90, "Europe/Berlin\0", "", "x/."],
)  # fmt: skip
def test_names_that_are_in_no_database(key):
    """No path leads out of the database, and the name is kept behind the time."""
    assert named(key).tzinfo is None
    zone = call(symbol("zoneinfo", "ZoneInfo"), text(key))
    expected = f"2026-07-02T00:00:00[{key}]" if key else "2026-07-02T00:00:00"
    assert decode(record(call(symbol("datetime", "datetime"), PACKED, zone)))["x0"] == expected


def test_both_offsets_of_an_hour_that_comes_twice():
    """Protocol 4 says which of the two it is."""
    moment = dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=named("Europe/Berlin").tzinfo)
    assert decode(pickle.dumps({"x": moment.replace(fold=0)}, 4))["x"] == "2026-10-25T02:30:00+02:00"
    assert decode(pickle.dumps({"x": moment}, 4))["x"] == "2026-10-25T02:30:00+01:00"


@pytest.mark.parametrize(
    ("zone", "suffix"),
    [
        (call(symbol("pytz", "_p"), b"U\x0dEurope/Berlin", b"M\x10\x0e", b"K\x00", b"U\x03CET"), "+01:00"),
        (call(symbol("pytz", "_p"), text("Europe/Berlin")), "+02:00"),
        (call(symbol("pytz", "_UTC")), "+00:00"),
        (call(symbol("pendulum.tz.timezone", "FixedTimezone"), b"M\x10\x0e"), "+01:00"),
    ],
)
def test_zones_of_libraries(zone, suffix):
    """In the forms of pytz and pendulum."""
    assert decode(record(call(symbol("datetime", "datetime"), PACKED, zone)))["x0"] == f"2026-07-02T00:00:00{suffix}"
