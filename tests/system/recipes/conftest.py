"""The fixture of the recipes: one of the page's, written to a folder, and ended afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.recipes import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.harness import Collector


@pytest.fixture
def recipe(collector: Collector, tmp_path: Path) -> Iterator[Callable[[str], Recipe]]:
    """Return a function that takes a recipe by its title, for a running collector."""
    made: list[Recipe] = []

    def take(title: str) -> Recipe:
        made.append(Recipe(title, tmp_path / "shop", collector))
        return made[-1]

    yield take
    for each in made:
        each.end()
