"""Makes the text of /metrics and the answers of /healthz and /readyz from the document of `status --json`.

Owns the names of the metrics. Does not know how the document is asked for, or how the text is sent.

The text is Prometheus's text format 0.0.4. Every series exists from the start, and no label has a value that a client
chooses: listeners, limits and stores are configured, and reasons are a fixed list.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus 3 refuses a text of another type."""
PREFIX = "prefork_logd_"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class _Metric(NamedTuple):
    """A metric whose samples are values of the status document."""

    name: str
    key: str
    """Of the value, in the part of the status document that the table is about."""
    kind: str
    description: str


_PROCESSES = (
    _Metric("process_restarts_total", "restarts", "counter", "Number of times that a process was started again."),
    _Metric("process_unresponsive_seconds", "silent_s", "gauge", "Time for which a process has not answered."),
)
_LISTENERS = (
    _Metric("records_total", "records", "counter", "Records of clients that were received and accepted."),
    _Metric("received_bytes_total", "received_bytes", "counter", "Bytes of received records."),
    _Metric("connections", "connections", "gauge", "Connected clients."),
)
_LOSSES = (
    _Metric(
        "dropped_total",
        "dropped",
        "counter",
        "Records that were not received as a whole, those dropped by clients included.",
    ),
    _Metric("client_gap_records_total", "gaps", "counter", "Records that clients report as dropped by themselves."),
    _Metric("redacted_total", "redacted", "counter", "Records with a secret that was replaced."),
    _Metric("sampled_out_records_total", "sampled", "counter", "Records that were not kept because of [[sample]]."),
)
_LIMITS = (
    _Metric("limited_clients", "clients", "gauge", "Clients beyond a limit, counted in each worker."),
    _Metric("limit_dropped_records_total", "dropped", "counter", "Records dropped because of a limit."),
    _Metric("limit_waits_total", "waits", "counter", "Number of times that a limit let a connection wait."),
    _Metric(
        "limit_waiting_seconds_total", "waited_s", "counter", "Time for which a limit let connections wait, summed."
    ),
    _Metric("limit_refused_connections_total", "refused", "counter", "Connections that a limit gave no place."),
    _Metric("limit_closed_connections_total", "closed", "counter", "Connections closed because of a limit of memory."),
)
_CERTIFICATES = (
    _Metric(
        "tls_certificate_expiry_timestamp_seconds",
        "expires",
        "gauge",
        "End of the validity of a listener's certificate, in seconds since 1970.",
    ),
)
_OUTPUTS = (
    _Metric("output_records_total", "records", "counter", "Records written to an output."),
    _Metric("output_bytes_total", "bytes", "counter", "Bytes written to an output."),
    _Metric(
        "output_skipped_total", "skipped", "counter", "Records that an output has left out because of its on_error."
    ),
    _Metric("output_failing", "failing", "gauge", "Whether an output cannot be written."),
)
_JOURNAL = (
    _Metric("journal_bytes", "bytes", "gauge", "Bytes of records that wait in the journal for the stores."),
    _Metric("journal_limit_bytes", "limit", "gauge", "limits.journal_bytes; at this size clients wait."),
    _Metric("journal_full", "full", "gauge", "Whether clients wait for the stores."),
)
_STORES = (
    _Metric("store_records_total", "records", "counter", "Records written to a store."),
    _Metric("store_refused_total", "refused", "counter", "Records that a store has refused (dead letters)."),
    _Metric("store_lost_total", "lost", "counter", "Records that a store never gets, and that are not dead letters."),
    _Metric("store_lag_records", "lag_records", "gauge", "Records that wait for a store; NaN while that is not known."),
    _Metric("store_lag_seconds", "lag_s", "gauge", "Age of the oldest record that waits for a store."),
    _Metric("store_failing", "failing", "gauge", "Whether a store cannot be written."),
)
_ALERTS = (
    _Metric("alert_rules", "rules", "gauge", "Rules of alerts."),
    _Metric("alerts_firing", "firing", "gauge", "Incidents that are open."),
    _Metric("alert_notices_waiting", "waiting", "gauge", "Notices that wait for their receivers."),
    _Metric("alert_notices_sent_total", "sent", "counter", "Notices that receivers have taken."),
    _Metric("alert_notices_failed_total", "failed", "counter", "Notices that were given up."),
    _Metric("alert_evaluation_errors_total", "errors", "counter", "Evaluations of rules that failed."),
)
_SOURCES = (
    _Metric("source_records_total", "records", "counter", "Records read from a source."),
    _Metric("source_rejected_total", "rejected", "counter", "Messages of a source that hold no record."),
    _Metric("source_connected", "connected", "gauge", "Whether a source is connected."),
    _Metric(
        "source_messages_waiting", "messages_waiting", "gauge", "Messages that wait in a source; NaN while unknown."
    ),
)


