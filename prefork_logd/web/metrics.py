"""Makes the text of /metrics and the answers of /healthz and /readyz from the document of `status --json`.

Owns the names of the metrics. Does not know how the document is asked for, or how the text is sent.

The text is Prometheus's text format 0.0.4. Every series exists from the start, and no label has a value that a client
chooses: listeners, limits and stores are configured, and reasons are a fixed list.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus 3 refuses a text of another type."""
PREFIX = "prefork_logd_"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


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


def metrics_text(status: Mapping[str, Any]) -> str:
    """Return the metrics of a collector by its status document."""
    text = _Text()
    text.begin("build_info", "gauge", "Version of the collector, and whether the compiled core is in use.")
    text.add("build_info", 1, version=status["version"], native=str(bool(status["native"])).lower())
    started = time.time() - status["uptime_s"]
    text.single("start_time_seconds", "gauge", "Start of the collector, in seconds since 1970.", round(started, 1))
    _add_processes(text, status["children"])
    _add_totals(text, status)
    _add_limits(text, status["limits"])
    _add_tls(text, status)
    _add_outputs(text, status["outputs"])
    _add_commits(text, status["commits"])
    _add_journal(text, status["journal"])
    _add_stores(text, status["stores"])
    _add_alerts(text, status["alerts"])
    _add_sources(text, status["sources"])
    return "\n".join(text.lines) + "\n"


def _add_processes(text: _Text, everything: list[dict[str, Any]]) -> None:
    """Add the processes. During an upgrade two have one name: the inherited one, which comes last, is left out."""
    children = {(child["kind"], child["index"]): child for child in reversed(everything)}.values()
    text.begin("process_up", "gauge", "Whether a process runs.")
    for child in children:
        text.add("process_up", child["state"] == "running", **_process(child))
    text.begin("process_restarts_total", "counter", "Number of times that a process was started again.")
    for child in children:
        text.add("process_restarts_total", child["restarts"], **_process(child))
    text.begin("process_unresponsive_seconds", "gauge", "Time for which a process has not answered.")
    for child in children:
        text.add("process_unresponsive_seconds", child["silent_s"], **_process(child))


def _process(child: dict[str, Any]) -> dict[str, object]:
    return {"kind": child["kind"], "index": child["index"]}


def _add_totals(text: _Text, status: Mapping[str, Any]) -> None:
    for name, key, kind, description in (
        ("records_total", "records", "counter", "Records of clients that were received and accepted."),
        ("received_bytes_total", "received_bytes", "counter", "Bytes of received records."),
        ("connections", "connections", "gauge", "Connected clients."),
    ):
        text.begin(name, kind, description)
        for listener in status["listeners"]:
            text.add(name, listener[key], listener=listener["address"])
    text.begin("rejected_total", "counter", "Frames that hold no record, by the reason.")
    for reason, count in status["rejected_by"].items():
        text.add("rejected_total", count, reason=reason)
    for name, key, description in (
        ("dropped_total", "dropped", "Records that were not received as a whole, those dropped by clients included."),
        ("client_gap_records_total", "gaps", "Records that clients report as dropped by themselves."),
        ("redacted_total", "redacted", "Records with a secret that was replaced."),
        ("sampled_out_records_total", "sampled", "Records that were not kept because of [[sample]]."),
    ):
        text.single(name, "counter", description, status[key])


def _add_limits(text: _Text, limits: list[dict[str, Any]]) -> None:
    for name, key, kind, description in (
        ("limited_clients", "clients", "gauge", "Clients beyond a limit, counted in each worker."),
        ("limit_dropped_records_total", "dropped", "counter", "Records dropped because of a limit."),
        ("limit_waits_total", "waits", "counter", "Number of times that a limit let a connection wait."),
        ("limit_waiting_seconds_total", "waited_s", "counter", "Time for which a limit let connections wait, summed."),
        ("limit_refused_connections_total", "refused", "counter", "Connections that a limit gave no place."),
        ("limit_closed_connections_total", "closed", "counter", "Connections closed because of a limit of memory."),
    ):
        text.begin(name, kind, description)
        for limit in limits:
            text.add(name, limit[key], limit=limit["name"])


