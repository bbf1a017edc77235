"""Makes the document of `status --json` from the scoreboard and the children.

Owns the document's form (docs/operating.md). Does not know how it is asked for or shown, and changes nothing.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from prefork_logd import __version__
from prefork_logd.config.stores.kinds import ERRORS
from prefork_logd.ingest import core
from prefork_logd.ipc.scoreboard import (
    COMMIT_LIMITS_S,
    SHIPPER_SLOT,
    WRITER_SLOT,
    DiskState,
    Field,
    JournalField,
    OutputField,
    Scoreboard,
    StoreField,
)
from prefork_logd.net.tls import REASONS
from prefork_logd.processes.master import named_counters
from prefork_logd.processes.master.child import Kind
from prefork_logd.processes.master.lifecycle import ALIVE, State
from prefork_logd.processes.master.probing import silence
from prefork_logd.processes.worker.services import MOST_SERVICES, OTHERS, SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_logd.config.outputs import OutputSettings
    from prefork_logd.config.settings import Settings
    from prefork_logd.config.sources import NatsSourceSettings
    from prefork_logd.config.stores.kinds import AnyStoreSettings
    from prefork_logd.config.web import WebSettings
    from prefork_logd.ipc.configuration import Configuration
    from prefork_logd.processes.master.child import Child
    from prefork_logd.processes.master.page_sockets import PageSockets
    from prefork_logd.processes.master.upgrade.state import InheritedCounters


def document(
    configuration: Configuration,
    bind: list[str],
    children: Iterable[Child],
    board: Scoreboard,
    carried: InheritedCounters,
    started_s: float,
) -> dict[str, Any]:
    """Return the state of the whole collector; `started_s` is its start on the monotonic clock.

    `carried` has the counters from before an upgrade.
    """
    settings = configuration.settings
    children = list(children)
    counters = totals(board, carried, children)
    return {
        "version": __version__,
        "pid": os.getpid(),
        "uptime_s": round(time.monotonic() - started_s, 3),
        "native": core.NATIVE,
        "bind": bind,
        "state_dir": settings.server.state_dir,
        "config": settings.path,
        "generation": configuration.generation,
        **counters,
        "listeners": named_counters.listeners(board, carried, bind),
        "limits": _limits(configuration, board, carried),
        "rejected_by": named_counters.rejected_by(board, carried),
        **_handshakes(board, carried),
        "children": [_child(child, board, carried) for child in children],
        "services": _services(children, counters["connections"]),
        "outputs": _outputs(configuration, board, carried),
        "commits": _commits(board, carried),
        "journal": _journal(board, settings.limits.journal_bytes),
        "low_space": board.journal[JournalField.DISKS] == DiskState.STOPPED,
        **_stores(configuration, board, carried, children),
        "alerts": _alerts(children, settings.alerts.enabled),
        "sources": _sources(settings, board, carried, children),
    }


def page(sockets: PageSockets, settings: WebSettings) -> dict[str, Any]:
    """Return the addresses of the page, its scheme, and why it is missing."""
    return {"bind": sockets.addresses, "scheme": settings.scheme, "problem": sockets.problem}


def totals(board: Scoreboard, carried: InheritedCounters, children: Iterable[Child]) -> dict[str, int]:
    """Return the counters of the whole collector by name, and the numbers of connections and limited clients."""
    fields = (
        *(Field.RECORDS, Field.RECEIVED_BYTES, Field.REJECTED, Field.DROPPED, Field.REDACTED, Field.GAPS),
        *(Field.LIMIT_DROPPED, Field.SAMPLED),
    )
    workers = [child for child in children if child.kind is Kind.WORKER]
    return {
        "connections": sum(_counter(board, carried, child, Field.CONNECTIONS) for child in workers),
        "limited": sum(_counter(board, carried, child, Field.LIMITED) for child in workers),
        **{field.name.lower(): _total(board, carried, field) for field in fields},
    }


def _limits(configuration: Configuration, board: Scoreboard, carried: InheritedCounters) -> list[dict[str, object]]:
    names = (limit.name for limit in configuration.settings.limit)
    return named_counters.limits(board, carried, dict(zip(names, configuration.limit_ids, strict=True)))


def _handshakes(board: Scoreboard, carried: InheritedCounters) -> dict[str, Any]:
    """Return the TLS handshakes that were completed, and those that failed by their reason."""
    return {
        "tls_handshakes": _total(board, carried, Field.HANDSHAKES),
        "tls_handshake_failures": {
            reason: _total(board, carried, Field[f"TLS_{reason.upper()}"]) for reason in REASONS
        },
    }


def _total(board: Scoreboard, carried: InheritedCounters, field: Field) -> int:
    return board.total(field) + carried.total(field.name)


def _services(children: Iterable[Child], connections: int) -> list[dict[str, Any]]:
    """Return the connections of each service, the most first, by the last reports of the workers.

    An empty name stands for clients that have not named their service.
    """
    counts: Counter[str] = Counter()
    left_out = 0
    for child in children:
        if child.kind is Kind.WORKER and child.report is not None and child.state in ALIVE:
            counts.update(dict(child.report.details.get(SERVICES, ())))
            left_out += child.report.details.get(OTHERS, 0)
    # A report may be a second old.
    counts[""] = max(0, connections - counts.total() - left_out)
    return [{"service": service, "connections": count} for service, count in counts.most_common(MOST_SERVICES) if count]


def _outputs(configuration: Configuration, board: Scoreboard, carried: InheritedCounters) -> list[dict[str, Any]]:
    return [
        _output(output, board, output_id, carried)
        for output_id, output in zip(configuration.output_ids, configuration.settings.output, strict=True)
    ]


def _output(settings: OutputSettings, board: Scoreboard, output_id: int, carried: InheritedCounters) -> dict[str, Any]:
    output = board.output(output_id)
    of_files = {
        "open_files": output[OutputField.OPEN_FILES],
        "overflowed": output[OutputField.OVERFLOWED] + carried.of_output(settings.path, "OVERFLOWED"),
    }
    return {
        "name": settings.name,
        "path": settings.path,
        "records": output[OutputField.RECORDS] + carried.of_output(settings.path, "RECORDS"),
        "bytes": output[OutputField.BYTES] + carried.of_output(settings.path, "BYTES"),
        "failing": bool(output[OutputField.FAILED]),
        "skipped": output[OutputField.SKIPPED] + carried.of_output(settings.path, "SKIPPED"),
        **(of_files if settings.has_fields else {}),
    }


def _commits(board: Scoreboard, carried: InheritedCounters) -> dict[str, Any]:
    """Return the writer's commits: their number and time, and how many took how long at most, in seconds."""
    writer = board.slot(WRITER_SLOT)

    def count(field: Field) -> int:
        before = carried.of_worker(WRITER_SLOT, field.name) + carried.of_old(WRITER_SLOT, field.name)
        return int(writer[field]) + before

    within = itertools.accumulate(count(field) for _, field in COMMIT_LIMITS_S)
    return {
        "seconds": count(Field.COMMIT_NS) / 1e9,
        "within": {f"{limit_s:g}": so_far for (limit_s, _), so_far in zip(COMMIT_LIMITS_S, within, strict=True)},
        "last": writer[Field.COMMITTED_MS] / 1000 or None,
    }


