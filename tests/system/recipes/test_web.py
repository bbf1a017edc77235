"""The recipes of docs/recipes.md for web frameworks and their servers, with real requests."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.harness import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.recipes import Recipe

APPLICATION = """
import logging

def app(environ, start_response):
    logging.getLogger("shop").info("order shown", extra={"path": environ["PATH_INFO"]})
    start_response("200 OK", [("Content-Length", "4")])
    return [b"here"]
"""

URLS = """
import logging
from django.http import HttpResponse
from django.urls import path

def show(request, number):
    logging.getLogger("shop").info("order %d shown", number, extra={"request": request})
    return HttpResponse(100 / (number - 13))

urlpatterns = [path("orders/<int:number>", show)]
"""

WSGI = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""


def _of(records: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [record for record in records if record["name"] == name]


@pytest.mark.parametrize("kind", ["sync", "gevent"])
def test_gunicorn(recipe: Callable[[str], Recipe], kind: str) -> None:
    """Master and workers each have a connection; all records are stored once, over a restart of the collector."""
    pytest.importorskip("gunicorn")
    shop = recipe("gunicorn")
    shop.write("shop.py", APPLICATION)
    if kind == "gevent":
        pytest.importorskip("gevent")
        shop.write(
            "gunicorn_conf.py", f"from gevent import monkey; monkey.patch_all()\n{shop.files['gunicorn_conf.py']}"
        )
    service = shop.start("-k", kind)
    assert [shop.get("/orders/7") for _ in range(10)] == [200] * 10
    if kind == "sync":
        assert shop.collector.stop() == 0
    assert [shop.get("/orders/7") for _ in range(10)] == [200] * 10
    if kind == "sync":
        shop.restart_collector()
    assert shop.stop(service) == 0
    records = shop.stored(40, "gunicorn.error")
    assert shop.output == ""
    assert len(_of(records, "shop")) == len(_of(records, "gunicorn.access")) == 20
    assert "Shutting down: Master" in messages(_of(records, "gunicorn.error"))
    assert len({record["process"] for record in records}) == 3
    assert len({(record["process"], record["peer"]) for record in records}) == len({r["peer"] for r in records}) > 2


def test_django(recipe: Callable[[str], Recipe]) -> None:
    """The application's records and Django's own are stored, with requests as texts and tracebacks."""
    pytest.importorskip("django")
    pytest.importorskip("gunicorn")
    shop = recipe("Django")
    settings = 'SECRET_KEY = "of a test"\nROOT_URLCONF = "urls"\nALLOWED_HOSTS = ["*"]\n'
    for name, text in {"settings.py": settings + shop.files["settings.py"], "urls.py": URLS, "wsgi.py": WSGI}.items():
        shop.write(name, text)
    service = shop.start()
    assert [shop.get(f"/orders/{number}") for number in range(20)] == [200] * 13 + [500] + [200] * 6
    assert shop.get("/baskets/7") == 404
    assert shop.stop(service) == 0
    records = shop.stored(22)
    shown = _of(records, "shop")
    assert sorted(messages(shown)) == sorted(f"order {number} shown" for number in range(20))
    failed, missing = sorted(_of(records, "django.request"), key=lambda record: -record["levelno"])
    assert failed["exc_text"].endswith("ZeroDivisionError: division by zero")
    assert failed["extra"] == {"status_code": 500, "request": "<WSGIRequest: GET '/orders/13'>"}
    assert (missing["levelname"], missing["extra"]["status_code"]) == ("WARNING", 404)


def test_flask(recipe: Callable[[str], Recipe]) -> None:
    """Every record of a request has its path; an exception of a view has its traceback."""
    pytest.importorskip("flask")
    shop = recipe("Flask")
    service = shop.start()
    assert [shop.get(f"/orders/{number}") for number in range(20)] == [200] * 13 + [500] + [200] * 6
    shop.stop(service, signal.SIGINT)
    records = shop.stored(20 + 1, "werkzeug")
    assert sum("/orders/" in record["message"] for record in _of(records, "werkzeug")) == 20
    shown = [record for record in _of(records, "shop") if record["levelname"] == "INFO"]
    assert sorted((r["extra"]["order"], r["extra"]["path"]) for r in shown) == [(n, f"/orders/{n}") for n in range(20)]
    (failed,) = (record for record in records if record["levelname"] == "ERROR")
    assert failed["extra"] == {"method": "GET", "path": "/orders/13"}
    assert failed["exc_text"].endswith("ZeroDivisionError: division by zero")


def test_fastapi(recipe: Callable[[str], Recipe]) -> None:
    """Records of endpoints, uvicorn's own and its access lines are stored, the last ones of the lifespan too."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    shop = recipe("FastAPI and uvicorn")
    service = shop.start()
    assert [shop.get(f"/orders/{number}") for number in range(20)] == [200] * 13 + [500] + [200] * 6
    assert shop.stop(service) == -signal.SIGTERM
    records = shop.stored(20 + 20, "uvicorn.error")
    assert [record["extra"]["order"] for record in _of(records, "shop")] == list(range(20))
    assert len(_of(records, "uvicorn.access")) == 20
    own = _of(records, "uvicorn.error")
    assert messages(own)[-2:] == ["Application shutdown complete.", f"Finished server process [{service.pid}]"]
    (failed,) = (record for record in own if record["levelname"] == "ERROR")
    assert failed["exc_text"].endswith("ZeroDivisionError: division by zero")
