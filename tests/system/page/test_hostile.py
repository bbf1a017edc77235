"""Hostile records in a browser: they are shown as text, and nothing else happens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from prefork_logd.query.evaluate import matches
from prefork_logd.query.language import parse
from tests.support import shop
from tests.support.browser_tabs import Site, Visit, now, serve
from tests.support.hostile_texts import MARKUP, TURNED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

pytestmark = pytest.mark.slow

LATE = now()


def _records() -> list[dict[str, Any]]:
    """Return records with markup, turned texts, and values that are hard to write in a query."""
    made = []
    for number, evil in enumerate(
        (MARKUP, TURNED, "\ud800 alone", "'\"\\ OR AND -(" * 3, "http://evil.example/{{7*7}}${7*7}")
    ):
        record = shop.record_of(shop.KINDS[0], LATE - number, f"{evil} {number}")
        frame = f'  File "{evil}", line 1, in {evil}\n    {evil}'
        nested = {evil: [evil, {"deep": evil}]}
        odd = {"<b>": None, "": "empty", "a b": 1.0, "dot.ted": "x"}
        record |= {
            "name": evil,
            "service": evil,
            "funcName": evil,
            "levelname": evil[:20],
            "process": 1,
            "exc_text": f"Traceback (most recent call last):\n{frame}\n{evil}: {evil}",
            "extra": {evil: evil, "nested": nested, "trace_id": evil, **odd},
        }
        made.append(record)
    return made


RECORDS = _records()


def _offered(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record without its times, which the page offers no condition for."""
    return {name: value for name, value in record.items() if name not in {"created", "time", "received"}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return the page of a store with hostile records alone."""
    lines = [json.dumps(record).encode() + b"\n" for record in reversed(RECORDS)]
    with serve(tmp_path_factory.mktemp("hostile"), lines) as served:
        yield served


def _hostile_elements(visit: Visit) -> int:
    count: int = visit.page.locator(
        "img:not(.brand img), main script, main iframe, main b b, main a[href^='http:']"
    ).count()
    return count


def test_hostile_records_are_text_everywhere(visit: Callable[..., Visit], site: Site) -> None:
    """List, columns, fields, values, completions, record and context show the text; the tab stays as it was."""
    tab = visit(site)
    page = tab.open("/?since=all&columns=service,name,nested,extra.%22%3Cb%3E%22")
    page.locator(".field-name", has_text="service").first.click()
    page.locator(".field-value").first.wait_for()
    for number in range(len(RECORDS)):
        page.locator("tr.record").nth(number).click()
        page.locator("#detail .value-row").first.wait_for()
    assert MARKUP in page.locator("tr.record").first.inner_text()
    assert "U+202E" in page.locator("tr.record").nth(1).inner_text()
    assert "U+D800" in page.locator("tr.record").nth(2).inner_text()
    assert not {"\u202e", "\u2066", "\x1b", "\u200b"} & set(page.locator("#main").inner_text())
    page.get_by_role("button", name="Context").click()
    page.locator(".menu-item", has_text="All records").click()
    tab.settle()
    tab.open("/?since=all&view=patterns")
    page.keyboard.press("/")
    page.keyboard.type("service=")
    page.locator(".completions li").first.wait_for()
    assert _hostile_elements(tab) == 0
    assert page.title() == "Search - prefork-logd"


def test_an_address_cannot_add_markup(visit: Callable[..., Visit], site: Site) -> None:
    """What stands in the address is text, too."""
    tab = visit(site)
    quoted = "%22%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%22"
    tab.open(f"/?since=all&q={quoted}&columns={quoted}&record={quoted}&view=records")
    assert _hostile_elements(tab) == 0
    tab.open(f"/?since={quoted}&tz={quoted}")
    assert _hostile_elements(tab) == 0
    # The browser itself notes an answer that is an error; a made-up zone is one of JavaScript, too.
    assert all("status of 4" in complaint for complaint in tab.complaints), tab.complaints
    tab.complaints.clear()


def test_conditions_of_a_click_find_their_record(visit: Callable[..., Visit], site: Site) -> None:
    """Every value that offers `+` is written so that the query language reads it back, however odd."""
    tab = visit(site)
    page = tab.open("/?since=all")
    script = page.locator("script[type=module]").get_attribute("src") or ""
    written = page.evaluate(
        """async ([url, records]) => {
          const { fieldText, condition, excluding, including, isComparable } = await import(url);
          const made = [];
          const walk = (value, path, number) => {
            if (value !== null && typeof value === "object") {
              for (const [key, inner] of Object.entries(value)) walk(inner, [...path, key], number);
            } else if (isComparable(value)) {
              const field = fieldText(path);
              const one = field && condition(field, value);
              if (field) made.push([number, including("a OR b", one), excluding("", one), one]);
            }
          };
          records.forEach((record, number) => walk(record, [], number));
          return made;
        }""",
        [script.replace("search.js", "query_text.js"), [*map(_offered, RECORDS)]],
    )
    assert len(written) > 100
    for number, both, excluded, alone in written:
        assert matches(parse(alone, now=LATE), RECORDS[number]), alone
        assert not matches(parse(excluded, now=LATE), RECORDS[number]), excluded
        parse(both, now=LATE)