def _journal(board: Scoreboard, limit_bytes: int) -> dict[str, Any]:
    return {
        "bytes": board.journal[JournalField.BYTES],
        "limit": limit_bytes,
        "full": bool(board.journal[JournalField.FULL]),
    }


def _stores(
    configuration: Configuration, board: Scoreboard, carried: InheritedCounters, children: Iterable[Child]
) -> dict[str, Any]:
    """Return the rows of the stores, and that of the groups of errors, None without them."""
    shippers = {child.slot: child for child in children if child.kind is Kind.SHIPPER and not child.is_inherited}
    rows = [
        _store(store, board, carried, store_id, shippers.get(SHIPPER_SLOT + store_id))
        for store_id, store in zip(configuration.store_ids, configuration.settings.shipped, strict=True)
    ]
    return {
        "stores": [row for row in rows if row["type"] != ERRORS.type],
        "errors": next((row for row in rows if row["type"] == ERRORS.type), None),
    }


def _store(
    settings: AnyStoreSettings, board: Scoreboard, carried: InheritedCounters, store_id: int, shipper: Child | None
) -> dict[str, Any]:
    """Return the row of one store; its lag is null until its shipper has reported a position."""
    now_s = time.monotonic()
    report = shipper.report if shipper is not None else None
    # A shipper that keeps dying cannot report its problem; its deaths count as trouble of the store.
    crash_loop = shipper.crash_loop(now_s) if shipper is not None else ""
    store, journal = board.store(store_id), board.journal
    is_known = bool(store[StoreField.READY])
    records = max(0, journal[JournalField.ORDINAL] - store[StoreField.ORDINAL])
    since_ms = store[StoreField.SINCE_MS] if records else 0
    return {
        "name": settings.name,
        "type": settings.type,
        **{
            field.name.lower(): named_counters.of_store(board, carried, settings.name, store_id, field)
            for field in (StoreField.RECORDS, StoreField.REFUSED, StoreField.LOST)
        },
        "failing": bool(store[StoreField.FAILING] or crash_loop),
        "lag_records": records if is_known else None,
        "lag_bytes": max(0, journal[JournalField.OFFSET] - store[StoreField.OFFSET]) if is_known else None,
        "lag_s": round(max(0.0, time.time() - since_ms / 1000), 3) if since_ms else 0.0,
        "problem": crash_loop or (report.problem if report is not None else ""),
        "shipper": _life(shipper, now_s) if shipper is not None else None,
        "details": report.details if report is not None else {},
    }


