"""Who may call, and the form of each error."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.errors import ProcessError, QueryCancelledError, QueryMemoryError, QueryTimeoutError, StoreError
from prefork_logd.web.api import analysis, records
from prefork_logd.web.api.endpoint import ForbiddenError, NotFoundError, encode, error_response
from prefork_logd.web.api.parameters import ParameterError, TooLargeError
from prefork_logd.web.places import BusyError
from tests.support.page import Anybody, Client, bounds, make_page, make_settings
from tests.support.stores import NOW

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_logd.config.settings import Settings


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ParameterError("q", "wrong", 3), 400),
        (ForbiddenError("no"), 403),
        (NotFoundError("none"), 404),
        (TooLargeError("large"), 413),
        (QueryCancelledError(), 499),
        (BusyError(), 503),
        (QueryMemoryError("heavy"), 422),
        (StoreError("down"), 503),
        (ProcessError("away"), 503),
        (QueryTimeoutError(1.0), 504),
    ],
)
def test_each_error_has_a_status(error: Exception, status: int) -> None:
    """The body is the sentence, with parameter and column where there are some."""
    answer = error_response(error, "/x")
    assert answer.status_code == status
    body = json.loads(bytes(answer.body))["error"]
    assert body["message"] == str(error)
    assert ("column" in body) == (status == 400)
    assert ("retry-after" in answer.headers) == (status == 503)


def test_a_page_without_memory_is_asked_again_later() -> None:
    """The memory of other requests is free by then."""
    answer = error_response(MemoryError(), "/x")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "3"


def test_an_unexpected_error_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """The client learns nothing of the code, the log has the place."""
    with caplog.at_level(logging.WARNING):
        answer = error_response(KeyError("secret"), "/records")
    assert answer.status_code == 500
    assert b"secret" not in bytes(answer.body)
    assert "KeyError" in caplog.text


def test_methods_and_paths(client: Client) -> None:
    """Another method is 405 with the right one, another path 404."""
    answer = client.request("PUT", "/records")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"
    assert "use GET" in answer.json()["error"]["message"]
    assert client.get("/nothing").status_code == 404


def test_answers_are_not_kept(client: Client) -> None:
    """Records stay out of caches, and are taken for JSON only."""
    headers = client.get("/records").headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-type"] == "application/json"


def test_rights_are_needed(settings: Settings) -> None:
    """Without the right a call is refused."""
    with contextlib.closing(Client(make_page(settings, Anybody(scopes=())))) as client:
        answer = client.get("/records")
        assert answer.status_code == 403
        assert "'view'" in answer.json()["error"]["message"]


def test_a_share_sees_its_records_only(settings: Settings) -> None:
    """Every answer is about the records of the link."""
    shared = bounds("level>=ERROR", f"@{NOW}", f"@{NOW + 60}")
    with contextlib.closing(Client(make_page(settings, Anybody(("view",), shared)))) as client:
        assert client.get("/count").json() == {"count": 6}
        assert len(client.get("/records", since="@0", q="*").json()["records"]) == 6
        facets = client.get("/facets", field="level").json()["facets"]
        assert facets[0]["values"] == [{"value": 40, "count": 6}]
        assert sum(bar["count"] for bar in client.get("/histogram").json()["bars"]) == 6


def test_without_a_store_the_error_says_what_to_configure(tmp_path: Path) -> None:
    """Searching needs a store."""
    with contextlib.closing(Client(make_page(make_settings(tmp_path, "store = []")))) as client:
        answer = client.get("/records")
        assert answer.status_code == 503
        assert "write [[store]]" in answer.json()["error"]["message"]


def test_the_deadline_is_bounded(client: Client) -> None:
    """A request may ask for another deadline, up to the setting."""
    assert client.get("/count", deadline_s=59).status_code == 200
    answer = client.get("/count", deadline_s=61)
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "deadline_s is at most 60 (web.longest_deadline)", "parameter": "deadline_s"
    }  # fmt: skip


def test_an_unknown_store_is_named(client: Client) -> None:
    """The answer lists the stores."""
    answer = client.get("/records", store="nowhere")
    assert answer.status_code == 400
    assert answer.json()["error"]["parameter"] == "store"
    assert "configured: parquet" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": "\udcff"}, r'{"a":"\udcff"}'),
        ({"a": 2**70}, '{"a":1180591620717411303424}'),
        ({"a": ["\udcff", float("inf"), 0.5, {"\udcff": None}]}, r'{"a":["\udcff",null,0.5,{"\udcff":null}]}'),
        ({"a": float("nan")}, '{"a":null}'),
        ({"a": "\x1b\x9b\x7f\u202eé"}, r'{"a":"\u001b\u009b\u007f\u202eé"}'),
    ],
)
def test_odd_values_become_json(value: Any, text: str) -> None:
    """What UTF-8 lacks or terminals act on is escaped, numbers keep their digits, what is not a number is null."""
    assert encode(value).decode() == text


def test_each_call_has_its_parameters() -> None:
    """Calls that search have the common parameters."""
    for call in (*records.CALLS, *analysis.CALLS):
        names = {one.name for one in call.parameters}
        assert {"store", "deadline_s"} <= names
        assert ("q" in names) == ({"since", "until", "tz"} <= names)
