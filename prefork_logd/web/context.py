"""Declares what every request of the page shares.

Does not know requests or routes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefork_logd.web.live import LiveRecords
from prefork_logd.web.page_files import PageFiles
from prefork_logd.web.saved_searches import SavedSearches
from prefork_logd.web.search_pool import SearchPool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from prefork_logd.config.settings import Settings


@dataclass(frozen=True, kw_only=True)
class PageContext:
    """What every request shares; it is the attribute `context` of the application's state."""

    settings: Settings
    state_dir: Path
    searches: SearchPool
    live: LiveRecords
    saved: SavedSearches
    status: Callable[[], Awaitable[dict[str, Any]]]
    """Asks the collector for its status document. Raises ProcessError if the collector cannot answer."""

    def close(self) -> None:
        """End the tails and the searches."""
        self.live.close()
        self.searches.close()


def make_context(settings: Settings, status: Callable[[], Awaitable[dict[str, Any]]]) -> PageContext:
    """Return the context of a collector with these settings. Call it where an event loop runs, and close the result."""
    return PageContext(
        settings=settings,
        state_dir=Path(settings.server.state_dir),
        searches=SearchPool(settings),
        live=LiveRecords(settings),
        saved=SavedSearches(PageFiles(Path(settings.server.state_dir))),
        status=status,
    )
