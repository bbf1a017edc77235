"""The view of errors in a browser: the list, the page of a group, and its life without a reload."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.errors import StoreError
from prefork_logd.query.fingerprints import fingerprint
from prefork_logd.stores.errors.book import Book
from tests.support import page_server
from tests.support.browser_tabs import PASSWORD, TOML, Site, Visit, violations
from tests.support.harness import Collector, wait_for
from tests.support.hostile_texts import MARKUP, TURNED
from tests.support.shop import error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

STORE = '[[store]]\ntype = "parquet"\n'
DEADLINE_S = 30.0


class Shop:
    """A collector with a page, to which records are sent as JSON lines."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        (url,) = json.loads(collector.cli("status", "--json").stdout)["page"]["urls"]
        self.site = Site(url.partition("/?")[0], collector.state_dir)

    def log(self, *records: dict[str, Any]) -> None:
        """Send records, and wait until their groups have counted them."""
        before = self._counted()
        own = ("time", "peer", "received")
        lines = [json.dumps({k: v for k, v in one.items() if k not in own}).encode() + b"\n" for one in records]
        with self.collector.connect() as sock:
            sock.sendall(b"".join(lines))
        wait_for(lambda: self._counted() == before + len(records), "errors in their groups", DEADLINE_S)

    def _counted(self) -> int:
        with contextlib.suppress(StoreError), contextlib.closing(Book(self.site.state_dir / "groups.db")) as book:
            return sum(row.count for row in book.groups())
        return 0


