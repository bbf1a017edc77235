"""Searches that are kept and passed on: by name, as a link, and as a link that needs no log-in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support import shop
from tests.support.browser_tabs import Site, Visit, now, serve, settle
from tests.support.harness import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return the page of a shop."""
    end = now()
    with serve(tmp_path_factory.mktemp("sharing"), [*shop.lines(2000, end - 3000, 1.5)]) as served:
        yield served


def _copied(tab: Visit, item: str) -> str:
    tab.page.get_by_role("button", name="Share").click()
    tab.page.locator(".menu-item", has_text=item).click()
    tab.page.locator("#announcements", has_text=f"{item.removeprefix('Copy ').capitalize()} copied").wait_for()
    text: str = tab.page.evaluate("() => navigator.clipboard.readText()")
    return text


def test_a_saved_search_is_opened_and_removed(visit: Callable[..., Visit], site: Site) -> None:
    """It has the query, the range and the columns; another tab sees it, too."""
    tab = visit(site)
    page = tab.open("/?q=level%3DERROR&since=4h&columns=tenant")
    found = tab.messages()
    page.get_by_role("button", name="Saved").click()
    page.get_by_label("Save this search as").fill("Failed <b>orders</b>")
    page.keyboard.press("Enter")
    page.locator("#announcements", has_text="Saved as").wait_for()
    other = visit(site)
    other.open("/")
    other.page.get_by_role("button", name="Saved").click()
    other.page.locator(".menu-item", has_text="Failed <b>orders</b>").click()
    other.page.locator("th", has_text="tenant").wait_for()
    other.settle()
    assert other.messages() == found
    assert "since=4h" in other.page.url
    other.page.get_by_role("button", name="Saved").click()
    other.page.get_by_role("button", name="Remove Failed <b>orders</b>").click()
    other.page.get_by_text("Failed <b>orders</b>").wait_for(state="detached")


def test_a_copied_link_has_absolute_times(visit: Callable[..., Visit], site: Site) -> None:
    """So it shows the same records later."""
    tab = visit(site, zone="Asia/Tokyo")
    for since in ("yesterday", "1h"):
        tab.open(f"/?q=tenant%3Dnorth&since={since}")
        link = urlsplit(_copied(tab, "Copy link"))
        given = parse_qs(link.query)
        assert given["q"] == ["tenant=north"]
        for name in ("since", "until"):
            assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", given[name][0])
        if since == "yesterday":
            assert given["since"][0].endswith("T15:00:00.000Z")
    found = tab.messages()
    tab.page.locator("tr.record").first.click()
    tab.page.locator("#detail").get_by_role("button", name="Link").click()
    clipboard = "() => navigator.clipboard.readText()"
    wait_for(lambda: "record=" in tab.page.evaluate(clipboard), "the record's link", 60)
    assert "since=20" in tab.page.evaluate(clipboard)
    tab.open(f"{link.path}?{link.query}")
    assert tab.messages() == found


def test_times_of_a_link_and_the_note_about_them_can_be_read(visit: Callable[..., Visit], site: Site) -> None:
    """Seconds since 1970 are shown as a date; the note in the menu is not cut off."""
    tab = visit(site)
    tab.open("/?since=%401795966518.724793&until=%401795970000&tz=UTC")
    assert "@" not in tab.page.locator("#range-button").inner_text()
    assert "2026-11-29" in tab.page.locator("#range-button").inner_text()
    tab.page.get_by_role("button", name="Share").click()
    assert tab.page.locator(".menu-note").evaluate("note => note.scrollWidth <= note.clientWidth")


def test_a_read_only_link_needs_no_login(visit: Callable[..., Visit], site: Site, browser: Browser) -> None:
    """A stranger sees the records of the query, no others, and no other view's content."""
    tab = visit(site)
    tab.open("/?q=level%3DERROR&since=1h")
    found = tab.messages()
    link = _copied(tab, "Copy read-only link")
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(link)
        settle(page)
        messages = page.locator("tr.record td.message a")
        assert messages.all_inner_texts() == found
        page.locator("#query").fill("")
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "q=" not in url)
        settle(page)
        assert set(page.locator("td.level").all_inner_texts()) == {"ERROR"}
        assert context.request.get(f"{site.address}/api/v1/configuration").status == 403
    finally:
        context.close()


def test_the_reader_of_a_link_sees_nothing_that_is_refused(
    visit: Callable[..., Visit], site: Site, browser: Browser
) -> None:
    """Whatever there is to click in a record, the tools and the menus: no answer is a refusal."""
    tab = visit(site)
    tab.open("/?q=level%3DERROR&since=1h")
    link = _copied(tab, "Copy read-only link")
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    try:
        page = context.new_page()
        refused: list[str] = []
        page.on("response", lambda answer: refused.append(answer.url) if answer.status >= 400 else None)
        page.goto(link)
        settle(page)
        assert page.locator(".views a").all_inner_texts() == ["Search", "Tail"]
        assert page.locator("#tools > button").all_inner_texts() == ["View", "Export"]
        page.locator("tr.record").first.click()
        tools = page.locator(".detail-tools > button")
        tools.first.wait_for()
        assert tools.all_inner_texts()[-2:] == ["JSON", "Link"]
        assert not {"Error group", "Command"} & {*tools.all_inner_texts()}
        for name in ("JSON", "Link"):
            page.locator(".detail-tools").get_by_role("button", name=name).click()
            page.locator("#announcements", has_text="copied").first.wait_for()
        for name in ("Patterns", "Statistics"):
            page.get_by_role("button", name=name).click()
            settle(page)
        page.get_by_role("button", name="User").click()
        assert page.locator(".menu:popover-open .menu-item").all_inner_texts() == [
            "Log in\nto see more",
            "Forget the link",
        ]
        page.get_by_role("link", name="Log in").click()
        page.get_by_text("Your link shows the records of one search").wait_for()
        assert not refused
    finally:
        context.close()
