import datetime as dt
import pickle
import zoneinfo

import pytest

from prefork_logd.inputs.pickles.decode import decode
from tests.support.assemble import call, named, record, text

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
MOMENT = dt.datetime(2026, 11, 23, 3, 24, 5, 123_456)  # noqa: DTZ001 - what users log
PACKED = b"\x07\xea\x0b\x17\x03\x18\x05\x01\xe2\x40"
EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))


class Strange(dt.tzinfo):
    def __reduce__(self):
        return Strange, ("sea",)

    def __init__(self, *args):
        pass

    def utcoffset(self, _):
        return dt.timedelta(0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (MOMENT, "2026-11-23T03:24:05.123456"),
        (MOMENT.replace(microsecond=0), "2026-11-23T03:24:05"),
        (MOMENT.replace(tzinfo=dt.UTC), "2026-11-23T03:24:05.123456+00:00"),
        (MOMENT.replace(tzinfo=EAST), "2026-11-23T03:24:05.123456+05:30"),
        (MOMENT.replace(fold=1), "2026-11-23T03:24:05.123456"),
        (MOMENT.replace(tzinfo=zoneinfo.ZoneInfo("Etc/UTC")), "2026-11-23T03:24:05.123456+00:00"),
        (MOMENT.replace(1, 1, 1, 0, 0, 0, 0), "0001-01-01T00:00:00"),
        (MOMENT.replace(9999, 12, 31, 23, 59, 59, 999_999), "9999-12-31T23:59:59.999999"),
        (dt.date(2026, 11, 23), "2026-11-23"),
        (dt.time(3, 24, 5), "03:24:05"),
        (dt.time(3, 24, 5, 7, tzinfo=dt.UTC), "03:24:05.000007+00:00"),
        (dt.time(3, 24, fold=1), "03:24:00"),
        (dt.timedelta(days=1, seconds=2, microseconds=3), 86402.000003),
        (dt.timedelta(days=-1), -86400.0),
        (dt.UTC, "UTC"),
        (EAST, "UTC+05:30"),
        (zoneinfo.ZoneInfo("Etc/UTC"), "Etc/UTC"),
    ],
    ids=repr,
)
def test_times_are_iso_8601(value, expected, protocol):
    """Every protocol gives the same text; a duration is its seconds; a named zone is named, not looked up."""
    assert decode(pickle.dumps({"x": value}, protocol))["x"] == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_unknown_zone_is_kept_beside_the_time(protocol):
    """The local time is readable although the offset is not."""
    got = decode(pickle.dumps({"x": MOMENT.replace(tzinfo=Strange())}, protocol))["x"]
    assert got["__class__"] == "datetime.datetime"
    assert got["args"][0] == "2026-11-23T03:24:05.123456"
    assert got["args"][1]["args"] == ["sea"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (call(named("datetime", "datetime"), b"U\x0a" + PACKED), "2026-11-23T03:24:05.123456"),
        (call(named("datetime", "date"), b"U\x04\x07\xea\x0b\x17"), "2026-11-23"),
        (
            call(named("datetime", "datetime"), b"U\x0a" + PACKED, call(named("pytz", "_UTC"))),
            "2026-11-23T03:24:05.123456+00:00",
        ),
        (
            call(named("datetime", "datetime"), b"U\x0a" + PACKED,
                 call(named("pytz", "_p"), b"U\x0dEurope/Berlin", b"M\x10\x0e", b"K\x00", b"U\x03CET")),
            "2026-11-23T03:24:05.123456+01:00",
        ),
        (call(named("pytz", "_UTC")), "UTC"),
    ],
)  # fmt: skip
def test_python_2_and_pytz(value, expected):
    """Python 2 packs times into a str, and its time zones are pytz's."""
    assert decode(record(value))["x0"] == expected


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("datetime", [b"C\x0a" + PACKED.replace(b"\x0b", b"\x7f")]),
        ("datetime", [b"C\x0a" + b"\0" * 10]),
        ("datetime", [b"C\x09" + PACKED[:9]]),
        ("datetime", [b"M\xea\x07", b"K\x0b", b"K\x17"]),
        ("datetime", []),
        ("datetime", [b"N"]),
        ("datetime", [b"C\x0a" + PACKED.replace(b"\x0b", b"\x7f"), named("os", "system")]),
        ("datetime", [call(named("_codecs", "encode"), text("€" * 10), text("latin1"))]),
        ("datetime", [call(named("_codecs", "encode"), text("a" * 10), text("zlib"))]),
        ("date", [b"C\x04\x07\xea\x0d\x17"]),
        ("date", [b"C\x0a" + PACKED]),
        ("date", []),
        ("time", [b"C\x06\x30\0\0\0\0\0"]),
        ("time", [b"C\x04aaaa"]),
        ("time", [b"C\x06\0\0\0\0\0\0", b"N"]),
        ("time", []),
        ("timedelta", [b"K\x01"] * 4),
        ("timedelta", [text("1")]),
        ("timedelta", [b"\x8a\x08" + b"\x7f" * 8]),
        ("timedelta", [b"\x8a\x06\x00\x00\x00\x00\x00\x01"]),
        ("timezone", [b"K\x01"]),
        ("timezone", [call(named("datetime", "timedelta"), b"K\x02")]),
        ("timezone", []),
    ],
)
def test_states_that_are_no_times_are_data(name, args):
    """Month 127, an hour of 48 and the like are kept as an object, and nothing is raised."""
    got = decode(record(call(named("datetime", name), *args)))["x0"]
    assert got["__class__"] == f"datetime.{name}"
    assert len(got.get("args", [])) == len(args)


@pytest.mark.parametrize(
    "zone",
    [
        call(named("zoneinfo", "ZoneInfo"), text("x" * 200)),
        call(named("pytz", "_p"), text("x"), b"J\x80\x51\x01\x00"),
        call(named("pytz", "_p"), b"N", b"K\x01"),
        named("os", "system"),
        b"K\x01",
    ],
)
def test_zones_that_are_none(zone):
    """They are data beside the local time."""
    got = decode(record(call(named("datetime", "datetime"), b"C\x0a" + PACKED, zone)))["x0"]
    assert got["args"][0] == "2026-11-23T03:24:05.123456"
    got = decode(record(call(named("datetime", "time"), b"C\x06\x03\x18\x05\0\0\0", zone)))["x0"]
    assert got["__class__"] == "datetime.time"
