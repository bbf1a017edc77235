"""Prints the tables of `status`, in colours if standard output is a terminal.

Does not know where the document comes from.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prefork_logd.config.values import format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

_PIPE_WIDTH = 1000
_SOON_S = 14 * 86_400
"""A certificate that expires within this time is shown in red."""


def print_status(document: dict[str, Any]) -> None:
    """Print the status document of the master."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH  # In a pipe or a file no column is cut off.
    console.print(
        f"prefork-logd {document['version']}, pid {document['pid']}, up {format_duration(document['uptime_s'])}, "
        f"{'native' if document['native'] else 'pure Python'} decoder"
    )
    console.print(f"listening on {', '.join(document['bind'])}", markup=False)
    page = document.get("page", {})
    if page.get("urls"):
        console.print(f"page at {', '.join(page['urls'])}", markup=False)
    if page.get("problem"):
        console.print(f"[yellow]no page: {escape(page['problem'])}[/yellow]")
    _print_totals(console, document)
    _print_certificates(console, document.get("certificates", []))
    _print_limits(console, document.get("limits", []))
    _print_children(console, document["children"])
    _print_outputs(console, document["outputs"])
    _print_stores(console, document["stores"])
    _print_sources(console, document.get("sources", []))
    _print_store_details(console, document["stores"])
    if errors := document.get("errors"):
        _print_details(console, "errors", errors)
    _print_alerts(console, document.get("alerts", {}))
    for child in document["children"]:
        if silent_s := child.get("silent_s"):
            doing = f": {escape(child['doing'])}" if child["doing"] else ""
            console.print(f"[red]{_process(child)} has not answered for {format_duration(silent_s)}{doing}[/red]")
    if document.get("low_space"):
        console.print(
            "[red]a disk has too little free space (limits.min_free_bytes): clients wait until there is room[/red]"
        )
    if document["journal"]["full"]:
        console.print("[red]the journal is full: clients wait until the slowest store has caught up[/red]")


def _print_totals(console: Console, document: dict[str, Any]) -> None:
    """Print the counters of the whole collector."""
    rejected, dropped = _warn(document["rejected"], "rejected"), _warn(document["dropped"], "dropped")
    sampled = f", {count:,} not kept by a sample" if (count := document.get("sampled", 0)) else ""
    console.print(
        f"{format_count(document['records'], 'record')}, {format_count(document['connections'], 'connection')}, "
        f"{rejected}, {dropped}{sampled}"
    )
    if limited := document.get("limited", 0):
        what = f"; dropped {format_count(count, 'record')} of them" if (count := document["limit_dropped"]) else ""
        console.print(f"[yellow]clients beyond a limit: {limited:,}{what}[/yellow]")


def _print_children(console: Console, children: list[dict[str, Any]]) -> None:
    """Print the processes of the collector except its master."""
    _print_table(
        console,
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
            for child in children
        ),
    )


def _print_alerts(console: Console, alerts: dict[str, Any]) -> None:
    """Print how many incidents are open, and why rules are not evaluated."""
    if alerts.get("rules"):
        waiting = f", {format_count(alerts['waiting'], 'notice')} waiting" if alerts["waiting"] else ""
        console.print(f"alerts: {format_count(alerts['rules'], 'rule')}, {alerts['firing']:,} firing{waiting}")
    if problem := alerts.get("problem"):
        console.print(f"[red]alerts: {escape(problem)}[/red]")


def _print_certificates(console: Console, certificates: list[dict[str, Any]]) -> None:
    """Print the end of each certificate, in red if it is near."""
    for row in certificates:
        until = time.strftime("%Y-%m-%d", time.gmtime(row["expires"]))
        colour = "red" if row["expires"] < time.time() + _SOON_S else "default"
        console.print(f"TLS on {escape(row['listener'])}, certificate valid until [{colour}]{until}[/{colour}]")


def _print_limits(console: Console, limits: list[dict[str, Any]]) -> None:
    """Print what each limit of clients has done, if it has done anything."""
    for limit in limits:
        counted = [
            text
            for key, text in (
                ("clients", f"{format_count(limit['clients'], 'client')} beyond it now"),
                ("dropped", f"{format_count(limit['dropped'], 'record')} dropped"),
                ("waited_s", f"connections waited {format_duration(limit['waited_s'])} in all"),
                ("refused", f"{format_count(limit['refused'], 'connection')} without a place"),
                ("closed", f"{format_count(limit['closed'], 'connection')} closed because of memory"),
            )
            if limit[key]
        ]
        if counted:
            console.print(f"limit {escape(limit['name'])}: {', '.join(counted)}")


