"""What the readers of known types ask of the reader of a frame.

Owns the protocol, so that values.py and known.py need not know each other. Knows no type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.inputs.pickles.symbols import Node
    from prefork_logd.records.values import Plain


class ValueReader(Protocol):
    """Turns nodes into plain values within a budget; each method raises OverBudgetError beyond it."""

    def charge(self, count: int) -> None:
        """Pay for bytes that the result will have, or that must be looked at."""

    def charge_nodes(self, count: int) -> None:
        """Pay for values that the result will hold, or that must be looked at."""

    def plain(self, node: Node, depth: int = 0) -> Plain:
        """Return the node as a plain value; `depth` is the number of containers around it."""

    def text(self, text: str) -> str:
        """Return text, paid for."""

    def octets(self, data: bytes | bytearray) -> str:
        """Return octets as the inside of a Python bytes literal."""

    def sequence(self, items: Sequence[Node], depth: int) -> list[Plain]:
        """Return the plain values of `items`, which stand in a container at `depth`."""

    def mapping(self, flat: Sequence[Node], depth: int) -> dict[str, Plain]:
        """Return keys and values in turn as a dict."""

    def literal(self, value: Plain) -> str:
        """Return a plain value as Python would write it."""
