"""Reads the parameters of a request: known ones only, each with its bounds.

Owns the parameters that several calls have. Does not know what a call does with them.
"""

from __future__ import annotations

import re
import time
import zoneinfo
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl

from prefork_logd.config.values import format_count
from prefork_logd.errors import LogdError
from prefork_logd.query import language, tree
from prefork_logd.query.filters import Filters
from prefork_logd.query.language import QueryError
from prefork_logd.query.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import tzinfo

    from prefork_logd.query.tree import Node

MOST_BYTES = 65_536
"""Most bytes of all parameters of a request."""
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+){0,3}", re.ASCII)


class ParameterError(LogdError):
    """A parameter cannot be used. The text is a sentence for the user; `column` counts characters of `q` from 1."""

    def __init__(self, parameter: str, message: str, column: int | None = None) -> None:
        super().__init__(message)
        self.parameter = parameter
        self.column = column


class TooLargeError(LogdError):
    """A request is larger than it may be."""


Kind = Literal["text", "whole number", "number", "choice"]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a call."""

    name: str
    meaning: str
    kind: Kind = "text"
    default: Any = None
    """The value without the parameter. None: it has none."""
    least: float = 0
    most: float = 16_384
    """Of a number; of a text the most characters."""
    choices: tuple[str, ...] = ()
    is_required: bool = False
    most_values: int = 1
    """Above 1 the parameter may be repeated, and its value is a list."""

    def read(self, text: str) -> Any:
        """Return the value of a text. Raises ParameterError."""
        if self.kind == "choice":
            if text not in self.choices:
                raise self._error(f"is not {text[:100]!r}; write one of {', '.join(self.choices)}")
            return text
        if self.kind == "text":
            if len(text) > self.most:
                raise self._error(f"has at most {format_count(int(self.most), 'character')}; leave some out")
            return text
        pattern = r"\d{1,15}" if self.kind == "whole number" else r"\d{1,15}(\.\d{1,15})?"
        number = float(text) if re.fullmatch(pattern, text, re.ASCII) else -1
        if not self.least <= number <= self.most:
            raise self._error(f"is a {self.kind} from {self.least:,.10g} to {self.most:,.10g}, not {text[:100]!r}")
        return int(number) if self.kind == "whole number" else number

    def _error(self, problem: str) -> ParameterError:
        return ParameterError(self.name, f"{self.name} {problem}")


QUERY = Parameter(
    name="q", meaning="Query in the query language (docs/query.md); empty finds every record.", default=""
)
SINCE = Parameter(
    name="since", meaning="Records from then on: `15m` (ago), ISO 8601, `@` and seconds, `today`.", most=64
)
UNTIL = Parameter(name="until", meaning="Records before then, written as `since`.", most=64)
ZONE = Parameter(
    name="tz", meaning="Time zone of times without one, such as `Europe/Rome`; else the server's.", most=64
)
STORE = Parameter(name="store", meaning="Name of the store; else the first one that can be searched.", most=200)
DEADLINE = Parameter(
    name="deadline_s",
    meaning="Seconds after which the search is given up, at most `web.longest_deadline`; else `web.deadline`.",
    kind="number",
    least=0.1,
    most=86_400,
)
SEARCH = (QUERY, SINCE, UNTIL, ZONE, STORE, DEADLINE)
"""Parameters of every call that searches a store."""
ORDER = Parameter(
    name="order", meaning="Which records come first.", kind="choice", choices=("oldest", "newest"), default="newest"
)


OLDEST = Parameter(
    name="order", meaning="Which records come first.", kind="choice", choices=("oldest", "newest"), default="oldest"
)


def top(default: int, meaning: str) -> Parameter:
    """Return the parameter for a number of values."""
    return Parameter(name="top", meaning=meaning, kind="whole number", default=default, least=1, most=1000)


def read_parameters(query: bytes, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Return the value of each parameter in the query of a URL. Raises ParameterError, TooLargeError."""
    if len(query) > MOST_BYTES:
        raise TooLargeError(f"the parameters have more than {MOST_BYTES:,} bytes; write a shorter query")
    known = {parameter.name: parameter for parameter in parameters}
    found: dict[str, list[Any]] = defaultdict(list)
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError:
        raise ParameterError("", "the parameters are not percent-encoded UTF-8 of at most 1,000 fields") from None
    for name, text in pairs:
        if name not in known:
            names = ", ".join(known) or "none"
            raise ParameterError(name[:100], f"{name[:100]!r} is not a parameter of this call; it has {names}")
        parameter = known[name]
        if not text and not parameter.is_required:
            continue
        if len(found[name]) == parameter.most_values:
            most = "once" if parameter.most_values == 1 else f"at most {format_count(parameter.most_values, 'time')}"
            raise ParameterError(name, f"{name} may be written {most}")
        found[name].append(parameter.read(text))
    values: dict[str, Any] = {}
    for name, parameter in known.items():
        if parameter.is_required and not found[name]:
            raise ParameterError(name, f"{name} is missing; {parameter.meaning[:1].lower()}{parameter.meaning[1:]}")
        given = found[name] or ([] if parameter.default is None else [parameter.default])
        values[name] = given if parameter.most_values > 1 else (given[0] if given else None)
    return values


def read_zone(text: str | None) -> tzinfo | None:
    """Return the time zone of a name; None, for the server's, without a name. Raises ParameterError."""
    if not text:
        return None
    try:
        if _ZONE.fullmatch(text):
            return zoneinfo.ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        pass
    raise ParameterError("tz", f"{text!r} is not a time zone; write UTC or a name such as Europe/Rome")


def make_filters(values: Mapping[str, Any], carried: Callable[[], Mapping[str, int]], bounds: Any = None) -> Filters:
    """Return the filters of parameters, all of which have to be met; order and limit as far as they are there.

    `bounds` has `q` with its `tz`, `since` and `until`, which have to be met, too. Raises ParameterError.
    """
    now = time.time()
    zone = read_zone(values.get("tz"))
    since, until = read_time(values, "since", now, zone), read_time(values, "until", now, zone)
    node = _node("q", values.get("q") or "", now, carried, zone)
    if bounds is not None:
        least, most = read_time(vars(bounds), "since", now, None), read_time(vars(bounds), "until", now, None)
        since = least if since is None else max(since, since if least is None else least)
        until = most if until is None else min(until, until if most is None else most)
        node = tree.all_of((_node("the query of the share link", bounds.q, now, carried, read_zone(bounds.tz)), node))
    return Filters(
        since=since, until=until, tree=node, limit=values.get("limit"), order=values.get("order") or "oldest"
    ).with_range()


def _node(parameter: str, text: str, now: float, carried: Callable[[], Mapping[str, int]], zone: tzinfo | None) -> Node:
    try:
        return language.parse(text, now=now, carried=carried, zone=zone)
    except QueryError as error:
        raise ParameterError(parameter, str(error), error.column) from None


def read_time(values: Mapping[str, Any], name: str, now: float, zone: tzinfo | None) -> float | None:
    """Return a parameter with a time as seconds since 1970; None without one. Raises ParameterError."""
    text = values.get(name)
    try:
        return parse_time(text, now, zone) if text else None
    except ValueError as error:
        raise ParameterError(name, f"{name}: {error}") from None