def _print_outputs(console: Console, outputs: list[dict[str, Any]]) -> None:
    """Print the outputs and their counters."""
    _print_table(
        console,
        ("output", "records", "bytes", "path"),
        (
            (
                output["name"]
                + (" [red](failing)[/red]" if output["failing"] else "")
                + (f" [red]({output['skipped']:,} skipped)[/red]" if output.get("skipped") else "")
                + (f" [yellow]({output['overflowed']:,} overflowed)[/yellow]" if output.get("overflowed") else ""),
                f"{output['records']:,}",
                f"{output['bytes']:,}",
                escape(output["path"])
                + (f" ({format_count(output['open_files'], 'file')} open)" if "open_files" in output else ""),
            )
            for output in outputs
        ),
    )


def _print_stores(console: Console, stores: list[dict[str, Any]]) -> None:
    """Print the stores and how far they are behind."""
    if stores:
        _print_table(
            console,
            ("store", "records", "refused", "lost", "records waiting", "bytes waiting", "for"),
            (
                (
                    escape(store["name"]) + (" [red](failing)[/red]" if store["failing"] else ""),
                    f"{store['records']:,}",
                    _counted(store["refused"], "yellow"),
                    _counted(store["lost"], "red"),
                    "?" if store["lag_records"] is None else f"{store['lag_records']:,}",
                    "?" if store["lag_bytes"] is None else f"{store['lag_bytes']:,}",
                    format_duration(store["lag_s"]),
                )
                for store in stores
            ),
        )


def _print_store_details(console: Console, stores: list[dict[str, Any]]) -> None:
    """Print the summary of each store, its problems and warnings."""
    for store in stores:
        _print_details(console, f"store {escape(store['name'])}", store)


def _print_details(console: Console, whose: str, store: dict[str, Any]) -> None:
    """Print the same of one store, or of the groups of errors."""
    details = store.get("details", {})
    if summary := details.get("summary"):
        console.print(f"{whose}: {escape(summary)}")
    for what in (store.get("problem"), *details.get("warnings", ())):
        if what:
            console.print(f"[yellow]{whose}: {escape(what)}[/yellow]")


def _print_sources(console: Console, sources: list[dict[str, Any]]) -> None:
    """Print the streams that this collector reads from."""
    if sources:
        _print_table(
            console,
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
                    "?" if source["lag_s"] is None else format_duration(source["lag_s"]),
                )
                for source in sources
            ),
        )
    for source in sources:
        stuck = source["details"].get("waiting_for_members", {})
        away = [f"member {member} is away, with {format_count(count, 'partition')}" for member, count in stuck.items()]
        for what in (source["problem"], *away):
            if what:
                console.print(f"[yellow]source {escape(source['stream'])}: {escape(what)}[/yellow]")


def _part(details: dict[str, Any]) -> str:
    return f"{len(details['partitions'])} of {details['partitions_of_stream']}"


def _process(child: dict[str, Any]) -> str:
    if child["kind"] == "worker":
        return f"worker {child['index']}"
    name = "page" if child["kind"] == "web" else str(child["kind"])
    return f"{name} {escape(child['store'])}" if child.get("store") else name


def _counted(count: int, style: str) -> str:
    return f"[{style}]{count:,}[/{style}]" if count else "0"


def _warn(count: int, what: str) -> str:
    return f"[yellow]{count:,} {what}[/yellow]" if count else f"0 {what}"


def _print_table(console: Console, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table below an empty line."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    numbers = {
        "pid", "connections", "records", "restarts", "bytes", "refused", "lost", "records waiting", "bytes waiting",
        "for", "partitions", "rejected", "dropped", "messages waiting",
    }  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print()
    with console.capture() as captured:
        console.print(table)
    # Left columns are padded, also the last one.
    console.file.writelines(f"{line.rstrip(' ')}\n" for line in captured.get().removesuffix("\n").split("\n"))
