"""The settings that every store has: what cannot be used is named, and what is left out means everything."""

from __future__ import annotations

import pytest

from prefork_logd.config.stores.custom import CustomStoreSettings
from tests.support.settings import problems

STORE = '[[store]]\ntype = "custom"\nfactory = "a:b"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('level = "LOUD"', "x.toml:4: store.level: "),
        ('loggers = ["a", ""]', "x.toml:4: store.loggers: holds an empty name"),
        ('services = [""]', "x.toml:4: store.services: "),
        ('environments = [""]', "x.toml:4: store.environments: "),
        ('batch_time = "soon"', "x.toml:4: store.batch_time: 'soon' is not a duration"),
        ('batch_time = "1h"', "x.toml:4: store.batch_time: must be "),
        ("batch_records = 0", "x.toml:4: store.batch_records: "),
    ],
)
def test_what_cannot_be_used_is_a_problem(text: str, problem: str) -> None:
    """With its place."""
    (told,) = problems(STORE + text)
    assert told.startswith(problem)


@pytest.mark.parametrize(
    ("values", "is_filtered"),
    [
        ({}, False),
        ({"level": "NOTSET"}, False),
        ({"level": "INFO"}, True),
        ({"level": 1}, True),
        ({"loggers": ("a",)}, True),
        ({"services": ("a",)}, True),
        ({"environments": ("a",)}, True),
    ],
)
def test_a_store_without_conditions_gets_every_record(values: dict[str, object], *, is_filtered: bool) -> None:
    """Each condition leaves some out."""
    assert CustomStoreSettings(factory="a:b", **values).is_filtered is is_filtered  # type: ignore[arg-type]
