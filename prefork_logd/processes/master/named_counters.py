"""Reads the counters of listeners, rejections, limits and stores, with those of the programs before an upgrade.

Owns their names, by which the next program finds them. Does not know who counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.ingest.rejections import REASONS
from prefork_logd.ipc.scoreboard import MAX_LISTENERS, LimitField, ListenerField, StoreField

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prefork_logd.ipc.scoreboard import Cells, Scoreboard
    from prefork_logd.processes.master.upgrade.state import InheritedCounters

OTHER = "other"
"""Stands for all listeners that have no counters of their own."""
_OF_LISTENER = (ListenerField.RECORDS, ListenerField.RECEIVED_BYTES)
_OF_LIMIT = tuple(field for field in LimitField if field is not LimitField.LIMITED)
_OF_STORE = (StoreField.RECORDS, StoreField.REFUSED, StoreField.LOST)


def labels(bind: Sequence[str]) -> list[str]:
    """Return the name of each listener that has counters, in their order."""
    if len(bind) <= MAX_LISTENERS:
        return list(bind)
    return [*bind[: MAX_LISTENERS - 1], OTHER]


def named_cells(
    board: Scoreboard, bind: Sequence[str], store_ids: Mapping[str, int], limit_ids: Mapping[str, int]
) -> dict[str, Cells]:
    """Return the cells of each counter that goes on over an upgrade, by its name."""
    return {
        **{
            f"listener {field.name} {label}": board.cells_of_listener(index, field)
            for index, label in enumerate(labels(bind))
            for field in _OF_LISTENER
        },
        **{f"reason {reason}": board.cells_of_reason(index) for index, reason in enumerate(REASONS)},
        **{
            f"limit {field.name} {name}": board.cells_of_limit(limit_id, field)
            for name, limit_id in limit_ids.items()
            for field in _OF_LIMIT
        },
        **{
            f"store {field.name} {name}": board.cells_of_store(store_id, field)
            for name, store_id in store_ids.items()
            for field in _OF_STORE
        },
    }


def rejected_by(board: Scoreboard, carried: InheritedCounters) -> dict[str, int]:
    """Return the number of rejections for each reason."""
    return {
        reason: board.sum(board.cells_of_reason(index)) + carried.of_named(f"reason {reason}")
        for index, reason in enumerate(REASONS)
    }


def listeners(board: Scoreboard, carried: InheritedCounters, bind: Sequence[str]) -> list[dict[str, object]]:
    """Return a row for each listener: its connections, records and bytes."""
    rows: list[dict[str, object]] = []
    for index, label in enumerate(labels(bind)):
        row: dict[str, object] = {
            "address": label,
            "connections": board.sum(board.cells_of_listener(index, ListenerField.CONNECTIONS))
            + carried.of_named(f"listener CONNECTIONS {label}"),
        }
        for field in _OF_LISTENER:
            before = carried.of_named(f"listener {field.name} {label}")
            row[field.name.lower()] = board.sum(board.cells_of_listener(index, field)) + before
        rows.append(row)
    return rows


def limits(board: Scoreboard, carried: InheritedCounters, limit_ids: Mapping[str, int]) -> list[dict[str, object]]:
    """Return a row for each limit of clients."""

    def count(name: str, limit_id: int, field: LimitField) -> int:
        return board.sum(board.cells_of_limit(limit_id, field)) + carried.of_named(f"limit {field.name} {name}")

    return [
        {
            "name": name,
            "clients": count(name, limit_id, LimitField.LIMITED),
            "dropped": count(name, limit_id, LimitField.DROPPED),
            "waits": count(name, limit_id, LimitField.WAITS),
            "waited_s": round(count(name, limit_id, LimitField.WAITED_US) / 1e6, 3),
            "refused": count(name, limit_id, LimitField.REFUSED),
            "closed": count(name, limit_id, LimitField.CLOSED),
        }
        for name, limit_id in limit_ids.items()
    ]


def of_store(board: Scoreboard, carried: InheritedCounters, name: str, store_id: int, field: StoreField) -> int:
    """Return a store's counter."""
    return board.sum(board.cells_of_store(store_id, field)) + carried.of_named(f"store {field.name} {name}")
