"""Serves the page over records, and looks at it in tabs of a browser."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from prefork_logd.web import one_time_token
from prefork_logd.web.page_files import PageFiles
from prefork_logd.web.users import hash_password
from tests.support import page, page_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from playwright.sync_api import BrowserContext, Page

PASSWORD = "correct horse"
TOML = f"""[server]
bind = ["127.0.0.1:0"]
workers = 1
[web]
bind = ["127.0.0.1:0"]
[[web.user]]
name = "vera"
password = "{hash_password(PASSWORD)}"
role = "viewer"
[errors]
batch_time = "100ms"
"""
"""A collector with groups of errors, whose page vera may view with PASSWORD."""
_SEEDED_AT_ONCE = 50_000
_PATIENT = '[web]\ndeadline = "60s"\n'
"""A test is about what is found, on a busy machine, too."""
_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts.push(entry.value);
}).observe({ type: "layout-shift", buffered: true });
"""


class Site(NamedTuple):
    """A served page."""

    address: str
    state_dir: Path


@contextlib.contextmanager
def serve(state_dir: Path, lines: Sequence[bytes]) -> Iterator[Site]:
    """Serve the whole page, with its log-in and its headers, over a store with these lines."""
    settings = page.make_settings(state_dir)
    for first in range(0, len(lines), _SEEDED_AT_ONCE):
        page.seed(settings, lines[first : first + _SEEDED_AT_ONCE], first)
    with page_server.serving(state_dir, _PATIENT) as served:
        yield Site(served.url, state_dir)


def settle(page: Page) -> None:
    """Wait until the search of a tab is done, with its fields."""
    page.locator("#fields:not([aria-busy])").wait_for(state="attached")


class Visit:
    """A tab of the browser, and what it did besides showing the page."""

    def __init__(self, context: BrowserContext, site: Site, theme: Literal["light", "dark"] = "light") -> None:
        self.site = site
        self.theme = theme
        self.complaints: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.add_init_script(_SHIFTS)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", self._look_at)
        token = one_time_token.current(PageFiles(site.state_dir))
        assert context.request.get(f"{site.address}/?token={token}", max_redirects=0).status == 303

    def _look_at(self, request) -> None:  # type: ignore[no-untyped-def]
        if not request.url.startswith((self.site.address, "data:", "blob:")):
            self.complaints.append(f"a request to {request.url}")

    def open(self, path: str) -> Page:
        """Open a view and wait until it has nothing left to load."""
        self.page.goto(self.site.address + path)
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until the search is done."""
        settle(self.page)

    def shifts(self) -> float:
        """Return how much the layout has moved without the reader's doing."""
        moved: float = self.page.evaluate("() => window.shifts.reduce((sum, value) => sum + value, 0)")
        return moved

    def messages(self) -> list[str]:
        """Return the messages of the list, in their order."""
        return self.page.locator("tr.record td.message a").all_inner_texts()


def violations(tab: Visit) -> list[str]:
    """Return what the checker axe finds in a tab as it is now, and in its colours in the other theme."""
    found = _checked(tab)
    tab.page.emulate_media(color_scheme="light" if tab.theme == "dark" else "dark")
    found += _checked(tab, runOnly=["color-contrast"])
    tab.page.emulate_media(color_scheme=tab.theme)
    return found


def _checked(tab: Visit, **options: Any) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    # Without `resultTypes` axe also describes every element that has passed, which takes longer than the check.
    found = Axe().run(tab.page, options={"resultTypes": ["violations"], **options}).response["violations"]
    return [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in found for node in one["nodes"]]


def now() -> float:
    """Return the time of the newest record: a little ago."""
    return time.time() - 1.0
