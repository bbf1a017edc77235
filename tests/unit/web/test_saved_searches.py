"""Saved searches: kept in one file, bounded in number, changed by their users and by admins."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from prefork_logd.errors import ProcessError
from prefork_logd.web import saved_searches
from prefork_logd.web.page_files import PageFiles
from prefork_logd.web.saved_searches import NoSuchSearchError, SavedSearch, SavedSearches, SearchRefusedError

if TYPE_CHECKING:
    from pathlib import Path


def search(name: str, user: str = "ada", q: str = "x") -> SavedSearch:
    """Return a search."""
    return SavedSearch(name, q, "1h", "", ["extra.tenant"], user)


def test_searches_are_kept(tmp_path: Path) -> None:
    """By name, over a restart; a name is there once."""

    async def main() -> None:
        saved = SavedSearches(PageFiles(tmp_path))
        assert await saved.read() == []
        for name in ("b", "A", "c"):
            await saved.save(search(name), is_admin=False)
        await saved.save(search("b", q="y"), is_admin=False)
        want = [search("A"), search("b", q="y"), search("c")]
        assert await saved.read() == want
        assert await SavedSearches(PageFiles(tmp_path)).read() == want
        await saved.remove("A", "ada", is_admin=False)
        assert await saved.read() == want[1:]

    asyncio.run(main())


def test_others_change_nothing(tmp_path: Path) -> None:
    """An admin does."""

    async def main() -> None:
        saved = SavedSearches(PageFiles(tmp_path))
        await saved.save(search("a"), is_admin=False)
        with pytest.raises(SearchRefusedError, match="ada has saved 'a'"):
            await saved.save(search("a", "eve"), is_admin=False)
        with pytest.raises(SearchRefusedError):
            await saved.remove("a", "eve", is_admin=False)
        with pytest.raises(NoSuchSearchError):
            await saved.remove("b", "ada", is_admin=True)
        assert await saved.read() == [search("a")]
        await saved.remove("a", "eve", is_admin=True)
        assert await saved.read() == []

    asyncio.run(main())


def test_many_at_once_are_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the bound; further ones are refused, and one can still be replaced."""
    monkeypatch.setattr(saved_searches, "MOST_SEARCHES", 20)

    async def main() -> None:
        saved = SavedSearches(PageFiles(tmp_path))
        names = [f"{number:02}" for number in range(25)]
        done = await asyncio.gather(
            *(saved.save(search(name), is_admin=False) for name in names), return_exceptions=True
        )
        assert [type(one) for one in done].count(SearchRefusedError) == 5
        assert len(await saved.read()) == 20
        await saved.save(search((await saved.read())[0].name, q="new"), is_admin=False)

    asyncio.run(main())


def test_a_file_that_cannot_be_used_is_kept(tmp_path: Path) -> None:
    """The error names it; nothing is written over it."""

    async def main() -> None:
        files = PageFiles(tmp_path)
        files.write(saved_searches.FILE, b"[{]")
        saved = SavedSearches(files)
        with pytest.raises(ProcessError, match=r"searches\.json: .*; mend the file, or remove it"):
            await saved.read()
        with pytest.raises(ProcessError):
            await saved.save(search("a"), is_admin=True)
        assert files.read(saved_searches.FILE) == b"[{]"
        files.path(saved_searches.FILE).unlink()
        files.path(saved_searches.FILE).mkdir()
        with pytest.raises(ProcessError, match="cannot be"):
            await saved.save(search("a"), is_admin=True)

    asyncio.run(main())


def test_one_user_leaves_room_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may save some; a search of one's own is still replaced."""
    monkeypatch.setattr(saved_searches, "MOST_OF_A_USER", 2)

    async def main() -> None:
        saved = SavedSearches(PageFiles(tmp_path))
        for name in ("a", "b", "b"):
            await saved.save(search(name), is_admin=False)
        with pytest.raises(SearchRefusedError, match="you have saved 2 searches already"):
            await saved.save(search("c"), is_admin=False)
        await saved.save(search("c", "eve"), is_admin=False)

    asyncio.run(main())
