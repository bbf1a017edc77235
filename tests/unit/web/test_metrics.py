"""The metrics have the form that Prometheus reads, and every series from the start; the status decides on readiness."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.load import loads
from prefork_logd.ingest.rejections import REASONS
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.scoreboard import (
    MAX_WORKERS,
    SHIPPER_SLOT,
    WRITER_SLOT,
    Field,
    JournalField,
    LimitField,
    ListenerField,
    Scoreboard,
)
from prefork_logd.net import tls
from prefork_logd.processes.master import status
from prefork_logd.processes.master.child import Child, Kind
from prefork_logd.processes.master.lifecycle import State
from prefork_logd.processes.master.upgrade.state import InheritedCounters
from prefork_logd.web.metrics import metrics_text, unready_because

if TYPE_CHECKING:
    from collections.abc import Callable

MONITORING = Path(__file__).resolve().parents[3] / "packaging" / "monitoring"
TOML = """
[[output]]
name = "all"
path = "all.jsonl"
[[store]]
type = "parquet"
[[source]]
type = "nats"
servers = ["nats://127.0.0.1:1"]
stream = "LOGS"
group = "g"
[[limit]]
name = "rate"
records_per_second = 10
[[limit]]
name = "places"
connections = 5
[errors]
enabled = false
"""


class _Collector:
    """A scoreboard and children, without processes."""

    def __init__(self, tmp_path: Path) -> None:
        self.board = Scoreboard()
        self.settings = loads(TOML, overrides={"state_dir": str(tmp_path)})
        self.writer = Child(Kind.WRITER, WRITER_SLOT, State.RUNNING)
        self.worker = Child(Kind.WORKER, 1, State.RUNNING)
        self.bind = ["127.0.0.1:9020"]
        self._others = [
            Child(Kind.SOURCE, MAX_WORKERS, State.RUNNING),
            Child(Kind.SHIPPER, SHIPPER_SLOT, store=self.settings.store[0]),
        ]

    def status(self) -> dict[str, Any]:
        """Return the status document as a client gets it."""
        configuration = Configuration(1, self.settings, (1,), (0,), (7, 2))
        children = [self.writer, self.worker, *self._others]
        document = status.document(
            configuration, self.bind, children, self.board, InheritedCounters(), time.monotonic() - 5
        )
        return dict(json.loads(json.dumps(document)))


@pytest.fixture
def collector(tmp_path: Path) -> _Collector:
    """Return a collector that has just started."""
    return _Collector(tmp_path)


def _samples(text: str) -> dict[str, str]:
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return dict(line.rsplit(" ", 1) for line in lines)


def test_every_series_exists_from_the_start(collector: _Collector) -> None:
    """A counter that appears with its first event has no increase that an alert could see."""
    samples = _samples(metrics_text(collector.status()))
    for name in ("dropped", "client_gap_records", "redacted"):
        assert samples[f"prefork_logd_{name}_total"] == "0"
    for name in ("records_total", "received_bytes_total", "connections"):
        assert samples[f'prefork_logd_{name}{{listener="127.0.0.1:9020"}}'] == "0"
    assert [samples[f'prefork_logd_rejected_total{{reason="{reason}"}}'] for reason in REASONS] == ["0"] * len(REASONS)
    assert samples['prefork_logd_commit_duration_seconds_bucket{le="+Inf"}'] == "0"
    assert samples['prefork_logd_process_up{kind="writer",index="0"}'] == "1"
    assert samples['prefork_logd_store_lag_records{store="parquet",type="parquet"}'] == "NaN"
    assert samples['prefork_logd_output_records_total{output="all"}'] == "0"
    for name in ("alert_notices_sent_total", "alert_notices_failed_total", "alert_evaluation_errors_total"):
        assert samples[f"prefork_logd_{name}"] == "0"
    assert samples['prefork_logd_source_messages_waiting{stream="LOGS",group="g"}'] == "NaN"
    for name in ("limited_clients", "limit_dropped_records_total", "limit_waits_total", "limit_waiting_seconds_total"):
        assert [samples[f'prefork_logd_{name}{{limit="{limit}"}}'] for limit in ("rate", "places")] == ["0", "0"]
    started = float(samples["prefork_logd_start_time_seconds"])
    assert 3 < time.time() - started < 60


def test_labels_are_escaped(collector: _Collector) -> None:
    """A name cannot end its label, or the line."""
    document = collector.status()
    document["sources"][0]["group"] = 'odd "group"\n\\'
    assert r'group="odd \"group\"\n\\"} 0' in metrics_text(document)


def test_counters_of_the_scoreboard(collector: _Collector) -> None:
    """What the processes count is what the samples say; ended workers are counted."""
    collector.board.listener(1, 0)[ListenerField.RECORDS] = 2**53
    collector.board.listener(7, 0)[ListenerField.RECORDS] = 1
    collector.board.reasons(7)[REASONS.index("malformed")] = 4
    collector.board.slot(1)[Field.GAPS] = 3
    writer = collector.board.slot(WRITER_SLOT)
    for duration_ns in (1_000_000, 1_000_001, 3_000_000_000, 3_600_000_000_000):
        Scoreboard.count_commit(writer, duration_ns)
    samples = _samples(metrics_text(collector.status()))
    assert samples['prefork_logd_records_total{listener="127.0.0.1:9020"}'] == str(2**53 + 1)
    assert samples['prefork_logd_rejected_total{reason="malformed"}'] == "4"
    assert samples["prefork_logd_client_gap_records_total"] == "3"
    buckets = [int(count) for name, count in samples.items() if "_bucket" in name]
    assert buckets == [1, 2, 2, 2, 2, 2, 3, 4]
    assert samples["prefork_logd_commit_duration_seconds_count"] == "4"
    assert float(samples["prefork_logd_commit_duration_seconds_sum"]) == pytest.approx(3603.002, abs=0.001)
    assert abs(time.time() - float(samples["prefork_logd_last_commit_timestamp_seconds"])) < 60


@pytest.mark.slow
def test_each_limit_has_its_counters(collector: _Collector) -> None:
    """Those of all workers are added up, by the slot of the limit; the only label is its configured name."""
    for slot, count in ((1, 3), (MAX_WORKERS, 4)):
        counters = collector.board.limit(slot, 2)
        for field in LimitField:
            counters[field] = count * (field + 1)
    collector.board.limit(1, 7)[LimitField.WAITED_US] = 2_500_000
    text = metrics_text(collector.status())
    samples = {name: value for name, value in _samples(text).items() if "limit=" in name}
    assert samples == {
        'prefork_logd_limited_clients{limit="rate"}': "0",
        'prefork_logd_limited_clients{limit="places"}': "42",
        'prefork_logd_limit_dropped_records_total{limit="rate"}': "0",
        'prefork_logd_limit_dropped_records_total{limit="places"}': "7",
        'prefork_logd_limit_waits_total{limit="rate"}': "0",
        'prefork_logd_limit_waits_total{limit="places"}': "14",
        'prefork_logd_limit_waiting_seconds_total{limit="rate"}': "2.5",
        'prefork_logd_limit_waiting_seconds_total{limit="places"}': "0",
        'prefork_logd_limit_refused_connections_total{limit="rate"}': "0",
        'prefork_logd_limit_refused_connections_total{limit="places"}': "28",
        'prefork_logd_limit_closed_connections_total{limit="rate"}': "0",
        'prefork_logd_limit_closed_connections_total{limit="places"}': "35",
    }
    assert _promtool("check", "metrics", text=text) == ""


def _stop_writer(collector: _Collector) -> None:
    collector.writer.state = State.WAITING


def _stop_workers(collector: _Collector) -> None:
    collector.worker.state = State.STARTING


def _pause(collector: _Collector) -> None:
    collector.board.slot(WRITER_SLOT)[Field.PAUSED] = 1


def _fill_journal(collector: _Collector) -> None:
    collector.board.journal[JournalField.FULL] = 1


def _close(collector: _Collector) -> None:
    collector.bind.clear()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_stop_writer, "the writer is not running"),
        (_stop_workers, "no worker is running"),
        (_pause, "an output or the journal cannot be written"),
        (_fill_journal, "the journal is full"),
        (_close, "no address is listened on"),
    ],
)
def test_the_collector_is_unready_while_clients_wait(
    collector: _Collector, harm: Callable[[_Collector], None], reason: str
) -> None:
    """Each reason is named; a store that cannot be written is none."""
    assert unready_because(collector.status()) == ""
    harm(collector)
    assert reason in unready_because(collector.status())


def _promtool(*arguments: str, text: str = "") -> str:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_promtool_accepts_the_metrics(collector: _Collector) -> None:
    """Its rules of naming, too."""
    assert _promtool("check", "metrics", text=metrics_text(collector.status())) == ""


@pytest.mark.slow
def test_promtool_accepts_the_alert_rules() -> None:
    """Every rule fires for its trouble, and not before."""
    assert "SUCCESS" in _promtool("check", "rules", str(MONITORING / "prefork-logd.rules.yml"))
    assert "SUCCESS" in _promtool("test", "rules", str(MONITORING / "prefork-logd.rules.test.yml"))
    rules, tests = ((MONITORING / f"prefork-logd.rules{part}.yml").read_text() for part in ("", ".test"))
    alerts = re.findall(r"alert: (\w+)", rules)
    assert len(alerts) >= 10
    for alert in alerts:
        assert re.search(rf"alertname: {alert}\n +exp_alerts:\n", tests), f"no test lets {alert} fire"


def test_the_rules_and_the_dashboard_use_metrics_that_exist(collector: _Collector) -> None:
    """A renamed metric would leave them silent for ever."""
    exists = set(re.findall(r"^# TYPE (\S+)", metrics_text(collector.status()), re.MULTILINE))
    for name in ("prefork-logd.rules.yml", "prefork-logd.dashboard.json"):
        used = set(re.findall(r"prefork_logd_\w+", (MONITORING / name).read_text()))
        assert used
        assert {one.removesuffix("_bucket") for one in used} <= exists


@pytest.mark.slow
def test_certificates_and_failed_handshakes_are_metrics(collector: _Collector) -> None:
    """The reasons are a fixed set, each from the start; a certificate has its end."""
    collector.board.slot(1)[Field.TLS_CERTIFICATE] = 3
    collector.board.slot(1)[Field.HANDSHAKES] = 8
    row = {"listener": "0.0.0.0:9443", "path": "c.pem", "names": [], "serial": "1", "expires": 1_900_000_000.0}
    text = metrics_text({**collector.status(), "certificates": [row]})
    samples = _samples(text)
    found = {name: value for name, value in samples.items() if "tls_handshake_failures_total" in name}
    assert len(found) == len(tls.REASONS)
    assert samples["prefork_logd_tls_handshakes_total"] == "8"
    assert found['prefork_logd_tls_handshake_failures_total{reason="certificate"}'] == "3"
    expiry = 'prefork_logd_tls_certificate_expiry_timestamp_seconds{listener="0.0.0.0:9443",certificate="c.pem"}'
    assert samples[expiry] == "1900000000"
    assert _promtool("check", "metrics", text=text) == ""