def hostile() -> list[dict[str, Any]]:
    """Return errors whose every text is hostile."""
    made = []
    for number, evil in enumerate((MARKUP, TURNED, "\ud800 alone")):
        one = error(f"Hostile{number}", evil, service=evil, version=evil, environment=evil, name=evil, module="evil")
        made.append(one | {"message": evil, "extra": {evil: evil}})
    return made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Return a collector with errors of several services, some of them hostile."""
    collector = Collector(tmp_path_factory.mktemp("errors") / "state", TOML + STORE).start()
    try:
        made = Shop(collector)
        old = time.time() - 30 * 3600
        past = [error("PaymentError", f"card of user {n} declined", module="billing", service="billing",
                      line=17 + n % 2, created=old + n * 3000) for n in range(30)]  # fmt: skip
        made.log(*past, error("KeyError", "'sku'"), error("KeyError", "'sku'", service="stock"), *hostile())
        yield made
        assert collector.stop() == 0
    finally:
        collector.clean_up()


def show(tab: Visit, path: str) -> None:
    """Open the view and wait for its groups, or for the page of one."""
    tab.page.goto(tab.site.address + path)
    tab.page.locator("tr.group, .detail-body, .errors .state").first.wait_for()


def titles(tab: Visit) -> list[str]:
    """Return the titles of the list."""
    return tab.page.locator("tr.group a.title").all_inner_texts()


def wait_for_badge(tab: Visit, text: str) -> None:
    """Wait until the page of a group has a state."""
    tab.page.locator(".group-line .badge", has_text=text).wait_for()


def change(tab: Visit, button: str, *steps: str) -> None:
    """Click a button, and then texts in its menu."""
    tab.page.get_by_role("button", name=button, exact=True).click()
    for step in steps:
        tab.page.locator(".menu:popover-open").get_by_text(step, exact=True).click()


def test_a_group_lives_without_a_reload(running: Shop, visit: Callable[..., Visit]) -> None:
    """Resolved, seen to come back after a new error, muted until three more, open again; then resolved in a version."""
    tab = visit(running.site)
    page = tab.page
    show(tab, "/errors")
    running.log(error("TimeoutError", "no answer within 3 s"))
    page.locator("tr.group", has_text="TimeoutError").locator("a.title").click()
    page.evaluate("() => { window.isSame = true; }")
    wait_for_badge(tab, "New")
    change(tab, "Resolve")
    wait_for_badge(tab, "Resolved")
    assert not page.get_by_role("button", name="Mute").is_visible()
    page.locator("a.back").click()
    page.mouse.move(0, 0)
    page.locator("tr.group", has_text="TimeoutError").wait_for(state="detached")
    page.go_back()
    wait_for_badge(tab, "Resolved")
    running.log(error("TimeoutError", "no answer within 4 s"))
    wait_for_badge(tab, "Regressed")
    page.locator("#announcements", has_text="regressed").wait_for()
    page.get_by_role("button", name="Mute", exact=True).click()
    page.get_by_label("Further errors").fill("3")
    page.locator(".menu:popover-open").get_by_role("button", name="Mute").click()
    wait_for_badge(tab, "Muted")
    assert "until 3 more errors" in page.get_by_role("region", name="State", exact=True).inner_text()
    running.log(error("TimeoutError", "no answer"), error("TimeoutError", "no answer"))
    page.get_by_text("Muted until 1 more error.").wait_for()
    running.log(error("TimeoutError", "no answer"))
    page.locator(".group-line .badge", has_text="Muted").wait_for(state="detached")
    page.get_by_role("button", name="Resolve in a version").click()
    page.get_by_label("Version with the repair").fill("2.5")
    page.keyboard.press("Enter")
    wait_for_badge(tab, "Resolved")
    running.log(error("TimeoutError", "of an old server"))
    page.locator(".figure", has_text="Errors").get_by_text("6", exact=True).wait_for()
    wait_for_badge(tab, "Resolved")
    running.log(error("TimeoutError", "of a new server", version="2.5"))
    wait_for_badge(tab, "Regressed")
    history = page.locator(".history li").all_inner_texts()
    events = ["Regressed", "Resolved in 2.5 by local", "Opened again", "Muted until 3 more by local", "Regressed"]
    assert [text.split("\n")[-1] for text in history[:5]] == events
    assert page.evaluate("() => window.isSame")


def test_the_list_filters_and_orders(running: Shop, visit: Callable[..., Visit]) -> None:
    """By state, service and text; the address has the filters, so a reload shows the same groups."""
    tab = visit(running.site)
    page = tab.page
    show(tab, "/errors?show=all&order=count")
    assert titles(tab)[0] == "PaymentError: card of user <number> declined"
    row = page.locator("tr.group").first
    assert row.locator("td.number").inner_text() == "30"
    assert "in the last 24 hours" in (row.locator("svg").get_attribute("aria-label") or "")
    assert [part in row.inner_text() for part in ("do_paymenterror in billing", "billing", "2.4")] == [True] * 3
    page.get_by_label("Service").select_option("stock")
    wait_for(lambda: titles(tab) == ["KeyError: 'sku'"], "groups of a service", DEADLINE_S)
    assert page.locator("#summary").inner_text().startswith("1 group of errors")
    page.reload()
    page.locator("tr.group").first.wait_for()
    assert titles(tab) == ["KeyError: 'sku'"]
    assert page.get_by_label("Service").input_value() == "stock"
    page.get_by_label("Service").select_option("")
    page.locator("#text").fill("PAYMENT")
    wait_for(lambda: [text[:12] for text in titles(tab)] == ["PaymentError"], "groups with a text", DEADLINE_S)
    page.locator("#text").fill("xyzzy")
    page.get_by_role("heading", name="No group matches").wait_for()
    page.get_by_role("button", name="Show all groups").click()
    page.locator("tr.group button.service", has_text="stock").first.wait_for()
    page.locator("tr.group button.service", has_text="billing").click()
    wait_for(lambda: len(titles(tab)) == 1, "groups of the service that was clicked", DEADLINE_S)
    page.get_by_role("link", name="Muted").click()
    page.get_by_role("button", name="Show all groups").wait_for()
    page.go_back()
    wait_for(lambda: len(titles(tab)) == 1, "the filters before", DEADLINE_S)


def test_a_list_in_use_does_not_move(running: Shop, visit: Callable[..., Visit]) -> None:
    """While the reader points at it counts change and rows stay; afterwards the newest error is on top."""
    tab = visit(running.site)
    page = tab.page
    show(tab, "/errors?show=all&service=stock")
    row = page.locator("tr.group")
    row.hover()
    running.log(error("IndexError", "another", service="stock"), error("KeyError", "'sku'", service="stock"))
    wait_for(lambda: row.first.hover() or row.first.locator("td.number").inner_text() == "3", "a count", DEADLINE_S)
    assert titles(tab) == ["KeyError: 'sku'"]
    page.mouse.move(0, 0)
    wait_for(lambda: len(titles(tab)) == 2, "the list", DEADLINE_S)


def test_the_page_of_a_group(running: Shop, visit: Callable[..., Visit]) -> None:
    """Its link needs the beginning of the id only; it has records, places, hours, a note and an assignee."""
    key = fingerprint(error("PaymentError", module="billing"))
    assert key is not None
    tab = visit(running.site)
    page = tab.page
    show(tab, f"/errors/{key[3:11]}")
    assert page.url == f"{running.site.address}/errors/{key}"
    assert page.title() == "PaymentError: card of user <number> declined - prefork-logd"
    assert page.locator(".figure", has_text="Errors").locator("dd").first.inner_text() == "30"
    assert page.locator(".error-group .chart rect.bar-error").count() >= 20
    places = page.get_by_role("region", name="Places in the code").locator("tbody td:first-child")
    assert sorted(places.all_inner_texts()) == ["billing:17", "billing:18"]
    assert page.locator(".traceback summary").inner_text() == "1 library frame"
    assert page.locator(".traceback .ending").inner_text() == "PaymentError: card of user 29 declined"
    page.locator(".samples button").first.click()
    assert page.locator(".traceback .ending").inner_text() == "PaymentError: card of user 0 declined"
    change(tab, "Assign", "Me")
    page.get_by_text("Assigned to local").first.wait_for()
    page.get_by_role("button", name="Write a note").click()
    page.get_by_label("Note").fill(f"See {MARKUP}\n{TURNED}")
    running.log(error("PaymentError", "card of user 7 declined", module="billing", service="billing"))
    page.locator(".figure", has_text="Errors").get_by_text("31", exact=True).wait_for()
    page.get_by_role("button", name="Save").click()
    page.locator(".note-text").wait_for()
    assert "U+202E" in page.locator(".note-text").inner_text()
    page.get_by_role("link", name="Records").click()
    tab.settle()
    assert len(tab.messages()) >= 20
    assert page.locator("#query").input_value() == f"fingerprint={key}"


def test_a_place_is_split_off_and_joined(running: Shop, visit: Callable[..., Visit]) -> None:
    """By a click; the errors of the place have a page of their own, which joins them again."""
    running.log(*(error("SplitError", module="depot", line=line) for line in (5, 5, 9)))
    tab = visit(running.site)
    page = tab.page
    key = fingerprint(error("SplitError", module="depot"))
    show(tab, f"/errors/{key}")
    places = page.get_by_role("region", name="Places in the code").locator("tbody tr")
    places.filter(has_text="depot:9").get_by_role("button", name="Split off").click()
    page.locator("#announcements", has_text="depot:9").wait_for()
    wait_for(lambda: places.count() == 1, "one place", DEADLINE_S)
    assert not page.get_by_role("button", name="Join again").is_visible()
    show(tab, "/errors?show=all&text=depot:9")
    page.locator("tr.group a.title").click()
    page.locator(".group-line code", has_text="g1v:").wait_for()
    assert page.locator(".figure", has_text="Errors").locator("dd").first.inner_text() == "1"
    page.get_by_role("button", name="Join again").click()
    page.wait_for_url(f"**/errors/{key}")
    wait_for(lambda: places.count() == 2, "two places", DEADLINE_S)


def test_a_link_outlives_the_collector(running: Shop, visit: Callable[..., Visit]) -> None:
    """The same address shows the group from a copy of the state directory in another place, without any record."""
    key = fingerprint(error("KeyError"))
    copy = running.collector.state_dir.parent / "moved"
    copy.mkdir()
    for path in running.collector.state_dir.glob("groups.db*"):
        shutil.copy2(path, copy / path.name)
    with page_server.serving(copy) as served:
        tab = visit(Site(served.url, copy))
        show(tab, f"/errors/{key}")
        assert tab.page.locator(".error-group h1").inner_text() == "KeyError: 'sku'"
        assert tab.page.locator(".traceback .ending").inner_text() == "KeyError: 'sku'"
        show(tab, "/errors/g1:0000000000000000")
        assert tab.page.get_by_role("heading", name="There is no such group").is_visible()
        show(tab, "/errors/%25%E0")
        assert tab.page.get_by_role("heading", name="There is no such group").is_visible()
        assert all("status of 404" in complaint for complaint in tab.complaints)
        tab.complaints.clear()


def test_a_viewer_reads(running: Shop, visit: Callable[..., Visit]) -> None:
    """And has no button that changes anything; the page says who may."""
    tab = visit(running.site)
    page = tab.page
    page.context.clear_cookies()
    show_login = f"{running.site.address}/errors/{fingerprint(error('KeyError'))}"
    page.goto(show_login)
    page.get_by_label("Name").fill("vera")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.locator(".detail-body").wait_for()
    assert page.url == show_login
    page.get_by_text("Users with the role admin can change this.").wait_for()
    for name in ("Resolve", "Mute", "Assign", "Write a note"):
        assert not page.get_by_role("button", name=name, exact=True).is_visible()


def test_hostile_errors_are_text(running: Shop, visit: Callable[..., Visit]) -> None:
    """In the list, its filters and the page of each group nothing but text appears; the tab's title is clean."""
    tab = visit(running.site)
    page = tab.page
    show(tab, "/errors?show=all&text=Hostile")
    assert len(titles(tab)) == 3
    elements = page.locator("img:not(.brand img), main script, main iframe, main a[href^='http:']")
    for title in ("Hostile0", "Hostile1", "Hostile2"):
        assert elements.count() == 0
        assert not {"\u202e", "\u2066", "\x1b", "\u200b"} & set(page.locator("#main").inner_text())
        page.locator("tr.group", has_text=title).locator("a.title").click()
        page.locator(".detail-body").wait_for()
        assert elements.count() == 0
        assert not {"\u202e", "\u2066", "\x1b", "\u200b"} & set(page.locator("#main").inner_text() + page.title())
        page.keyboard.press("Escape")
        page.locator("tr.group").first.wait_for()


