"""The page has a process while it has an address; a change of the settings replaces it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_logd.ipc.messages import Drain
from prefork_logd.ipc.scoreboard import PAGE_SLOT
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import Event
from prefork_logd.processes.master.page import Page
from prefork_logd.processes.master.page_sockets import PageSockets
from tests.support.certificates import make_certificate
from tests.support.children import ChildEvents, FakeLoop, make_settings, messages

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = '[web]\nbind = ["127.0.0.1:0"]\n'
NOWHERE = "[web]\nbind = []\n"


class Pages:
    """A page whose process is never forked."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.loop = FakeLoop()
        self._events = ChildEvents()
        self.page = Page(self.loop.loop, PageSockets(), self._events.apply)
        self.events = self._events.seen

    def adjust(self, toml: str) -> list[str]:
        return self.page.adjust(make_settings(self._state_dir, toml))

    @property
    def child(self) -> Child:
        (child,) = self.page
        return child


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    made = Pages(tmp_path)
    yield made
    made.page.sockets.close()


def test_a_page_without_an_address_has_no_process(pages: Pages) -> None:
    """Nobody could reach it."""
    assert pages.adjust(NOWHERE) == []
    assert list(pages.page) == []


def test_a_page_with_an_address_has_one_process(pages: Pages) -> None:
    """In its own slot; nothing happens while the settings stay."""
    for _ in range(3):
        assert pages.adjust(HERE) == []
    assert (pages.child.kind, pages.child.slot, pages.child.name) == (Kind.WEB, PAGE_SLOT, "page")
    assert pages.events == [Event.DUE]


@pytest.mark.parametrize("toml", [NOWHERE, f"{HERE}searches = 5", f'{HERE}[[output]]\nname = "other"'])
def test_changed_settings_end_the_process(pages: Pages, toml: str) -> None:
    """Once; the next one is forked when it has gone, if there is still an address."""
    pages.adjust(HERE)
    old = pages.child
    for _ in range(2):
        pages.adjust(toml)
    assert pages.events == [Event.DUE, Event.STOP]
    assert messages(old) == [Drain(fast=False)]
    pages.page.forget()
    pages.adjust(toml)
    assert [child is not old for child in pages.page] == [True] * (toml is not NOWHERE)


def test_problems_of_addresses_are_returned(pages: Pages) -> None:
    """For the answer to a reload."""
    (problem,) = pages.adjust('[web]\nbind = ["192.0.2.1:1"]\nproxy_header = "X-U"\ntrusted_proxies = ["unix"]')
    assert problem.startswith("web.bind: cannot listen on 192.0.2.1:1")


@pytest.mark.slow
def test_a_certificate_is_read_again(pages: Pages, tmp_path: Path) -> None:
    """A replaced one by a new process; while the pair does not fit, the old process goes on with the old one."""
    path, key = make_certificate(tmp_path)
    other, other_key = make_certificate(tmp_path, "other")
    toml = f'{HERE}certificate = "{path}"\nkey = "{key}"\n'
    assert pages.adjust(toml) == []
    Path(other).replace(path)
    (problem,) = pages.adjust(toml)
    assert problem.startswith(f"web.certificate, web.key: {path} cannot be used: ")
    assert pages.events == [Event.DUE]
    Path(other_key).replace(key)
    assert pages.adjust(toml) == []
    assert pages.events == [Event.DUE, Event.STOP]


@pytest.mark.parametrize(
    "content", [None, "", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_certificate_that_is_none_is_a_problem(pages: Pages, tmp_path: Path, content: str | None) -> None:
    """There is no page then; nothing else is affected."""
    path = tmp_path / "page.pem"
    if content is not None:
        path.write_text(content)
    (problem,) = pages.adjust(f'{HERE}certificate = "{path}"\nkey = "{path}"\n')
    assert "name a matching pair" in problem
    assert list(pages.page) == []
