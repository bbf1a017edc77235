"""Answers calls for groups of errors: the list, one group, and what people do with it.

Owns the parameters. Does not know how groups are kept (stores/errors/book.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from prefork_logd.query.fingerprints import ALGORITHMS, VARIANT, fingerprint
from prefork_logd.records.stored import read_fields
from prefork_logd.stores.errors.book import LONGEST_NOTE, ORDERS, Book, Details, Row, Wanted
from prefork_logd.stores.errors.states import STATES
from prefork_logd.web.api import records
from prefork_logd.web.api.endpoint import Asked, Call, NotFoundError
from prefork_logd.web.api.parameters import Parameter
from prefork_logd.web.visitors import ADMIN

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_LIST = (
    Parameter(name="state", meaning="Groups in this state; repeatable.", kind="choice", choices=STATES, most_values=4),
    Parameter(name="service", meaning="Groups with errors of this service.", most=200, default=""),
    Parameter(name="text", meaning="Groups with this in the title, the place or the logger.", most=200, default=""),
    Parameter(
        name="order",
        meaning="The latest error, the first error, or the count decides which groups come first.",
        kind="choice",
        choices=tuple(ORDERS),
        default="last",
    ),
    Parameter(name="limit", meaning="Most groups.", kind="whole number", default=50, least=1, most=1000),
    Parameter(name="offset", meaning="Groups to leave out.", kind="whole number", default=0, most=1_000_000),
)


class Groups(msgspec.Struct):
    """Groups of errors."""

    groups: list[Row]
    counts: dict[str, int]
    """Number of all groups in each state."""
    matching: int
    """Number of groups that the parameters let through, without `limit` and `offset`."""


class Services(msgspec.Struct):
    """Services with errors."""

    services: list[str]
    """The first 500 in the order of their names."""


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """Something that is done with a group."""

    action: Literal["resolve", "reopen", "mute", "assign", "note", "split", "join"]
    version: Annotated[str, Meta(max_length=200)] = ""
    """Of resolve: the version that has the repair."""
    for_s: Annotated[float, Meta(ge=0, le=1e10)] = 0.0
    """Of mute: for how many seconds; 0: not by time."""
    more: Annotated[int, Meta(ge=0, le=1 << 60)] = 0
    """Of mute: until so many more errors; 0: not by count."""
    text: Annotated[str, Meta(max_length=LONGEST_NOTE)] = ""
    """Of assign a name, of note the note; empty removes it. Of split the place."""


async def groups(asked: Asked) -> Groups:
    """Return groups in order."""
    values = asked.values
    wanted = Wanted(values["state"], *(values[name] for name in ("service", "text", "order", "limit", "offset")))
    return await _with_book(asked, lambda book: Groups(book.groups(wanted), book.counts(), book.matching(wanted)))


async def services(asked: Asked) -> Services:
    """Return the services that groups have errors of."""
    return await _with_book(asked, lambda book: Services(book.services()))


async def group(asked: Asked) -> Details:
    """Return everything about one group."""
    return await _with_book(asked, lambda book: book.details(_key(asked)))


async def group_of_record(asked: Asked) -> Row:
    """Return the group that a record is counted in; of a place that was split off its own one."""
    found = await records.find(asked)
    record = read_fields(found.line)
    keys = [fingerprint(record, version) for base in reversed(ALGORITHMS) for version in (base + VARIANT, base)]
    known = [key for key in keys if key is not None]
    if not known:
        raise NotFoundError(f"record {found.id} is not an error, so no group counts it")

    def first(book: Book) -> Row:
        for key in known:
            with contextlib.suppress(ValueError):
                return book.row(key)
        raise ValueError(
            f"no group counts record {found.id}: it was stored before errors were counted, or its group was removed"
        )

    return await _with_book(asked, first)


async def change(asked: Asked) -> Row:
    """Do something with a group, in the name of the user."""
    wanted: Change = asked.body
    who, key = asked.request.user.display_name, _key(asked)
    actions: dict[str, Callable[[Book], Row]] = {
        "resolve": lambda book: book.resolve(key, who, wanted.version),
        "reopen": lambda book: book.reopen(key, who),
        "mute": lambda book: book.mute(key, who, for_s=wanted.for_s, more=wanted.more),
        "assign": lambda book: book.assign(key, who, wanted.text),
        "note": lambda book: book.annotate(key, who, wanted.text),
        "split": lambda book: book.split(key, who, wanted.text),
        "join": lambda book: book.join(key, who),
    }
    return await _with_book(asked, actions[wanted.action])


def _key(asked: Asked) -> str:
    return str(asked.request.path_params["key"])


async def _with_book(asked: Asked, work: Callable[[Book], T]) -> T:
    """Return the result of `work`, called in a thread. Raises StoreError, NotFoundError."""

    def read() -> T:
        with contextlib.closing(Book(Path(asked.context.settings.errors.path))) as book:
            return work(book)

    try:
        return await asyncio.to_thread(read)
    except ValueError as error:
        raise NotFoundError(str(error)) from None


CALLS = (
    Call(
        path="/records/{id}/group",
        summary="Get the group of errors that a record is counted in.",
        handle=group_of_record,
        answer=Row,
        parameters=records.ONE,
        for_shares=False,
    ),
    Call(
        path="/errors",
        summary="List groups of errors.",
        handle=groups,
        answer=Groups,
        parameters=_LIST,
        for_shares=False,
    ),
    Call(
        path="/errors/services",
        summary="List the services that groups have errors of.",
        handle=services,
        answer=Services,
        for_shares=False,
    ),
    Call(
        path="/errors/{key}",
        summary="Get everything about one group of errors.",
        handle=group,
        answer=Details,
        for_shares=False,
    ),
    Call(
        path="/errors/{key}",
        method="POST",
        summary="Resolve, reopen, mute, assign, annotate, split or join a group of errors.",
        handle=change,
        answer=Row,
        body=Change,
        scope=ADMIN,
        for_shares=False,
    ),
)
