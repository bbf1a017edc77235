"""Reads single values of a configuration: durations, addresses, levels, paths.

Owns their spelling, and the message about a value that cannot be read. Does not know which settings there are.
"""

from __future__ import annotations

import ipaddress
import os
import re
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from prefork_logd.records.levels import LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


_MOST_NAMED = 40

LONGEST_S = 36_500 * 86_400.0
"""Longest duration of a setting: a deadline after more overflows somewhere."""
MOST_BYTES = 1 << 62
"""Largest number of bytes of a setting: more than any disk has, and little enough to be added up in 64 bits."""
MOST_FILES = 1_000_000_000
"""Largest number of files of a setting."""
LARGEST_LEVEL = 999_999_999
"""Levels are compared as 64-bit integers in records; no program uses levels beyond nine digits."""

NOT_LIVE = {"live": False}
"""Marks a setting whose new value waits for a restart."""

MAY_HOLD_PASSWORD = {form: {"password": form} for form in ("dsn", "url", "address")}
"""Marks a setting whose value is printed without the password that may be in it: a connection string, URLs of servers,
or an address whose path is a secret."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_HOUR_S, _DAY_S = 3600, 86_400
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def parse_duration(text: str) -> float:
    """Return the seconds that a duration such as "500ms", "30s", "5m", "1h", "1d" or "2w" stands for.

    Raises ValueError with a sentence for the user.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f'{text!r} is not a duration; write a number and ms, s, m, h, d or w, such as "30s" or "1d"')
    return float(match[1]) * _DURATION_UNITS[match[2]]


def format_duration(seconds: float) -> str:
    """Return a time span for a person, in its two largest units, such as "2 h 5 min"."""
    whole = int(seconds)
    for unit_s, unit, next_s, smaller in ((_DAY_S, "d", _HOUR_S, "h"), (_HOUR_S, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit_s:
            return f"{whole // unit_s} {unit} {whole % unit_s // next_s} {smaller}"
    return f"{seconds:.1f} s"


def format_count(number: int, noun: str) -> str:
    """Return a number with its noun for a person, such as "1 group" or "2,000 groups"; the plural has an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def durations(*inherited: Mapping[str, float | None], **keys: float | None) -> Mapping[str, float | None]:
    """Return a table for TimedSettings: each key with the seconds of an empty value; None: it must not be empty.

    `inherited` are the tables of the base classes.
    """
    return MappingProxyType({key: empty for table in (*inherited, keys) for key, empty in table.items()})


class TableSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one table of the configuration."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        yield from ()


class TimedSettings(TableSettings, frozen=True, kw_only=True, dict=True):
    """Settings with durations, which are parsed once: when the settings are made."""

    DURATIONS = durations()

    def __post_init__(self) -> None:
        """Read the durations. One that cannot be read is reported by `duration_problems`."""
        # Not a field: it is neither compared nor encoded, and decoding or replacing settings computes it again.
        self.__dict__["_seconds"] = {key: self._read(key) for key in self.DURATIONS}

    def _read(self, key: str) -> float | str:
        """Return the seconds, or the sentence about a duration that cannot be read."""
        text, empty = getattr(self, key), self.DURATIONS[key]
        if not text and empty is not None:
            return empty
        try:
            seconds = parse_duration(text)
        except ValueError as error:
            return str(error)
        return seconds if seconds <= LONGEST_S else f"{text[:40]!r} is longer than 100 years; write 36500d or less"

    def seconds(self, key: str) -> float:
        """Return a duration in seconds. Raises ValueError with a sentence for the user if it cannot be read."""
        found: float | str = self.__dict__["_seconds"][key]
        if isinstance(found, str):
            raise ValueError(found)  # noqa: TRY004 - the text is of the wrong form, not the type
        return found

    def duration_problems(
        self, key: str, is_usable: Callable[[float], bool], message: str
    ) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) if a duration cannot be read or used; `DURATIONS` says where it may be empty."""
        if not getattr(self, key) and self.DURATIONS[key] is not None:
            return
        try:
            if not is_usable(self.seconds(key)):
                yield key, message
        except ValueError as error:
            yield key, str(error)


def is_positive(seconds: float) -> bool:
    """Tell whether a duration is longer than 0."""
    return seconds > 0


def is_a_second(seconds: float) -> bool:
    """Tell whether a duration is a second or longer."""
    return seconds >= 1


def address_problems(addresses: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each address that cannot be read, and for one that is listed twice."""
    for address in addresses:
        try:
            split_address(address)
        except ValueError as error:
            yield str(error)
    if len(set(addresses)) < len(addresses):
        yield "lists an address twice; name each once"


def split_address(address: str) -> tuple[str, int] | str:
    """Return (host, port) of "host:port" or "[::1]:port", or the path of "unix:/path".

    Raises ValueError with a sentence for the user.
    """
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        if not path or "\0" in path:
            raise ValueError(f'{address!r} does not name a path; write "unix:/run/prefork-logd.sock"')
        return path
    host, colon, port = address.rpartition(":")
    if not colon or not host:
        raise ValueError(f'{address!r} is not an address; write "host:port", "[::1]:port" or "unix:/path"')
    if not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError(f"{address!r} needs a port from 0 to 65535 after its last colon")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            raise ValueError(f"{address!r} needs an IPv6 address between its brackets") from None
    elif ":" in host:
        raise ValueError(f'{address!r} is ambiguous; put an IPv6 address in brackets, such as "[::1]:9020"')
    return host, int(port)


def path_in(directory: str, path: str) -> str:
    """Return a path as an absolute one, seen from a directory; an empty one stays empty.

    As a text: symlinks stay in it, while `.` and `..` are taken out.
    """
    return os.path.normpath(os.path.join(directory, path)) if path else ""  # noqa: PTH118 - pathlib keeps `..`


def level_number(level: str | int, carried: Mapping[str, int] | None = None) -> int:
    """Return the number of a level given by a name of LEVELS, in any case, or as a number.

    `carried` has more names, in capitals, that records carry. Raises ValueError with a sentence for the user.
    """
    if isinstance(level, int):
        if abs(level) > LARGEST_LEVEL:
            raise ValueError(f"{level!r:.40} is not a level; write a number of nine digits or less")
        return level
    name = level.strip().upper()
    if name in LEVELS:
        return LEVELS[name]
    if carried and name in carried:
        return carried[name]
    if re.fullmatch(r"-?\d{1,9}", level):
        return int(level)
    others = ", ".join(sorted(set(carried or ()) - LEVELS.keys())[:_MOST_NAMED])
    besides = f", a name that records carry ({others})" if others else ""
    raise ValueError(f"{level!r} is not a level; write one of {', '.join(LEVELS)}{besides}, or a number")


def sender_problems(services: Iterable[str], environments: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (key, sentence) for each of these filters that holds an empty name."""
    for key, names in (("services", services), ("environments", environments)):
        if not all(names):
            yield key, "holds an empty name; leave the list empty for all records"


MIN_KEY_BYTES = 16
"""A shorter secret can be guessed by trying."""
MAX_KEY_ID_BYTES = 64
MAX_OUTPUTS = 1024
"""The scoreboard has this many slots for outputs."""
MAX_STORES = 16
MAX_SOURCES = 8
"""Each source has a process."""
MOST_WORKERS = 248
"""The scoreboard has 256 slots for workers and sources together."""
