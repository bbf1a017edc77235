"""The page of a running collector in a browser: the tail over a killed page, the same records on the command line."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from prefork_logd.handlers import SocketHandler
from tests.support.browser_tabs import Site, violations
from tests.support.harness import Collector, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.browser_tabs import Visit

pytestmark = pytest.mark.slow

TOML = '[server]\nbind = ["127.0.0.1:0"]\nworkers = 1\n[web]\nbind = ["127.0.0.1:0"]\n[[store]]\ntype = "parquet"\n'
DEADLINE_S = 60.0


class Running:
    """A collector with a page, and a service that logs."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.logger = logging.getLogger("tests.page.shop")
        host, _, port = collector.bind[0].rpartition(":")
        self.handler = SocketHandler(host, int(port), service="shop")
        self.logger.addHandler(self.handler)
        self.logger.propagate = False
        self.logged = 0

    def site(self) -> Site:
        """Return the page's address."""
        (url,) = json.loads(self.collector.cli("status", "--json").stdout)["page"]["urls"]
        return Site(url.partition("/?")[0], self.collector.state_dir)

    def log(self, count: int) -> None:
        """Log so many records with the numbers behind the last one, and wait until they are committed."""
        for _ in range(count):
            self.logger.warning("record %d", self.logged, extra={"number": self.logged})
            self.logged += 1
        assert self.handler.flush(DEADLINE_S)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Return a running collector with its page, which all tests share."""
    collector = Collector(tmp_path_factory.mktemp("running") / "state", TOML)
    try:
        made = Running(collector.start())
        yield made
        made.logger.removeHandler(made.handler)
        made.handler.close()
        assert collector.stop() == 0
    finally:
        collector.clean_up()


def _numbers(visit: Visit) -> list[int]:
    return [int(text.removeprefix("record ")) for text in visit.messages()]


def _wait_for_numbers(visit: Visit, first: int, count: int) -> None:
    wait_for(lambda: visit.page.locator("tr.record").count() >= count, f"{count} rows", DEADLINE_S)
    assert _numbers(visit) == [*range(first, first + count)]


def _kill_page(running: Running) -> None:
    """Kill the page with -9, log meanwhile, and wait for the next one."""
    pid = running.collector.child("web", 0)
    os.kill(pid, signal.SIGKILL)
    running.log(30)
    wait_for(lambda: running.collector.child("web", 0) not in (0, pid), "another process", DEADLINE_S)


def test_a_tail_survives_the_death_of_the_page(running: Running, visit: Callable[..., Visit]) -> None:
    """Killed with -9 before the first record and in mid-tail, it shows every record once; so does Pause and Resume."""
    tab, first = visit(running.site()), running.logged
    page = tab.page
    page.goto(f"{tab.site.address}/tail?q=logger:tests.page")
    page.locator("#summary", has_text="record").wait_for()
    _kill_page(running)
    running.log(20)
    _wait_for_numbers(tab, first, 50)
    _kill_page(running)
    running.log(10)
    _wait_for_numbers(tab, first, 90)
    page.keyboard.press("p")
    running.log(15)
    assert len(_numbers(tab)) == 90
    page.keyboard.press("p")
    _wait_for_numbers(tab, first, 105)
    assert all("ERR_" in complaint for complaint in tab.complaints)  # the browser notes the broken connections
    tab.complaints.clear()


def test_a_fast_tail_is_sampled(running: Running, visit: Callable[..., Visit]) -> None:
    """At 5,000 records a second the tab goes on painting, keeps at most 2,000 rows, and says that it shows a part."""
    tab = visit(running.site())
    page = tab.page
    page.goto(f"{tab.site.address}/tail")
    page.locator("#summary", has_text="record").wait_for()
    page.evaluate("() => { window.painted = 0; (function next() { painted += 1; requestAnimationFrame(next); })(); }")
    chance = random.Random(3)
    lines = b"".join(b'{"message":"record %d","level":"INFO"}\n' % chance.randrange(10**6) for _ in range(500))
    began = time.monotonic()
    sample = page.locator("#summary", has_text="a sample of")
    with running.collector.connect() as sock:
        sock.settimeout(60)
        # The summary says it as long as there are too many: somebody has to look meanwhile.
        for turn in range(600):
            sock.sendall(lines)
            # The rate is part of the test: a tenth of a second for 500 records.
            time.sleep(max(0.0, began + (turn + 1) * 0.1 - time.monotonic()))
            if turn > 30 and sample.count():
                break
        else:
            pytest.fail("the page did not say that it shows a sample")
    passed_s = time.monotonic() - began
    assert page.evaluate("() => painted") > passed_s
    assert 0 < page.locator("tr.record").count() <= 2000
    page.keyboard.press("p")
    page.locator("#summary", has_text="Paused").wait_for()


def test_a_tail_follows_another_query_at_once(running: Running, visit: Callable[..., Visit]) -> None:
    """Without a search before; one that cannot be read is marked and not tried again. Back leads to the one before."""
    tab = visit(running.site())
    page = tab.page
    page.goto(f"{tab.site.address}/tail?q=logger:never")
    page.locator("#summary", has_text="record").wait_for()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition("/api/v1/")[2].partition("?")[0]))
    page.locator("#query").fill("disk (full")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="The query cannot be read").wait_for()
    assert "column 6 of the query" in page.locator("#summary").inner_text()
    assert page.locator("#query").get_attribute("aria-invalid") == "true"
    assert asked.count("tail") == 2
    page.locator("#query").fill("logger:other")
    page.keyboard.press("Enter")
    page.locator("#summary", has_text="record").wait_for()
    assert page.locator("#query").get_attribute("aria-invalid") is None
    assert page.url.endswith("q=logger%3Aother")
    page.go_back()
    page.go_back()
    page.wait_for_url("**/tail?q=logger:never")
    page.locator("#summary", has_text="record").wait_for()
    assert page.locator("#query").input_value() == "logger:never"
    # The browser notes the refused stream.
    assert all("400" in complaint for complaint in tab.complaints)
    tab.complaints.clear()


def test_the_copied_command_prints_the_same_records(
    running: Running, visit: Callable[..., Visit], tmp_path: Path
) -> None:
    """As JSON it is byte for byte what the export as JSON lines has, in the order of the list."""
    first = running.logged
    running.log(120)
    tab = visit(running.site())
    page = tab.open(f"/?q=number%3E%3D{first + 30}+-number%3D{first + 77}&since=1h&order=oldest")
    wait_for(lambda: page.locator("tr.record").count() == 50 or tab.settle() or page.reload(), "records", DEADLINE_S)
    page.get_by_role("button", name="Copy as command").click()
    page.locator("#announcements", has_text="Command copied").wait_for()
    command = page.evaluate("() => navigator.clipboard.readText()")
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as downloading:
        page.locator(".menu-item", has_text="JSON lines").click()
    exported = tmp_path / "exported.jsonl"
    downloading.value.save_as(exported)
    assert "prefork-logd query" in command
    program = f"{shlex.quote(sys.executable)} -m prefork_logd query"
    as_json = command.replace("prefork-logd query", program).replace("--format text", "--format json")
    done = subprocess.run(["sh", "-c", as_json], capture_output=True, timeout=60, check=True)
    assert done.stdout == exported.read_bytes()
    numbers = [json.loads(line)["extra"]["number"] for line in done.stdout.splitlines()]
    assert numbers == [first + number for number in range(30, 120) if number != 77]
    assert [*map(str, numbers[:50])] == [message.removeprefix("record ") for message in tab.messages()]


@pytest.mark.parametrize("width", [390, 1280])
def test_tail_and_system_have_no_violations(running: Running, visit: Callable[..., Visit], width: int) -> None:
    """The checker axe finds nothing in them, and nothing moves while they load."""
    tab = visit(running.site(), width=width)
    page = tab.page
    page.goto(f"{tab.site.address}/tail")
    page.locator("#summary", has_text="record").wait_for()
    running.log(3)
    page.locator("tr.record").first.click()
    assert not violations(tab)
    assert tab.shifts() == 0
    page.goto(f"{tab.site.address}/system")
    page.locator(".configuration").wait_for()
    assert not violations(tab)
    assert tab.shifts() == 0


def test_the_system_view_shows_the_collector(running: Running, visit: Callable[..., Visit]) -> None:
    """Its processes, its connections, its counters, what is missing and its configuration; nothing of it complains."""
    running.log(7)
    with running.collector.connect() as sock:
        sock.sendall(b"\x7f\xff\xff\xffgarbage")
    wait_for(lambda: running.collector.status()["rejected"] == 1, "a rejected record", DEADLINE_S)
    tab = visit(running.site())
    page = tab.page
    page.goto(f"{tab.site.address}/system")
    page.locator(".configuration").wait_for()
    text = page.locator("#main").inner_text()
    for part in ("worker 1", "shipper parquet", "records.jsonl", "1 rejected", "[web]"):
        assert part in text, part
    services = page.get_by_role("region", name="Connections by service")
    services.locator("tr", has_text=re.compile(r"^shop\s*1$")).wait_for()
    missing = page.get_by_role("region", name="Missing records by client").locator("tbody tr")
    assert missing.all_inner_texts() == ["127.0.0.1\trejected\t1\tno-frame\t"]
    assert page.locator(".panel", has_text="Rejected records").locator("tbody tr").count() == 1
    page.locator(".figure svg").first.wait_for()
