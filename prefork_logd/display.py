"""How answers look to a person: tables with rich, coloured only on a terminal.

Owns looks alone. Knows the documents it is given, not where they come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.progress import Task

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_PIPE_WIDTH = 1000


def duration(seconds: float) -> str:
    """Return a time span for a person, in its two largest units."""
    whole = int(seconds)
    for unit_s, unit, next_s, smaller in ((_DAY_S, "d", _HOUR_S, "h"), (_HOUR_S, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit_s:
            return f"{whole // unit_s} {unit} {whole % unit_s // next_s} {smaller}"
    return f"{seconds:.1f} s"


def show_status(document: dict[str, Any]) -> None:
    """Print what `status` knows."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH  # nothing is cut off for who reads it elsewhere
    console.print(
        f"prefork-logd {document['version']}, pid {document['pid']}, up {duration(document['uptime_s'])}, "
        f"{'native' if document['native'] else 'pure Python'} decoder"
    )
    console.print(f"listening on {', '.join(document['bind'])}", markup=False)
    rejected, dropped = document["rejected"], document["dropped"]
    console.print(
        f"{document['records']:,} records, {document['connections']:,} connections, "
        f"{_warn(rejected, 'rejected')}, {_warn(dropped, 'dropped')}"
    )
    console.print()
    console.print(
        _table(
            ("process", "pid", "state", "connections", "records", "restarts"),
            (
                (
                    _process(child),
                    str(child["pid"] or "-"),
                    child["state"] + (", waiting for outputs" if child["paused"] else ""),
                    f"{child['connections']:,}" if child["kind"] == "worker" else "",
                    f"{child['records']:,}" if child["kind"] == "worker" else "",
                    str(child["restarts"]),
                )
                for child in document["children"]
            ),
        )
    )
    console.print(
        _table(
            ("output", "records", "bytes", "path"),
            (
                (
                    output["name"]
                    + (" [red](failing)[/red]" if output["failing"] else "")
                    + (f" [red]({output['skipped']:,} skipped)[/red]" if output.get("skipped") else ""),
                    f"{output['records']:,}",
                    f"{output['bytes']:,}",
                    escape(output["path"]),
                )
                for output in document["outputs"]
            ),
        )
    )
    if document["stores"]:
        console.print(
            _table(
                ("store", "records", "refused", "lost", "records waiting", "bytes waiting", "for"),
                (
                    (
                        escape(store["name"]) + (" [red](failing)[/red]" if store["failing"] else ""),
                        f"{store['records']:,}",
                        _counted(store["refused"], "yellow"),
                        _counted(store["lost"], "red"),
                        "?" if store["lag_records"] is None else f"{store['lag_records']:,}",
                        "?" if store["lag_bytes"] is None else f"{store['lag_bytes']:,}",
                        duration(store["lag_s"]),
                    )
                    for store in document["stores"]
                ),
            )
        )
    _show_sources(console, document.get("sources", []))
    for store in document["stores"]:
        details = store.get("details", {})
        if "replicas" in details:
            replicas = f"{details['replicas_in_step']} of {details['replicas']} replicas in step"
            window = f"duplicate window {duration(details['duplicate_window_s'])}"
            console.print(f"store {escape(store['name'])}: stream {details['stream']}, {replicas}, {window}")
        for what in (store.get("problem"), *details.get("warnings", ())):
            if what:
                console.print(f"[yellow]store {escape(store['name'])}: {escape(what)}[/yellow]")
    for child in document["children"]:
        if silent_s := child.get("silent_s"):
            doing = f": {escape(child['doing'])}" if child["doing"] else ""
            console.print(f"[red]{_process(child)} has not answered for {duration(silent_s)}{doing}[/red]")
    if document["journal"]["full"]:
        console.print("[red]the journal is full: clients wait until the slowest store has caught up[/red]")


def _show_sources(console: Console, sources: list[dict[str, Any]]) -> None:
    """Print what collectors that read streams of others know of these."""
    if sources:
        console.print(
            _table(
                ("source", "group", "partitions", "records", "rejected", "dropped", "messages waiting", "for"),
                (
                    (
                        escape(source["stream"]) + ("" if source["connected"] else " [red](not connected)[/red]"),
                        source["group"],
                        "?" if not source["connected"] else _part(source["details"]),
                        f"{source['records']:,}",
                        _counted(source["rejected"], "yellow"),
                        _counted(source["dropped"], "red"),
                        "?" if source["messages_waiting"] is None else f"{source['messages_waiting']:,}",
                        "?" if source["lag_s"] is None else duration(source["lag_s"]),
                    )
                    for source in sources
                ),
            )
        )
    for source in sources:
        stuck = source["details"].get("waiting_for_members", {})
        away = [f"{count} partitions wait for member {member}, which is away" for member, count in stuck.items()]
        for what in (source["problem"], *away):
            if what:
                console.print(f"[yellow]source {escape(source['stream'])}: {escape(what)}[/yellow]")


def _part(details: dict[str, Any]) -> str:
    return f"{len(details['partitions'])} of {details['partitions_of_stream']}"


def _process(child: dict[str, Any]) -> str:
    if child["kind"] == "worker":
        return f"worker {child['index']}"
    return f"{child['kind']} {escape(child['store'])}" if child.get("store") else str(child["kind"])


def _counted(count: int, style: str) -> str:
    return f"[{style}]{count:,}[/{style}]" if count else "0"


class _Bytes(DownloadColumn):
    """How many bytes are done with, where bytes are counted."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.fields.get("counted", True) else Text("")


class _Speed(TransferSpeedColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.fields.get("counted", True) else Text("")


def progress() -> Progress:
    """Return a progress bar on stderr; nothing but what is printed above it where that is no terminal.

    A task's total is in bytes, but for one that is added with `counted=False`.
    """
    console = Console(stderr=True, highlight=False)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        _Bytes(),
        _Speed(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _warn(count: int, what: str) -> str:
    return f"[yellow]{count:,} {what}[/yellow]" if count else f"0 {what}"


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    numbers = {
        "pid", "connections", "records", "restarts", "bytes", "refused", "lost", "records waiting", "bytes waiting",
        "for", "partitions", "rejected", "dropped", "messages waiting",
    }  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
