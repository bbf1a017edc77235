"""Chooses the outputs that a record goes to.

Owns the level threshold and the logger filter of each output. Does not know files or lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


MAX_CACHED_ROUTES = 4096
MAX_CACHED_NAME_CHARS = 256


class Filter(Protocol):
    """The filter settings of an output or a store."""

    @property
    def levelno(self) -> int:
        """The lowest level; 0 for no threshold."""

    @property
    def loggers(self) -> tuple[str, ...]:
        """Logger names, each with its children; empty for all."""


class Router:
    """Routes records by level and logger name, as logging's handlers and filters do.

    A level of NOTSET (0) also lets records with a negative level through. Routes are cached, because one is needed for
    every record; the cache is bounded, because a client may send any number of names of any length.
    """

    def __init__(self, outputs: Sequence[Filter]) -> None:
        self._rules = tuple(
            (index, output.levelno or None, output.loggers, tuple(f"{logger}." for logger in output.loggers))
            for index, output in enumerate(outputs)
        )
        self._routes: dict[tuple[str, int], tuple[int, ...]] = {}
        self.everywhere = tuple(range(len(self._rules)))
        """The route of an unconditional router: every output."""
        self.unconditional = all(threshold is None and not names for _, threshold, names, _ in self._rules)
        """Whether every record goes to every output, so that `route` need not be called."""

    def route(self, name: str, levelno: int) -> tuple[int, ...]:
        """Return the indexes of the outputs that let a record of this logger and level through, in their order."""
        key = (name, levelno)
        found = self._routes.get(key)
        if found is not None:
            return found
        found = self._find(name, levelno)
        if len(name) <= MAX_CACHED_NAME_CHARS:
            if len(self._routes) >= MAX_CACHED_ROUTES:
                self._routes.clear()
            self._routes[key] = found
        return found

    def _find(self, name: str, levelno: int) -> tuple[int, ...]:
        return tuple(
            index
            for index, threshold, names, prefixes in self._rules
            if (threshold is None or levelno >= threshold) and (not names or name in names or name.startswith(prefixes))
        )
