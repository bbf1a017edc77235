"""The view of alerts in a browser: a rule is made, fires and is over, without a reload; silences, tests, changes."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser_tabs import PASSWORD, TOML, Site, Visit, violations
from tests.support.harness import Collector
from tests.support.hostile_texts import MARKUP, TURNED
from tests.support.shop import error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

DEADLINE_S = 30.0
RULES = """[[receiver]]
name = "ops"
type = "webhook"
url = "http://127.0.0.1:PORT/"
[[receiver]]
name = "nobody"
type = "webhook"
url = "http://127.0.0.1:9/"
[[alert]]
name = "new errors"
on = "new-group"
every = "1s"
send = ["ops"]
[[store]]
type = "parquet"
"""


class Chat:
    """A receiver that keeps what is posted to it."""

    def __init__(self) -> None:
        got: list[Any] = []
        self.got = got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Write nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self.server.shutdown()
        self.server.server_close()


class Running:
    """A collector with a page and rules, and the receiver of their notices."""

    def __init__(self, collector: Collector, chat: Chat) -> None:
        self.collector = collector
        self.chat = chat
        (url,) = json.loads(collector.cli("status", "--json").stdout)["page"]["urls"]
        self.site = Site(url.partition("/?")[0], collector.state_dir)

    def log(self, *records: dict[str, Any]) -> None:
        """Send records as JSON lines."""
        with self.collector.connect() as sock:
            sock.sendall(b"".join(json.dumps(one).encode() + b"\n" for one in records))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Return a collector with one rule of its configuration."""
    with contextlib.closing(Chat()) as chat:
        toml = (TOML + RULES).replace("PORT", str(chat.server.server_port))
        collector = Collector(tmp_path_factory.mktemp("alerts") / "state", toml).start()
        try:
            yield Running(collector, chat)
            assert collector.stop() == 0
        finally:
            collector.clean_up()


def show(tab: Visit, path: str) -> None:
    """Open the view and wait for its rules, or for one."""
    tab.page.goto(tab.site.address + path)
    tab.page.locator(".alerts .table, .definition, .alerts .state").first.wait_for()


def make_rule(tab: Visit, name: str, query: str, receiver: str = "ops") -> None:
    """Make a rule that fires above two records in three seconds."""
    page = tab.page
    page.get_by_role("button", name="New rule").click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Query").fill(query)
    page.get_by_label("Within").fill("3s")
    page.get_by_label("More than").fill("2")
    page.get_by_label(receiver).check()
    page.get_by_text("When, and how often").click()
    page.get_by_label("Evaluate every").fill("1s")
    page.get_by_role("button", name="Make the rule").click()
    page.locator(".definition").wait_for()


def wait_for_badge(tab: Visit, text: str) -> None:
    """Wait until the rule that is shown has a state."""
    tab.page.locator("#sign .badge", has_text=text).wait_for()


def test_a_rule_fires_and_is_over(running: Running, visit: Callable[..., Visit]) -> None:
    """A rule that was made on the page fires, its notice arrives, and it is over; all is seen without a reload."""
    tab = visit(running.site)
    page = tab.page
    show(tab, "/alerts")
    make_rule(tab, "shop warns", "logger:shop.warns")
    page.evaluate("() => { window.isSame = true; }")
    wait_for_badge(tab, "OK")
    running.log(*({"message": f"low {n}", "name": "shop.warns", "level": "WARNING"} for n in range(5)))
    wait_for_badge(tab, "Firing")
    incident = page.get_by_role("region", name="Incidents").locator("tbody tr").first
    incident.get_by_text("ops sent").wait_for()
    wait_for_badge(tab, "OK")
    incident.get_by_text("Over").wait_for()
    incident.get_by_text("ops resolved sent").wait_for()
    assert page.evaluate("() => window.isSame")
    assert len([one for one in running.chat.got if "shop warns" in json.dumps(one)]) == 2
    incident.locator("a").first.click()
    tab.settle()
    assert len(tab.messages()) == 5


def test_a_rule_is_silenced_tested_changed_and_removed(running: Running, visit: Callable[..., Visit]) -> None:
    """By its buttons; one of the configuration cannot be changed or removed here."""
    tab = visit(running.site)
    page = tab.page
    show(tab, "/alerts")
    make_rule(tab, "to change", "nothing", "nobody")
    page.get_by_role("button", name="Silence", exact=True).click()
    page.get_by_text("For an hour").click()
    page.get_by_text("Silenced", exact=True).wait_for()
    page.get_by_role("button", name="End the silence").click()
    page.get_by_text("Silenced", exact=True).wait_for(state="detached")
    page.get_by_role("button", name="Test").click()
    page.locator(".test-results .notice.failed", has_text="nobody").wait_for()
    page.get_by_role("button", name="Change").click()
    assert page.get_by_label("Query").input_value() == "nothing"
    page.get_by_label("Name").fill("changed")
    page.get_by_label("More than").fill("7")
    page.get_by_label("Of each value of the field").fill("no field")
    page.get_by_role("button", name="Save").click()
    page.locator("input[aria-invalid=true]").wait_for()
    tab.complaints.clear()
    page.get_by_label("Of each value of the field").fill("tenant")
    page.get_by_role("button", name="Save").click()
    page.locator("#title", has_text="changed").wait_for()
    page.get_by_text("More than 7 records with nothing within 3s, by tenant").wait_for()
    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_role("button", name="Remove it").click()
    page.locator(".alerts .table").first.wait_for()
    page.locator("a.title", has_text="changed").wait_for(state="detached")
    page.locator("a.title", has_text="new errors").click()
    page.get_by_text("in the configuration file").wait_for()
    assert not page.get_by_role("button", name="Change", exact=True).is_visible()
    assert not page.get_by_role("button", name="Remove", exact=True).is_visible()
    page.get_by_role("button", name="Test").click()
    page.locator(".test-results .notice.sent", has_text="ops").wait_for()
    page.go_back()
    page.locator("a.title", has_text="new errors").wait_for()


