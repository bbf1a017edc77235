"""The page's process says when it serves, answers its master, and ends with it."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from prefork_logd.config.load import loads
from prefork_logd.ipc.messages import Alive, Drain, Probe, Ready, Reopen
from prefork_logd.ipc.scoreboard import PAGE_SLOT, Field, Scoreboard
from prefork_logd.processes.search_limits import NICENESS
from prefork_logd.processes.web.web import FAILED, WebProcess, metrics_application
from prefork_logd.web import request_turns
from prefork_logd.web.request_turns import STRANGERS_AT_ONCE
from tests.support.forked import MEMORY_BYTES, ForkedProcess
from tests.support.harness import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


class Child(ForkedProcess):
    """A page's process, with this one as its master."""

    def __init__(self, state_dir: Path, toml: str = "", *, has_page: bool = True, has_metrics: bool = False) -> None:
        self.board = Scoreboard()
        settings = loads(f"store = []\n{toml}", "", {"state_dir": str(state_dir)})
        self.settings = msgspec.structs.replace(
            settings, web=msgspec.structs.replace(settings.web, memory_bytes=MEMORY_BYTES)
        )
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setblocking(False)
        page, metrics = ([self.listening] if wanted else [] for wanted in (has_page, has_metrics))
        super().__init__(lambda channel: WebProcess(PAGE_SLOT, self.board, channel, self.settings, page, metrics).run())

    def close(self) -> None:
        super().close()
        self.listening.close()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    made = Child(tmp_path)
    yield made
    made.close()


def test_a_page_serves_and_ends_when_it_is_told(child: Child) -> None:
    """With its limits; a probe is answered, and a stop is not a failure."""
    assert child.receive() == Ready()
    url = f"http://127.0.0.1:{child.listening.getsockname()[1]}/login"
    assert httpx.get(url).status_code == 200
    assert child.board.slot(PAGE_SLOT)[Field.PID] == child.pid
    assert os.getpriority(os.PRIO_PROCESS, child.pid) == os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
    assert resource.prlimit(child.pid, resource.RLIMIT_DATA)[0] == child.settings.web.memory_bytes
    child.send(Probe())
    assert child.receive() == Alive()
    child.send(Reopen(1))
    child.send(Drain(fast=False))
    wait_for(child.has_ended, "the end")
    assert child.status == 0


def test_metrics_alone_need_no_page(tmp_path: Path) -> None:
    """No file of the page is made; what is not about metrics is not there."""
    child = Child(tmp_path, has_page=False, has_metrics=True)
    try:
        assert child.receive() == Ready()
        url = f"http://127.0.0.1:{child.listening.getsockname()[1]}"
        answer = httpx.get(f"{url}/healthz", headers={"Host": "anything"})
        assert (answer.status_code, answer.text) == (503, answer.text)
        assert "collector" in answer.text
        assert [httpx.get(url + path).status_code for path in ("/", "/login", "/api/v1/session")] == [404] * 3
        assert httpx.post(f"{url}/metrics").status_code == 405
        assert not (tmp_path / "page").exists()
        child.send(Drain(fast=False))
        wait_for(child.has_ended, "the end")
        assert child.status == 0
    finally:
        child.close()


def test_a_fast_stop_and_a_lost_master_end_it_at_once(tmp_path: Path) -> None:
    """Also before it serves."""
    for end in (lambda child: child.send(Drain(fast=True)), lambda child: child.ours.close()):
        child = Child(tmp_path)
        try:
            end(child)
            wait_for(child.has_ended, "the end")
            assert child.status == 0
        finally:
            child.close()


def test_a_page_that_cannot_keep_its_secrets_is_not_served(tmp_path: Path) -> None:
    """It ends with a sentence, and is tried again."""
    (tmp_path / "page").write_text("a file in the place of the directory")
    child = Child(tmp_path)
    try:
        wait_for(child.has_ended, "the end")
        assert child.status == FAILED
    finally:
        child.close()


def test_libraries_can_be_imported_before_the_user_changes() -> None:
    """In a process of its own: this one has them already."""
    code = "; ".join(
        (
            "import sys",
            "from prefork_logd.processes.web.web import import_libraries",
            "assert 'starlette' not in sys.modules",
            "import_libraries()",
            "assert {'starlette', 'uvicorn', 'jinja2', 'anyio._backends._asyncio'} <= sys.modules.keys()",
        )
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_address_of_metrics_answers_few_requests_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one address wait for each other, and those of another one come next."""
    monkeypatch.setattr(request_turns, "YOUNG_S", 1000.0)
    asked: list[asyncio.Future[dict[str, Any]]] = []
    settings = loads("", "", {}).web

    async def status() -> dict[str, Any]:
        asked.append(asyncio.get_running_loop().create_future())
        return await asked[-1]

    async def main() -> None:
        app = metrics_application(status, settings)
        transports = [httpx.ASGITransport(app, client=(host, 1)) for host in ("2001:db8::1", "2001:db8::2", "10.0.0.1")]
        clients = [httpx.AsyncClient(transport=one, base_url="http://metrics") for one in transports]
        order: list[int] = []

        async def ask(number: int) -> None:
            answer = await clients[number].get("/healthz")
            assert answer.text == "ok\n"
            order.append(number)

        asks = [asyncio.ensure_future(ask(number)) for number in (0, 0, 0, 1, 1, 1, 2)]
        for _ in range(200):
            await asyncio.sleep(0)
        assert len(asked) == STRANGERS_AT_ONCE
        while not all(one.done() for one in asks):
            for one in asked:
                if not one.done():
                    one.set_result({})
                    break
            await asyncio.sleep(0)
        assert order.index(2) <= 3
        for client in clients:
            await client.aclose()

    asyncio.run(asyncio.wait_for(main(), 60))
