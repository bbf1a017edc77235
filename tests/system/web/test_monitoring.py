"""Debian's Prometheus scrapes the page of a real collector, and no counter falls when a worker is killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.harness import frames, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]

TOML = '[server]\nbind = ["127.0.0.1:0"]\nworkers = 2\n[web]\nbind = ["127.0.0.1:0"]\n'


def _samples(address: str) -> dict[str, float]:
    answer = httpx.get(f"http://{address}/metrics", timeout=20)
    assert answer.status_code == 200, answer.text
    lines = (line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def _send(collector: Collector, count: int) -> None:
    before = len(collector.lines())
    with collector.connect() as sock:
        sock.sendall(frames(f"record {number}" for number in range(count)))
    collector.wait_for_records(before + count)


def test_no_counter_falls_when_a_worker_is_killed_or_the_collector_upgraded(make_collector: Maker) -> None:
    """Counters go on over the deaths of each process, and over an upgrade."""
    collector = make_collector(TOML).start()
    address = collector.status()["page"]["bind"][0]
    _send(collector, 500)
    seen = _samples(address)
    assert seen["prefork_logd_records_total"] == 500
    assert seen['prefork_logd_commit_duration_seconds_bucket{le="+Inf"}'] >= 1
    for kind in ("worker", "writer", None):
        if kind is None:
            assert collector.cli("upgrade").returncode == 0
        else:
            pid = collector.child(kind)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid, kind=kind: collector.child(kind) != pid, "another process")
        now = _samples(address)
        counters = [name for name in seen if re.search("_total|_bucket|_count|_sum", name)]
        assert not {name: (seen[name], now.get(name)) for name in counters if now.get(name, -1) < seen[name]}
        seen = now
    _send(collector, 10)
    assert _samples(address)["prefork_logd_records_total"] == 510
    assert httpx.get(f"http://{address}/readyz", timeout=20).text == "ready\n"
    assert collector.stop() == 0


def test_prometheus_scrapes_the_page(make_collector: Maker, tmp_path: Path) -> None:
    """The records that were sent are what a query of Prometheus returns."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    collector = make_collector(TOML).start()
    _send(collector, 321)
    address = collector.status()["page"]["bind"][0]
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: prefork-logd, static_configs: [{{targets: ['{address}']}}]}}]\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    arguments = (f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}")
    prometheus = subprocess.Popen(
        [program, *arguments, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL
    )

    def stored(expression: str) -> list[Any]:
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": expression}, timeout=5)
        except httpx.TransportError:
            return []
        return [result["value"][1] for result in answer.json()["data"]["result"]] if answer.is_success else []

    try:
        wait_for(lambda: stored('prefork_logd_records_total{job="prefork-logd"}') == ["321"], "scraped", 60)
        assert stored("up") == ["1"]
        assert stored('prefork_logd_process_up{kind="writer"}') == ["1"]
    finally:
        prometheus.terminate()
        prometheus.wait(20)
    assert collector.stop() == 0
