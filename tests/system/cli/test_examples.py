"""The examples, run as a reader would run them: what they log is stored."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.harness import messages, session_of, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.harness import Collector

EXAMPLES = Path(__file__).parents[3] / "examples"


def _run(collector: Collector, *path: str, stderr: str = "") -> None:
    """Run an example to its end against a collector; check what it says on stderr."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES.joinpath(*path))],
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "PREFORK_LOGD_ADDRESS": collector.bind[0], "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, stderr)


def _of(records: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [record for record in records if record["name"] == name]


def test_plain(collector: Collector) -> None:
    """Two records arrive, one with its extra fields and one with its traceback."""
    _run(collector, "plain.py")
    paid, missing = collector.wait_for_records(2)
    assert (paid["name"], paid["levelname"], paid["message"]) == ("shop.checkout", "INFO", "order 1042 paid")
    assert paid["extra"] == {"order": 1042, "currency": "EUR"}
    assert missing["exc_text"].endswith("KeyError: 'discount'")


def test_dictconfig(collector: Collector) -> None:
    """What the dict lets through arrives; the console shows what it should as well."""
    _run(collector, "with_dictconfig.py", stderr="WARNING shop.stock: pears are sold out\n")
    counted, sold_out = collector.wait_for_records(2)
    assert counted["extra"] == {"items": {"apples": 7, "pears": 0}}
    assert sold_out["message"] == "pears are sold out"
    assert collector.stop() == 0
    assert len(collector.lines()) == 2


def test_our_handler(collector: Collector) -> None:
    """Both records are stored once the process has ended; what is no plain data is there as its text."""
    _run(collector, "with_our_handler.py")
    counted, sold_out = collector.wait_for_records(2)
    assert counted["extra"] == {"items": {"apples": 7, "pears": 0}}
    assert "lock" in sold_out["extra"]["lock"]["text"]
    assert collector.stop() == 0
    assert len(collector.lines()) == 2


def test_gunicorn_and_django(collector: Collector) -> None:
    """Master and workers each have their connection; errors about requests arrive though requests cannot be pickled."""
    _run(collector, "gunicorn_django", "demo.py")
    records = collector.wait_for_records(46)
    assert collector.stop() == 0
    assert collector.rejected() == []
    assert messages(_of(records, "gunicorn.error")) == ["Booting 2 workers", "Shutting down"]
    served = _of(records, "shop.views")
    for worker in range(2):
        mine = [record for record in served if record["extra"]["worker"] == worker]
        assert [record["extra"]["count"] for record in mine] == list(range(20))
        assert len({(record["process"], record["peer"]) for record in mine}) == 1
    errors = _of(records, "django.request")
    assert [error["extra"] for error in errors] == [{"status_code": 500, "request": "GET /orders/1042"}] * 2
    assert len(_of(records, "gunicorn.access")) == 2
    assert len({record["peer"] for record in records}) == 3


def test_celery(collector: Collector) -> None:
    """Each process of the pool has its connection; task and cause travel as fields."""
    _run(collector, "celery_style", "demo.py")
    records = collector.wait_for_records(8)
    assert collector.stop() == 0
    assert collector.rejected() == []
    for number in range(2):
        mine = [record for record in records if record.get("extra", {}).get("task_id") == f"task-{number}"]
        assert messages(mine) == ["started", "retry in 30 s", "succeeded"]
        assert mine[1]["extra"]["cause"] == "RuntimeError('the printer is offline')"
        assert mine[1]["exc_text"].endswith("RuntimeError: the printer is offline")
    assert messages(_of(records, "celery.worker")) == ["ready"]


def test_cluster(tmp_path: Path) -> None:
    """A server and an edge are killed while services log: each record comes out once; Ctrl-C leaves nothing."""
    output = tmp_path / "output"
    with output.open("wb") as file:
        demo = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "cluster" / "demo.py"), "--directory", str(tmp_path / "state"),
             "--records", "3000", "--rate", "1500"],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip

    def says(what: str) -> bool:
        assert demo.poll() is None, output.read_text()
        return what in output.read_text()

    sessions: set[int] = set()
    try:
        wait_for(lambda: says("are logged"), "everything runs", 60)
        pids = {name: int(pid) for name, pid in re.findall(r"^(\w+) .* pid (\d+)$", output.read_text(), re.MULTILINE)}
        sessions |= set(pids.values())
        assert len(pids) == 7
        for name in ("node2", "edge1"):
            os.kill(pids[name], signal.SIGKILL)
        wait_for(lambda: says("have come out"), "everything came out", 90)
        again = dict(re.findall(r"^(\w+) has ended \(SIGKILL\) .* \(pid (\d+)\)$", output.read_text(), re.MULTILINE))
        assert again.keys() == {"node2", "edge1"}
        sessions |= set(map(int, again.values()))
        stored = [
            json.loads(line)
            for file in (tmp_path / "state").glob("central?/records.jsonl")
            for line in file.read_bytes().splitlines()
        ]
        found = sorted((record["name"], record["extra"]["number"]) for record in stored)
        assert found == [(f"shop.service{index + 1}", number) for index in range(4) for number in range(750)]
    finally:
        demo.send_signal(signal.SIGINT)
        status = demo.wait(60)
    assert status == 0, output.read_text()
    assert output.read_text().endswith("\nstopping\n")
    wait_for(lambda: not list(_living(sessions)), f"no process left, but {list(_living(sessions))}", 5)


def _living(sessions: set[int]) -> Iterator[int]:
    """Yield who lives in some sessions; what nobody has waited for yet has no command line any more."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if session_of(entry) in sessions and (entry / "cmdline").read_bytes():
                yield int(entry.name)
