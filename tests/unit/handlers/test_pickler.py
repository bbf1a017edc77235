"""The handler's pickler: plain data passes, and nothing else does."""

from __future__ import annotations

import collections
import decimal
import pickle
from typing import Any

import pytest

from prefork_logd.handlers import _pickler

dump_plain: Any = _pickler.dump_plain
make_pickler: Any = _pickler.make_pickler
PLAIN: list[Any] = [None, True, 1, 1 << 70, 1.5, "a", b"a", [1, {"a": (2, "b")}, {3}, frozenset([4])], {}, [], ()]


class Account:
    """Has private state, and a way to pickle it."""

    def __init__(self) -> None:
        self.token = "t0ken"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise AssertionError("its state is read")


class Text(str):  # noqa: SLOT000 - that is what it is for
    """A text that may have attributes."""


FOREIGN: list[Any] = [
    Account(), Text("a"), decimal.Decimal(1), Account, int, len, make_pickler, bytearray(b"a"), Ellipsis,
    collections.OrderedDict(), collections.deque(), object(),
]  # fmt: skip


class InPython(pickle._Pickler):
    """The pickler of an interpreter without one in C: it asks for every value."""

    dispatch_table: Any = _pickler._PlainPickler.dispatch_table
    reducer_override = _pickler._PlainPickler.reducer_override


@pytest.fixture(params=["C", "Python"], autouse=True)
def _kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "Python":
        monkeypatch.setattr(_pickler, "_PlainPickler", InPython)


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_data_passes(value: object) -> None:
    assert pickle.loads(dump_plain(value, 4)) == value
    dump, take, more = make_pickler(4)
    dump(value)
    assert pickle.loads(b"".join([*more])) == value
    take()


@pytest.mark.parametrize("value", FOREIGN, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [{"a": (value,)}]], ids=["alone", "within"])
def test_everything_else_is_refused_with_and_without_a_memo(value: object, wrap: Any) -> None:
    with pytest.raises(TypeError, match="is not plain data"):
        dump_plain(wrap(value), 4)
    with pytest.raises(TypeError, match="is not plain data"):
        make_pickler(4)[0](wrap(value))
