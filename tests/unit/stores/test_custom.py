"""A store of the user's own code is made, and every error of that code is the store's."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.stores.custom import CustomStoreSettings
from prefork_logd.errors import StoreError
from prefork_logd.stores.custom import make_store

if TYPE_CHECKING:
    from collections.abc import Callable


def _offer(monkeypatch: pytest.MonkeyPatch, factory: Callable[..., Any]) -> CustomStoreSettings:
    module = ModuleType("shop_logs")
    monkeypatch.setattr(module, "make", factory, raising=False)
    monkeypatch.setitem(sys.modules, "shop_logs", module)
    return CustomStoreSettings(name="own", factory="shop_logs:make", options={"size": 3})


def test_the_factory_gets_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it returns is the store."""
    made: list[int] = []
    settings = _offer(monkeypatch, lambda size: (made.append(size), "the store")[1])
    assert make_store(settings) == "the store"  # type: ignore[comparison-overlap]
    assert made == [3]


def _fail(size: int) -> None:
    raise RuntimeError("no such server")


@pytest.mark.parametrize(
    ("factory", "said"), [(_fail, r"RuntimeError\('no such server'\)"), (lambda: None, r"TypeError.*'size'")]
)
def test_an_error_of_the_factory_is_an_error_of_the_store(
    factory: Callable[..., Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipper tries again; the error names store and factory."""
    with pytest.raises(StoreError, match=rf"^store own: cannot make shop_logs:make: {said}"):
        make_store(_offer(monkeypatch, factory))


@pytest.mark.parametrize("factory", ["no_such_module_of_ours:make", "shop_logs:other"])
def test_code_that_is_not_there_is_an_error_of_the_store(factory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is not installed for the collector, or a name that is spelled otherwise."""
    _offer(monkeypatch, _fail)
    with pytest.raises(StoreError, match=rf"^store own: cannot make {factory}: (ModuleNotFound|Attribute)Error"):
        make_store(CustomStoreSettings(name="own", factory=factory))
