"""Records as pickles: bounded, and whole where that is possible."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import gc
import pathlib
import pickle
import sys
import threading
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.handlers import _pickler, _pickles, _values, make_pickle
from prefork_logd.inputs.pickles.decode import decode
from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json
from tests.support.log_records import record


class Account:
    """Has private state."""

    def __init__(self) -> None:
        self._token = "t0ken"

    def __str__(self) -> str:
        return "an account"


FOREIGN: list[tuple[Any, Any]] = [
    (Account(), {"__class__": f"{__name__}.Account", "text": "an account"}),
    ([1, {"a": Account()}], [1, {"a": {"__class__": f"{__name__}.Account", "text": "an account"}}]),
    (Account, {"__name__": f"{__name__}.Account"}),
    (record, {"__name__": f"{record.__module__}.record"}),
    (decimal.Decimal("1.50"), "1.50"),
    (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00+00:00"),
    (bytearray(b"ab"), b"ab"),
    (object, {"__name__": "builtins.object"}),
    ((1, 2), [1, 2]),
]
FOREIGN_IDS = [f"{type(value).__name__}-{number}" for number, (value, _) in enumerate(FOREIGN)]


@pytest.mark.parametrize(("value", "expected"), FOREIGN, ids=FOREIGN_IDS)
def test_values_are_made_plain(value: object, expected: object) -> None:
    assert pickle.loads(make_pickle(record("hello", x=value, y=7), is_short=True))["x"] == expected


@pytest.mark.parametrize(("value", "expected"), FOREIGN[:-1], ids=FOREIGN_IDS[:-1])
def test_the_pickler_itself_refuses_what_is_not_plain(
    value: object, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the look at what the values refer to finds nothing; the record has its exception all the same."""
    monkeypatch.setattr(_pickles, "_referents", lambda *_: [])
    monkeypatch.setattr(_pickles, "_not_plain", set())
    made = record("failed", x=value, y=7)
    try:
        {}["first"]
    except KeyError:
        made.exc_info = sys.exc_info()
    found = pickle.loads(make_pickle(made))
    assert (found["x"], found["y"]) == (expected, 7)
    assert found["prefork_logd.exception"][0]["type"] == "KeyError"
    assert "prefork_logd.truncated" not in found


def test_a_refusal_is_remembered_by_the_name_of_the_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such records are made plain at once from then on; the memory is bounded."""
    monkeypatch.setattr(_pickles, "_not_plain", set())
    refusals = []
    refuse = _pickles._dump_refused
    monkeypatch.setattr(_pickles, "_dump_refused", lambda *args: refusals.append(1) or refuse(*args))
    for _ in range(3):
        assert pickle.loads(make_pickle(record("paid", amount=decimal.Decimal(3))))["amount"] == "3"
    assert len(refusals) == 1
    monkeypatch.setattr(_pickles, "_MOST_NAMES", 2)
    for number in range(5):
        make_pickle(record("paid", **{f"x{number}": decimal.Decimal(3)}))
    assert len(_pickles._not_plain) <= 2


def test_the_hook_is_asked_for_values_that_refer_to_nothing() -> None:
    asked: list[object] = []

    def default(value: object) -> object:
        asked.append(value)
        return "money"

    made = record("paid", amount=decimal.Decimal(3))
    assert pickle.loads(make_pickle(made, default=default))["amount"] == "money"
    assert asked == [decimal.Decimal(3)]


def test_the_name_of_an_attribute_is_made_plain() -> None:
    """The names of a record's attributes may be anything that can be hashed."""
    made = record("hello")
    key: Any = Account()
    made.__dict__[key] = 5
    data = make_pickle(made)
    assert b"t0ken" not in data
    assert pickle.loads(data)["an account"] == 5


@pytest.mark.parametrize("name", ["msg", "levelname", "y"])
def test_a_name_that_is_made_plain_takes_no_other_one_s_place(name: str) -> None:
    class Name:
        def __str__(self) -> str:
            return name

    made = record("hello", y=7)
    key: Any = Name()
    made.__dict__[key] = 5
    found = pickle.loads(make_pickle(made))
    assert (found["msg"], found["levelname"], found["y"]) == ("hello", "INFO", 7)
    assert found[name + "_"] == 5


