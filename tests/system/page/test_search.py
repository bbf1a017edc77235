"""The search view in a browser: found by clicks, with its neighbours, and found again from the address."""

from __future__ import annotations

import json
import os
import random
import re
from typing import TYPE_CHECKING

import pytest

from tests.support import shop
from tests.support.browser_tabs import Site, Visit, now, serve, violations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

RECORDS = int(os.environ.get("PREFORK_LOGD_PAGE_RECORDS", "9000"))
"""Records of the store; 1,000,000 for the figures of the issue."""
SPAN_S = 6 * 3600
CULPRIT = shop.Kind(
    0, "billing", "billing.refunds", "ERROR", "refund failed", 17, "refund",
    'Traceback (most recent call last):\n'
    '  File "/srv/venv/lib/python3.12/site-packages/celery/app/trace.py", line 453, in trace_task\n'
    "    R = retval = fun(*args)\n"
    '  File "/srv/billing/refunds.py", line 17, in refund\n'
    "    ledger[entry.id]\n"
    "KeyError: 'R-5512'",
)  # fmt: skip
NEIGHBOURS = 4


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return the page of a shop, in which one process has a traceback among its few records."""
    end = now()
    lines = [*shop.lines(RECORDS, end - SPAN_S, SPAN_S / RECORDS)]
    chance = random.Random(1)
    for step in range(-NEIGHBOURS, NEIGHBOURS + 1):
        kind = CULPRIT if step == 0 else shop.Kind(0, "billing", "billing.refunds", "INFO", "", 9, "step")
        record = shop.record_of(
            kind, end - SPAN_S / 2 + 5 * step, CULPRIT.template if step == 0 else f"refund step {step}"
        )
        record |= {
            "received": record["created"] - 3_600 if step == 0 else record["received"],
            "process": 77_001,
            "extra": {"trace_id": f"{chance.getrandbits(128):032x}", "amount": 12345678901234567890},
        }
        lines.append(shop.render(record))
    lines.sort(key=lambda line: json.loads(line)["created"])
    with serve(tmp_path_factory.mktemp("page"), lines) as served:
        yield served


def _choose_range(visit: Visit, text: str) -> None:
    visit.page.locator("#range-button").click()
    visit.page.locator(".menu-item", has_text=re.compile(f"^{text}$")).click()
    visit.settle()


def _include(visit: Visit, field: str, value: str) -> None:
    name = visit.page.locator(".field-name").filter(has=visit.page.get_by_text(field, exact=True))
    if name.get_attribute("aria-expanded") == "false":
        name.click()
    row = visit.page.locator(".field-value", has_text=value)
    row.get_by_role("button", name="Only").click()
    visit.settle()


def test_a_traceback_is_found_by_clicks_alone(visit: Callable[..., Visit], site: Site) -> None:
    """Range, level and logger lead to it; its library frames are folded, and its context is that of its process."""
    tab = visit(site)
    page = tab.open("/")
    _choose_range(tab, "Last day")
    _include(tab, "levelname", "ERROR")
    _include(tab, "name", "billing.refunds")
    assert tab.messages() == ["refund failed"]
    assert page.locator("#query").input_value() == "levelname=ERROR name=billing.refunds"
    page.locator("tr.record").click()
    detail = page.locator("#detail")
    assert "KeyError: 'R-5512'" in detail.locator(".traceback").inner_text()
    assert detail.locator(".traceback details").count() == 1
    assert not detail.get_by_text("R = retval = fun(*args)").is_visible()
    assert detail.get_by_text("ledger[entry.id]").is_visible()
    assert "60 min before its own time: the clock of its sender is ahead" in detail.inner_text()
    # Beyond 2**53: JavaScript would round it.
    assert detail.get_by_text("12345678901234567890", exact=True).is_visible()
    page.get_by_role("button", name="Context").click()
    page.locator(".menu-item", has_text="Same process").click()
    tab.settle()
    steps = [f"refund step {step}" for step in range(-NEIGHBOURS, NEIGHBOURS + 1)]
    assert tab.messages() == [*steps[:NEIGHBOURS], "refund failed", *steps[NEIGHBOURS + 1 :]]


def test_the_address_alone_shows_the_same_list(visit: Callable[..., Visit], site: Site) -> None:
    """A reload, and another tab, have the records, the columns, the zone and the open record again."""
    tab = visit(site)
    page = tab.open("/?since=1d&q=level%3E%3DERROR&columns=service,tenant&tz=Asia%2FTokyo&order=oldest")
    page.locator("tr.record").nth(3).click()
    before = tab.messages(), page.locator("th").all_inner_texts(), page.locator("#detail h2").inner_text()
    assert len(before[0]) == 50
    assert "tenant" in before[1]
    other = visit(site)
    other.open(page.url.removeprefix(site.address))
    assert (
        other.messages(),
        other.page.locator("th").all_inner_texts(),
        other.page.locator("#detail h2").inner_text(),
    ) == before


def test_more_records_follow_the_first_page(visit: Callable[..., Visit], site: Site) -> None:
    """Each page begins behind the one before, to the end of the list."""
    tab = visit(site)
    page = tab.open("/?since=1d&q=logger:django.request")
    total = int(page.locator("#summary b").inner_text().replace(",", ""))
    while not page.locator(".list-end").inner_text().startswith("End of the list"):
        shown = page.locator("tr.record").count()
        page.locator(".list-end button:not(:disabled)").click()
        page.locator("tr.record").nth(shown).wait_for()
    ids = page.locator("tr.record").evaluate_all("rows => rows.map((row) => row.dataset.id)")
    assert len(ids) == len(set(ids)) == total > 50


def test_a_drag_over_the_bars_is_a_range(visit: Callable[..., Visit], site: Site) -> None:
    """The chosen range is in the address, and Back returns to the one before."""
    tab = visit(site)
    page = tab.open("/?since=1d")
    whole = page.locator("#summary b").inner_text()
    box = page.locator("#histogram svg.chart").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.95, box["y"] + 20, steps=3)
    page.mouse.up()
    page.wait_for_url("**since=20*")
    tab.settle()
    assert "until=20" in page.url
    assert page.locator("#summary b").inner_text() != whole
    page.go_back()
    tab.settle()
    assert page.locator("#summary b").inner_text() == whole


def test_keys_choose_a_range_of_bars(visit: Callable[..., Visit], site: Site) -> None:
    """Arrows move, Shift chooses, Enter searches; each step is read out, and Esc gives the range up."""
    tab = visit(site)
    page = tab.open("/?since=1d")
    bars = page.get_by_role("slider")
    total = int(page.locator("#summary b").inner_text().replace(",", ""))
    bars.focus()
    for key in ("End", "ArrowLeft", "ArrowLeft", "Shift+ArrowLeft", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    slots = int(bars.get_attribute("aria-valuemax") or "")
    assert bars.get_attribute("aria-valuenow") == str(slots - 4)
    assert "INFO" in (bars.get_attribute("aria-valuetext") or "")
    said = page.locator("#histogram [aria-live]")
    found = re.search(r"^\S+ \S+ to \S+ \S+, ([\d,]+) records\. Enter", said.inner_text())
    assert found
    chosen = int(found[1].replace(",", ""))
    assert 0 < chosen < total
    page.keyboard.press("Escape")
    assert said.inner_text() == "No range is chosen"
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowLeft", "Shift+ArrowLeft", "Enter"):
        page.keyboard.press(key)
    page.wait_for_url("**since=20*")
    tab.settle()
    assert int(page.locator("#summary b").inner_text().replace(",", "")) == chosen
    assert page.evaluate("() => document.activeElement.getAttribute('role')") == "slider"


def test_statistics_lead_to_their_records(visit: Callable[..., Visit], site: Site) -> None:
    """A form asks, a click sorts by a column, a group is a link to its records, and the address has the question."""
    tab = visit(site)
    page = tab.open("/?since=1d&q=-logger:billing.refunds")
    total = int(page.locator("#summary b").inner_text().replace(",", ""))
    page.get_by_role("button", name="Statistics").click()
    page.locator(".statistics td").first.wait_for()
    page.get_by_label("Aggregates").fill("count, p95(duration_ms)")
    page.get_by_label("By", exact=True).fill("levelname, service")
    page.keyboard.press("Enter")
    page.wait_for_url("**p95**")
    tab.settle()
    assert page.evaluate("() => document.activeElement.name") == "by"
    heads = page.locator(".statistics th")
    assert heads.all_inner_texts() == ["levelname", "service", "count", "p95(duration_ms)"]
    counts = [int(text.replace(",", "")) for text in page.locator(".statistics td:nth-child(3)").all_inner_texts()]
    assert sum(counts) == total
    assert counts == sorted(counts, reverse=True)
    heads.nth(0).get_by_role("button").click()
    names = page.locator(".statistics td:nth-child(1)").all_inner_texts()
    assert names == sorted(names)
    row = page.locator(".statistics tbody tr").first
    level, service, count, _ = row.locator("td").all_inner_texts()
    row.locator("a").click()
    tab.settle()
    assert page.locator("#query").input_value() == f"-logger:billing.refunds levelname={level} service={service}"
    assert page.locator("#summary b").inner_text() == count


def test_values_are_excluded_and_become_columns(visit: Callable[..., Visit], site: Site) -> None:
    """A click in the record excludes its value; another one shows the field beside each message."""
    tab = visit(site)
    page = tab.open("/?since=1d")
    page.locator("tr.record").first.click()
    service = page.locator("#detail .value-row", has_text="service").locator("dd").first.inner_text()
    page.locator("#detail").get_by_role("button", name="Only records without this service").click()
    tab.settle()
    assert page.locator("#query").input_value() == f"-service={service}"
    assert service not in page.locator("td.service").all_inner_texts()
    page.locator("tr.record").first.click()
    page.locator("#detail").get_by_role("button", name="Show tenant as a column").click()
    tab.settle()
    assert set(page.locator("td.extra-column").all_inner_texts()) <= {"north", "south", "west"}


def test_completion_offers_fields_and_values(visit: Callable[..., Visit], site: Site) -> None:
    """Keys choose from the offers; Enter runs the query."""
    tab = visit(site)
    page = tab.open("/?since=1d")
    page.keyboard.press("/")
    page.keyboard.type("ten")
    page.locator(".completions li", has_text="tenant").first.wait_for()
    page.keyboard.press("Tab")
    page.locator(".completions li", has_text="north").first.wait_for()
    page.keyboard.press("ArrowDown")
    while "north" not in page.locator(".completions li[aria-selected=true]").inner_text():
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert re.fullmatch(r"tenant[:=]north ?", page.locator("#query").input_value())
    page.keyboard.press("/")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    tab.settle()
    assert "tenant" in page.url


def test_a_search_is_cancelled(visit: Callable[..., Visit], site: Site) -> None:
    """While one runs the field takes text; Cancel ends the request, and says what makes it quicker."""
    tab = visit(site)
    # The search never answers.
    tab.page.route("**/api/v1/records?**", lambda _: None)
    page = tab.page
    page.goto(f"{site.address}/?since=1d")
    cancel = page.locator("#run-button", has_text="Cancel")
    cancel.wait_for()
    page.keyboard.press("/")
    page.keyboard.type("slow")
    assert page.locator("#query").input_value() == "slow"
    page.locator("#query").fill("")
    with page.expect_event("requestfailed", lambda request: "/records?" in request.url):
        cancel.click()
    page.get_by_role("heading", name="The search was cancelled").wait_for()
    page.unroute("**/api/v1/records?**")
    page.get_by_role("button", name="Search again").click()
    tab.settle()
    assert len(tab.messages()) == 50


def test_errors_name_place_and_remedy(visit: Callable[..., Visit], site: Site) -> None:
    """A query that cannot be read is marked; the sentence of the server stands once, beside the field."""
    tab = visit(site)
    page = tab.open("/?q=disk+(full")
    query = page.locator("#query")
    assert (query.get_attribute("aria-invalid"), query.get_attribute("aria-describedby")) == ("true", "summary")
    assert "add `)`" in page.locator("#summary").inner_text()
    assert page.locator("body").inner_text().count("the parenthesis is not closed") == 1
    page.goto(f"{site.address}/?view=stats&stats=most+by+service")
    page.locator("#stats-problem", has_text="is not an aggregate").wait_for()
    assert page.locator("body").inner_text().count("is not an aggregate") == 1
    tab.settle()
    # The browser itself notes an answer with status 400.
    assert all("400" in complaint for complaint in tab.complaints)
    tab.complaints.clear()


def test_an_empty_list_says_what_to_do(visit: Callable[..., Visit], site: Site) -> None:
    """It offers a wider range and a query without conditions."""
    tab = visit(site)
    page = tab.open("/?since=1s&q=xyzzy")
    page.get_by_role("button", name="Search all records").click()
    tab.settle()
    page.get_by_role("button", name="Clear the query").click()
    tab.settle()
    assert len(tab.messages()) == 50


def test_the_focus_stays_in_a_list_that_is_replaced(visit: Callable[..., Visit], site: Site) -> None:
    """On the record whose context is shown, and on it again when the context is left."""
    tab = visit(site)
    page = tab.open("/?since=1d&q=refund")
    for key in ("j", "j", "j"):
        page.keyboard.press(key)
    chosen = page.locator("tr.record a:focus").inner_text()
    for key in ("c", "Escape"):
        page.keyboard.press(key)
        page.wait_for_url(lambda url, key=key: ("around=" in url) == (key == "c"))
        tab.settle()
        assert page.locator("tr.record a:focus").inner_text() == chosen
    page.keyboard.press("j")
    assert page.locator("tr.record a:focus").inner_text() != chosen
    page.keyboard.press("r")
    tab.settle()
    assert page.locator("tr.record a:focus").count() == 1


def test_an_empty_list_leads_to_the_newest_record(visit: Callable[..., Visit], site: Site) -> None:
    """Whatever the range is; it says so where there is none at any time."""
    tab = visit(site)
    page = tab.open("/?since=1s&q=message%3D%22refund+failed%22")
    said = page.locator("#results p[role=status]")
    assert page.locator("#histogram .scale").count() == 0
    assert re.search(r"The newest one is of 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.", said.inner_text())
    assert not violations(tab)
    said.get_by_role("button", name="Show it").click()
    tab.settle()
    assert tab.messages() == ["refund failed"]
    tab.open("/?since=15m&until=1m&q=xyzzy")
    assert page.locator("#results p[role=status]", has_text="None matches at any time.").is_visible()


def test_a_time_of_another_day_has_its_date(visit: Callable[..., Visit], site: Site, tmp_path: Path) -> None:
    """In patterns, and where a record says when it was received."""
    line = shop.render(
        shop.record_of(CULPRIT, now() - 12 * 86_400, "refund failed") | {"received": now(), "name": "late.sender"}
    )
    with serve(tmp_path, [line]) as late:
        tab = visit(late)
        page = tab.open("/?since=all&view=patterns")
        assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d", page.locator(".patterns time").first.inner_text())
        tab.open("/?since=all")
        page.locator("tr.record").click()
        note = page.locator("#detail .menu-note", has_text="after it was created")
        assert re.match(r"Received 20\d\d-\d\d-\d\d \d\d:\d\d, 12 days after it was created", note.inner_text())


def test_an_empty_list_offers_the_query_that_may_be_meant(visit: Callable[..., Visit], site: Site) -> None:
    """A misspelt field is named, and a click searches for the nearest one."""
    tab = visit(site)
    page = tab.open("/?since=1d&q=servcie%3Abilling+level%3E%3DERROR")
    offers = page.get_by_role("status").locator(".hints li")
    offers.first.wait_for()
    assert offers.count() == 1
    assert "a field `servcie`; one is `service`" in offers.inner_text()
    assert not violations(tab)
    offers.get_by_role("link", name="service:billing level>=ERROR").click()
    tab.settle()
    assert set(page.locator("td.service").all_inner_texts()) == {"billing"}
    assert page.locator("#query").input_value() == "service:billing level>=ERROR"


def test_groups_of_a_level_have_its_name(visit: Callable[..., Visit], site: Site) -> None:
    """Their links lead to the records of the level."""
    tab = visit(site)
    page = tab.open("/?since=1d&view=stats&stats=count+by+level")
    page.locator(".statistics a", has_text="WARNING").click()
    tab.settle()
    assert tab.messages()
    assert page.locator("tr.warning").count() == len(tab.messages())


def test_patterns_lead_to_their_records(visit: Callable[..., Visit], site: Site) -> None:
    """The form of the messages is a link to the records that have it."""
    tab = visit(site)
    page = tab.open("/?since=1d&view=patterns&q=logger:mailer.queue")
    page.locator(".patterns a").first.click()
    tab.settle()
    assert all(message.startswith("sent receipt of order") for message in tab.messages())
