"""A real collector tells people of what happens, once, over kills, restarts, reloads and a clock that is set."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.alerts.book import AlertBook
from prefork_logd.config.load import load
from tests.support.alerting import Hook, hooked
from tests.support.clocks import build_shim
from tests.support.harness import Collector, frames, wait_for
from tests.support.page_visitor import browser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    Maker = Callable[..., Collector]

HEAD = '[server]\nworkers = 1\nbind = ["127.0.0.1:0"]\n[[store]]\ntype = "parquet"\n'
WEB = HEAD + '[web]\nbind = ["127.0.0.1:0"]\n[errors]\nbatch_time = "1ms"\n'
API = "/api/v1/alerts"


@pytest.fixture
def hook() -> Iterator[Hook]:
    """Return a receiver."""
    with hooked() as made:
        yield made


def rule(name: str, text: str, window: str = "1h") -> str:
    """Return the table of a rule that is evaluated each second."""
    return f'[[alert]]\nname = "{name}"\nevery = "1s"\nwindow = "{window}"\nsend = ["hook"]\n{text}\n'


def receiver(hook: Hook) -> str:
    """Return the table of the receiver."""
    return f'[[receiver]]\nname = "hook"\ntype = "webhook"\nurl = "{hook.url}"\n'


def send(collector: Collector, count: int, level: int = 40) -> None:
    """Send records to a collector."""
    with collector.connect() as sock:
        sock.sendall(frames((f"payment {number} failed" for number in range(count)), level=level))


def told(hook: Hook) -> list[tuple[str, str]]:
    """Return (rule, kind) of each notice, in order of the rules."""
    return sorted((notice["alert"], notice["kind"]) for notice in (json.loads(one.body) for one in hook.requests))


def rows(client: httpx.Client) -> dict[str, Any]:
    """Return the rules by their names."""
    return {row["name"]: row for row in client.get(API).json()["rules"]}


def wait_for_evaluation(collector: Collector, name: str) -> None:
    """Wait until a rule was evaluated again."""
    settings = load(collector.config, {"state_dir": str(collector.state_dir)})
    with contextlib.closing(AlertBook(settings, collector.state_dir)) as book:
        before = book.rule(name).evaluated_at
        wait_for(lambda: book.rule(name).evaluated_at != before, "an evaluation")


def test_the_life_of_alerts(make_collector: Maker, hook: Hook) -> None:
    """Rules of the configuration and of the page, by every way that people have, over kills and a restart."""
    count, new = rule("too many", 'query = "level>=ERROR"\nabove = 3'), rule("new errors", 'on = "new-group"')
    collector = make_collector(WEB + receiver(hook) + count + new).start()
    with browser(collector) as client:
        client.headers["X-CSRF-Token"] = client.get("/api/v1/session").json()["csrf"]
        wait_for(lambda: {row["state"] for row in rows(client).values()} == {"ok"}, "the first evaluation")
        send(collector, 5)
        wait_for(lambda: len(hook.requests) == 2, "the notices")
        assert told(hook) == [("new errors", "firing"), ("too many", "firing")]
        made = client.post(API, json={"name": "of the page", "query": "payment", "send": ["hook"], "every": "1s"})
        assert made.status_code == 200, made.text
        wait_for(lambda: len(hook.requests) == 3, "the notice of the page's rule")
        for _ in range(2):
            killed = collector.child("alerts", 0)
            os.kill(killed, signal.SIGKILL)
            wait_for(lambda gone=killed: collector.child("alerts", 0) != gone, "another process")
        evaluated = rows(client)["too many"]["evaluated_at"]
        wait_for(lambda: rows(client)["too many"]["evaluated_at"] > evaluated, "an evaluation")
        assert rows(client)["too many"]["firing"] == 1
        (result,) = client.post(f"{API}/of%20the%20page/test").json()["results"]
        assert (result["ok"], result["answer"]) == (True, "200 OK")
        incident = client.get(f"{API}/incidents", params={"rule": "new errors"}).json()["incidents"][0]
        assert client.get("/api/v1/count", params={"q": incident["query"]}).json()["count"] == 5
        assert client.post(f"{API}/too%20many/silence", json={"for_s": 3600}).json()["silenced_until"] > time.time()
        metrics = client.get("/metrics").text
        assert "prefork_logd_alerts_firing 3\n" in metrics
        assert "prefork_logd_alert_rules 3\n" in metrics
        _check_rights(collector, client)
    assert [kind for _, kind in told(hook)].count("firing") == 3
    assert collector.stop() == 0
    collector.configure(WEB + receiver(hook) + new)
    collector.start()
    wait_for(lambda: ("too many", "resolved") in told(hook), "the end of the removed rule")
    listed = collector.cli("alert", "--format", "json").stdout.splitlines()
    assert [(row["name"], row["state"]) for row in map(json.loads, listed)] == [
        ("new errors", "firing"), ("of the page", "firing"),
    ]  # fmt: skip
    _check_reload_and_command_line(collector, hook, new)
    assert len([kind for _, kind in told(hook) if kind == "firing"]) == 3
    assert collector.status()["alerts"]["problem"] == ""
    assert collector.stop() == 0
    assert "bug" not in collector.log


def _check_rights(collector: Collector, client: httpx.Client) -> None:
    """Let a viewer read alone, a rule name receivers of the configuration alone, and no other site make one."""
    token = collector.cli("web", "token", "looker").stdout.splitlines()[0]
    import httpx

    with httpx.Client(base_url=client.base_url, headers={"Authorization": f"Bearer {token}"}) as viewer:
        assert viewer.get(API).status_code == 200
        new = {"name": "x", "send": ["hook"]}
        for method, path in (("POST", ""), ("PUT", "/too%20many"), ("DELETE", "/too%20many")):
            assert viewer.request(method, API + path, json=new).status_code == 403
        for action in ("silence", "test"):
            assert viewer.post(f"{API}/too%20many/{action}", json={"for_s": 1}).status_code == 403
    assert client.post(API, json={"name": "x", "send": ["http://127.0.0.1/"]}).json()["error"]["parameter"] == "send"
    assert client.post(API, json={"name": "x", "send": ["hook"], "command": ["/bin/sh"]}).status_code == 400
    assert client.post(API, json={"name": "y", "send": ["hook"]}, headers={"X-CSRF-Token": "x"}).status_code == 403


def _check_reload_and_command_line(collector: Collector, hook: Hook, new: str) -> None:
    """Add a rule by a reload; test and silence it by the verb."""
    more = rule("debug", 'query = "level=DEBUG"')
    collector.configure(WEB + receiver(hook) + new + more)
    assert collector.cli("reload").returncode == 0
    tested = collector.cli("alert", "test", "debug")
    assert tested.returncode == 0
    assert tested.stdout.startswith("ok      hook: 200 OK (")
    assert "silenced until" in collector.cli("alert", "silence", "debug", "1h").stdout
    send(collector, 1, level=10)
    wait_for(lambda: "debug" in collector.cli("alert", "incidents").stdout, "the incident")
    assert "no notice: the rule was silenced" in collector.cli("alert", "incidents", "debug").stdout
    assert collector.cli("alert", "unsilence", "new errors").returncode == 0
    missing = collector.cli("alert", "silence", "nothing", "1h")
    assert (missing.returncode, "there is no rule 'nothing'" in missing.stderr) == (2, True)


def test_without_rules_alerts_cost_nothing(make_collector: Maker) -> None:
    """The process has no library of a store, and no file; a reload ends it."""
    collector = make_collector(WEB).start()
    maps = Path(f"/proc/{collector.child('alerts', 0)}/maps").read_text()
    assert "duckdb" not in maps
    assert "sqlite" not in maps
    assert not (collector.state_dir / "alerts.db").exists()
    assert collector.cli("alert").stdout == "no rules; write [[alert]] (docs/alerts.md)\n"
    collector.configure(f"{WEB}[alerts]\nenabled = false\n")
    assert collector.cli("reload").returncode == 0
    wait_for(lambda: not [one for one in collector.status()["children"] if one["kind"] == "alerts"], "its end")
    assert collector.stop() == 0


def test_a_clock_that_is_set(make_collector: Maker, hook: Hook, tmp_path: Path) -> None:
    """Forward by an hour, and back by two: no absence of records that come, no old burst again, and no lost one."""
    shift = tmp_path / "shift"
    env = {"LD_PRELOAD": str(build_shim(tmp_path)), "CLOCK_FILE": str(shift)}
    rules = rule("absent", 'on = "absence"', "2s") + rule("many", "above = 100", "2s")
    collector = make_collector(HEAD + "[web]\nbind = []\n" + receiver(hook) + rules, env=env).start()
    send(collector, 101)
    wait_for(lambda: ("many", "firing") in told(hook), "the burst")
    for seconds in ("3600", "-3600"):
        shift.write_text(seconds)
        for _ in range(3):
            send(collector, 1)
            wait_for_evaluation(collector, "absent")
    assert told(hook) == [("many", "firing"), ("many", "resolved")]
    send(collector, 101)
    wait_for(lambda: told(hook).count(("many", "firing")) == 2, "the burst after it")
    wait_for(lambda: ("absent", "firing") in told(hook), "the silence after it")
    assert collector.stop() == 0
