"""Gives tests of alerts a receiver, and a collector whose time they move."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.support.alerting import Hook, World, hooked, toml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def hook() -> Iterator[Hook]:
    """Return a receiver that answers 200."""
    with hooked() as made:
        yield made


@pytest.fixture
def make_world(tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """Return a function that makes a collector with one rule, from the lines of the rule and of its receiver."""
    with contextlib.ExitStack() as stack:

        def make(rule: str = "", receiver: str = "") -> World:
            world = World(tmp_path, toml(hook, rule, receiver), monkeypatch)
            stack.callback(world.engine.close)
            return world

        yield make
