"""Programs of this host read metrics and health without a log-in; others need one."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.errors import ProcessError
from prefork_logd.web.monitoring import PATHS, RecentStatus
from prefork_logd.web.page_files import PageFiles
from prefork_logd.web.tokens import Tokens
from tests.support.page_server import Served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

READY: dict[str, Any] = {
    "version": "1.0", "native": True, "uptime_s": 5, "bind": ["127.0.0.1:9020"], "connections": 2, "records": 7,
    "received_bytes": 0, "rejected": 0, "dropped": 0, "redacted": 0, "gaps": 0, "tls_handshake_failures": {},
    "limited": 0, "limit_dropped": 0, "sampled": 0, "limits": [], "tls_handshakes": 0, "rejected_by": {"malformed": 0},
    "listeners": [{"address": "127.0.0.1:9020", "connections": 2, "records": 7, "received_bytes": 0}],
    "children": [
        {"kind": kind, "index": 1, "state": "running", "restarts": 0, "silent_s": 0.0, "paused": False}
        for kind in ("writer", "worker")
    ],
    "alerts": dict.fromkeys(("rules", "firing", "waiting", "sent", "failed", "errors"), 0),
    "outputs": [], "stores": [], "sources": [], "journal": {"bytes": 0, "limit": 1, "full": False},
    "commits": {"seconds": 0.0, "within": {"inf": 0}, "last": None},
}  # fmt: skip


class _Collector:
    """A collector whose status a test changes."""

    def __init__(self) -> None:
        self.document: dict[str, Any] | None = dict(READY)

    async def status(self) -> dict[str, Any]:
        if self.document is None:
            raise ProcessError("the collector does not answer")
        return self.document


@pytest.fixture
def collector() -> _Collector:
    """Return a collector that is at work."""
    return _Collector()


@pytest.fixture
def page(tmp_path: Path, collector: _Collector) -> Iterator[Served]:
    """Return its page."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(serving(tmp_path / "state", status=collector.status))


def test_the_answers(page: Served) -> None:
    """Prometheus gets its content type, a load balancer a status and a word."""
    metrics = page.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'prefork_logd_records_total{listener="127.0.0.1:9020"} 7\n' in metrics.text
    assert [(page.get(path).status_code, page.get(path).text) for path in ("/healthz", "/readyz")] == [
        (200, "ok\n"),
        (200, "ready\n"),
    ]


def test_a_collector_that_is_not_ready_is_healthy(page: Served, collector: _Collector) -> None:
    """A restart would not make room on its disk; the reason is named."""
    assert collector.document is not None
    collector.document["children"] = [{**READY["children"][0], "paused": True}, READY["children"][1]]
    answer = page.get("/readyz")
    assert (answer.status_code, page.get("/healthz").status_code) == (503, 200)
    assert answer.text.startswith("an output or the journal cannot be written")


def test_a_collector_that_does_not_answer(page: Served, collector: _Collector) -> None:
    """Each answer is a 503 with the sentence."""
    collector.document = None
    for path in PATHS:
        answer = page.get(path)
        assert (answer.status_code, answer.text) == (503, "the collector does not answer\n")


def test_strangers_do_not_make_the_master_answer_more_often() -> None:
    """The document is kept for half a second; a failure is not."""
    asked: list[float] = []
    now = [0.0]

    async def status() -> dict[str, Any]:
        asked.append(now[0])
        if len(asked) == 1:
            raise ProcessError("away")
        return {"asked": now[0]}

    recent = RecentStatus(status, lambda: now[0])

    async def ask() -> None:
        with pytest.raises(ProcessError):
            await recent()
        for now[0] in (0.0, 0.4, 0.5, 0.9, 1.1):
            assert await recent() == {"asked": asked[-1]}

    asyncio.run(ask())
    assert asked == [0.0, 0.0, 0.5, 1.1]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via"])
def test_a_proxy_does_not_open_them_to_others(page: Served, header: str) -> None:
    """What a reverse proxy passes on comes from elsewhere, although its address is this host's; a token opens it."""
    with page.client() as client:
        for path in PATHS:
            assert client.get(path, headers={header: "192.0.2.7"}).status_code == 401
        token = Tokens(PageFiles(Path(page.settings.server.state_dir))).add("prometheus", "viewer", 60.0)
        headers = {header: "192.0.2.7", "Authorization": f"Bearer {token}"}
        assert client.get("/metrics", headers=headers).status_code == 200
