"""Writes the addresses of the page, with the one-time token if the user may read it.

Does not know the collector's process.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefork_logd.config.settings import Settings


def page_addresses(settings: Settings, page: dict[str, Any]) -> list[str]:
    """Return the URLs of a page, from its part of the status document; none if there is no page."""
    from prefork_logd.web.addresses import page_urls

    if not page.get("bind"):
        return []
    return page_urls(page["bind"], page["scheme"], _token(settings))


def _token(settings: Settings) -> str:
    """Return the one-time token; empty for a user who may not read it, and so may not enter by it."""
    from prefork_logd.errors import ProcessError
    from prefork_logd.system.privileges import acting_as
    from prefork_logd.web import one_time_token
    from prefork_logd.web.page_files import PageFiles

    try:
        with acting_as(settings.server.user):
            return one_time_token.current(PageFiles(Path(settings.server.state_dir)))
    except (OSError, ProcessError):
        return ""