def _add_tls(text: _Text, status: Mapping[str, Any]) -> None:
    completed = status["tls_handshakes"]
    text.single("tls_handshakes_total", "counter", "TLS handshakes of clients that were completed.", completed)
    text.begin("tls_handshake_failures_total", "counter", "TLS handshakes of clients that failed, by reason.")
    for reason, count in status["tls_handshake_failures"].items():
        text.add("tls_handshake_failures_total", count, reason=reason)
    name = "tls_certificate_expiry_timestamp_seconds"
    text.begin(name, "gauge", "End of the validity of a listener's certificate, in seconds since 1970.")
    for row in status.get("certificates", ()):
        text.add(name, row["expires"], listener=row["listener"], certificate=row["path"])


def _add_outputs(text: _Text, outputs: list[dict[str, Any]]) -> None:
    for name, key, kind, description in (
        ("output_records_total", "records", "counter", "Records written to an output."),
        ("output_bytes_total", "bytes", "counter", "Bytes written to an output."),
        ("output_skipped_total", "skipped", "counter", "Records that an output has left out because of its on_error."),
        ("output_failing", "failing", "gauge", "Whether an output cannot be written."),
    ):
        text.begin(name, kind, description)
        for output in outputs:
            text.add(name, output[key], output=output["name"])


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


def _add_journal(text: _Text, journal: dict[str, Any]) -> None:
    text.single("journal_bytes", "gauge", "Bytes of records that wait in the journal for the stores.", journal["bytes"])
    text.single("journal_limit_bytes", "gauge", "limits.journal_bytes; at this size clients wait.", journal["limit"])
    text.single("journal_full", "gauge", "Whether clients wait for the stores.", journal["full"])


def _add_stores(text: _Text, stores: list[dict[str, Any]]) -> None:
    for name, key, kind, description in (
        ("store_records_total", "records", "counter", "Records written to a store."),
        ("store_refused_total", "refused", "counter", "Records that a store has refused (dead letters)."),
        (
            "store_lost_total",
            "lost",
            "counter",
            "Records that a store never gets, and that are not dead letters.",
        ),
        ("store_lag_records", "lag_records", "gauge", "Records that wait for a store; NaN while that is not known."),
        ("store_lag_seconds", "lag_s", "gauge", "Age of the oldest record that waits for a store."),
        ("store_failing", "failing", "gauge", "Whether a store cannot be written."),
    ):
        text.begin(name, kind, description)
        for store in stores:
            text.add(name, math.nan if store[key] is None else store[key], store=store["name"], type=store["type"])


def _add_alerts(text: _Text, alerts: dict[str, Any]) -> None:
    for name, key, kind, description in (
        ("alert_rules", "rules", "gauge", "Rules of alerts."),
        ("alerts_firing", "firing", "gauge", "Incidents that are open."),
        ("alert_notices_waiting", "waiting", "gauge", "Notices that wait for their receivers."),
        ("alert_notices_sent_total", "sent", "counter", "Notices that receivers have taken."),
        ("alert_notices_failed_total", "failed", "counter", "Notices that were given up."),
        ("alert_evaluation_errors_total", "errors", "counter", "Evaluations of rules that failed."),
    ):
        text.single(name, kind, description, alerts[key])


def _add_sources(text: _Text, sources: list[dict[str, Any]]) -> None:
    for name, key, kind, description in (
        ("source_records_total", "records", "counter", "Records read from a source."),
        ("source_rejected_total", "rejected", "counter", "Messages of a source that hold no record."),
        ("source_connected", "connected", "gauge", "Whether a source is connected."),
        ("source_messages_waiting", "messages_waiting", "gauge", "Messages that wait in a source; NaN while unknown."),
    ):
        text.begin(name, kind, description)
        for source in sources:
            value = math.nan if source[key] is None else source[key]
            text.add(name, value, stream=source["stream"], group=source["group"])


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