@pytest.mark.parametrize("width", [390, 1280])
def test_errors_have_no_violations(running: Shop, visit: Callable[..., Visit], width: int) -> None:
    """The checker axe finds nothing in either theme; nothing moves while it loads; nothing is wider than a phone."""
    tab = visit(running.site, width=width)
    page = tab.page
    scroll = "() => document.documentElement.scrollWidth"
    show(tab, "/errors?show=all")
    assert not violations(tab)
    assert page.evaluate(scroll) == width
    show(tab, f"/errors/{fingerprint(error('PaymentError', module='billing'))}")
    assert not violations(tab)
    assert page.evaluate(scroll) == width
    assert tab.shifts() == 0
    page.get_by_role("button", name="Mute", exact=True).click()
    assert not violations(tab)


def test_the_keyboard_is_enough_for_errors(running: Shop, visit: Callable[..., Visit]) -> None:
    """j, k, Enter and Esc go through the list and the groups, / writes a text."""
    tab = visit(running.site)
    page = tab.page
    show(tab, "/errors?show=all&order=count")
    names = titles(tab)
    for key in ("j", "j", "k", "Enter"):
        page.keyboard.press(key)
    page.locator(".detail-body").wait_for()
    assert page.locator(".error-group h1").inner_text() == names[0]
    page.keyboard.press("j")
    page.locator(".error-group h1", has_text=names[1].split(":")[0]).wait_for()
    page.keyboard.press("Escape")
    assert page.evaluate("() => document.activeElement.textContent").startswith(names[1].split(":")[0])
    page.keyboard.press("/")
    page.keyboard.type("jk")
    assert page.locator("#text").input_value() == "jk"


def test_an_ended_page_is_asked_again(running: Shop, visit: Callable[..., Visit]) -> None:
    """The list stays, says that the collector does not answer, and goes on by itself."""
    tab = visit(running.site)
    page = tab.page
    show(tab, "/errors?show=all")
    page.route("**/api/v1/errors*", lambda route: route.abort())
    page.locator("#summary.error-text", has_text="does not answer").wait_for()
    assert titles(tab)
    page.unroute("**/api/v1/errors*")
    page.locator("#summary:not(.error-text)").wait_for()
    tab.complaints.clear()  # the browser notes the requests that failed


def test_a_record_opens_its_group(running: Shop, visit: Callable[..., Visit]) -> None:
    """From the search of somebody who has found an error; Back leads to the record."""
    tab = visit(running.site)
    page = tab.open("/?since=all&q=PaymentError")
    page.locator("tr.record").first.click()
    page.get_by_role("button", name="Error group").click()
    page.locator(".error-group h1", has_text="PaymentError").wait_for()
    page.go_back()
    page.locator("#detail h2").wait_for()
    assert "PaymentError" in page.locator("#detail .traceback").inner_text()