def _alerts(children: Iterable[Child], enabled: bool) -> dict[str, Any]:
    """Return what the process of the alerts has reported last."""
    child = next((one for one in children if one.kind is Kind.ALERTS and not one.is_inherited), None)
    report = child.report if child is not None else None
    crash_loop = child.crash_loop(time.monotonic()) if child is not None else ""
    counts = report.details if report is not None else {}
    return {
        "enabled": enabled,
        "problem": crash_loop or (report.problem if report is not None else ""),
        **{name: counts.get(name, 0) for name in ("rules", "firing", "waiting", "sent", "failed", "errors")},
    }


def _life(child: Child, now_s: float) -> dict[str, Any]:
    """Return a child's state, and how the process before this one ended."""
    return {
        "state": child.state.name.lower(),
        "restarts": child.restarts,
        "last_exit": child.last_exit or None,
        "next_try_s": round(max(0.0, child.due_s - now_s), 3) if child.state is State.WAITING else None,
    }


def _sources(
    settings: Settings, board: Scoreboard, carried: InheritedCounters, children: Iterable[Child]
) -> list[dict[str, Any]]:
    return [
        _source(settings.sources[child.index - 1], board, carried, child)
        for child in children
        if child.kind is Kind.SOURCE
    ]


def _source(
    settings: NatsSourceSettings, board: Scoreboard, carried: InheritedCounters, child: Child
) -> dict[str, Any]:
    """Return the row of one source; its last report counts only while its process lives."""
    slot = board.slot(child.slot)
    report = child.report if child.report is not None and child.state in ALIVE else None
    details = report.details if report is not None else {}
    return {
        "type": settings.type,
        "stream": settings.stream,
        "group": settings.group,
        **{
            field.name.lower(): slot[field] + carried.of_worker(child.slot, field.name)
            for field in (Field.RECORDS, Field.REJECTED, Field.DROPPED)
        },
        "connected": bool(details),
        "messages_waiting": details.get("messages_waiting"),
        "lag_s": details.get("lag_s"),
        "problem": report.problem if report is not None else "",
        "details": {key: value for key, value in details.items() if key not in ("messages_waiting", "lag_s")},
    }


def _child(child: Child, board: Scoreboard, carried: InheritedCounters) -> dict[str, Any]:
    return {
        "kind": child.kind.value,
        "index": child.index,
        "pid": child.pid if child.state in ALIVE else None,
        "connections": _counter(board, carried, child, Field.CONNECTIONS),
        "records": _counter(board, carried, child, Field.RECORDS),
        "paused": bool(_counter(board, carried, child, Field.PAUSED)),
        **_life(child, time.monotonic()),
        **silence(child),
        **({"store": child.store.name} if child.store is not None else {}),
    }


def _counter(board: Scoreboard, carried: InheritedCounters, child: Child, field: Field) -> int:
    if child.is_inherited:
        return carried.of_old(child.slot, field.name)
    before = carried.of_worker(child.slot, field.name) if field is Field.RECORDS else 0
    return board.slot(child.slot)[field] + before
