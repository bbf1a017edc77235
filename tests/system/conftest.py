"""Fixtures of the system tests: a real collector, and the check that nothing is left of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.harness import DEFAULT_STORE, Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _open_descriptors() -> set[str]:
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{link.name} -> {link.readlink()}")
        except OSError:
            continue
    return {entry for entry in found if "/proc/" not in entry}


@pytest.fixture
def make_collector(tmp_path: Path) -> Iterator[Callable[..., Collector]]:
    """Return a function that makes a collector (not yet started) from a TOML text and flags."""
    made: list[Collector] = []
    before = _open_descriptors()

    def make(
        toml: str = "",
        *flags: str,
        env: dict[str, str] | None = None,
        name: str = "state",
        default_store: bool = DEFAULT_STORE,
    ) -> Collector:
        collector = Collector(tmp_path / name, toml, *flags, env=env, default_store=default_store)
        made.append(collector)
        return collector

    yield make
    for collector in made:
        collector.clean_up()
    assert _open_descriptors() <= before, "the test left descriptors open"


@pytest.fixture
def collector(make_collector: Callable[..., Collector]) -> Collector:
    """Return a running collector with two workers and the default output."""
    return make_collector("", "--workers", "2").start()
