"""Pictures of the views of a running collector, for the documentation.

With PREFORK_LOGD_PICTURES=1 they replace those in docs/images/; pngquant, where it is installed, makes them smaller.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import shop
from tests.support.browser_tabs import Site
from tests.support.harness import Collector, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Locator

    from tests.support.browser_tabs import Visit

pytestmark = pytest.mark.slow

IMAGES = Path(__file__).resolve().parents[3] / "docs" / "images"
IS_RENEWED = os.environ.get("PREFORK_LOGD_PICTURES") == "1"
RECORDS = 8_000
SPAN_S = 3 * 3600
TOML = '[server]\nbind = ["127.0.0.1:0"]\nworkers = 2\n[web]\nbind = ["127.0.0.1:0"]\n[[store]]\ntype = "parquet"\n'
ALERTS = """[errors]
[[receiver]]
name = "ops"
type = "command"
command = ["/bin/true"]
[[alert]]
name = "shop has errors"
query = "service=shop-web level>=ERROR"
above = 50
window = "1h"
every = "1s"
send = ["ops"]
[[alert]]
name = "gateway is slow"
query = "logger:billing.gateway duration_ms>2000"
above = 20
window = "10m"
every = "1s"
send = ["ops"]
[[alert]]
name = "new errors"
on = "new-group"
every = "1s"
send = ["ops"]
"""
MOST_BYTES = 300_000
"""Of a picture in the documentation."""


_REPLACE = """([from, to]) => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) walker.currentNode.data = walker.currentNode.data.replaceAll(from, to);
}"""


class Camera:
    """Takes pictures of tabs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.taken: list[Path] = []

    def take(self, tab: Visit, name: str, part: Locator | None = None) -> None:
        """Take a picture of the tab, or of a part of it, in each theme, without anything below the pointer."""
        tab.page.mouse.move(0, 0)
        for theme in ("light", "dark"):
            path = self.directory / f"{name}-{theme}.png"
            tab.page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            (part or tab.page).screenshot(path=path, animations="disabled")
            assert path.read_bytes()[:4] == b"\x89PNG"
            self.taken.append(path)
        tab.page.emulate_media(color_scheme="light")

    def publish(self) -> None:
        """Put the pictures into the documentation."""
        IMAGES.mkdir(exist_ok=True)
        for path in self.taken:
            if pngquant := shutil.which("pngquant"):
                subprocess.run([pngquant, "--force", "--ext", ".png", "--strip", "128", str(path)], check=True)
            assert path.stat().st_size < MOST_BYTES
            shutil.copyfile(path, IMAGES / path.name)


def _collect(collector: Collector, stored: Iterator[bytes]) -> None:
    """Send records as JSON lines, without the fields that the collector itself writes."""
    own = ("time", "peer", "received")
    lines = [
        json.dumps({k: v for k, v in json.loads(line).items() if k not in own}).encode() + b"\n" for line in stored
    ]
    total = collector.status()["records"] + len(lines)
    with collector.connect() as sock:
        sock.settimeout(60)
        sock.sendall(b"".join(lines))
    wait_for(lambda: collector.status()["records"] >= total, "records", 60)


def test_pictures_of_every_view(
    make_collector: Callable[..., Collector], visit: Callable[..., Visit], tmp_path: Path
) -> None:
    """Each view in both themes, on a desk, and on a phone."""
    collector = make_collector(TOML).start()
    end = time.time()
    _collect(collector, shop.lines(RECORDS, end - SPAN_S, SPAN_S / RECORDS))
    (url,) = json.loads(collector.cli("status", "--json").stdout)["page"]["urls"]
    site = Site(url.partition("/?")[0], collector.state_dir)
    camera = Camera(tmp_path)
    tab = visit(site, width=1440, height=860)
    _search(camera, tab)
    _system(camera, tab)
    _tail(camera, tab, collector)
    phone = visit(site, width=390, height=760)
    phone.open("/?since=4h&q=level%3E%3DWARNING")
    camera.take(phone, "phone")
    assert len({path.read_bytes() for path in camera.taken}) == len(camera.taken) == 14
    if IS_RENEWED:
        camera.publish()


