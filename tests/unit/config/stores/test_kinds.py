"""The table of the types of stores."""

from __future__ import annotations

import msgspec
import pytest

from prefork_logd.config.stores.base import StoreSettings
from prefork_logd.config.stores.kinds import DEFAULT_STORES, KINDS, Kind, store_from


def test_each_type_has_one_row() -> None:
    """Under the name that its settings have in a configuration."""
    assert list(KINDS) == ["parquet", "postgresql", "nats", "custom"]
    assert all(name == kind.type for name, kind in KINDS.items())
    assert {kind.settings for kind in KINDS.values()} <= set(StoreSettings.__subclasses__())


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_settings_come_back_from_plain_values(kind: Kind) -> None:
    """As a configuration carries them to another process."""
    settings = kind.settings(name="mine", level="ERROR", batch_records=7)
    assert store_from(msgspec.to_builtins(settings)) == settings
    assert settings.type == kind.type


@pytest.mark.parametrize("plain", [{}, {"type": None}, {"type": "oracle"}, {"type": ["nats"]}, {"type": "PARQUET"}])
def test_a_type_that_is_not_there_is_named(plain: dict[str, object]) -> None:
    """Also one that is no name."""
    with pytest.raises(msgspec.ValidationError, match="there is no store of type"):
        store_from(plain)


@pytest.mark.parametrize("values", [{"colour": 1}, {"batch_records": 0}, {"batch_records": "7"}, {"name": "a b"}])
def test_a_value_that_does_not_fit_its_type_is_an_error(values: dict[str, object]) -> None:
    """Nothing is left out or converted in silence."""
    with pytest.raises(msgspec.ValidationError):
        store_from({"type": "parquet", **values})


def test_the_default_store_has_no_problem() -> None:
    """A configuration without stores is valid."""
    assert [problem for store in DEFAULT_STORES for problem in store.problems()] == []
