"""Reads configurations for tests: what their problems are, and a few tables to begin with."""

from __future__ import annotations

import pytest

from prefork_logd.config.load import loads
from prefork_logd.errors import ConfigError

STATE = {"state_dir": "/state"}
STORES = """
[[store]]
type = "parquet"
path = "db/all"
[[store]]
type = "parquet"
level = "ERROR"
path = "errors"
[[store]]
name = "archive"
type = "custom"
factory = "company.logs:Archive"
options = { tier = 2 }
"""


def problems(text: str, source: str = "x.toml", **overrides: object) -> list[str]:
    """Return the problems of a text, which has some."""
    with pytest.raises(ConfigError) as caught:
        loads(text, source, {**STATE, **overrides})
    return [str(problem) for problem in caught.value.problems]
