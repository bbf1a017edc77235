"""The OpenAPI document is valid, and true of the routes and of real answers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest
from openapi_spec_validator import validate

from prefork_logd.alerts.book import AlertBook
from prefork_logd.config.alerts import AlertSettings
from prefork_logd.config.receivers import WebhookSettings
from prefork_logd.stores.errors.book import Book
from prefork_logd.web.api import CALLS, routes
from prefork_logd.web.api.endpoint import Endpoint
from prefork_logd.web.api.openapi import document
from tests.support.error_groups import failed, opened
from tests.support.page import Client, make_page, make_settings, seed
from tests.support.stores import JOURNAL, block, never

if TYPE_CHECKING:
    from prefork_logd.config.settings import Settings

EXAMPLES: dict[str, dict[str, Any]] = {
    "/facets": {"field": ["name", "extra.status", "absent"]},
    "/stats": {"stats": "count, max(status) by name"},
    "/complete": {"q": "na"},
}
"""Parameters of calls that need some."""


def test_the_document_is_valid() -> None:
    """By the specification."""
    validate(document(CALLS))


def test_every_route_is_described() -> None:
    """With each method, and every parameter with a meaning and a type."""
    paths = document(CALLS)["paths"]
    served = {
        route.path: {method.lower() for method in route.endpoint.calls}  # type: ignore[attr-defined]
        for route in routes()
        if isinstance(getattr(route, "endpoint", None), Endpoint)
    }
    assert {path: set(methods) for path, methods in paths.items()} == served
    for methods in paths.values():
        for operation in methods.values():
            assert operation["summary"].endswith(".")
            for parameter in operation["parameters"]:
                assert parameter["description"].endswith(".")
                assert parameter["schema"]["type"]


def test_fields_have_descriptions() -> None:
    """Those that the source explains."""
    found = document(CALLS)["components"]["schemas"]
    assert found["Records"]["properties"]["cursor"]["description"].startswith("The parameter `cursor`")
    assert found["Completion"]["properties"].keys() == {"from", "to", "items"}


@pytest.mark.parametrize("call", [call for call in CALLS if call.method == "GET"], ids=lambda call: call.path)
def test_answers_are_as_described(client: Client, settings: Settings, call: Any) -> None:
    """Each call's answer has the described type, and so has an error."""
    described = client.get("/openapi.json").json()
    operation = described["paths"][call.path]["get"]

    def check(value: Any, status: str) -> None:
        schema = operation["responses"][status]["content"]["application/json"]["schema"]
        whole = {**schema, "components": described["components"]}
        jsonschema.Draft202012Validator(whole).validate(value)

    with opened(settings.errors) as store:
        store.write([block(0, [failed(1)])], never)
    seed(settings, [failed(1)], first=1_000)
    with contextlib.closing(Book(Path(settings.errors.path))) as book:
        key = book.groups()[0].id
    with_receiver = msgspec.structs.replace(settings, receiver=(WebhookSettings(name="r", url="http://x"),))
    with contextlib.closing(AlertBook(with_receiver, Path(settings.server.state_dir))) as alerts:
        alerts.make(AlertSettings(name="rule", send=("r",)), "somebody")
    number = 1_000 if call.path == "/records/{id}/group" else 7
    path = call.path.replace("{id}", f"{JOURNAL}-{number}").replace("{key}", key).replace("{rule}", "rule")
    if call.answer != "text/event-stream":
        answer = client.get(path, **EXAMPLES.get(call.path, {}))
        assert answer.status_code == 200
        assert answer.headers["content-type"].partition(";")[0] in operation["responses"]["200"]["content"]
        if not isinstance(call.answer, str):
            check(answer.json(), "200")
    wrong = client.get(path, unknown="1")
    assert wrong.status_code == 400
    check(wrong.json(), "400")


def test_a_busy_server_answers_as_described(tmp_path: Path) -> None:
    """Also without a store."""
    with contextlib.closing(Client(make_page(make_settings(tmp_path, "store = []")))) as client:
        answer = client.get("/records")
        assert answer.status_code == 503
        assert set(answer.json()["error"]) == {"message"}
