"""Answers calls for saved searches, and for links that share one query.

Owns what can be saved and shared. Does not know how searches are kept, or links signed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from prefork_logd.errors import StoreError
from prefork_logd.query.language import any_level
from prefork_logd.web.api.answers import Share
from prefork_logd.web.api.endpoint import Asked, Call, ForbiddenError, NotFoundError
from prefork_logd.web.api.parameters import Parameter, ParameterError, make_filters
from prefork_logd.web.api.times import until_now
from prefork_logd.web.saved_searches import NoSuchSearchError, SavedSearch, SearchRefusedError
from prefork_logd.web.shares import PATH, store_of_link
from prefork_logd.web.visitors import ADMIN

if TYPE_CHECKING:
    from prefork_logd.query.filters import Filters
    from prefork_logd.web.search_pool import Lease
    from prefork_logd.web.shares import Shares

Text = Annotated[str, Meta(max_length=64)]
NAME = Parameter(name="name", meaning="Name of the search.", most=100, is_required=True)


class NewSearch(msgspec.Struct, forbid_unknown_fields=True):
    """A search to be saved; one of the same name is replaced."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    q: Annotated[str, Meta(max_length=16_384)] = ""
    since: Text | None = None
    until: Text | None = None
    columns: Annotated[list[Annotated[str, Meta(max_length=1000)]], Meta(max_length=50)] = []


class NewShare(msgspec.Struct, forbid_unknown_fields=True):
    """The records to be shared; without `until` those until now."""

    q: Annotated[str, Meta(max_length=16_384)] = ""
    since: Text | None = None
    until: Text | None = None
    tz: Text | None = None
    store: Annotated[str, Meta(max_length=200)] | None = None
    lifetime_s: Annotated[float, Meta(gt=0)] | None = None
    """Seconds for which the link is valid; else `web.share_lifetime`."""


class Searches(msgspec.Struct):
    """The saved searches of all users, by name."""

    searches: list[SavedSearch]


async def searches(asked: Asked) -> Searches:
    """Return every saved search."""
    return Searches(await asked.context.saved.read())


async def save(asked: Asked) -> SavedSearch:
    """Save a search."""
    new: NewSearch = asked.body
    name = new.name.strip()
    if not name or not name.isprintable():
        raise ParameterError("name", "name has at least one character, and none that cannot be printed")
    _check(new)
    saved = SavedSearch(name, new.q, new.since or "", new.until or "", new.columns, asked.request.user.display_name)
    try:
        await asked.context.saved.save(saved, is_admin=_is_admin(asked))
    except SearchRefusedError as error:
        raise ForbiddenError(str(error)) from None
    return saved


async def remove(asked: Asked) -> Searches:
    """Remove a search."""
    user = asked.request.user.display_name
    try:
        await asked.context.saved.remove(asked.values["name"], user, is_admin=_is_admin(asked))
    except SearchRefusedError as error:
        raise ForbiddenError(str(error)) from None
    except NoSuchSearchError as error:
        raise NotFoundError(str(error)) from None
    return await searches(asked)


def _is_admin(asked: Asked) -> bool:
    return ADMIN in asked.request.auth.scopes


def _check(new: NewSearch | NewShare) -> Any:
    """Return the filters of a search. Raises ParameterError; any name of a level passes."""
    values = {name: getattr(new, name, None) for name in ("q", "since", "until", "tz")}
    return make_filters(values, any_level)


async def share(asked: Asked) -> Share:
    """Return a link to the records of a query, which does not need a login."""
    new: NewShare = asked.body
    filters = _check(msgspec.structs.replace(new, q=""))
    _check(new)
    shares: Shares = asked.request.app.state.shares
    try:
        store = store_of_link(asked.context.settings, new.store or None)
    except StoreError as error:
        raise ParameterError("store", str(error)) from None
    q, until, now = new.q, filters.until, time.time()
    if until is None and store is None:
        until = now
    elif until is None:
        values = {name: getattr(new, name) for name in ("q", "since", "tz")}

        def read(lease: Lease) -> Filters:
            return make_filters(values, lambda: lease.search().levels())

        q, until = await until_now(asked, store, q, read, now)
    try:
        text, expires = shares.sign(q, filters.since, until, new.lifetime_s, store, new.tz or None)
    except ValueError as error:
        raise ParameterError("", str(error)) from None
    return Share(f"{PATH}{text}", expires)


CALLS = (
    Call(path="/searches", summary="List the saved searches.", handle=searches, answer=Searches, for_shares=False),
    Call(
        path="/searches",
        method="POST",
        summary="Save a search for everybody.",
        handle=save,
        answer=SavedSearch,
        body=NewSearch,
        for_shares=False,
    ),
    Call(
        path="/searches",
        method="DELETE",
        summary="Remove a saved search of one's own; an admin may remove any.",
        handle=remove,
        answer=Searches,
        parameters=(NAME,),
        for_shares=False,
    ),
    Call(
        path="/shares",
        method="POST",
        summary="Make a link to the records of a query, which works without a login and shows nothing else.",
        handle=share,
        answer=Share,
        body=NewShare,
        for_shares=False,
    ),
)