class Unhashable(type):
    """As a class with __eq__ and without __hash__ is, a class of this one cannot be hashed."""

    def __eq__(cls, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class Entity(Account, metaclass=Unhashable):
    """Claims to be equal to every class."""


ENTITY = {"__class__": f"{__name__}.Entity", "text": "an account"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Entity(), ENTITY),
        ([Entity(), 1], [ENTITY, 1]),
        ({"a": Entity()}, {"a": ENTITY}),
        ({Entity(): 1}, {"an account": 1}),
    ],
    ids=["value", "item", "value of a key", "key"],
)
def test_a_class_that_cannot_be_hashed_costs_nothing(value: object, expected: object) -> None:
    made = record("hello", x=value, y=7)
    made.levelname = Entity()  # type: ignore[assignment]
    data = make_pickle(made)
    found = pickle.loads(data)
    assert (found["x"], found["y"], found["msg"], found["levelname"]) == (expected, 7, "hello", "an account")
    assert b"t0ken" not in data


def test_python_2_takes_a_class_that_cannot_be_hashed_for_a_foreign_one() -> None:
    assert _pickles._is_plain({"x": 1, "y": None})
    assert not _pickles._is_plain({"x": Entity()})
    assert not _pickles._is_plain({"x": Account()})
    assert not _pickles._is_plain({Account(): 1})


def test_own_attributes_are_not_remembered_and_large_values_are_looked_into_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_pickles, "_not_plain", set())
    looks: list[int] = []

    def look(*values: object) -> list[object]:
        found = gc.get_referents(*values)
        looks.append(len(found))
        return found

    monkeypatch.setattr(_pickles, "_referents", look)
    for _ in range(3):
        made = record("paid", ids=list(range(100_000)))
        made.lineno = decimal.Decimal(3)  # type: ignore[assignment]
        found = pickle.loads(make_pickle(made))
        assert found["ids"][:1] == [0]
        assert found["lineno"] == "3"
    assert _pickles._not_plain == {"ids"}
    assert looks == [100_000, 0, 0]


class State(enum.Enum):
    """A member has a name and a value."""

    PAID = 1
    TO_PAY = (2, 3)


VALUES: list[Any] = [
    dt.datetime(2026, 1, 2, 3, 4, 5, 678, dt.UTC), dt.date(2026, 1, 2), dt.timedelta(1.5), decimal.Decimal("1.50"),
    uuid.UUID(int=7), pathlib.PurePosixPath("/srv"), State.PAID, State.TO_PAY, [1, "a"], {"a": 1}, (1, 2), {3},
    [dt.date(2026, 1, 2)], {"a": [State.PAID, {"b": decimal.Decimal(1)}]}, Account(), [*range(101)], None, "a", int,
]  # fmt: skip


@pytest.mark.parametrize("others", [{}, {"ids": [1]}, {"owner": Account()}, {"kind": str}])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value).partition(" at 0x")[0])
def test_a_value_is_sent_alike_whichever_way_it_is_made_plain(
    value: object, others: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a name that is new, of one that is known, beside others, and with a function that leaves every value alone."""
    monkeypatch.setattr(_pickles, "_not_plain", set())
    made = record("paid", before=1, x=value, after=2, **others)
    first = pickle.loads(make_pickle(made))
    known = pickle.loads(make_pickle(made))
    assert list(known.items()) == list(first.items())
    assert pickle.loads(make_pickle(made, default=lambda one: one)) == first
    monkeypatch.setattr(_pickles, "read_usual", lambda _: None)
    assert list(pickle.loads(make_pickle(made)).items()) == list(first.items())
    monkeypatch.setattr(_values, "read_one", lambda _: None)
    assert list(pickle.loads(make_pickle(made)).items()) == list(first.items())


def test_a_new_value_beside_a_known_one_is_made_plain_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pickles, "_not_plain", set())
    make_pickle(record("paid", ids=[1, 2]))
    for other, expected in ((decimal.Decimal(3), "3"), ([4], [4]), (Account(), FOREIGN[0][1])):
        found = pickle.loads(make_pickle(record("paid", ids=[*range(20_000)], other=other)))
        assert found["other"] == expected
        assert found["ids"][9_999:] == [9_999, {"...": 10_000}]
        _pickles._not_plain.discard("other")


@pytest.mark.parametrize(("extra", "expected"), [({"a": 1}, {"a": 1}), ({}, {})])
def test_the_fields_of_loguru_stand_beside_the_others(extra: dict[str, object], expected: dict[str, object]) -> None:
    found = pickle.loads(make_pickle(record("paid", b=2, extra=extra), is_short=True))
    assert "extra" not in found
    assert {name: found[name] for name in ("a", "b") if name in found} == {**expected, "b": 2}


@pytest.mark.parametrize("kind", [int, ValueError, type(None)])
def test_a_class_is_its_name_where_the_pickler_would_name_it(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Python 3.6 and 3.7: a class of C code refers to nothing, and the pickler asks for objects only."""
    monkeypatch.setattr(_pickles, "NAMES_CLASS", b"\x93")
    monkeypatch.setattr(_pickler._PlainPickler, "reducer_override", lambda *_: NotImplemented)
    for _ in range(2):
        found = pickle.loads(make_pickle(record("hello", x=kind, y="\u0413")))
        assert (found["x"], found["y"]) == ({"__name__": f"builtins.{kind.__name__}"}, "\u0413")


def test_one_record_does_not_exceed_the_memory_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pickles, "_not_plain", set())
    make_pickle(record("paid", **{f"x{number}": decimal.Decimal(3) for number in range(3000)}))
    assert 0 < len(_pickles._not_plain) <= _pickles._MOST_NAMES


