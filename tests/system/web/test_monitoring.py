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

TOML = """
[server]
bind = ["127.0.0.1:0"]
workers = 2
[[listener]]
address = "unix:{sock}"
protocol = "json"
[[store]]
type = "parquet"
batch_time = "1ms"
[web]
bind = ["127.0.0.1:0"]
[metrics]
bind = ["127.0.0.1:0"]
"""


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


def test_no_counter_falls_when_a_worker_is_killed_or_the_collector_upgraded(
    make_collector: Maker, tmp_path: Path
) -> None:
    """Counters go on over the deaths of each process, and over an upgrade; those of listeners and stores, too."""
    collector = make_collector(TOML.format(sock=tmp_path / "logd.sock")).start()
    address = collector.status()["page"]["bind"][0]
    tcp, unix = collector.bind
    _send(collector, 500)
    with collector.connect(1) as sock:
        sock.sendall(b'{"message": "x"}\n{}\n')
        collector.wait_for_records(501)

    def stored() -> bool:
        return _samples(address)['prefork_logd_store_records_total{store="parquet",type="parquet"}'] >= 501

    wait_for(stored, "stored")
    seen = _samples(address)
    assert seen[f'prefork_logd_records_total{{listener="{tcp}"}}'] == 500
    assert seen[f'prefork_logd_records_total{{listener="{unix}"}}'] == 1
    assert seen['prefork_logd_rejected_total{reason="not-a-record"}'] == 1
    assert seen['prefork_logd_commit_duration_seconds_bucket{le="+Inf"}'] >= 1
    for kind in ("worker", "writer", "shipper", None):
        if kind is None:
            assert collector.cli("upgrade").returncode == 0
        else:
            index = int(kind != "shipper")
            pid = collector.child(kind, index)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid, kind=kind, index=index: collector.child(kind, index) != pid, "another process")
        now = _samples(address)
        counters = [name for name in seen if re.search("_total|_bucket|_count|_sum", name)]
        assert not {name: (seen[name], now.get(name)) for name in counters if now.get(name, -1) < seen[name]}
        seen = now
    _send(collector, 10)
    assert _samples(address)[f'prefork_logd_records_total{{listener="{tcp}"}}'] == 510
    assert _samples(address)[f'prefork_logd_connections{{listener="{tcp}"}}'] == 0
    assert httpx.get(f"http://{address}/readyz", timeout=20).text == "ready\n"
    assert collector.stop() == 0


def test_prometheus_scrapes_the_address_for_metrics(make_collector: Maker, tmp_path: Path) -> None:
    """The records that were sent are what a query of Prometheus returns."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    collector = make_collector(TOML.format(sock=tmp_path / "logd.sock")).start()
    _send(collector, 321)
    address = collector.status()["metrics"]["bind"][0]
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
        expression = 'sum by (job) (prefork_logd_records_total{job="prefork-logd"})'
        wait_for(lambda: stored(expression) == ["321"], "scraped", 60)
        assert stored("up") == ["1"]
        assert stored('prefork_logd_process_up{kind="writer"}') == ["1"]
    finally:
        prometheus.terminate()
        prometheus.wait(20)
    assert collector.stop() == 0


def test_metrics_go_on_while_the_page_is_turned_off(make_collector: Maker, tmp_path: Path) -> None:
    """A reload and an upgrade keep their address; without any there is no process for them."""
    collector = make_collector(TOML.format(sock=tmp_path / "logd.sock")).start()
    (address,) = collector.status()["metrics"]["bind"]
    assert f"metrics and health at http://{address}/" in collector.log
    collector.configure(
        TOML.format(sock=tmp_path / "logd.sock").replace('[web]\nbind = ["127.0.0.1:0"]', "[web]\nbind = []")
    )
    assert collector.cli("reload").returncode == 0
    assert collector.status()["page"]["bind"] == []
    assert collector.cli("upgrade").returncode == 0
    assert collector.status()["metrics"]["bind"] == [address]
    _send(collector, 5)
    wait_for(
        lambda: sum(value for name, value in _samples(address).items() if "_records_total{listener" in name) == 5, "5"
    )
    assert httpx.get(f"http://{address}/readyz", timeout=20).text == "ready\n"
    assert httpx.get(f"http://{address}/login", timeout=20).status_code == 404
    collector.configure(TOML.format(sock=tmp_path / "logd.sock").partition("[web]")[0])
    assert collector.cli("reload").returncode == 0
    wait_for(lambda: "page" not in {child["kind"] for child in collector.status()["children"]}, "no page")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{address}/healthz", timeout=20)
    assert collector.stop() == 0
