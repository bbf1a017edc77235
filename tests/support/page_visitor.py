"""Visits the page of a running collector by HTTP."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.harness import Collector


def addresses(collector: Collector) -> list[str]:
    """Return the addresses that `status` prints, each with a token that works."""
    found: dict[str, Any] = json.loads(collector.cli("status", "--json").stdout)["page"]
    return found["urls"]


@contextlib.contextmanager
def browser(collector: Collector, url: str = "") -> Iterator[httpx.Client]:
    """Give a client that has logged in with the one-time token."""
    url = url or addresses(collector)[0]
    with httpx.Client(base_url=url.partition("?")[0], timeout=20) as client:
        answer = client.get("/", params={"token": url.partition("token=")[2]})
        assert answer.status_code == 303, answer.text
        yield client


def page_pid(collector: Collector) -> int:
    """Return the pid of the page's process once it is running."""
    return collector.child("web", 0)
