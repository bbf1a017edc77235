"""Lists the names of levels, and chooses one for each number.

Owns the names and their numbers. Does not know loggers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

LEVELS = {
    "NOTSET": 0, "TRACE": 5, "DEBUG": 10, "INFO": 20, "NOTICE": 25, "SUCCESS": 25, "WARNING": 30, "WARN": 30,
    "ERROR": 40, "CRITICAL": 50, "FATAL": 50,
}  # fmt: skip
"""Names of levels that every collector knows: logging's, and those of loguru and syslog that logging lacks."""
_NAMES = {number: name for name, number in reversed(LEVELS.items()) if name not in {"NOTICE", "SUCCESS"}}
"""Of two names of logging the one that its records carry; 25 is a level of two programs."""


def names_of(numbers: Iterable[Any], carried: Callable[[], Mapping[str, int]]) -> dict[int, str]:
    """Return a name for each number of a level that has one.

    `carried` returns the levels by the names that records carry. It is called only for numbers that logging lacks.
    """
    wanted = {number for number in numbers if isinstance(number, int)}
    found = {number: _NAMES[number] for number in wanted & _NAMES.keys()}
    if len(found) < len(wanted):
        others = {number: name for name, number in sorted(carried().items(), reverse=True)}
        found |= {number: others[number] for number in wanted - found.keys() if number in others}
    return found
