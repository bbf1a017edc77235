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

    @property
    def services(self) -> tuple[str, ...]:
        """Names of services; empty for all."""

    @property
    def environments(self) -> tuple[str, ...]:
        """Names of environments; empty for all."""


class Router:
    """Routes records by level and logger name, as logging's handlers and filters do, and by service and environment.

    A level of NOTSET (0) also lets records with a negative level through. Routes are cached, because one is needed for
    every record; the cache is bounded, because a client may send any number of names of any length.
    """

    def __init__(self, outputs: Sequence[Filter]) -> None:
        self._rules = tuple(
            (
                index,
                output.levelno or None,
                (output.loggers, tuple(f"{logger}." for logger in output.loggers)),
                (frozenset(output.services), frozenset(output.environments)),
            )
            for index, output in enumerate(outputs)
        )
        self._routes: dict[tuple[str, int, str, str], tuple[int, ...]] = {}
        self.everywhere = tuple(range(len(self._rules)))
        """The route of an unconditional router: every output."""
        self.unconditional = not any(
            output.levelno or output.loggers or output.services or output.environments for output in outputs
        )
        """Whether every record goes to every output, so that `route` need not be called."""

    def route(self, name: str, levelno: int, service: str = "", environment: str = "") -> tuple[int, ...]:
        """Return the indexes of the outputs that let a record through, in their order.

        The record is of this logger and level, and of the service and environment; "" if it has none.
        """
        key = (name, levelno, service, environment)
        found = self._routes.get(key)
        if found is not None:
            return found
        found = self._find(*key)
        if len(name) + len(service) + len(environment) <= MAX_CACHED_NAME_CHARS:
            if len(self._routes) >= MAX_CACHED_ROUTES:
                self._routes.clear()
            self._routes[key] = found
        return found

    def _find(self, name: str, levelno: int, service: str, environment: str) -> tuple[int, ...]:
        return tuple(
            index
            for index, threshold, (names, prefixes), (services, environments) in self._rules
            if (threshold is None or levelno >= threshold)
            and (not names or name in names or name.startswith(prefixes))
            and (not services or service in services)
            and (not environments or environment in environments)
        )
