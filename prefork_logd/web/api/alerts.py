"""Answers calls for alerts: rules with their states, incidents, silences and tests.

Owns the parameters. Does not know how rules are kept (alerts/book.py) or evaluated.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from prefork_logd.alerts.book import (
    LONGEST_SILENCE_S,
    AlertBook,
    IncidentRow,
    NoSuchRuleError,
    RuleProblemError,
    RuleRefusedError,
    RuleRow,
    TestResult,
)
from prefork_logd.config.alerts import MAX_SEND, AlertSettings
from prefork_logd.errors import ProcessError
from prefork_logd.web.api.endpoint import Asked, Call, ForbiddenError, NotFoundError
from prefork_logd.web.api.parameters import Parameter, ParameterError
from prefork_logd.web.visitors import ADMIN

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

TEST_S = 15.0
"""Longest time that the answer to a test waits for receivers."""
_POLL_S = 0.1
_Short = Annotated[str, Meta(max_length=40)]
_Name = Annotated[str, Meta(max_length=200)]
_HISTORY = (
    Parameter(name="rule", meaning="Incidents of this rule.", most=64, default=""),
    Parameter(name="open", meaning="Incidents that are open, or others.", kind="choice", choices=("yes", "no")),
    Parameter(name="limit", meaning="Most incidents.", kind="whole number", default=50, least=1, most=500),
    Parameter(name="offset", meaning="Incidents to leave out.", kind="whole number", default=0, most=1_000_000),
)


class Receiver(msgspec.Struct):
    """Where notices can be sent."""

    name: str
    type: Literal["webhook", "smtp", "command"]
    form: str
    """Of a webhook: json, slack, teams, discord, pagerduty or ntfy."""


class Alerts(msgspec.Struct):
    """The rules, and where notices can be sent."""

    enabled: bool
    problem: str
    """Why rules are not evaluated now; empty if they are."""
    receivers: list[Receiver]
    rules: list[RuleRow]


class Incidents(msgspec.Struct):
    """Incidents, the newest first."""

    incidents: list[IncidentRow]


class NewRule(msgspec.Struct, forbid_unknown_fields=True):
    """A rule; `[[alert]]` in docs/configuration.md describes the fields."""

    name: _Name
    send: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(min_length=1, max_length=MAX_SEND)]
    on: Literal["count", "absence", "new-group", "regressed-group"] = "count"
    query: Annotated[str, Meta(max_length=16_384)] = ""
    store: _Name = ""
    window: _Short = "5m"
    above: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    by: _Name = ""
    service: _Name = ""
    text: _Name = ""
    every: _Short = "1m"
    for_: _Short = msgspec.field(name="for", default="0s")
    repeat: _Short = ""
    resolved: bool = True


class Silence(msgspec.Struct, forbid_unknown_fields=True):
    """The time in which no notice is sent."""

    for_s: Annotated[float, Meta(ge=0, le=LONGEST_SILENCE_S)]
    """Seconds from now on; 0 ends the silence."""


class TestResults(msgspec.Struct):
    """What became of a test."""

    results: list[TestResult]


async def alerts(asked: Asked) -> Alerts:
    """Return every rule with its state."""
    settings = asked.context.settings
    receivers = [Receiver(one.name, one.type, getattr(one, "form", "")) for one in settings.receiver]  # type: ignore[arg-type]
    rules = await _with_book(asked, AlertBook.rules)
    return Alerts(settings.alerts.enabled, await _problem(asked), receivers, rules)


async def _problem(asked: Asked) -> str:
    if not asked.context.settings.alerts.enabled:
        return "alerts are turned off ([alerts] enabled)"
    try:
        status = await asked.context.status()
    except ProcessError as error:
        return str(error)
    return str(status.get("alerts", {}).get("problem", ""))


async def incidents(asked: Asked) -> Incidents:
    """Return incidents."""
    values = asked.values
    is_open = None if values["open"] is None else values["open"] == "yes"
    return Incidents(
        await _with_book(
            asked,
            lambda book: book.incidents(
                values["rule"], is_open=is_open, limit=values["limit"], offset=values["offset"]
            ),
        )
    )


async def rule(asked: Asked) -> RuleRow:
    """Return one rule."""
    return await _with_book(asked, lambda book: book.rule(_name(asked)))


async def make(asked: Asked) -> RuleRow:
    """Make a rule, in the name of the user."""
    return await _with_book(asked, lambda book: book.make(_settings(asked.body), _who(asked)))


async def change(asked: Asked) -> RuleRow:
    """Change a rule of the page."""
    return await _with_book(asked, lambda book: book.change(_name(asked), _settings(asked.body), _who(asked)))


async def remove(asked: Asked) -> Alerts:
    """Remove a rule of the page."""
    await _with_book(asked, lambda book: book.remove(_name(asked)))
    return await alerts(asked)


async def silence(asked: Asked) -> RuleRow:
    """Silence a rule, or end its silence."""
    return await _with_book(asked, lambda book: book.silence(_name(asked), asked.body.for_s, _who(asked)))


async def test(asked: Asked) -> TestResults:
    """Send a test notice to each receiver of a rule, and wait for their answers."""
    if not asked.context.settings.alerts.enabled:
        raise ProcessError(await _problem(asked))
    incident = await _with_book(asked, lambda book: book.begin_test(_name(asked)))
    ends_s = time.monotonic() + TEST_S
    while True:
        results, is_over = await _with_book(asked, lambda book: book.test_results(incident))
        if is_over or time.monotonic() >= ends_s:
            return TestResults(results)
        await asyncio.sleep(_POLL_S)


def _name(asked: Asked) -> str:
    return str(asked.request.path_params["rule"])


def _who(asked: Asked) -> str:
    return str(asked.request.user.display_name)


def _settings(new: NewRule) -> AlertSettings:
    return AlertSettings(**{**msgspec.structs.asdict(new), "send": tuple(new.send)})


async def _with_book(asked: Asked, work: Callable[[AlertBook], T]) -> T:
    """Return the result of `work`, called in a thread. Raises StoreError, and the errors of a call."""

    def do() -> T:
        with contextlib.closing(AlertBook(asked.context.settings, asked.context.state_dir)) as book:
            return work(book)

    try:
        return await asyncio.to_thread(do)
    except NoSuchRuleError as error:
        raise NotFoundError(str(error)) from None
    except RuleProblemError as error:
        raise ParameterError(error.key, str(error)) from None
    except RuleRefusedError as error:
        raise ForbiddenError(str(error)) from None


CALLS = (
    Call(
        path="/alerts",
        summary="List the rules of alerts with their states, and the receivers.",
        handle=alerts,
        answer=Alerts,
        for_shares=False,
    ),
    Call(
        path="/alerts",
        method="POST",
        summary="Make a rule, which names receivers of the configuration.",
        handle=make,
        answer=RuleRow,
        body=NewRule,
        scope=ADMIN,
        for_shares=False,
    ),
    Call(
        path="/alerts/incidents",
        summary="List incidents with the notices about them.",
        handle=incidents,
        answer=Incidents,
        parameters=_HISTORY,
        for_shares=False,
    ),
    Call(
        path="/alerts/{rule}",
        summary="Get one rule with its state.",
        handle=rule,
        answer=RuleRow,
        for_shares=False,
    ),
    Call(
        path="/alerts/{rule}",
        method="PUT",
        summary="Change a rule of the page, also its name.",
        handle=change,
        answer=RuleRow,
        body=NewRule,
        scope=ADMIN,
        for_shares=False,
    ),
    Call(
        path="/alerts/{rule}",
        method="DELETE",
        summary="Remove a rule of the page.",
        handle=remove,
        answer=Alerts,
        scope=ADMIN,
        for_shares=False,
    ),
    Call(
        path="/alerts/{rule}/silence",
        method="POST",
        summary="Silence a rule for a time, or end its silence.",
        handle=silence,
        answer=RuleRow,
        body=Silence,
        scope=ADMIN,
        for_shares=False,
    ),
    Call(
        path="/alerts/{rule}/test",
        method="POST",
        summary="Send a test notice to each receiver of a rule.",
        handle=test,
        answer=TestResults,
        scope=ADMIN,
        for_shares=False,
    ),
)
