"""Reads the tables `[[receiver]]` of a configuration, each by its type.

Owns their form. Does not know what is wrong between them and rules (checks.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prefork_logd.config.receivers import MAX_RECEIVERS, RECEIVERS

if TYPE_CHECKING:
    from prefork_logd.config.document import Document
    from prefork_logd.config.receivers import AnyReceiver


def load_receivers(document: Document, tables: object) -> tuple[AnyReceiver, ...]:
    """Return the receivers of the tables `[[receiver]]`, and note the problems of each."""
    if not isinstance(tables, Sequence) or isinstance(tables, str):
        document.add_problem("receiver", 0, "", "must be a list of tables; write [[receiver]] with two brackets")
        return ()
    if len(tables) > MAX_RECEIVERS:
        what = f"exceeds the limit of {MAX_RECEIVERS} receivers; leave some out"
        document.add_problem("receiver", MAX_RECEIVERS, "", what)
    found: list[Any] = []
    for index, table in enumerate(tables):
        if not isinstance(table, Mapping):
            document.add_problem("receiver", index, "", "must be a table; write [[receiver]] on a line of its own")
            continue
        kind = table.get("type")
        if not isinstance(kind, str) or kind not in RECEIVERS:
            document.add_problem("receiver", index, "type", f"must be one of {', '.join(RECEIVERS)}")
            continue
        own = {key: table[key] for key in table if key != "type"}
        found.append(document.read_table(RECEIVERS[kind], "receiver", index, own))
    return tuple(found)
