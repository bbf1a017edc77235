"""Declares the settings of `[alerts]`, and of `[[alert]]`: the rules by which people are told of something.

Owns their types, defaults, bounds and help. Does not know how a rule is evaluated (the room alerts). Rules that are
made on the page have the same settings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from prefork_logd.config.values import TimedSettings, durations, is_a_second

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ALERTS = 200
"""Most rules of the configuration, and as many of the page."""
MAX_SEND = 16
ALERT_NAME = re.compile(r"\w(?:[\w .-]{0,62}[\w.-])?")
ALERT_NAME_FORM = "1 to 64 letters, digits, spaces and . _ -, the first a letter or digit, the last not a space"
On = Literal["count", "absence", "new-group", "regressed-group"]
GROUP_KINDS = ("new-group", "regressed-group")
LONGEST_WINDOW_S = 7 * 86_400.0

_PAGE_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")


class AlertsSettings(TimedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Alerts: rules that are evaluated again and again, and notices to people (docs/alerts.md)."""

    DURATIONS = durations(lateness=None, give_up=None)

    enabled: Annotated[
        bool,
        Meta(description="Whether rules are evaluated: by a process that waits until there is one."),
    ] = True
    lateness: Annotated[
        str,
        Meta(
            description="How much older than its arrival a record may be so that it still counts. A longer time makes "
            "evaluations slower; a record that waits in a service's spool for longer does not count."
        ),
    ] = "1d"
    give_up: Annotated[str, Meta(description="Time after which a notice is given up that cannot be sent.")] = "1d"
    page_url: Annotated[
        str,
        Meta(
            description="The address of the page as people reach it, such as `https://logs.example.org`, for the links "
            "in notices. Empty: notices have no link."
        ),
    ] = ""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        for key in self.DURATIONS:
            yield from self.duration_problems(key, is_a_second, 'must be a second or more, such as "1d"')
        if self.page_url and not _PAGE_URL.fullmatch(self.page_url):
            yield "page_url", "is not the address of a page; write one such as https://logs.example.org"

    @property
    def lateness_s(self) -> float:
        """`lateness` in seconds."""
        return self.seconds("lateness")

    @property
    def give_up_s(self) -> float:
        """`give_up` in seconds."""
        return self.seconds("give_up")


class AlertSettings(TimedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule: its condition, how often it is evaluated, and its receivers."""

    DURATIONS = durations(window=None, every=None, for_=0.0, repeat=0.0)

    name: Annotated[str, Meta(description="Name of the rule; each name once.")] = ""
    on: Annotated[
        On,
        Meta(
            description='"count": more than `above` records of `query` within `window`. "absence": none within '
            '`window`. "new-group": a new group of errors. "regressed-group": a group that was resolved or muted '
            "and has come again."
        ),
    ] = "count"
    query: Annotated[
        str,
        Meta(max_length=16_384, description="Query in the query language (docs/query.md); empty finds every record."),
    ] = ""
    store: Annotated[
        str, Meta(max_length=200, description="Name of the store; empty: the first one that can be searched.")
    ] = ""
    window: Annotated[
        str, Meta(max_length=40, description="Time before now in which records arrive that count; 7 days at most.")
    ] = "5m"
    above: Annotated[
        int, Meta(ge=0, le=1_000_000_000, description="Number of records that is still in order (`count`).")
    ] = 0
    by: Annotated[
        str,
        Meta(
            max_length=200,
            description='A field, such as "service" (`count`, `absence`): the condition is about each of its values, '
            "and each value has incidents of its own. Empty: all records together.",
        ),
    ] = ""
    service: Annotated[
        str, Meta(max_length=200, description="Groups with errors of this service (group rules); empty: of any.")
    ] = ""
    text: Annotated[
        str,
        Meta(max_length=200, description="Groups with this text in title, place or logger (group rules)."),
    ] = ""
    every: Annotated[str, Meta(max_length=40, description="Time between evaluations, a second or more.")] = "1m"
    for_: Annotated[
        str,
        Meta(max_length=40, description="Time for which the condition has to hold before the first notice."),
    ] = msgspec.field(name="for", default="0s")
    repeat: Annotated[
        str,
        Meta(
            max_length=40,
            description="Time after which a notice is sent again while it goes on, a minute or more. Empty: never.",
        ),
    ] = ""
    resolved: Annotated[bool, Meta(description="Whether a notice is sent when the incident is over.")] = True
    send: Annotated[
        tuple[Annotated[str, Meta(max_length=64)], ...],
        Meta(max_length=MAX_SEND, description="Names of receivers (`[[receiver]]`)."),
    ] = ()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        if not ALERT_NAME.fullmatch(self.name):
            yield "name", f"needs {ALERT_NAME_FORM}"
        if self.name == "incidents":
            yield "name", "is an address of the page; choose another"
        yield from self.duration_problems("window", _is_window, 'must be from a second to 7 days, such as "5m"')
        yield from self.duration_problems("every", is_a_second, 'must be a second or more, such as "1m"')
        for key, message in self.duration_problems("for_", lambda _: True, ""):
            yield key.rstrip("_"), message
        yield from self.duration_problems("repeat", _is_a_minute, 'must be a minute or more, such as "4h", or empty')
        if not self.is_of_groups and not self._has_problem("window", "every") and self.window_s < self.every_s:
            yield "window", "is shorter than `every`, so some records would never count; write a longer one"
        if len(set(self.send)) < len(self.send):
            yield "send", "names a receiver twice; name each once"
        unused = [*(("query", "store") if self.is_of_groups else ("service", "text"))]
        unused += ["by"] if self.is_of_groups else []
        for key in unused:
            if getattr(self, key):
                yield key, f'has no meaning for on = "{self.on}"; leave it out'

    def _has_problem(self, *keys: str) -> bool:
        return any(True for key in keys for _ in self.duration_problems(key, lambda _: True, ""))

    @property
    def window_s(self) -> float:
        """`window` in seconds."""
        return self.seconds("window")

    @property
    def every_s(self) -> float:
        """`every` in seconds."""
        return self.seconds("every")

    @property
    def for_s(self) -> float:
        """`for` in seconds."""
        return self.seconds("for_")

    @property
    def repeat_s(self) -> float:
        """`repeat` in seconds; 0: never."""
        return self.seconds("repeat")

    @property
    def is_of_groups(self) -> bool:
        """Whether the rule is about groups of errors."""
        return self.on in GROUP_KINDS


def _is_window(seconds: float) -> bool:
    return 1 <= seconds <= LONGEST_WINDOW_S


def _is_a_minute(seconds: float) -> bool:
    return seconds >= 60
