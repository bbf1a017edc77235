"""From what a pickle builds to plain values: the second half of decoding.

Owns the shape that containers, keys, names and objects take, and the budgets on the result: depth, nodes, characters.
A value that holds itself becomes CYCLE where it does so; a value referred to many times is written out, and counted,
each time. Knows no opcodes; what the standard library's types look like is in `known`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prefork_logd.records.budget import Budget, Plain, exceeded
from prefork_logd.records.known import KNOWN, MEMBERS
from prefork_logd.records.symbols import Dict, Node, Object, OctetText, Set, Symbol, Tuple

if TYPE_CHECKING:
    from collections.abc import Sequence

CYCLE = "<cycle>"
_DIGITS_PER_BIT = 0.30103
_SMALL = 1 << 64
_BYTES_TEXT = {
    **{n: f"\\x{n:02x}" for n in (*range(32), *range(127, 256))},
    ord("\n"): r"\n",
    ord("\r"): r"\r",
    ord("\t"): r"\t",
    ord("\\"): r"\\",
}
_KINDS = {type(None): "None", OctetText: "str"}


class Reader:
    """Turns the nodes of one frame into plain values. Every method raises RecordRejected beyond the budget."""

    def __init__(self, budget: Budget, frame_bytes: int) -> None:
        self._depth = budget.depth
        self._nodes_left = budget.nodes
        self._characters_left = budget.text_for(frame_bytes)
        self._path: set[int] = set()

    def charge(self, characters: int) -> None:
        """Pay for text that the result will hold."""
        self._characters_left -= characters
        if self._characters_left < 0:
            raise exceeded("characters of text")

    def charge_nodes(self, count: int) -> None:
        """Pay for values that the result will hold, or that must be looked at."""
        self._nodes_left -= count
        if self._nodes_left < 0:
            raise exceeded("values")

    def plain(self, node: Node, depth: int = 0) -> Plain:
        """Return the node as a plain value; `depth` is how many containers it stands in."""
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise exceeded("values")
        kind = type(node)
        if kind is str:
            self._characters_left -= len(node)
            if self._characters_left < 0:
                raise exceeded("characters of text")
            return node  # type: ignore[no-any-return]
        if kind is int:
            if not -_SMALL < node < _SMALL:
                self.charge(int(node.bit_length() * _DIGITS_PER_BIT) + 2)
            return node  # type: ignore[no-any-return]
        if node is None or kind is bool:
            return node  # type: ignore[no-any-return]
        if kind is float:
            return node if math.isfinite(node) else str(node)
        if kind is OctetText:
            return self.text(node.text())
        if kind is bytes or kind is bytearray:
            return self.octets(node)
        if kind is Symbol:
            member = MEMBERS.get((node.module, node.name))
            return dict(member) if member is not None else {"__name__": self.text(node.path)}
        return self._container(node, depth)

    def _container(self, node: Node, depth: int) -> Plain:
        if depth >= self._depth:
            raise exceeded("nested values")
        self._nodes_left -= 1  # once more: it costs several times what a scalar does
        marker = id(node)
        if marker in self._path:
            return CYCLE
        self._path.add(marker)
        kind = type(node)
        result: Plain
        if kind is list:
            result = self.sequence(node, depth)
        elif kind is Tuple or kind is Set:
            result = self.sequence(node.items, depth)
        elif kind is Dict:
            result = self.mapping(node.flat, depth)
        else:
            result = self._object(node, depth)
        self._path.discard(marker)
        return result

    def text(self, text: str) -> str:
        """Return text that is not the client's own spelling, paid for."""
        self.charge(len(text))
        return text

    def octets(self, data: bytes | bytearray) -> str:
        """Return octets as the inside of a Python bytes literal: printable ASCII as it is, the rest escaped."""
        self.charge(len(data))
        text = data.decode("latin-1").translate(_BYTES_TEXT)
        self.charge(len(text) - len(data))
        return text

    def sequence(self, items: Sequence[Node], depth: int) -> list[Plain]:
        """Return the plain values of `items`, which stand in a container at `depth`."""
        result = []
        for item in items:
            result.append(self.plain(item, depth + 1))  # noqa: PERF401 - a comprehension is one more frame per level
        return result

    def mapping(self, flat: Sequence[Node], depth: int) -> dict[str, Plain]:
        """Return keys and values in turn as a dict; the last of equal keys wins, in the place of the first.

        Keys become text. Two that differ and have the same text, such as 1 and "1", are told apart by the kind of the
        later one: "1 (int)".
        """
        self.charge_nodes(len(flat) // 2)
        last: dict[str, Node] = {}
        kinds: dict[str, str] = {}
        pairs = iter(flat)
        for key, value in zip(pairs, pairs, strict=True):
            if type(key) is str and not kinds:
                last[key] = value
                continue
            text, kind = self._key(key, depth)
            if text in last and kinds.get(text, "str") != kind:
                text = f"{text} ({kind})"
            elif kind != "str":
                kinds[text] = kind
            last[text] = value
        result: dict[str, Plain] = {}
        for text, value in last.items():
            self.charge(len(text))
            result[text] = self.plain(value, depth + 1)
        return result

    def _key(self, key: Node, depth: int) -> tuple[str, str]:
        """Return a key's text and the kind of value that it is."""
        if type(key) is str:
            return key, "str"
        kind = _KINDS.get(type(key), type(key).__name__.lower())
        if type(key) is OctetText:
            return self.text(key.text()), kind
        value = self.plain(key, depth + 1)
        if isinstance(value, str):
            return value, kind
        if type(key) is Tuple:
            return self.text(f"({self.literal(value)[1:-1]})"), kind
        if type(key) is Symbol:
            return self.text(key.path), kind
        if isinstance(value, dict) and value.keys() == {"__class__", "args"}:
            return self.text(f"{value['__class__']}({self.literal(value['args'])[1:-1]})"), kind
        return self.literal(value), kind

    def literal(self, value: Plain) -> str:
        """Return a plain value as Python would write it, paid for piece by piece."""
        if isinstance(value, list):
            return f"[{', '.join([self.literal(item) for item in value])}]"
        if isinstance(value, dict):
            items = [f"{self.literal(key)}: {self.literal(item)}" for key, item in value.items()]
            return f"{{{', '.join(items)}}}"
        return self.text(repr(value))

    def _object(self, node: Object, depth: int) -> Plain:
        """Return the usual form of a type that is known, else class, arguments, state and items as data."""
        callee = node.callee
        if type(callee) is Symbol:
            known = KNOWN.get((callee.module, callee.name))
            value = known and known(self, node, depth)
            if value is not None:
                return value
        return self.opaque(node, depth)

    def opaque(self, node: Object, depth: int) -> dict[str, Plain]:
        """Return an object as data. One made by calling another object has that one as its first argument."""
        args = node.args
        result: dict[str, Plain] = {"__class__": self.text(node.path)}
        if type(node.callee) is Object:
            self.charge_nodes(len(args))
            args = [node.callee, *args]
        if args:
            result["args"] = self.sequence(args, depth + 1)
        if node.kwargs is not None and node.kwargs.flat:
            result["kwargs"] = self.mapping(node.kwargs.flat, depth + 1)
        if node.has_state:
            state = self._state(node.state, depth + 1)
            if state not in (None, {}, []):
                result["state"] = state
        items: Plain = self.sequence(node.items, depth + 1)
        if node.flat:
            pairs = self.mapping(node.flat, depth + 1)
            items = [*items, pairs] if isinstance(items, list) and items else pairs
        if items:
            result["items"] = items
        return result

    def _state(self, state: Node, depth: int) -> Plain:
        """Return an object's state; the pair that stands for a class with __slots__ as one dict."""
        if type(state) is Tuple and len(state.items) == 2:
            attributes, slots = state.items
            if type(slots) is Dict and (attributes is None or type(attributes) is Dict):
                self.charge_nodes(len(slots.flat) + len(attributes.flat if attributes else ()))
                return self.mapping([*(attributes.flat if attributes else ()), *slots.flat], depth)
        return self.plain(state, depth)
