"""Declares what the decoders of known types may ask of the decoder of a frame.

Owns the protocol, so that values.py and known.py need not know each other. Does not know any type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.inputs.pickles.symbols import Node
    from prefork_logd.records.values import Plain


class ValueReader(Protocol):
    """Turns nodes into plain values within a budget; each method raises OverBudgetError above it."""

    def charge(self, count: int) -> None:
        """Charge bytes that the result will have, or that must be read."""

    def charge_nodes(self, count: int) -> None:
        """Charge values that the result will hold, or that must be read."""

    def plain(self, node: Node, depth: int = 0) -> Plain:
        """Return the node as a plain value; `depth` is the number of containers around it."""

    def fresh(self, node: Node, depth: int) -> Plain:
        """Do the same for a node that was made of others just now, and keep it as long as they live."""

    def text(self, text: str) -> str:
        """Charge a text and return it."""

    def octets(self, data: bytes | bytearray) -> str:
        """Return octets as the inside of a Python bytes literal."""

    def sequence(self, items: Sequence[Node], depth: int) -> list[Plain]:
        """Return the plain values of `items`, which are in a container at `depth`."""

    def mapping(self, flat: Sequence[Node], depth: int) -> dict[str, Plain]:
        """Return keys and values in turn as a dict."""

    def public(self, flat: Sequence[Node], depth: int) -> dict[str, Plain]:
        """Do the same without the keys that begin with an underscore: they are private."""

    def literal(self, value: Plain) -> str:
        """Return a plain value as Python would write it."""