@given(st.text(max_size=5000), st.integers(600, 4000))
def test_a_pickle_is_never_larger_than_it_may_be(text: str, max_bytes: int) -> None:
    """Texts are cut, and the record says so."""
    data = make_pickle(record("message", text=text, more=[text] * 3), None, max_bytes)
    assert len(data) <= max_bytes
    assert pickle.loads(data)["name"] == "shop"


def test_chained_exceptions_are_told_as_a_whole() -> None:
    """The cause is in exc_text beside the exception itself."""
    made = record("failed")
    try:
        try:
            {}["first"]
        except KeyError as error:
            raise RuntimeError("second") from error
    except RuntimeError:
        made.exc_info = sys.exc_info()
    told = pickle.loads(make_pickle(made))
    assert told["exc_info"] is None
    assert "KeyError: 'first'" in told["exc_text"]
    assert "direct cause" in told["exc_text"]
    assert "RuntimeError: second" in told["exc_text"]


@pytest.mark.parametrize("exc_text", [None, "", "\n"])
def test_a_newline_as_exc_text_is_not_a_traceback(exc_text: str | None) -> None:
    """Loguru sets it, so that formatters leave the traceback out."""
    made = record("failed")
    try:
        {}["discount"]
    except KeyError:
        made.exc_info = sys.exc_info()
    made.exc_text = exc_text
    assert pickle.loads(make_pickle(made))["exc_text"].endswith("KeyError: 'discount'")
    made.exc_text = "rendered before"
    assert pickle.loads(make_pickle(made))["exc_text"] == "rendered before"


def test_a_short_pickle_has_what_a_collector_needs() -> None:
    """It lacks what is empty, and what follows from `created`; a record is stored the same."""
    made = record("hello %s", "you", order=17)
    whole, short = pickle.loads(make_pickle(made)), pickle.loads(make_pickle(made, is_short=True))
    assert whole.keys() - short.keys() == {"args", "exc_info", "exc_text", "msecs", "relativeCreated"}
    assert short == {name: whole[name] for name in short}
    lines = [render_json(make_record(decode(make_pickle(made, is_short=one)), "", 1.0)) for one in (False, True)]
    assert lines[0] == lines[1]
    del made.msecs
    assert pickle.loads(make_pickle(made, is_short=True))["order"] == 17


def test_a_text_that_comes_often_is_sent_once() -> None:
    """In a large record; in a small one the reference would cost more than it saves."""
    text = "a text of thirty thousand characters" * 1000
    data = make_pickle(record("message", **{f"x{number}": text for number in range(20)}))
    assert len(data) < 2 * len(text)
    assert pickle.loads(data)["x19"] == text


def test_threads_pickle_at_the_same_time() -> None:
    """Each with a buffer of its own."""
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(200):
            found = pickle.loads(make_pickle(record("message", who=number, turn=turn, more=[turn] * 20)))
            if (found["who"], found["turn"]) != (number, turn):
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong


def test_a_message_without_a_text_of_its_own() -> None:
    """It has no arguments that might not fit, and an object is no dict because it says so."""

    class Odd:
        def __str__(self) -> str:
            raise ValueError("no text")

        __repr__ = __str__

    class Disguised:
        @property
        def __class__(self) -> type:  # type: ignore[override]
            return dict

        def __str__(self) -> str:
            return "a disguise"

    assert pickle.loads(make_pickle(record(Odd())))["msg"] == "<Odd>"
    assert pickle.loads(make_pickle(record(Disguised())))["msg"] == "a disguise"
    assert pickle.loads(make_pickle(record({})))["msg"] == "{}"


def test_an_exception_that_cannot_be_shown_has_its_traceback() -> None:
    class Odd(Exception):  # noqa: N818
        @property
        def __cause__(self) -> BaseException:  # type: ignore[override]
            raise ValueError("no cause")

    made = record("failed")
    try:
        raise Odd  # noqa: TRY301 - for its traceback
    except Odd:
        made.exc_info = sys.exc_info()
    found = pickle.loads(make_pickle(made))["exc_text"]
    assert found.startswith("Traceback (most recent call last):\n")
    assert found.endswith("Odd")
