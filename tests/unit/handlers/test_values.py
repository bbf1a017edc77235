"""Plain data of values: what an object becomes, what it may cost, and what is never taken."""

from __future__ import annotations

import collections
import collections.abc
import datetime as dt
import decimal
import enum
import threading
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from prefork_logd.handlers import _values
from prefork_logd.handlers._values import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator


def read(value: object, default: Any = None) -> Any:
    return Reading(default).attribute("x", value)


class Odd:
    """Has secrets, and a text."""

    def __init__(self) -> None:
        self._token, self.password = "t0ken", "hunter2"

    def __str__(self) -> str:
        return "odd one"


class Failing:
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Color(enum.Enum):
    RED = 1


def test_only_the_leaf_that_is_no_data_is_lost() -> None:
    found = read({"user": 17, "path": "/x", "lock": threading.Lock()})
    lock = found.pop("lock")
    assert found == {"user": 17, "path": "/x"}
    assert lock["__class__"] == "_thread.lock"
    assert "unlocked" in lock["text"]


def test_another_object_is_its_text_and_class_and_never_its_state() -> None:
    assert read([Odd()]) == [{"__class__": f"{__name__}.Odd", "text": "odd one"}]


def test_an_object_whose_text_fails_costs_itself() -> None:
    assert read({"a": Failing(), "b": 1}) == {"a": {"__class__": f"{__name__}.Failing", "text": "<Failing>"}, "b": 1}


def test_an_attribute_that_fails_costs_itself() -> None:
    attrs = pytest.importorskip("attrs")

    @attrs.define
    class Order:
        number: int
        total: int

    order = Order(1, 2)
    del order.total
    assert read(order) == {"number": 1, "total": "<unreadable: AttributeError>"}


def test_the_hook_is_asked_first_for_foreign_classes_only() -> None:
    asked = []

    def default(value: Any) -> Any:
        asked.append(type(value))
        if isinstance(value, Color):
            return {"color": value.name, "when": dt.date(2026, 1, 2)}
        if isinstance(value, Failing):
            raise TypeError("not known")
        return value

    assert read({"a": Color.RED, "b": [1, "x"], "c": Odd(), "d": Failing()}, default) == {
        "a": {"color": "RED", "when": "2026-01-02"},
        "b": [1, "x"],
        "c": {"__class__": f"{__name__}.Odd", "text": "odd one"},
        "d": {"__class__": f"{__name__}.Failing", "text": "<Failing>"},
    }
    assert asked == [Color, dt.date, Odd, Failing]


def test_a_hook_that_never_ends_costs_its_value() -> None:
    found = read({"a": Odd(), "b": 2}, lambda _: [Odd()])
    assert "<truncated>" in str(found["a"])
    assert found["b"] == 2


def test_depth_values_and_cycles_are_bounded() -> None:
    reading = Reading()
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    found = reading.attribute("deep", deep)
    assert str(found).count("[") == _values._MOST_DEPTH
    assert "<truncated>" in str(found)
    assert len(reading.truncated) == 1
    assert reading.truncated[0].startswith("deep.0.0")
    own: list[Any] = [1]
    own.append(own)
    assert read(own) == [1, "<cycle>"]
    same = [1]
    assert read([same, same]) == [[1], [1]]


def test_large_containers_keep_their_first_values_and_a_count() -> None:
    reading = Reading()
    found = reading.attribute("ids", list(range(60000)))
    assert found[:2] == [0, 1]
    assert found[-1] == {"...": 50000}
    assert reading.truncated == ["ids"]
    reading = Reading()
    found = reading.attribute("by_id", {"deep": dict.fromkeys(range(20000), "x")})
    assert found["deep"]["..."] == 20000 - (len(found["deep"]) - 1)
    assert reading.truncated == ["by_id.deep"]


def test_the_time_for_the_code_of_classes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at between two values: a call that hangs is not interrupted, and it is the last one."""
    now = [100.0]
    monkeypatch.setattr(_values, "monotonic", lambda: now[0])

    class Slow:
        def __str__(self) -> str:
            now[0] += 0.2
            return "slow"

    reading = Reading()
    found = reading.attribute("x", [Slow(), Slow(), 5, [6]])
    assert found[0]["text"] == "slow"
    assert found[1:] == ["<truncated>", 5, [6]]
    assert reading.truncated == ["x.1"]


def test_keys_are_plain_too() -> None:
    assert read({1: "a", None: "b", Color.RED: "c", (1, 2): "d"}) == {
        1: "a",
        None: "b",
        "Color.RED": "c",
        "(1, 2)": "d",
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, {2}), [1, [2]]),
        (collections.deque([1]), [1]),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC), "2026-01-02T03:04:05.000006+00:00"),
        (dt.datetime(2026, 1, 2, tzinfo=ZoneInfo("Europe/Berlin")), "2026-01-02T00:00:00+01:00"),
        (dt.timedelta(minutes=1.5), 90.0),
        (decimal.Decimal("1.50"), "1.50"),
        (1 << 70, 1 << 70),
        (b"\xff", b"\xff"),
        (ValueError("bad", 7), "ValueError('bad', 7)"),
        (Odd, {"__name__": f"{__name__}.Odd"}),
    ],
    ids=str,
)
def test_values_of_the_standard_library(value: object, expected: object) -> None:
    assert read(value) == expected


def test_keys_with_the_same_text_are_all_kept() -> None:
    class Same:
        def __str__(self) -> str:
            return "same"

    found = Reading().attribute("x", {Same(): number for number in range(5)})
    assert found == {"same": 0, "same_": 1, "same__": 2, "same_2": 3, "same_3": 4}


@pytest.mark.parametrize("kind", [list, set, collections.deque])
def test_values_that_change_while_they_are_read_are_kept(kind: Any) -> None:
    """As another thread would change them."""
    values: Any = kind()
    add = values.add if kind is set else values.append

    class Growing:
        def __str__(self) -> str:
            add(len(values))
            return "grown"

    add(Growing())
    add(Growing())
    assert [found["text"] for found in Reading().attribute("x", values)] == ["grown", "grown"]


def test_a_mapping_whose_code_takes_long_keeps_its_first_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that reads each value from a disk would."""
    now = [0.0]
    monkeypatch.setattr(_values, "monotonic", lambda: now[0])

    class Slow(collections.abc.Mapping):  # type: ignore[type-arg]
        def __getitem__(self, key: int) -> int:
            now[0] += 0.01
            return key

        def __iter__(self) -> Iterator[int]:
            return iter(range(len(self)))

        def __len__(self) -> int:
            return 3_000

    reading = Reading()
    found = reading.attribute("x", Slow())
    assert reading.truncated == ["x"]
    assert 5 < len(found) < 15
    assert found["..."] == 3_000 - (len(found) - 1)