def test_a_search_becomes_a_rule(running: Running, visit: Callable[..., Visit]) -> None:
    """*Alert* opens the form with its query, which says what matches; a wrong value is named at its field."""
    tab = visit(running.site)
    page = tab.open("/?q=level%3E%3DERROR")
    page.get_by_role("button", name="Alert", exact=True).click()
    page.locator("dialog[open]").wait_for()
    assert page.get_by_label("Query").input_value() == "level>=ERROR"
    page.get_by_text("now, in the last 5m").wait_for()
    page.get_by_label("Query").fill("level>=(")
    page.locator("[data-key=query] .menu-note.error-text").wait_for()
    page.get_by_label("Query").fill("level>=ERROR")
    page.get_by_label("Name").fill("many errors")
    page.get_by_role("button", name="Make the rule").click()
    page.locator(".rule-form [role=alert]", has_text="Choose who is told").wait_for()
    page.get_by_label("ops").check()
    page.get_by_label("Within").fill("soon")
    page.get_by_role("button", name="Make the rule").click()
    page.locator("[data-key=window] [aria-invalid=true]").wait_for()
    assert "window" in page.locator(".rule-form [role=alert]").inner_text()
    page.get_by_label("Within").fill("10m")
    page.get_by_role("button", name="Make the rule").click()
    page.locator("#title", has_text="many errors").wait_for()
    assert page.url.endswith("/alerts?rule=many+errors")
    tab.complaints.clear()  # the browser notes the answers with status 400


def test_hostile_incidents_are_text(running: Running, visit: Callable[..., Visit]) -> None:
    """A group with a hostile title makes an incident; a rule with a hostile query is listed."""
    running.log(*(error(f"Evil{n}", evil, service=evil, module="evils") for n, evil in enumerate((MARKUP, TURNED))))
    tab = visit(running.site)
    page = tab.page
    show(tab, "/alerts")
    make_rule(tab, "hostile", f"message~'{TURNED[:8]}' {MARKUP.split()[0]}")
    show(tab, "/alerts")
    for number in range(2):
        page.get_by_role("region", name="Incidents").locator("a", has_text=f"Evil{number}").wait_for()
    assert page.locator("img:not(.brand img), main script, main iframe, main a[href^='http:']").count() == 0
    assert not {"\u202e", "\u2066", "\x1b", "\u200b"} & set(page.locator("#main").inner_text())
    page.get_by_role("region", name="Incidents").locator("a", has_text="Evil0").click()
    page.locator(".error-group h1", has_text="Evil0").wait_for()


def test_a_viewer_reads_alerts(running: Running, visit: Callable[..., Visit]) -> None:
    """And can neither make nor change a rule."""
    tab = visit(running.site)
    page = tab.page
    page.context.clear_cookies()
    page.goto(f"{running.site.address}/alerts?rule=new+errors")
    page.get_by_label("Name").fill("vera")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.locator(".definition").wait_for()
    for name in ("Silence", "Test", "Change", "Remove"):
        assert not page.get_by_role("button", name=name, exact=True).is_visible()
    page.keyboard.press("Escape")
    page.locator("a.title", has_text="new errors").wait_for()
    assert not page.get_by_role("button", name="New rule").is_visible()
    tab.open("/")
    page.get_by_role("button", name="Export").wait_for()
    assert not page.get_by_role("button", name="Alert", exact=True).count()
    page.goto(f"{running.site.address}/system")
    page.locator("#panels h2", has_text="Services").wait_for()
    with page.expect_response("**/api/v1/status"):
        pass
    assert not page.locator("#panels", has_text="needs the right").count()


@pytest.mark.parametrize("width", [390, 1280])
def test_alerts_have_no_violations(running: Running, visit: Callable[..., Visit], width: int) -> None:
    """The checker axe finds nothing in either theme; nothing moves while it loads; nothing is wider than a phone."""
    tab = visit(running.site, width=width)
    page = tab.page
    scroll = "() => document.documentElement.scrollWidth"
    for path in ("/alerts", "/alerts?rule=new+errors", "/alerts?rule=unknown"):
        show(tab, path)
        assert not violations(tab)
        assert page.evaluate(scroll) == width
        assert tab.shifts() == 0
    show(tab, "/alerts")
    page.keyboard.press("n")
    page.get_by_text("When, and how often").click()
    assert not violations(tab)
    page.get_by_label("Alert on").select_option("regressed-group")
    assert not violations(tab)