@dataclass
class _Text:
    """The lines of the metrics so far."""

    lines: list[str] = field(default_factory=list)

    def begin(self, name: str, kind: str, description: str) -> None:
        """Begin a metric."""
        self.lines += [f"# HELP {PREFIX}{name} {description}", f"# TYPE {PREFIX}{name} {kind}"]

    def add(self, name: str, value: float, **labels: object) -> None:
        """Add a sample."""
        inner = ",".join(f'{key}="{str(label).translate(_ESCAPES)}"' for key, label in labels.items())
        self.lines.append(
            f"{PREFIX}{name}{{{inner}}} {_number(value)}" if inner else f"{PREFIX}{name} {_number(value)}"
        )

    def single(self, name: str, kind: str, description: str, value: float) -> None:
        """Add a metric with one sample and no label."""
        self.begin(name, kind, description)
        self.add(name, value)

    def table(self, metrics: Sequence[_Metric], rows: Iterable[Mapping[str, Any]], **labels: str) -> None:
        """Add metrics with a sample for each row; `labels`: by the name of a label, the key of its value in a row."""
        rows = list(rows)
        for metric in metrics:
            self.begin(metric.name, metric.kind, metric.description)
            for row in rows:
                value = math.nan if row[metric.key] is None else row[metric.key]
                self.add(metric.name, value, **{label: row[key] for label, key in labels.items()})


def metrics_text(status: Mapping[str, Any]) -> str:
    """Return the metrics of a collector by its status document."""
    text = _Text()
    text.begin("build_info", "gauge", "Version of the collector, and whether the compiled core is in use.")
    text.add("build_info", 1, version=status["version"], native=str(bool(status["native"])).lower())
    started = time.time() - status["uptime_s"]
    text.single("start_time_seconds", "gauge", "Start of the collector, in seconds since 1970.", round(started, 1))
    _add_processes(text, status["children"])
    text.table(_LISTENERS, status["listeners"], listener="address")
    _add_by_reason(text, "rejected_total", "Frames that hold no record, by the reason.", status["rejected_by"])
    text.table(_LOSSES, [status])
    text.table(_LIMITS, status["limits"], limit="name")
    _add_tls(text, status)
    text.table(_OUTPUTS, status["outputs"], output="name")
    _add_commits(text, status["commits"])
    text.table(_JOURNAL, [status["journal"]])
    text.table(_STORES, status["stores"], store="name", type="type")
    text.table(_ALERTS, [status["alerts"]])
    text.table(_SOURCES, status["sources"], stream="stream", group="group")
    return "\n".join(text.lines) + "\n"


def _add_processes(text: _Text, everything: list[dict[str, Any]]) -> None:
    """Add the processes. During an upgrade two have one name: the inherited one, which comes last, is left out."""
    children = {(child["kind"], child["index"]): child for child in reversed(everything)}.values()
    text.begin("process_up", "gauge", "Whether a process runs.")
    for child in children:
        text.add("process_up", child["state"] == "running", kind=child["kind"], index=child["index"])
    text.table(_PROCESSES, children, kind="kind", index="index")


def _add_by_reason(text: _Text, name: str, description: str, counts: Mapping[str, int]) -> None:
    text.begin(name, "counter", description)
    for reason, count in counts.items():
        text.add(name, count, reason=reason)


def _add_tls(text: _Text, status: Mapping[str, Any]) -> None:
    completed = status["tls_handshakes"]
    text.single("tls_handshakes_total", "counter", "TLS handshakes of clients that were completed.", completed)
    failed = status["tls_handshake_failures"]
    _add_by_reason(text, "tls_handshake_failures_total", "TLS handshakes of clients that failed, by reason.", failed)
    text.table(_CERTIFICATES, status.get("certificates", ()), listener="listener", certificate="path")


def _add_commits(text: _Text, commits: dict[str, Any]) -> None:
    name = "commit_duration_seconds"
    text.begin(name, "histogram", "Time of a commit: writing and syncing the outputs and the journal.")
    count = 0
    for limit, count in commits["within"].items():
        text.add(f"{name}_bucket", count, le="+Inf" if limit == "inf" else limit)
    text.add(f"{name}_sum", commits["seconds"])
    text.add(f"{name}_count", count)
    description = "End of the last commit, in seconds since 1970; 0 before the first one."
    text.single("last_commit_timestamp_seconds", "gauge", description, commits["last"] or 0)


def _number(value: float) -> str:
    """Return a sample's value; whole numbers without a fraction."""
    if isinstance(value, bool):
        return str(int(value))
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value == int(value) else repr(float(value))


def unready_because(status: Mapping[str, Any]) -> str:
    """Return why the collector does not serve clients now; empty if it does.

    A store that cannot be written is no reason: clients are served, and the records wait in the journal.
    """
    for reason, holds in _REASONS.items():
        if holds(status):
            return reason
    return ""


def _lacks(kind: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda status: not any(child["kind"] == kind and child["state"] == "running" for child in status["children"])


_REASONS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "the writer is not running": _lacks("writer"),
    "no worker is running": _lacks("worker"),
    "an output or the journal cannot be written, and clients wait; the log says why": lambda status: any(
        child["kind"] == "writer" and child["paused"] for child in status["children"]
    ),
    "the journal is full, and clients wait for the stores": lambda status: bool(status["journal"]["full"]),
    "no address is listened on": lambda status: not status["bind"],
}
"""A sentence for each reason, and whether it holds by a status document."""
