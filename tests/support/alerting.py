"""Gives tests of alerts a collector that they change, a clock that they set, and a real HTTP server as receiver."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from typing import TYPE_CHECKING, Any

from prefork_logd.alerts import engine as module
from prefork_logd.alerts.book import AlertBook
from prefork_logd.alerts.clock import AlertClock
from prefork_logd.alerts.engine import Engine
from prefork_logd.alerts.findings import Watched
from prefork_logd.config.load import loads
from prefork_logd.query.analysis import stats_of
from prefork_logd.query.search import Coverage, Found, Limits, Page, RecordId, Table
from prefork_logd.records.stored import read_fields
from tests.support.stores import JOURNAL, NOW, line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest

    from prefork_logd.alerts.book import IncidentRow, RuleRow
    from prefork_logd.query.filters import Filters
    from prefork_logd.query.search import Cursor
    from prefork_logd.query.statistics import Statistics


class Request:
    """What a receiver was sent."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path = path
        self.headers = headers
        self.body = body

    @property
    def id(self) -> str:
        """The notice's id."""
        return self.headers["Idempotency-Key"]


class Hook:
    """An HTTP server; `answer` writes what a test wants it to answer, by default status 200."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[http.server.BaseHTTPRequestHandler], None] = lambda handler: reply(handler, 200)
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.requests.append(Request(self.path, dict(self.headers), body))
                hook.answer(self)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def ids(self) -> list[str]:
        """The ids of the notices, in order, each without the incident."""
        return [request.id.partition("-")[2] for request in self.requests]

    @property
    def notices(self) -> list[tuple[str, str]]:
        """Kind and title of each notice, in order."""
        return [(body["kind"], body["title"]) for body in (json.loads(request.body) for request in self.requests)]

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def reply(handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    """Answer a request."""
    handler.send_response(status)
    for name, text in headers.items():
        handler.send_header(name.replace("_", "-"), text)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class Records:
    """A Search of records in memory."""

    def __init__(self) -> None:
        self.limits = Limits()
        self.lines: list[bytes] = []
        self.error: Exception | None = None
        self.problems: list[str] = []

    def _matching(self, filters: Filters) -> list[Found]:
        if self.error is not None:
            raise self.error
        found = []
        for number, stored in enumerate(self.lines):
            record = read_fields(stored)
            if filters.matches(record):
                found.append(Found(RecordId(JOURNAL, number), record["created"], stored))
        return found

    def count(self, filters: Filters) -> int:
        """Return how many records match."""
        return len(self._matching(filters))

    def stats(self, filters: Filters, statistics: Statistics) -> Table:
        """Return aggregates of the records that match."""
        found = self._matching(filters)
        rows, left_out = stats_of((read_fields(one.line) for one in found), statistics)
        return Table(statistics.columns, rows, left_out, Coverage(len(found), True))

    def page(self, filters: Filters, cursor: Cursor | None = None) -> Page:
        """Return all records that match."""
        assert cursor is None
        return Page(self._matching(filters), None)

    def levels(self) -> dict[str, int]:
        """Return no names."""
        return {}

    def close(self) -> None:
        """Do nothing."""


class World(Watched):
    """A collector with alerts, whose time stands until a test moves it."""

    def __init__(self, state_dir: Path, toml: str, monkeypatch: pytest.MonkeyPatch | None = None) -> None:
        self.state_dir = state_dir
        self.monotonic, self.wall, self.boot = 1000.0, NOW, "boot"
        self.records = Records()
        self.listening, self.lag, self.run = True, 0.0, "run"
        if monkeypatch is not None:
            monkeypatch.setattr(module, "open_killable", lambda *_: self.records)
        else:
            module.open_killable = lambda *_: self.records  # type: ignore[assignment]  # in a process of its own
        self.configure(toml)

    def configure(self, toml: str) -> None:
        """Take other settings, as a reload does: by another engine."""
        self.settings = loads(toml, "", {"state_dir": str(self.state_dir)})
        self.restart()

    def restart(self) -> None:
        """Go on with another engine, as after the death of the process."""
        if hasattr(self, "engine"):
            self.engine.close()
        self.engine = Engine(self.settings, self.state_dir, self, self.run, self._make_clock)

    def _make_clock(self, saved: Any = None) -> AlertClock:
        return AlertClock(saved, monotonic=lambda: self.monotonic, wall=lambda: self.wall, boot=self.boot)

    def log(self, count: int = 1, **attributes: Any) -> None:
        """Store records that have arrived now."""
        self.records.lines += [line(self.wall, **{"levelno": 40, "msg": "failed", **attributes}) for _ in range(count)]

    def turn(self, passed_s: float = 1.0, turns: int = 1) -> World:
        """Let time pass, and the engine take turns; every notice that is due is sent."""
        for _ in range(turns):
            self.monotonic += passed_s
            self.wall += passed_s
            self.engine.turn()
            self.send()
        return self

    def send(self) -> None:
        """Wait until the notices that are due are sent."""
        opened = self.engine._opened
        while opened is not None:
            for thread in list(opened.dispatcher._threads.values()):
                thread.join()
            if not opened.outbox.due_receivers():
                break
            opened.dispatcher.start_due(opened.outbox)

    def incidents(self) -> list[IncidentRow]:
        """Return the incidents, the newest first."""
        with self._book() as book:
            return book.incidents()

    def rule(self) -> RuleRow:
        """Return the row of the first rule."""
        with self._book() as book:
            return book.rules()[0]

    def _book(self) -> contextlib.closing[AlertBook]:
        return contextlib.closing(AlertBook(self.settings, self.state_dir, lambda: self.wall))

    # What alerts see of the collector

    def journal(self) -> tuple[str, int]:
        """Return the journal, whose next number is the number of records."""
        return JOURNAL, len(self.records.lines)

    def lag_s(self, store: str) -> float:
        """Return what the test has set."""
        assert store == self.settings.store[0].name
        return self.lag

    def is_listening(self) -> bool:
        """Return what the test has set."""
        return self.listening


@contextlib.contextmanager
def hooked() -> Iterator[Hook]:
    """Give a receiver."""
    hook = Hook()
    try:
        yield hook
    finally:
        hook.close()


def toml(hook: Hook | str, rule: str = "", receiver: str = "") -> str:
    """Return a configuration with one rule and one webhook."""
    url = hook if isinstance(hook, str) else hook.url
    return (
        f'[[receiver]]\nname = "hook"\ntype = "webhook"\nurl = "{url}"\ntimeout = "1s"\n{receiver}\n'
        f'[[alert]]\nname = "rule"\nsend = ["hook"]\nevery = "1s"\nwindow = "10s"\n{rule}\n'
    )
