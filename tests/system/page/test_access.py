"""The page for everybody: both themes, the keyboard, a phone, a screen reader; nothing moves while it loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import shop
from tests.support.browser_tabs import Site, Visit, now, serve, violations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

RECORDS = 3000
FEW = "/?q=level%3E%3DERROR&since=10m"
"""A list of some twenty records: axe looks at each."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return the page of a shop."""
    end = now()
    with serve(tmp_path_factory.mktemp("access"), [*shop.lines(RECORDS, end - 3000, 1.0)]) as served:
        yield served


@pytest.mark.parametrize("width", [390, 1280])
def test_search_has_no_violations(visit: Callable[..., Visit], site: Site, width: int) -> None:
    """The checker axe finds nothing in the list, the open record, the fields' values, a menu and the list of keys."""
    tab = visit(site, width=width)
    page = tab.open(FEW)
    page.locator("tr.record", has_text="ERROR").first.click()
    assert not violations(tab)
    page.keyboard.press("Escape")
    if width < 720:
        page.locator("#fields-button").click()
    page.locator(".field-name", has_text="service").first.click()
    page.locator(".field-value").first.wait_for()
    page.locator("#range-button").click()
    assert not violations(tab)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.locator("dialog[open]").wait_for()
    assert not violations(tab)


def test_other_states_have_no_violations(visit: Callable[..., Visit], site: Site) -> None:
    """Nor in patterns, statistics, a context, an empty list, an error and the log-in."""
    tab = visit(site)
    page = tab.open(f"{FEW}&view=patterns")
    assert not violations(tab)
    tab.open(f"{FEW}&view=stats&stats=count,max(lineno)+by+name,tenant")
    page.locator(".chart-box").focus()
    page.keyboard.press("Shift+ArrowLeft")
    assert not violations(tab)
    tab.open(FEW)
    page.locator("tr.record").first.click()
    page.get_by_role("button", name="Context").click()
    page.locator(".menu-item", has_text="Same process").click()
    page.locator(".results-head").wait_for()
    tab.settle()
    assert not violations(tab)
    tab.open("/?q=xyzzy")
    assert not violations(tab)
    tab.open("/?q=disk+(full")
    assert not violations(tab)
    tab.complaints.clear()  # the browser notes the answer with status 400
    page.context.clear_cookies()
    page.goto(f"{site.address}/login")
    page.get_by_role("heading", name="Log in").wait_for()
    assert not violations(tab)


@pytest.mark.parametrize("width", [390, 1024, 1600])
def test_nothing_moves_while_it_loads(visit: Callable[..., Visit], site: Site, width: int) -> None:
    """The layout shift of a whole search is zero."""
    tab = visit(site, width=width)
    tab.open("/")
    assert len(tab.messages()) == 50
    assert tab.shifts() == 0


def test_a_phone_needs_no_sideways_scrolling(visit: Callable[..., Visit], site: Site) -> None:
    """At 390 pixels nothing is wider than the screen, and the record covers it."""
    tab = visit(site, width=390, height=844)
    page = tab.open("/")
    width = "() => document.documentElement.scrollWidth"
    assert page.evaluate(width) == 390
    page.locator("tr.record").first.click()
    assert page.evaluate(width) == 390
    assert (page.locator("#detail").bounding_box() or {})["width"] == 390
    page.get_by_role("button", name="Close the record").click()
    assert not page.locator("#detail").is_visible()


def test_the_keyboard_is_enough(visit: Callable[..., Visit], site: Site) -> None:
    """j, k, Enter, Esc and / do what the list of keys says, and do nothing while text is written."""
    tab = visit(site)
    page = tab.open("/")
    messages = tab.messages()
    for key in "jjk":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    assert page.locator("#detail .text-block").inner_text() == messages[0].removesuffix("\n")
    page.keyboard.press("j")
    assert page.locator("#detail .text-block").inner_text() == messages[1]
    page.keyboard.press("Escape")
    assert not page.locator("#detail").is_visible()
    assert page.evaluate("() => document.activeElement.closest('tr') !== null")
    page.keyboard.press("/")
    page.keyboard.type("jk?")
    assert page.locator("#query").input_value() == "jk?"
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("dialog[open]").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_the_theme_is_remembered(visit: Callable[..., Visit], site: Site) -> None:
    """A chosen theme counts more than the system's, from the first paint of the next view on."""
    tab = visit(site, theme="light")
    page = tab.open("/")
    background = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Theme").click()
    page.locator(".menu-item", has_text="Dark").click()
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    assert page.evaluate(background) == dark
    tab.settle()


def test_times_are_in_the_readers_zone(visit: Callable[..., Visit], site: Site) -> None:
    """The list has the zone's clock; the exact time, in the zone and in UTC, is the tip."""
    tokyo, utc = visit(site, zone="Asia/Tokyo"), visit(site, zone="UTC")
    until = int(now() - 60)
    for tab in (tokyo, utc):
        tab.open(f"/?until=@{until}")
    there, here = (tab.page.locator("tr.record time").first for tab in (tokyo, utc))
    assert there.inner_text()[2:] == here.inner_text()[2:]
    assert (int(there.inner_text()[:2]) - int(here.inner_text()[:2])) % 24 == 9
    tip = there.get_attribute("title") or ""
    assert "UTC+09:00" in tip
    assert tip.endswith("Z")
    tokyo.page.locator("#range-button").click()
    tokyo.page.locator(".range select").select_option("UTC")
    tokyo.settle()
    assert tokyo.page.locator("tr.record time").first.inner_text() == here.inner_text()
