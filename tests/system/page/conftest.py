"""Fixtures of the tests in a browser: Chromium, a served page, and the check that it stays quiet."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Literal

import pytest

from tests.support.browser_tabs import Site, Visit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")
"""The same browser; the first one has no windows, and needs half the time of a processor."""
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), "")
FLAGS = ("--no-sandbox", "--disable-background-networking", "--disable-component-update")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a browser without a window."""
    if not CHROMIUM:
        pytest.skip("chromium is not installed: the page is not tested in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Return a function that makes a tab for a site; at the end no tab may have complained or gone elsewhere."""
    made: list[tuple[Visit, BrowserContext]] = []

    def make(
        site: Site,
        width: int = 1280,
        height: int = 900,
        theme: Literal["light", "dark"] = "light",
        zone: str = "Europe/Berlin",
    ) -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            timezone_id=zone,
            locale="en-GB",
            permissions=["clipboard-read", "clipboard-write"],
        )
        one = Visit(context, site, theme)
        made.append((one, context))
        return one

    yield make
    for one, context in made:
        context.close()
        assert not one.complaints
