"""Usual values: the same data as the long way makes, and nothing of a value that may run code of a service."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import logging
import pathlib
import uuid
import zoneinfo
from typing import Any

import pytest

from prefork_logd.handlers import _usual, _values, make_pickle

read_one: Any = _usual.read_one
read_usual: Any = _usual.read_usual
usual_reader: Any = _usual.usual_reader
NOON = dt.datetime(2026, 1, 2, 12, 30)  # noqa: DTZ001 - a time without a zone
PARIS = zoneinfo.ZoneInfo("Europe/Paris")


class State(enum.Enum):
    """A member with a name and a value."""

    PAID = 1


class Text(enum.StrEnum):
    """Texts."""

    PAID = "paid"


class Number(enum.IntFlag):
    """Numbers."""

    PAID = 4
    SENT = 8


CONTAINERS = (dict, list, tuple, set, frozenset, collections.deque)
USUAL: list[Any] = [
    NOON, NOON.replace(tzinfo=dt.UTC), NOON.replace(tzinfo=PARIS), NOON.date(), NOON.time(), dt.timedelta(seconds=1.5),
    decimal.Decimal("1.50"), decimal.Decimal("NaN"), fractions.Fraction(1, 3), uuid.UUID(int=7),
    pathlib.Path("/srv/a,b:c@d"), pathlib.PureWindowsPath("C:/a"), ipaddress.ip_address("::1"),
    ipaddress.ip_network("10.0.0.0/8"), State.PAID, Text.PAID, Number.PAID, Number.PAID | Number.SENT,
    [1, "a", None, NOON], {"a": State.PAID, 2: decimal.Decimal(1)}, (1, 2.5), [], {},
    {1}, frozenset([b"a"]), collections.deque([1]), {"a": 1, 2: "b", None: None},
]  # fmt: skip


@pytest.mark.parametrize("value", USUAL, ids=repr)
def test_usual_values_are_as_the_long_way_makes_them(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    made = read_usual({"a": 1, "x": value})
    assert list(made) == ["a", "x"]
    found = made["x"]
    assert read_one(value) == (None if isinstance(value, CONTAINERS) else found)
    monkeypatch.setattr(_values, "read_one", lambda _: None)
    reading: Any = _values.Reading()
    expected = reading.attribute("x", value)
    assert found == expected
    assert type(found) is type(expected)


class Zone(dt.tzinfo):
    """May take its time."""

    def utcoffset(self, _: object) -> dt.timedelta:
        raise AssertionError("it is asked")


class Money(decimal.Decimal):
    """Has a text of its own."""


class Slow(enum.Enum):
    """Gets attributes in its own way."""

    PAID = 1

    def __getattribute__(self, name: str) -> Any:
        return super().__getattribute__(name)


class Odd(type):
    """A metaclass that lets nothing be found out."""

    def __getattribute__(cls, name: str) -> Any:
        raise AttributeError(name)

    def __hash__(cls) -> int:
        raise TypeError


class Closed(metaclass=Odd):
    """Closed."""


class Pair(enum.Enum):
    """A member whose value is not plain."""

    PAID = (1, 2)


class Credentials(enum.Enum):
    """A class of secrets."""

    ROOT = "s3cret"


class ApiSecret(enum.StrEnum):
    """Another one."""

    ROOT = "s3cret"


UNUSUAL: list[Any] = [
    NOON.replace(tzinfo=Zone()), Money(1), Slow.__members__["PAID"], Closed(), Pair.PAID, object(), int, len,
    uuid.UUID.__new__(uuid.UUID), decimal.Decimal("1" * 10_001), [[1]], [object()],
    {"a": [1]}, {"a": object()}, {(1,): 1}, [*range(101)], dict.fromkeys(range(101)), collections.OrderedDict(a=1),
    bytearray(b"a"),
]  # fmt: skip


@pytest.mark.parametrize("value", UNUSUAL, ids=map(str, range(len(UNUSUAL))))
def test_every_other_value_is_left_to_the_long_way(value: object) -> None:
    assert read_one(value) is None
    assert read_usual({"a": 1, "x": value}) is None


@pytest.mark.parametrize("value", [Credentials.ROOT, ApiSecret.ROOT, [ApiSecret.ROOT], {"a": Credentials.ROOT}])
def test_members_of_a_class_of_secrets_are_hidden(value: object) -> None:
    made = logging.makeLogRecord({"msg": "hello", "x": value})
    for _ in range(2):
        data = make_pickle(made)
        assert b"s3cret" not in data
        assert b"**********" in data


def test_a_container_is_copied() -> None:
    values = {"a": [1], "b": {"c": 2}}
    found = read_usual(values)
    values["a"].append(2)  # type: ignore[attr-defined]
    values["b"]["d"] = 3  # type: ignore[index]
    assert found == {"a": [1], "b": {"c": 2}}


def test_many_attributes_are_left_to_the_long_way() -> None:
    """It has the budget of the record."""
    assert read_usual(dict.fromkeys(range(33), 1)) is None
    assert read_usual(dict.fromkeys(range(32), (1,))) == dict.fromkeys(range(32), [1])  # noqa: RUF024


def test_classes_and_zones_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_usual, "_MOST_CLASSES", 3)
    monkeypatch.setattr(_usual, "_readers", {})
    monkeypatch.setattr(_usual, "_zones", {})
    for number in range(10):
        kind: Any = enum.Enum(f"State{number}", {"PAID": number})
        assert read_one(kind.PAID)["value"] == number
        zone: Any = type("Zone", (Zone,), {})
        assert read_one(NOON.replace(tzinfo=zone())) is None
    assert len(_usual._readers) <= 3
    assert len(_usual._zones) <= 3