def test_pictures_of_errors_and_alerts(
    make_collector: Callable[..., Collector], visit: Callable[..., Visit], tmp_path: Path
) -> None:
    """The list of groups, the page of one, and alerts, in both themes."""
    collector = make_collector(TOML + ALERTS).start()
    lines = [_with_another_message(line, at) for at, line in enumerate(shop.failures(time.time(), 40 * 3600))]
    _collect(collector, iter(lines))
    (url,) = json.loads(collector.cli("status", "--json").stdout)["page"]["urls"]
    site = Site(url.partition("/?")[0], collector.state_dir)
    camera = Camera(tmp_path)
    tab = visit(site, width=1440, height=860)
    page = tab.page
    page.goto(f"{site.address}/errors?show=all")
    wait_for(lambda: page.locator("tr.group").count() == len(shop.FAILURES), "groups", 60)
    _change(collector, "assign", "ledger", "anna")
    _change(collector, "mute", "zero", "--count", "100")
    _change(collector, "resolve", "signature")
    _change(collector, "resolve", "sku")
    again = next(json.loads(line) for line in lines if b"KeyError" in line) | {"created": time.time()}
    _collect(collector, iter([shop.render(again)]))
    page.locator(".badge", has_text="Regressed").wait_for()
    camera.take(tab, "errors")
    _change(collector, "note", "ledger", "The gateway books refunds a day later.")
    page.locator("tr.group a.title", has_text="ledger").click()
    page.locator(".detail-body").wait_for()
    camera.take(tab, "error")
    page.goto(f"{site.address}/errors?show=all&text=JSONDecode")
    page.locator("tr.group a.title").click()
    messages = page.get_by_role("region", name="Messages")
    messages.get_by_text("Unterminated string").wait_for()
    assert messages.locator("tbody tr").count() == 3
    camera.take(tab, "messages", messages)
    page.goto(f"{site.address}/alerts")
    page.locator(".badge.firing").first.wait_for()
    camera.take(tab, "alerts")
    if IS_RENEWED:
        camera.publish()


def _with_another_message(line: bytes, at: int) -> bytes:
    """Return a failure; of those that read JSON some say something else."""
    other = {0: b"Unterminated string starting at: line 1 column", 1: b"Extra data: line 1 column"}.get(at % 7)
    return line if other is None else line.replace(b"Expecting value: line 1 column", other)


def _change(collector: Collector, action: str, text: str, *rest: str) -> None:
    """Do something with the group that has a text in its title."""
    (row,) = collector.cli("errors", "--text", text, "--format", "json").stdout.splitlines()
    done = collector.cli("errors", action, json.loads(row)["id"], *rest)
    assert done.returncode == 0, done.stderr


def _search(camera: Camera, tab: Visit) -> None:
    page = tab.open("/?since=4h&columns=service,name,tenant")
    page.locator(".field-name").filter(has=page.get_by_text("levelname", exact=True)).click()
    page.locator(".field-name").filter(has=page.get_by_text("service", exact=True)).click()
    page.locator(".field-value").nth(6).wait_for()
    camera.take(tab, "search")
    tab.open("/?since=4h&view=stats&stats=count,p95(duration_ms),max(duration_ms)+by+service,levelname")
    camera.take(tab, "statistics")
    page = tab.open("/?since=4h&q=level%3E%3DERROR")
    page.locator("tr.record", has_text="GatewayTimeout").first.click()
    camera.take(tab, "record")
    page.get_by_role("button", name="Context").click()
    page.locator(".menu-item", has_text="Same process").click()
    page.locator(".results-head").wait_for()
    tab.settle()
    camera.take(tab, "context")


def _system(camera: Camera, tab: Visit) -> None:
    tab.page.goto(f"{tab.site.address}/system")
    tab.page.locator(".configuration").wait_for()
    # The picture has the directory of a service, not that of this test.
    tab.page.evaluate(_REPLACE, [str(tab.site.state_dir), "/var/lib/prefork-logd"])
    camera.take(tab, "system")


def _tail(camera: Camera, tab: Visit, collector: Collector) -> None:
    tab.page.goto(f"{tab.site.address}/tail")
    tab.page.locator("#summary", has_text="record").wait_for()
    _collect(collector, shop.lines(60, time.time() - 6, 0.1, seed=11))
    wait_for(lambda: tab.page.locator("tr.record").count() >= 60, "60 rows", 60)
    tab.page.locator("#summary", has_text="shown").wait_for()
    camera.take(tab, "tail")
