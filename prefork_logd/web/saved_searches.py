"""Keeps the searches that users have saved, for everybody who may see the page.

Owns their file and their bounds. Does not know requests. The page's process alone writes the file.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from prefork_logd.errors import LogdError, ProcessError, describe_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.web.page_files import PageFiles

FILE = "searches.json"
MOST_SEARCHES = 200
MOST_OF_A_USER = 50


class SavedSearch(msgspec.Struct, frozen=True):
    """A saved search."""

    name: str
    """Each name once."""
    q: str
    since: str
    """As it was written, so that `1h` stays the last hour; empty: none."""
    until: str
    columns: list[str]
    """Fields that the page shows besides the message."""
    user: str
    """Who has saved it."""


class SearchRefusedError(LogdError):
    """A search cannot be saved or removed. The text says why."""


class NoSuchSearchError(LogdError):
    """There is no search of this name."""


_read = msgspec.json.Decoder(list[SavedSearch]).decode


class SavedSearches:
    """The saved searches of one collector."""

    def __init__(self, files: PageFiles) -> None:
        self._files = files
        self._turn = asyncio.Lock()

    async def read(self) -> list[SavedSearch]:
        """Return them by their names. Raises ProcessError if their file cannot be read."""
        return await asyncio.to_thread(self._load)

    async def save(self, search: SavedSearch, *, is_admin: bool) -> None:
        """Keep a search, in the place of one with its name that its user, or an admin, may replace.

        Raises SearchRefusedError, ProcessError.
        """

        def changed(found: list[SavedSearch]) -> list[SavedSearch]:
            others = [one for one in found if one.name != search.name]
            if len(others) < len(found):
                _check_owner(found, search.name, search.user, is_admin=is_admin)
            elif len(found) >= MOST_SEARCHES:
                raise SearchRefusedError(f"{MOST_SEARCHES} searches are saved already; remove one first")
            elif sum(one.user == search.user for one in found) >= MOST_OF_A_USER:
                raise SearchRefusedError(f"you have saved {MOST_OF_A_USER} searches already; remove one first")
            return sorted([*others, search], key=lambda one: one.name.casefold())

        await self._change(changed)

    async def remove(self, name: str, user: str, *, is_admin: bool) -> None:
        """Remove a search of a user's own; an admin may remove any.

        Raises NoSuchSearchError, SearchRefusedError, ProcessError.
        """

        def changed(found: list[SavedSearch]) -> list[SavedSearch]:
            _check_owner(found, name, user, is_admin=is_admin)
            return [one for one in found if one.name != name]

        await self._change(changed)

    async def _change(self, changed: Callable[[list[SavedSearch]], list[SavedSearch]]) -> None:
        def change() -> None:
            data = msgspec.json.encode(changed(self._load()))
            try:
                self._files.write(FILE, data)
            except OSError as error:
                raise ProcessError(f"{self._files.path(FILE)}: cannot be written: {describe_refusal(error)}") from error

        async with self._turn:
            await asyncio.to_thread(change)

    def _load(self) -> list[SavedSearch]:
        try:
            data = self._files.read(FILE)
            return _read(data) if data else []
        except OSError as error:
            raise ProcessError(f"{self._files.path(FILE)}: cannot be read: {describe_refusal(error)}") from error
        except ValueError as error:
            raise ProcessError(f"{self._files.path(FILE)}: {error}; mend the file, or remove it") from error


def _check_owner(found: list[SavedSearch], name: str, user: str, *, is_admin: bool) -> None:
    owner = next((one.user for one in found if one.name == name), None)
    if owner is None:
        raise NoSuchSearchError(f"there is no saved search {name!r}")
    if owner != user and not is_admin:
        raise SearchRefusedError(f"{owner} has saved {name!r}; only {owner} or an admin can change it")
