"""What `status --json` says, read from the scoreboard.

Owns the document's form (docs/operating.md). Changes nothing.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from prefork_logd import __version__, native
from prefork_logd.processes.states import ALIVE
from prefork_logd.scoreboard import Field, OutputField, Scoreboard

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_logd.processes.children import Child
    from prefork_logd.processes.control import Configuration


def document(
    configuration: Configuration,
    bind: list[str],
    children: Iterable[Child],
    board: Scoreboard,
    started_s: float,
) -> dict[str, Any]:
    """Return the state of the whole collector; `started_s` is its start on the monotonic clock."""
    settings = configuration.settings
    children = list(children)
    return {
        "version": __version__,
        "pid": os.getpid(),
        "uptime_s": round(time.monotonic() - started_s, 3),
        "native": native.NATIVE,
        "bind": bind,
        "state_dir": settings.server.state_dir,
        "config": settings.source,
        "generation": configuration.generation,
        "connections": sum(_counter(board, child, Field.CONNECTIONS) for child in children if child.slot),
        "records": board.total(Field.RECORDS),
        "received_bytes": board.total(Field.RECEIVED_BYTES),
        "rejected": board.total(Field.REJECTED),
        "dropped": board.total(Field.DROPPED),
        "children": [_child(child, board) for child in children],
        "outputs": [
            {
                "name": output.name,
                "path": output.path,
                "records": board.output(place)[OutputField.RECORDS],
                "bytes": board.output(place)[OutputField.BYTES],
                "failing": bool(board.output(place)[OutputField.FAILED]),
            }
            for place, output in zip(configuration.places, settings.output, strict=True)
        ],
        "stores": [],
    }


def _child(child: Child, board: Scoreboard) -> dict[str, Any]:
    return {
        "kind": child.kind.value,
        "index": child.index,
        "pid": child.pid if child.state in ALIVE else None,
        "state": child.state.name.lower(),
        "connections": _counter(board, child, Field.CONNECTIONS),
        "records": _counter(board, child, Field.RECORDS),
        "paused": bool(_counter(board, child, Field.PAUSED)),
        "restarts": child.restarts,
    }


def _counter(board: Scoreboard, child: Child, field: Field) -> int:
    return board.slot(child.slot)[field]
